"""Runs on nodes whose clocks step, behind gates, with resizes and with rules of containers."""

from typing import Any

import pytest

from initpipeline.api.models import Cause
from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from tests.builders import End, PodBuilder, at, fresh_pod, pod, running_pod
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started

REQUESTED = {"cpu": "20m", "memory": "16Mi"}
RESTARTS_ALL = {
    "restartPolicy": "Always",
    "restartPolicyRules": [
        {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}
    ],
}


def ready_pipeline(observed: PodBuilder) -> SimulatedPipeline:
    return started(fresh_pod()).reconcile(observed, 30)


def resizable(observed: PodBuilder, cpu: str, memory: str = "16Mi") -> PodBuilder:
    """Returns the Pod with an app container that a change of its cpu restarts."""
    app = {
        "name": "app",
        "resources": {"requests": {"cpu": cpu, "memory": memory}},
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
    }
    return observed.with_spec(containers=[app])


def restarted(times: int = 1) -> PodBuilder:
    return running_pod().app(running=True, restarts=times, last=End(137, start=20))


class TestResizeInPlace:
    READY = resizable(running_pod(), "20m")

    def ready(self) -> SimulatedPipeline:
        return started(fresh_pod()).reconcile(self.READY, 30)

    def test_restart_by_a_resize_starts_no_run(self) -> None:
        asked = self.ready().reconcile(resizable(running_pod(), "30m"), 60)
        after = asked.reconcile(resizable(restarted(), "30m"), 62)
        assert (after.run.number, after.decision.action) == (1, None)

    def test_crash_after_a_resize_starts_a_run(self) -> None:
        after = self.ready().reconcile(resizable(restarted(), "30m"), 60)
        after = after.reconcile(resizable(restarted(2), "30m"), 90)
        assert (after.run.number, after.run.trigger) == (2, Trigger.CONTAINER_RESTARTED)

    def test_second_resize_starts_no_run(self) -> None:
        after = self.ready().reconcile(resizable(restarted(), "30m"), 60)
        after = after.reconcile(resizable(restarted(2), "40m"), 90)
        assert after.run.number == 1

    def test_crash_without_a_resize_starts_a_run(self) -> None:
        assert self.ready().reconcile(resizable(restarted(), "20m"), 60).run.number == 2

    def test_crash_after_a_resize_that_restarts_nothing_starts_a_run(self) -> None:
        after = self.ready().reconcile(resizable(running_pod(), "20m", "32Mi"), 60)
        assert after.reconcile(resizable(restarted(), "20m", "32Mi"), 90).run.number == 2

    def test_crash_while_a_resize_is_infeasible_starts_a_run(self) -> None:
        asked = resizable(restarted(), "500").condition("PodResizePending", reason="Infeasible")
        assert self.ready().reconcile(asked, 60).run.number == 2

    def test_back_off_of_a_second_resize_starts_no_run(self) -> None:
        waits = running_pod().app(waiting="CrashLoopBackOff", last=End(137, start=20))
        assert self.ready().reconcile(resizable(waits, "30m"), 60).run.number == 1


class TestSchedulingGate:
    """initDeadlineSeconds counts from when the Pod can make progress."""

    GATED = (
        pod()
        .of_run(1)
        .node(None)
        .init("one", reported=False)
        .init("two", reported=False)
        .app(reported=False)
        .with_spec(schedulingGates=[{"name": "queue"}])
        .condition("PodScheduled", "False", "SchedulingGated", "scheduling is blocked")
    )

    def gated(self) -> SimulatedPipeline:
        return new_pipeline(initDeadlineSeconds=60).reconcile(None).reconcile(self.GATED, 1)

    def test_gated_pod_has_no_deadline(self) -> None:
        after = self.gated().reconcile(self.GATED, 3600)
        assert (after.run.result, after.decision.wake_at) == (None, None)

    def test_gates_removed_deadline_counts_from_then(self) -> None:
        running = self.gated().reconcile(fresh_pod().init("one", running=True), 3600)
        assert (running.run.result, running.decision.wake_at) == (None, at(3660))
        over = running.reconcile(fresh_pod().init("one", running=True), 3660)
        assert (over.run.result, over.run.reason) == (
            Result.FAILED,
            Reason.INIT_DEADLINE_EXCEEDED.value,
        )

    def test_pod_without_gates_deadline_counts_from_its_creation(self) -> None:
        after = new_pipeline(initDeadlineSeconds=60).reconcile(None)
        after = after.reconcile(fresh_pod().init("one", running=True), 30)
        assert after.decision.wake_at == at(60)


class TestRulesOfContainers:
    def never(self, **fields: Any) -> PodBuilder:
        """Returns a Pod that never restarts anything, but for the fields of its first step."""
        observed = fresh_pod().restarts("Never").init("one", exit=42)
        return observed.with_spec(initContainers=[{"name": "one", **fields}, {"name": "two"}])

    def limited(self) -> SimulatedPipeline:
        policy = [{"name": "one", "maxRestarts": 0}]
        return new_pipeline(initPolicies=policy).reconcile(None)

    def test_step_that_a_rule_restarts_exceeds_max_restarts(self) -> None:
        rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
        observed = self.never(restartPolicy="Never", restartPolicyRules=[rule])
        after = self.limited().reconcile(observed, 20)
        assert after.run.reason == Reason.RESTART_LIMIT_EXCEEDED.value

    def test_step_that_no_rule_restarts_ends_with_its_pod(self) -> None:
        after = self.limited().reconcile(self.never(), 20)
        assert after.run.result is None
        after = after.reconcile(self.never().phase("Failed"), 21)
        assert (after.run.result, after.run.reason) == (
            Result.FAILED,
            Reason.STEP_FAILED.value,
        )

    def test_rule_of_a_sidecar_is_the_cause_of_an_in_place_restart(self) -> None:
        """The kubelet kills the app container together with the watcher, or just after it."""
        specs = [{"name": "one"}, {"name": "two"}, {"name": "watcher", **RESTARTS_ALL}]
        ready = running_pod().sidecar("watcher", running=True).with_spec(initContainers=specs)
        ended = ready.sidecar("watcher", exit=88).app(exit=137, end=99)
        ended = ended.condition("AllContainersRestarting")
        again = ended.init("one", waiting="RestartingAllContainers", restarts=1)
        after = ready_pipeline(ready).reconcile(ended, 100).reconcile(again, 101)
        assert after.run.trigger is Trigger.RESTARTED_IN_PLACE
        assert after.run.cause == Cause(container="watcher", exit_code=88, reason="Error")

    def test_sidecar_started_first_after_an_in_place_restart_is_not_an_app_restart(self) -> None:
        """A mesh injects its sidecar before the first step. The kubelet starts it, and the steps
        have yet to follow."""
        ready = fresh_pod().initialized("one", "two").sidecar("proxy", running=True)
        ready = ready.app(running=True).phase("Running").ready()
        removed = End(137, start=None, end=None, reason="RestartingAllContainers")
        again = ready.ready(False).sidecar("proxy", running=True, restarts=1, last=removed)
        for name in ("one", "two"):
            again = again.init(name, waiting="PodInitializing", restarts=1, last=removed, id="")
        again = again.app(waiting="PodInitializing", restarts=1, last=removed, id="")
        assert ready_pipeline(ready).reconcile(again, 60).run.trigger is Trigger.RESTARTED_IN_PLACE

    @pytest.mark.parametrize(
        ("allowed", "reasons"),
        [
            pytest.param(0, [None, "RestartLimitExceeded"], id="none allowed"),
            pytest.param(1, [None, None, "RestartLimitExceeded"], id="one allowed"),
        ],
    )
    def test_step_that_restarts_all_containers_exceeds_max_restarts(
        self, allowed: int, reasons: list[str | None]
    ) -> None:
        rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7]}}
        specs = [
            {"name": "one"},
            {"name": "two", "restartPolicy": "Never", "restartPolicyRules": [rule]},
        ]
        now = new_pipeline(initPolicies=[{"name": "two", "maxRestarts": allowed}]).reconcile(None)
        for times, expected in enumerate(reasons):
            waiting: dict[str, Any] = {"waiting": "RestartingAllContainers", "restarts": times}
            first = fresh_pod().with_spec(initContainers=specs).init("one", **waiting)
            now = now.reconcile(first.init("two", **waiting), 100 * times) if times else now
            done = fresh_pod().with_spec(initContainers=specs)
            start = 100 * times + 10
            done = done.init("one", exit=0, restarts=times, id=f"one-{times}", start=start)
            running = done.init("two", running=True, restarts=times, id=f"two-{times}", start=start)
            now = now.reconcile(running, start)
            assert (now.run.number, now.run.reason) == (times + 1, expected)
            failed = done.init("two", exit=7, restarts=times, id=f"two-{times}", start=start)
            now = now.reconcile(failed.condition("AllContainersRestarting"), start + 5)
        assert now.run.message == (
            f'init container 2 of 2 "two" failed, and its maxRestarts of {allowed} allows '
            "no further restart: it exited with 7, which restarts all containers"
        )


class TestOwnEnd:
    def test_eviction_for_its_own_storage_is_a_failed_run(self) -> None:
        message = 'Usage of EmptyDir volume "work" exceeds the limit "1Mi".'
        over = fresh_pod().init("one", exit=137).phase("Failed", "Evicted", message)
        after = started(fresh_pod().init("one", running=True)).reconcile(over, 20)
        record = after.status.history[0]
        assert (record.result, record.reason) == (Result.FAILED, "PodEvicted")
        assert record.message == f"Evicted: {message}"
        assert record.failed_step is not None
        assert record.failed_step.name == "one"
        assert after.status.failed_runs == 1

    def test_eviction_after_initialization_blames_no_sidecar(self) -> None:
        observed = running_pod().sidecar("proxy", running=True)
        over = (
            observed.sidecar("proxy", exit=137).app(exit=137).phase("Failed", "Evicted", "too much")
        )
        assert ready_pipeline(observed).reconcile(over, 40).status.history[0].failed_step is None

    def test_unexplained_end_with_exit_code_0_is_lost_once_then_failed(self) -> None:
        """A Pod that is evicted for its own limit can end like this, and so would each next Pod."""
        ended = ready_pipeline(running_pod()).reconcile(
            running_pod().app(exit=0).phase("Succeeded"), 40
        )
        assert ended.status.history[0].result is Result.LOST
        again = ended.reconcile(None, 41).reconcile(running_pod(2), 60)
        assert again.run.trigger is Trigger.POD_LOST
        after = again.reconcile(running_pod(2).app(exit=0).phase("Succeeded"), 80)
        record = after.status.history[0]
        assert (record.number, record.result, record.reason) == (2, Result.FAILED, "PodFailed")
        assert record.message is not None
        assert "No disruption is reported" in record.message
        assert after.condition(ConditionType.STALLED).reason == Reason.BACKOFF_LIMIT_EXCEEDED

    def test_disruption_after_a_loss_is_a_loss(self) -> None:
        disrupted = running_pod().app(exit=0).phase("Succeeded").condition("DisruptionTarget")
        ended = ready_pipeline(running_pod()).reconcile(disrupted, 40)
        again = ended.reconcile(None, 41).reconcile(running_pod(2), 60)
        second = running_pod(2).app(exit=0).phase("Succeeded").condition("DisruptionTarget")
        assert again.reconcile(second, 80).status.history[0].result is Result.LOST


class TestSilentNode:
    def test_pod_marked_not_ready_reports_the_node(self) -> None:
        silent = running_pod().condition("ContainersReady").ready(False)
        after = ready_pipeline(running_pod()).reconcile(silent, 90)
        ready = after.condition(ConditionType.READY)
        assert (ready.status, ready.reason) == ("False", "NodeNotReady")
        assert 'node "node-1" has stopped reporting' in ready.message

    def test_readiness_gate_reports_the_kubelets_message(self) -> None:
        message = 'corresponding condition of pod readiness gate "lb" does not exist.'
        gated = running_pod().condition("ContainersReady")
        gated = gated.condition("Ready", "False", "ReadinessGatesNotReady", message)
        ready = ready_pipeline(running_pod()).reconcile(gated, 90).condition(ConditionType.READY)
        assert (ready.reason, ready.message) == ("ContainersNotReady", message)

    def test_pod_on_a_node_that_never_reported_claims_nothing(self) -> None:
        silent = pod().of_run(1).init("one", reported=False).init("two", reported=False)
        silent = silent.app(reported=False).condition("PodScheduled")
        ready = new_pipeline().reconcile(None).reconcile(silent, 60).condition(ConditionType.READY)
        assert ready.message == (
            'init container 1 of 2 "one" has not started yet: '
            'node "node-1" has not reported on the Pod'
        )


class TestNodeClock:
    """Container IDs, restart counts and later containers count more than the node's clock."""

    BACK = -3600

    @pytest.mark.parametrize(
        "second",
        [
            pytest.param(fresh_pod().init("two", exit=0, start=-3600), id="it ended"),
            pytest.param(
                fresh_pod().init("two", exit=0, start=-3600).app(exit=1, start=-3590),
                id="the app container has failed",
            ),
            pytest.param(
                fresh_pod().init("two", exit=0, start=-3600, restarts=2, last=End(1)),
                id="it had been restarted",
            ),
        ],
    )
    def test_clock_set_back_in_the_first_pass_run_is_initialized(self, second: PodBuilder) -> None:
        assert started(fresh_pod()).reconcile(second.init("one", exit=0), 40).initialized

    def test_clock_set_back_after_a_retry_is_initialized_by_the_running_app(self) -> None:
        retried = fresh_pod().init("one", exit=0, restarts=1, last=End(1))
        observed = retried.init("two", exit=0, start=self.BACK)
        assert not started(fresh_pod()).reconcile(observed, 40).initialized
        assert (
            started(fresh_pod())
            .reconcile(observed.app(running=True, start=self.BACK), 40)
            .initialized
        )

    def test_clock_set_back_in_a_run_of_the_kubelet_run_is_initialized(self) -> None:
        again = running_pod().init("one", running=True, restarts=1, start=50, last=End())
        again = again.ready(False)
        first = again.init("one", exit=0, restarts=1, start=50, last=End())
        both = first.init("two", exit=0, restarts=1, start=self.BACK, last=End())
        after = ready_pipeline(running_pod()).reconcile(again, 50).reconcile(first, 60)
        assert not after.initialized
        assert after.reconcile(both, 70).initialized

    def test_old_success_from_the_future_is_not_of_this_run(self) -> None:
        """The clock ran ahead in the first pass, and was corrected before the second pass."""
        ahead = fresh_pod().initialized("one").init("two", exit=0, start=7200)
        ahead = ahead.app(running=True, start=7210).phase("Running").ready()
        again = ahead.ready(False).app(exit=137, start=7210)
        again = again.init("one", exit=0, restarts=1, start=60, end=62, last=End())
        assert not started(fresh_pod()).reconcile(ahead, 30).reconcile(again, 64).initialized

    def test_clock_set_back_start_of_the_app_in_a_kubelet_run_is_not_a_restart(self) -> None:
        """The old app container ran later than the new one, by the node's clock."""
        again = running_pod().ready(False).app(exit=137, start=20)
        again = again.init("one", running=True, restarts=1, start=self.BACK, last=End())
        ready = running_pod()
        for name in ("one", "two"):
            ready = ready.init(name, exit=0, restarts=1, start=self.BACK, last=End())
        old = End(137, start=20)
        ready = ready.app(running=True, restarts=1, start=self.BACK + 20, last=old)
        after = ready_pipeline(running_pod()).reconcile(again, 50).reconcile(ready, 60)
        assert (after.run.number, after.run.trigger) == (2, Trigger.POD_RESTARTED)

    SECOND = fresh_pod().ready(False).init("one", exit=0, start=3700, restarts=1, last=End())
    """The sandbox was restarted when the clock was an hour ahead."""

    @pytest.mark.parametrize(
        "observed",
        [
            pytest.param(
                SECOND.init("two", exit=0, start=80, restarts=1, last=End()),
                id="the kubelet started over once",
            ),
            pytest.param(
                SECOND.init("two", exit=0, start=80, restarts=2, last=End(1)),
                id="the step was retried",
            ),
            pytest.param(
                SECOND.init("one", exit=0, start=3700, restarts=2, last=End())
                .init("two", exit=0, start=80, restarts=2, last=End())
                .app(running=True, restarts=2, start=90),
                id="the kubelet started over twice, and the app runs",
            ),
        ],
    )
    def test_clock_set_right_while_the_operator_was_down_run_is_initialized(
        self, observed: PodBuilder
    ) -> None:
        after = ready_pipeline(running_pod()).reconcile(observed, 100)
        assert (after.run.trigger, after.initialized) == (Trigger.POD_RESTARTED, True)

    def test_success_of_the_pass_before_last_is_not_of_this_run(self) -> None:
        """The kubelet started over twice while the operator was down."""
        observed = fresh_pod().ready(False).init("one", exit=0, start=60, restarts=2, last=End())
        observed = observed.init("two", exit=0, start=50, restarts=1, last=End())
        assert not ready_pipeline(running_pod()).reconcile(observed, 100).initialized
