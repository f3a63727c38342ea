"""Each sentence of the resource's reference about a policy, as a row or a test of its own name."""

from dataclasses import replace
from typing import Any

import pytest

from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from initpipeline.core.decide import CreatePod, DeletePipeline, DeletePod
from initpipeline.core.facts import Refusal
from tests.builders import (
    End,
    PodBuilder,
    at,
    completed_pod,
    fresh_pod,
    running_pod,
    stamp,
)
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started


def restarted(run: int = 1, times: int = 1) -> PodBuilder:
    """Returns a Pod whose app container has restarted since the run was initialized."""
    return running_pod(run).app(running=True, restarts=times, last=End(1, start=20))


def evicted(run: int = 1) -> PodBuilder:
    return (
        running_pod(run)
        .phase("Failed", "Evicted", "The node was low on memory.")
        .condition("DisruptionTarget")
    )


def sandbox_killed() -> PodBuilder:
    """Returns a Pod in which the kubelet runs the first init container again."""
    return running_pod().ready(False).init("one", running=True, start=60, restarts=1, last=End())


def failed(run: int = 1) -> PodBuilder:
    """Returns a Pod with restartPolicy Never whose first init container has failed."""
    observed = fresh_pod(run).restarts("Never").phase("Failed")
    return observed.init("one", exit=3, message="no such table")


def hanging(run: int = 1, start: float = 0) -> PodBuilder:
    """Returns a Pod whose first init container runs and does not end."""
    return fresh_pod(run).init("one", running=True, start=start)


def failing(run: int = 1, restarts: int = 0) -> PodBuilder:
    """Returns a Pod whose first init container has failed and is about to be restarted."""
    last = End(3, message="no such table")
    waiting: Raw = {"waiting": "CrashLoopBackOff", "restarts": restarts, "last": last}
    return fresh_pod(run).init("one", **waiting)


def reason(now: SimulatedPipeline, type_: ConditionType = ConditionType.READY) -> str:
    return now.condition(type_).reason


def has(now: SimulatedPipeline, type_: ConditionType) -> bool:
    return now.status.condition(type_) is not None


class TestRerunPolicy:
    @pytest.mark.parametrize(
        ("policy", "seen", "trigger"),
        [
            pytest.param("OnRestart", restarted(), "ContainerRestarted", id="on-restart-restart"),
            pytest.param("OnRestart", None, "PodLost", id="on-restart-pod-gone"),
            pytest.param("OnRestart", evicted(), "PodLost", id="on-restart-evicted"),
            pytest.param("OnPodLoss", restarted(), None, id="on-pod-loss-restart"),
            pytest.param("OnPodLoss", None, "PodLost", id="on-pod-loss-pod-gone"),
            pytest.param("OnPodLoss", evicted(), "PodLost", id="on-pod-loss-evicted"),
            pytest.param("Never", restarted(), None, id="never-restart"),
            pytest.param("Never", None, None, id="never-pod-gone"),
            pytest.param("Never", evicted(), None, id="never-evicted"),
        ],
    )
    def test_policy_determines_which_events_start_a_run(
        self, policy: str, seen: PodBuilder | None, trigger: str | None
    ) -> None:
        now = started(running_pod(), rerunPolicy=policy).reconcile(seen, 60)
        assert (now.run.number, now.run.trigger) == ((2, trigger) if trigger else (1, "Created"))

    @pytest.mark.parametrize("policy", ["OnRestart", "OnPodLoss", "Never"])
    @pytest.mark.parametrize(
        ("change", "trigger"),
        [
            pytest.param(
                lambda now: now.reconcile(sandbox_killed(), 60), "PodRestarted", id="kubelet"
            ),
            pytest.param(
                lambda now: now.token("t").reconcile(running_pod(), 60), "Requested", id="request"
            ),
            pytest.param(
                lambda now: now.edited().reconcile(running_pod(), 60), "SpecChanged", id="template"
            ),
        ],
    )
    def test_user_and_kubelet_start_runs_under_each_policy(
        self, policy: str, change: Any, trigger: str
    ) -> None:
        now = change(started(running_pod(), rerunPolicy=policy))
        assert (now.run.number, now.run.trigger) == (2, trigger)

    def test_restart_of_a_sidecar_starts_no_run(self) -> None:
        observed = running_pod().sidecar("log", running=True, started=True)
        again = observed.sidecar(
            "log", running=True, started=True, restarts=1, last=End(1, start=20)
        )
        assert started(observed).reconcile(again, 60).run.number == 1

    @pytest.mark.parametrize("before", ["OnPodLoss", "Never"])
    def test_restarts_before_it_was_set_start_no_run(self, before: str) -> None:
        now = started(running_pod(), rerunPolicy=before).reconcile(restarted(times=2), 60)
        now = now.policy(rerunPolicy="OnRestart").reconcile(restarted(times=2), 70)
        assert now.run.number == 1
        assert now.reconcile(restarted(times=3), 80).run.trigger is Trigger.CONTAINER_RESTARTED

    def test_restarts_under_another_policy_start_no_run_later(self) -> None:
        now = started(running_pod()).policy(rerunPolicy="Never").reconcile(running_pod(), 50)
        now = (
            now.reconcile(restarted(), 60)
            .policy(rerunPolicy="OnRestart")
            .reconcile(restarted(), 70)
        )
        assert now.run.number == 1

    def test_unobserved_restart_under_the_policy_starts_a_run(self) -> None:
        now = started(running_pod()).policy(runHistoryLimit=3).reconcile(restarted(), 60)
        assert now.run.trigger is Trigger.CONTAINER_RESTARTED

    def test_lost_pod_under_never_is_stalled(self) -> None:
        now = started(running_pod(), rerunPolicy="Never").reconcile(evicted(), 60)
        stalled = now.condition(ConditionType.STALLED)
        assert stalled.reason == "PodLost"
        assert stalled.message == (
            "rerunPolicy is Never, and the Pod was lost: The node was low on memory. "
            "To continue: request a run, or set another rerunPolicy"
        )
        assert not has(now, ConditionType.RECONCILING)
        assert now.decision.wake_at is None

    def test_lost_pod_under_never_is_replaced_after_a_policy_change(self) -> None:
        now = started(running_pod(), rerunPolicy="Never").reconcile(None, 60)
        now = now.policy(rerunPolicy="OnPodLoss").reconcile(None, 70)
        assert (now.run.number, now.run.trigger) == (2, Trigger.POD_LOST)


class TestBackoffLimit:
    def fail(self, now: SimulatedPipeline, times: int) -> SimulatedPipeline:
        """Returns the pipeline after so many failed runs. Back-off has passed."""
        for _ in range(times):
            number = now.run.number
            now = now.reconcile(failed(number), now.now + 400)
            if now.status.next_run_time is not None:
                now = now.reconcile(failed(number), now.now + 400)
            if now.run.number == number:
                return now
        return now

    def test_default_allows_no_retry(self) -> None:
        now = started(failed())
        assert now.past == [(1, "Created", "Failed")]
        assert now.run.completion_time is not None
        assert reason(now, ConditionType.STALLED) == "BackoffLimitExceeded"

    def test_limit_is_the_number_of_retries(self) -> None:
        now = self.fail(started(fresh_pod(), backoffLimit=2), times=5)
        assert now.past == [
            (1, "Created", "Failed"),
            (2, "Retry", "Failed"),
            (3, "Retry", "Failed"),
        ]
        assert now.status.failed_runs == 3
        assert now.condition(ConditionType.STALLED).message == (
            "3 runs have failed, and backoffLimit is 2: "
            'init container 1 of 2 "one" exited with 3: no such table. '
            "To continue: change the template, request a run, or raise backoffLimit to 3"
        )

    def test_retry_has_a_new_pod(self) -> None:
        now = started(failed(), backoffLimit=1)
        assert now.run.number == 2
        assert now.decision.action == DeletePod("pod-1")
        assert isinstance(now.reconcile(None).decision.action, CreatePod)

    def test_lost_pod_does_not_count(self) -> None:
        now = started(fresh_pod()).reconcile(None, 60)
        assert (now.run.trigger, now.status.failed_runs) == (Trigger.POD_LOST, 0)

    def test_first_retry_is_immediate_and_later_ones_back_off(self) -> None:
        now = started(failed(), backoffLimit=5).reconcile(None)
        assert now.run.number == 2
        now = now.reconcile(failed(2), 60)
        assert (now.run.number, now.status.next_run_time) == (2, at(70))
        assert reason(now) == "RerunBackOff"
        assert "no such table" in now.condition(ConditionType.READY).message

    def test_failed_pod_is_kept_while_the_next_run_waits(self) -> None:
        now = started(failed(), backoffLimit=5).reconcile(None).reconcile(failed(2), 60)
        assert (now.decision.action, now.decision.wake_at) == (None, at(70))

    def test_raised_limit_starts_a_run(self) -> None:
        now = started(failed()).policy(backoffLimit=1).reconcile(failed(), 60)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RETRY)

    @pytest.mark.parametrize("change", [SimulatedPipeline.edited, lambda now: now.token("t")])
    def test_requested_run_resets_the_count(self, change: Any) -> None:
        now = change(self.fail(started(fresh_pod(), backoffLimit=1), times=3))
        now = now.reconcile(failed(2), now.now + 1)
        assert now.run.number == 3
        assert (now.status.failed_runs, now.status.rerun_count) == (0, 0)

    def test_refused_pod_does_not_count(self) -> None:
        refusal = Refusal(Reason.INVALID_TEMPLATE, "spec.containers: Required value")
        now = new_pipeline(backoffLimit=3).reconcile(None, refusal=refusal).reconcile(None, 60)
        assert (now.past, now.status.failed_runs) == ([], 0)
        assert isinstance(now.decision.action, CreatePod)


class TestPodOfGivenUpPipeline:
    def test_terminated_pod_is_kept_for_its_logs(self) -> None:
        assert started(failed()).decision.action is None

    def test_running_pod_is_deleted(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 30)
        assert now.decision.action == DeletePod("pod-1")

    def test_evidence_is_kept_when_the_pod_is_gone(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 30)
        gone = now.reconcile(hanging().deleting(30), 31).reconcile(None, 70)
        assert gone.past == [(1, "Created", "Failed")]
        assert reason(gone) == "InitDeadlineExceeded"
        assert gone.status.init_container_statuses == now.status.init_container_statuses


class TestInitDeadlineSeconds:
    def test_time_counts_from_the_creation_of_the_pod(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 29)
        assert (now.run.completion_time, now.decision.wake_at) == (None, at(30))
        assert now.reconcile(hanging(), 30).run.result is Result.FAILED

    @pytest.mark.parametrize(
        ("observed", "message"),
        [
            pytest.param(
                fresh_pod()
                .node(None)
                .condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available"),
                "0/3 nodes are available",
                id="scheduling-included",
            ),
            pytest.param(
                fresh_pod().init("one", waiting="ImagePullBackOff", message="no such image"),
                'init container 1 of 2 "one": no such image',
                id="pulling-included",
            ),
            pytest.param(
                failing(restarts=4),
                'init container 1 of 2 "one" exited with 3, restarted 4 times: no such table',
                id="failures-included",
            ),
            pytest.param(hanging(), 'init container 1 of 2 "one" is running', id="running"),
        ],
    )
    def test_message_has_the_current_state(self, observed: PodBuilder, message: str) -> None:
        now = started(observed, initDeadlineSeconds=30).reconcile(observed, 40)
        ready = now.condition(ConditionType.READY)
        assert ready.reason == "InitDeadlineExceeded"
        assert ready.message == f"not initialized within initDeadlineSeconds (30 s): {message}"

    def test_time_of_a_kubelet_run_counts_from_its_first_observation(self) -> None:
        now = started(running_pod(), initDeadlineSeconds=30).reconcile(sandbox_killed(), 65)
        assert (now.run.number, now.decision.wake_at) == (2, at(95))
        now = now.reconcile(sandbox_killed(), 95)
        assert now.past == [(1, "Created", "Initialized"), (2, "PodRestarted", "Failed")]

    def test_initialized_run_has_no_deadline(self) -> None:
        now = started(running_pod(), initDeadlineSeconds=30).reconcile(running_pod(), 1000)
        assert (now.run.completion_time, now.decision.wake_at) == (None, None)

    def test_terminating_pod_has_no_deadline(self) -> None:
        observed = hanging().deleting(20)
        assert (
            started(observed, initDeadlineSeconds=30).reconcile(observed, 40).run.completion_time
            is None
        )

    def test_changed_deadline_applies_to_the_current_run(self) -> None:
        now = started(hanging()).reconcile(hanging(), 60).policy(initDeadlineSeconds=30)
        assert now.reconcile(hanging(), 61).run.result is Result.FAILED

    def test_history_has_step_and_limit(self) -> None:
        [entry] = (
            started(failing(restarts=2), initDeadlineSeconds=9)
            .reconcile(failing(), 9)
            .status.history
        )
        assert entry.exceeded is not None
        assert (entry.exceeded.limit, entry.exceeded.value) == ("initDeadlineSeconds", 9)
        assert entry.failed_step is not None
        assert (entry.failed_step.name, entry.failed_step.exit_code) == ("one", 3)
        assert entry.failed_step.message == "no such table"

    def test_raised_deadline_starts_a_run(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 30)
        now = now.policy(initDeadlineSeconds=60).reconcile(None, 90)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RETRY)

    def test_lowered_deadline_starts_no_run(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 30)
        assert now.policy(initDeadlineSeconds=20).reconcile(None, 90).run.number == 1

    def test_exceeded_deadline_is_retried_within_backoff_limit(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30, backoffLimit=1).reconcile(hanging(), 30)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RETRY)
        assert now.decision.action == DeletePod("pod-1")


def limits_of_one(**limits: int) -> Raw:
    return {"initPolicies": [{"name": "one", **limits}]}


class TestTimeoutSeconds:
    def test_time_counts_from_the_first_observation_of_the_attempt(self) -> None:
        now = started(fresh_pod(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 7)
        assert now.decision.wake_at == at(17)
        assert now.reconcile(hanging(), 16).run.result is None
        assert now.reconcile(hanging(), 17).run.result is Result.FAILED

    def test_each_attempt_has_its_own_timeout(self) -> None:
        now = started(fresh_pod(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 5)
        second = fresh_pod().init("one", running=True, start=9, restarts=1, last=End(1, end=8))
        now = now.reconcile(second, 12)
        assert (now.run.result, now.decision.wake_at) == (None, at(22))

    def test_timeout_applies_to_one_init_container(self) -> None:
        other = {"initPolicies": [{"name": "two", "timeoutSeconds": 10}]}
        assert started(hanging(), **other).reconcile(hanging(), 90).run.result is None

    def test_restart_of_the_operator_keeps_the_time(self) -> None:
        """The operator keeps no state of its own: each reconcile starts from the API."""
        now = started(hanging(), **limits_of_one(timeoutSeconds=10))
        assert now.run.running_step is not None
        assert now.run.running_step.first_seen_time == at(0)

    def test_message_has_step_and_limit(self) -> None:
        now = started(hanging(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 10)
        ready = now.condition(ConditionType.READY)
        assert (ready.reason, ready.message) == (
            "StepTimedOut",
            'init container 1 of 2 "one" was still running after its timeoutSeconds of 10 s',
        )

    def test_changed_timeout_applies_to_the_current_attempt(self) -> None:
        now = started(hanging()).policy(**limits_of_one(timeoutSeconds=10))
        assert now.reconcile(hanging(), 50).run.result is Result.FAILED

    def test_raised_timeout_starts_a_run(self) -> None:
        now = started(hanging(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 10)
        now = now.policy(**limits_of_one(timeoutSeconds=20)).reconcile(None, 60)
        assert now.run.trigger is Trigger.RETRY


class TestTerminationMessage:
    """A step that a limit ends writes its termination message when its Pod is deleted."""

    message = (
        'init container 1 of 2 "one" was still running after its timeoutSeconds of 10 s: no db'
    )
    dying = hanging().deleting(10).init("one", exit=137, message="no db")

    def test_condition_has_the_message(self) -> None:
        now = started(hanging(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 10)
        now = now.reconcile(self.dying, 12).reconcile(None, 13)
        assert now.condition(ConditionType.READY).message == self.message

    def test_history_has_the_message(self) -> None:
        now = started(hanging(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 10)
        [entry] = now.reconcile(self.dying, 12).reconcile(None, 13).status.history
        assert entry.exceeded is not None
        assert entry.exceeded.termination_message == "no db"

    def test_history_has_the_message_after_the_next_run_started(self) -> None:
        limits = {**limits_of_one(timeoutSeconds=10), "backoffLimit": 1}
        now = started(hanging(), **limits).reconcile(hanging(), 10).reconcile(self.dying, 12)
        [entry] = now.status.history
        assert now.run.number == 2
        assert entry.exceeded is not None
        assert entry.exceeded.termination_message == "no db"

    def test_known_message_is_not_repeated(self) -> None:
        now = started(failing(), **limits_of_one(maxRestarts=0))
        gone = fresh_pod().deleting(10).init("one", exit=3, message="no such table")
        assert (
            now.reconcile(gone, 60).condition(ConditionType.READY).message.count("no such table")
            == 1
        )


class TestMaxRestarts:
    @pytest.mark.parametrize(
        ("allowed", "observed", "exceeded"),
        [
            pytest.param(0, failing(), True, id="none-allowed-and-it-failed"),
            pytest.param(1, failing(), False, id="one-allowed-and-it-failed"),
            pytest.param(1, failing(restarts=1), True, id="one-allowed-and-it-failed-twice"),
            pytest.param(
                1,
                fresh_pod().init("one", running=True, restarts=1, last=End(3)),
                False,
                id="one-allowed-and-it-runs-again",
            ),
            pytest.param(
                0,
                fresh_pod().init("one", running=True, restarts=1, last=End(3)),
                True,
                id="none-allowed-and-it-runs-again",
            ),
            pytest.param(
                0,
                fresh_pod().init("one", running=True),
                False,
                id="none-allowed-and-none-needed",
            ),
            pytest.param(
                0,
                fresh_pod().init("one", exit=0, restarts=1, last=End(3)),
                False,
                id="got-over-before-anybody-looked",
            ),
        ],
    )
    def test_restart_count_is_compared(
        self, allowed: int, observed: PodBuilder, exceeded: bool
    ) -> None:
        now = started(fresh_pod(), **limits_of_one(maxRestarts=allowed)).reconcile(observed, 60)
        assert (now.run.result is Result.FAILED) == exceeded
        if exceeded:
            assert reason(now) == "RestartLimitExceeded"

    def test_pod_with_restart_policy_never_fails_instead(self) -> None:
        now = started(failed(), **limits_of_one(maxRestarts=0))
        assert reason(now) == "StepFailed"

    def test_message_has_the_evidence(self) -> None:
        now = started(failing(restarts=2), **limits_of_one(maxRestarts=2))
        assert now.condition(ConditionType.READY).message == (
            'init container 1 of 2 "one" failed, and its maxRestarts of 2 allows no further '
            "restart: it exited with 3, restarted 2 times: no such table"
        )

    def test_restarts_count_within_a_kubelet_run(self) -> None:
        """The kubelet counts the first start after a restart of the sandbox as a restart."""
        now = started(running_pod(), **limits_of_one(maxRestarts=0)).reconcile(sandbox_killed(), 65)
        assert (now.run.number, now.run.result) == (2, None)
        again = sandbox_killed().init(
            "one", waiting="CrashLoopBackOff", restarts=1, last=End(3, start=60, end=66)
        )
        assert now.reconcile(again, 70).run.result is Result.FAILED

    def test_sandbox_restart_resets_the_count_of_a_failed_step(self) -> None:
        first = fresh_pod().init("one", exit=0).init("two", waiting="CrashLoopBackOff", restarts=2)
        first = first.init("two", waiting="CrashLoopBackOff", restarts=2, last=End(3), id="two-2")
        limits = {"initPolicies": [{"name": "two", "maxRestarts": 3}]}
        second = first.init("one", running=True, start=60, restarts=1)
        now = started(first, **limits).reconcile(second, 61)
        assert (now.run.number, now.run.result) == (2, None)
        third = second.init("one", exit=0, start=60, restarts=1, end=62)
        third = third.init("two", running=True, start=63, restarts=3, last=End(3), id="two-3")
        assert now.reconcile(third, 64).run.result is None

    def test_step_lost_with_its_sandbox_has_not_failed(self) -> None:
        """Recorded from a kubelet: the count rises, and the exit code is unknown."""
        lost = End(137, start=None, end=None, reason="ContainerStatusUnknown")
        waiting = fresh_pod().init("one", restarts=1, last=lost)
        now = started(hanging(), **limits_of_one(maxRestarts=0)).reconcile(waiting, 20)
        assert (now.run.result, reason(now)) == (None, "StepPending")
        again = fresh_pod().init("one", running=True, start=21, restarts=1, last=lost)
        now = now.reconcile(again, 21)
        assert now.run.result is None
        failure = End(3, start=21, end=25)
        now = now.reconcile(fresh_pod().init("one", restarts=1, exit=3, start=21, last=failure), 26)
        assert reason(now) == "RestartLimitExceeded"

    def test_raised_limit_of_restarts_starts_a_run(self) -> None:
        now = started(failing(), **limits_of_one(maxRestarts=0))
        now = now.policy(**limits_of_one(maxRestarts=1)).reconcile(None, 60)
        assert now.run.trigger is Trigger.RETRY


class TestSuspend:
    def test_pod_of_a_suspended_pipeline_is_deleted(self) -> None:
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 60)
        assert now.decision.action == DeletePod("pod-1")

    def test_succeeded_pod_is_deleted(self) -> None:
        done = completed_pod()
        now = started(done).policy(suspend=True).reconcile(done, 60)
        assert now.decision.action == DeletePod("pod-1")

    def test_pod_of_another_owner_is_kept(self) -> None:
        now = new_pipeline(suspend=True).reconcile(running_pod().owned_by("somebody-else"))
        assert now.decision.action is None

    @pytest.mark.parametrize(
        ("observed", "result"),
        [
            pytest.param(hanging(), "Superseded", id="before-it-was-initialized"),
            pytest.param(running_pod(), "Initialized", id="after"),
        ],
    )
    def test_suspension_ends_the_run(self, observed: PodBuilder, result: str) -> None:
        now = started(observed).policy(suspend=True).reconcile(observed, 60)
        assert now.past == [(1, "Created", result)]

    def test_suspended_pipeline_starts_no_run(self) -> None:
        now = (
            started(running_pod())
            .policy(suspend=True)
            .reconcile(running_pod(), 60)
            .reconcile(None, 90)
        )
        assert (now.run.number, now.decision.action, now.decision.wake_at) == (1, None, None)

    def test_conditions_report_suspension(self) -> None:
        now = (
            started(running_pod())
            .policy(suspend=True)
            .reconcile(running_pod(), 60)
            .reconcile(None, 90)
        )
        conditions = {c.type: (c.status, c.reason) for c in now.status.conditions}
        assert conditions == {
            "Initialized": ("False", "Suspended"),
            "Ready": ("False", "Suspended"),
            "Suspended": ("True", "Suspended"),
        }

    def test_terminating_pod_is_reported_as_reconciling(self) -> None:
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod().deleting(60), 61)
        assert reason(now, ConditionType.RECONCILING) == "PodTerminating"

    def test_pipeline_created_suspended_gets_no_pod(self) -> None:
        now = new_pipeline(suspend=True).reconcile(None)
        assert now.status.run is None
        assert now.decision.action is None
        assert reason(now) == "Suspended"

    def test_first_run_after_creation_as_suspended_is_resumed(self) -> None:
        now = new_pipeline(suspend=True).reconcile(None).policy(suspend=False).reconcile(None, 60)
        assert (now.run.number, now.run.trigger) == (1, Trigger.RESUMED)

    def test_resumed_pipeline_starts_a_run(self) -> None:
        now = (
            started(running_pod())
            .policy(suspend=True)
            .reconcile(running_pod(), 60)
            .reconcile(None, 90)
        )
        now = now.policy(suspend=False).reconcile(None, 100)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RESUMED)
        assert isinstance(now.decision.action, CreatePod)
        assert not has(now, ConditionType.SUSPENDED)

    def test_pipeline_resumed_early_waits_for_the_terminating_pod(self) -> None:
        going = running_pod().deleting(60)
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 60)
        now = now.policy(suspend=False).reconcile(going, 61)
        assert (now.run.trigger, now.decision.action) == (Trigger.RESUMED, None)
        assert reason(now) == "PodTerminating"

    def test_unobserved_suspension_has_no_effect(self) -> None:
        now = started(running_pod()).policy(suspend=True).policy(suspend=False)
        assert now.reconcile(running_pod(), 60).run.number == 1

    @pytest.mark.parametrize(
        "end",
        [
            pytest.param(failed(), id="given-up"),
            pytest.param(completed_pod(), id="succeeded"),
        ],
    )
    def test_completed_pipeline_runs_again_when_resumed(self, end: PodBuilder) -> None:
        now = started(end).policy(suspend=True).reconcile(end, 60).reconcile(None, 90)
        now = now.policy(suspend=False).reconcile(None, 100)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RESUMED)
        assert (now.status.failed_runs, now.status.rerun_count) == (0, 0)

    def test_request_waits_while_suspended(self) -> None:
        now = new_pipeline(suspend=True).reconcile(None).token("t").reconcile(None, 60)
        assert now.status.run is None
        assert 'rerun token "t"' in now.condition(ConditionType.SUSPENDED).message

    def test_request_is_answered_by_the_resumed_run(self) -> None:
        now = started(running_pod()).policy(suspend=True).token("t").reconcile(running_pod(), 60)
        now = now.policy(suspend=False).reconcile(None, 90)
        assert (now.run.trigger, now.run.token) == (Trigger.REQUESTED, "t")
        assert now.reconcile(running_pod(2), 120).run.number == 2

    def test_template_changed_while_suspended_is_the_trigger(self) -> None:
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 60)
        now = now.edited().reconcile(None, 90).policy(suspend=False).reconcile(None, 120)
        assert (now.run.number, now.run.trigger) == (2, Trigger.SPEC_CHANGED)

    def test_run_numbers_continue_after_a_lost_status(self) -> None:
        now = new_pipeline(suspend=True).reconcile(running_pod(7), 60)
        assert now.past == [(7, "Created", "Initialized")]
        assert now.policy(suspend=False).reconcile(None, 90).run.number == 8

    def test_suspension_ends_back_off(self) -> None:
        now = started(failed(), backoffLimit=5).reconcile(None).reconcile(failed(2), 60)
        now = now.policy(suspend=True).reconcile(failed(2), 61)
        assert (now.status.next_run_time, now.decision.wake_at) == (None, None)


class TestRunHistoryLimit:
    @pytest.mark.parametrize(
        ("limit", "kept"),
        [
            pytest.param(None, list(range(14, 4, -1)), id="ten-by-default"),
            pytest.param(3, [14, 13, 12], id="three"),
            pytest.param(0, [], id="none"),
        ],
    )
    def test_limit_is_the_number_of_entries(self, limit: int | None, kept: list[int]) -> None:
        now = started(running_pod(), runHistoryLimit=limit)
        for number in range(1, 15):
            now = now.token(f"t-{number}").reconcile(running_pod(number), number * 100)
        assert [record.number for record in now.status.history] == kept

    def test_lowered_limit_removes_entries(self) -> None:
        now = started(running_pod()).token("t").reconcile(running_pod(), 60)
        assert len(now.status.history) == 1
        assert now.policy(runHistoryLimit=0).reconcile(running_pod(2), 70).status.history == ()

    def test_lost_pod_starts_a_run_without_history(self) -> None:
        now = started(running_pod(), runHistoryLimit=0).reconcile(None, 60)
        assert (now.run.number, now.run.trigger) == (2, Trigger.POD_LOST)

    def test_request_is_answered_once_without_history(self) -> None:
        now = started(running_pod(), runHistoryLimit=0).token("t").reconcile(running_pod(), 60)
        assert now.reconcile(running_pod(2), 70).reconcile(running_pod(2), 80).run.number == 2


class TestTtlSecondsAfterFinished:
    succeeded = completed_pod()

    @pytest.mark.parametrize(
        "end",
        [pytest.param(succeeded, id="succeeded"), pytest.param(failed(), id="given-up")],
    )
    def test_pipeline_is_deleted_after_the_ttl(self, end: PodBuilder) -> None:
        now = started(running_pod(), ttlSecondsAfterFinished=100).reconcile(end, 60)
        assert (now.decision.action, now.decision.wake_at) == (None, at(160))
        assert now.reconcile(end, 159).decision.action is None
        assert now.reconcile(end, 160).decision.action == DeletePipeline()

    @pytest.mark.parametrize(
        "observed",
        [pytest.param(running_pod(), id="ready"), pytest.param(hanging(), id="on-its-way")],
    )
    def test_active_run_is_not_deleted(self, observed: PodBuilder) -> None:
        now = started(observed, ttlSecondsAfterFinished=0).reconcile(observed, 1000)
        assert (now.decision.action, now.decision.wake_at) == (None, None)

    def test_pipeline_in_back_off_is_not_deleted(self) -> None:
        now = started(failed(), ttlSecondsAfterFinished=0, backoffLimit=9).reconcile(None)
        now = now.reconcile(failed(2), 60)
        assert (now.decision.action, now.decision.wake_at) == (None, at(70))

    def test_suspended_pipeline_is_not_deleted(self) -> None:
        now = started(self.succeeded, ttlSecondsAfterFinished=10)
        now = now.policy(suspend=True).reconcile(None, 1000)
        assert now.decision.action is None

    def test_running_pod_of_a_given_up_pipeline_is_deleted_first(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30, ttlSecondsAfterFinished=0)
        now = now.reconcile(hanging(), 30)
        assert now.decision.action == DeletePod("pod-1")
        assert now.reconcile(None, 60).decision.action == DeletePipeline()

    def test_missing_pod_does_not_change_the_ttl(self) -> None:
        now = started(self.succeeded, ttlSecondsAfterFinished=100).reconcile(None, 50)
        assert now.decision.wake_at == at(100)


class TestLastKnownPod:
    """The last state of a Pod that the watch reported with the deletion."""

    def test_disruption_is_recorded(self) -> None:
        message = "Eviction API: evicting"
        last = hanging().deleting(50).condition("DisruptionTarget", message=message)
        [entry] = started(hanging()).reconcile(None, 60, gone=last).status.history
        assert (entry.result, entry.message) == (Result.LOST, f"the Pod was lost: {message}")

    def test_initialization_is_recorded(self) -> None:
        now = started(hanging()).reconcile(None, 60, gone=running_pod().deleting(50))
        [entry] = now.status.history
        assert (entry.result, entry.initialized_time) == (Result.LOST, at(18))

    def test_earlier_success_is_recorded(self) -> None:
        last = completed_pod()
        now = started(hanging()).reconcile(None, 60, gone=last)
        assert now.past == [(1, "Created", "Succeeded")]
        assert reason(now) == "PodSucceeded"

    def test_earlier_failure_is_recorded(self) -> None:
        now = started(hanging()).reconcile(None, 60, gone=failed())
        assert now.past == [(1, "Created", "Failed")]
        assert reason(now) == "StepFailed"

    def test_failure_during_deletion_is_a_loss(self) -> None:
        now = started(hanging()).reconcile(None, 60, gone=failed().deleting(50))
        assert now.past == [(1, "Created", "Lost")]
        [entry] = now.status.history
        assert entry.failed_step is not None
        assert entry.failed_step.message == "no such table"

    def test_end_of_another_pod_is_ignored(self) -> None:
        last = replace(failed(), uid="another")
        now = started(hanging()).reconcile(None, 60, gone=last)
        assert now.past == [(1, "Created", "Lost")]


class TestStuckPod:
    def test_terminating_pod_is_awaited(self) -> None:
        going = running_pod().deleting(requested=0, grace=30)
        now = started(going).reconcile(going, 329)
        assert reason(now, ConditionType.RECONCILING) == "PodTerminating"
        assert now.decision.wake_at == at(330)

    def test_pod_is_stalled_five_minutes_after_its_grace_period(self) -> None:
        going = running_pod().deleting(requested=0, grace=30)
        now = started(going).reconcile(going, 330)
        stalled = now.condition(ConditionType.STALLED)
        assert stalled.reason == "PodTerminating"
        assert 'node "node-1"' in stalled.message
        assert "out-of-service" in stalled.message
        assert "--force" in stalled.message
        assert not has(now, ConditionType.RECONCILING)
        assert (now.decision.action, now.decision.wake_at) == (None, None)

    def test_pod_of_an_earlier_run_is_stalled(self) -> None:
        now = started(running_pod()).token("t").reconcile(running_pod(), 60)
        going = running_pod().deleting(requested=60, grace=30)
        assert now.reconcile(going, 100).decision.wake_at == at(390)
        stuck = now.reconcile(going, 390)
        assert reason(stuck, ConditionType.STALLED) == "PodTerminating"
        assert isinstance(stuck.reconcile(None, 400).decision.action, CreatePod)

    def test_pod_deleted_by_suspend_is_stalled(self) -> None:
        going = running_pod().deleting(requested=60, grace=30)
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 60)
        assert now.reconcile(going, 61).decision.wake_at == at(390)
        assert reason(now.reconcile(going, 390), ConditionType.STALLED) == "PodTerminating"

    def test_message_has_the_finalizers(self) -> None:
        going = running_pod().deleting(requested=0, grace=30).held_by("example.com/backup")
        stalled = started(going).reconcile(going, 400).condition(ConditionType.STALLED)
        assert "example.com/backup" in stalled.message

    def test_next_run_starts_when_the_pod_is_gone(self) -> None:
        going = running_pod().deleting(requested=0, grace=30)
        now = started(going).reconcile(going, 400).reconcile(None, 500)
        assert now.past == [(1, "Created", "Lost")]
        assert now.run.number == 2
        assert not has(now, ConditionType.STALLED)


def test_back_off_follows_from_status_alone() -> None:
    """A restart of the operator while the next run waits changes nothing."""
    now = started(failed(), backoffLimit=5).reconcile(None).reconcile(failed(2), 60)
    assert (now.status.rerun_count, now.status.next_run_time) == (1, at(70))
    assert now.pipeline.status["nextRunTime"] == stamp(70)
    assert now.reconcile(failed(2), 65).status == now.status
    assert now.reconcile(failed(2), 70).run.number == 3
