"""The life of a run: it begins, follows its Pod, and ends once, with one entry in history."""

from dataclasses import replace

import pytest

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.reasons import Reason, Result, Trigger
from initpipeline.core import runs
from initpipeline.core.facts import Refusal
from initpipeline.core.runs import RunState
from tests.builders import (
    End,
    PipelineBuilder,
    PodBuilder,
    at,
    completed_pod,
    container_id,
    fresh_pod,
    pipeline,
    running_pod,
)
from tests.unit.core.simulation import new_pipeline, started


def begun(of: PipelineBuilder | None = None) -> RunState:
    """Returns the state after run 1 has begun."""
    return runs.first((of or pipeline()).build(), Trigger.CREATED, 1, at(0))


class TestBegin:
    def test_first_run_has_number_1(self) -> None:
        run = new_pipeline().reconcile(None, 7).run
        assert (run.number, run.trigger, run.start_time) == (1, Trigger.CREATED, at(7))

    def test_new_run_has_no_pod(self) -> None:
        assert begun().run.pod_uid is None

    def test_run_answers_the_pending_token(self) -> None:
        of = pipeline().token("now").build()
        state = runs.begin(of, begun(), Trigger.POD_LOST, at(0))
        assert (state.run.token, state.last_rerun_token) == ("now", "now")

    def test_run_without_token_keeps_the_last_one(self) -> None:
        before = replace(begun(), last_rerun_token="old")
        state = runs.begin(pipeline().build(), before, Trigger.POD_LOST, at(0))
        assert (state.run.token, state.last_rerun_token) == (None, "old")


class TestEnd:
    def test_second_end_is_ignored(self) -> None:
        once = runs.end(begun(), Result.FAILED, at(5))
        assert runs.end(once, Result.LOST, at(9)) == once

    def test_history_is_newest_first(self) -> None:
        state = runs.end(begun(), Result.FAILED, at(5))
        state = runs.begin(pipeline().build(), state, Trigger.REQUESTED, at(6))
        state = runs.end(state, Result.LOST, at(7))
        assert [(r.number, r.result) for r in state.history] == [
            (2, Result.LOST),
            (1, Result.FAILED),
        ]

    def test_pipeline_suspended_before_its_first_run_has_no_history(self) -> None:
        status = new_pipeline(suspend=True).reconcile(None).status
        assert (status.run, status.history) == (None, ())


class TestFollow:
    def test_observed_pod_is_recorded(self) -> None:
        assert started(fresh_pod()).run.pod_uid == "pod-1"

    def test_success_is_recorded_with_its_container(self) -> None:
        run = started(fresh_pod().init("one", exit=0).init("two", running=True)).run
        assert [c.container_id for c in run.completed_init_containers] == [container_id("one")]
        assert run.initialized_time is None

    def test_initialized_time_is_the_end_of_the_last_plain_step(self) -> None:
        seen_late = started(fresh_pod()).reconcile(running_pod(), seconds=1000)
        assert seen_late.run.initialized_time == at(18)

    def test_initialized_time_is_the_first_observation_if_the_kubelet_reports_none(self) -> None:
        """Later reconciles keep the time."""
        ready = running_pod().init("one", reported=False).init("two", reported=False)
        seen = started(fresh_pod()).reconcile(ready, 30)
        assert seen.run.initialized_time == at(30)
        assert seen.reconcile(ready.ready(False), 90).run.initialized_time == at(30)

    def test_crash_of_a_sidecar_keeps_initialized(self) -> None:
        sidecar = fresh_pod().init("one", exit=0).sidecar("two", running=True).app(running=True)
        crashed = sidecar.sidecar("two", waiting="CrashLoopBackOff", restarts=1, last=End(1))
        after = started(sidecar).reconcile(crashed)
        assert after.initialized
        assert after.run.number == 1

    @pytest.mark.parametrize(
        ("observed", "result"),
        [
            pytest.param(completed_pod(), "Succeeded", id="succeeded"),
            pytest.param(
                running_pod().app(exit=1).restarts("Never").phase("Failed"), "Failed", id="failed"
            ),
        ],
    )
    def test_end_of_the_pod_ends_the_run(self, observed: PodBuilder, result: str) -> None:
        assert started(running_pod()).reconcile(observed).past == [(1, "Created", result)]

    def test_lost_run_keeps_initialized_time(self) -> None:
        after = started(running_pod()).reconcile(None, 30)
        [record] = after.status.history
        assert (record.result, record.initialized_time) == (Result.LOST, at(18))

    def test_failure_of_a_missing_pod_is_in_history(self) -> None:
        failing = fresh_pod().init("one", waiting="CrashLoopBackOff", restarts=2, last=End(7))
        [record] = started(failing).reconcile(None, 30).status.history
        assert record.failed_step is not None
        assert (record.failed_step.name, record.failed_step.exit_code) == ("one", 7)

    @pytest.mark.parametrize(
        "end",
        [
            pytest.param(fresh_pod().init("one", exit=137).deleting(), id="deleted"),
            pytest.param(
                fresh_pod()
                .init("one", exit=137)
                .phase("Failed", "Evicted")
                .condition("DisruptionTarget"),
                id="evicted",
            ),
        ],
    )
    def test_step_ended_with_the_pod_has_not_failed(self, end: PodBuilder) -> None:
        working = started(fresh_pod().init("one", running=True))
        [record] = working.reconcile(end, 20).reconcile(None, 30).status.history[-1:]
        assert (record.result, record.failed_step) == (Result.LOST, None)

    @pytest.mark.parametrize("reason", ["Evicted", "DeadlineExceeded"])
    def test_step_that_still_runs_when_the_pod_exceeds_its_own_limit_is_in_history(
        self, reason: str
    ) -> None:
        """The kubelet may report the phase before it has terminated the containers."""
        running = fresh_pod().init("one", running=True)
        [record] = started(running).reconcile(running.phase("Failed", reason), 20).status.history
        assert record.failed_step is not None
        assert (record.failed_step.name, record.failed_step.exit_code) == ("one", None)
        assert record.failed_step.reason == record.reason


class TestSuperseded:
    def test_uninitialized_run_is_superseded(self) -> None:
        after = started(fresh_pod().init("one", running=True)).token("go").reconcile(fresh_pod())
        assert after.past == [(1, "Created", "Superseded")]

    def test_initialized_run_ends_as_initialized(self) -> None:
        after = started(running_pod()).token("go").reconcile(running_pod())
        assert after.past == [(1, "Created", "Initialized")]

    def test_superseded_run_has_its_last_state(self) -> None:
        without_image = fresh_pod().init("one", waiting="ErrImagePull", message="no such tag")
        [record] = started(fresh_pod()).edited().reconcile(without_image).status.history
        message = 'init container 1 of 2 "one": no such tag'
        assert (record.reason, record.message) == ("ImagePullFailed", message)

    def test_superseded_run_without_pod_has_the_reported_reason(self) -> None:
        forbidden = Refusal(Reason.POD_FORBIDDEN, "no such service account")
        state = (
            new_pipeline()
            .reconcile(None)
            .reconcile(None, refusal=forbidden)
            .edited()
            .reconcile(None)
        )
        [record] = state.status.history
        assert (record.reason, record.message) == ("PodForbidden", "no such service account")

    def test_initialized_run_has_no_reason(self) -> None:
        [record] = started(running_pod()).edited().reconcile(running_pod()).status.history
        assert (record.reason, record.message) == (None, None)

    def test_new_failure_is_in_history(self) -> None:
        failing = fresh_pod().init("one", exit=9, message="no database")
        [record] = started(fresh_pod()).edited().reconcile(failing).status.history
        assert record.failed_step is not None, "the failure was not in the status before"
        assert record.failed_step.exit_code == 9

    def test_recovered_failure_is_not_in_history(self) -> None:
        failing = fresh_pod().init("one", exit=9)
        over = fresh_pod().init("one", exit=0, restarts=1, last=End(9)).init("two", running=True)
        [record] = started(failing).edited().reconcile(over).status.history
        assert record.failed_step is None


class TestKubeletRun:
    """A run that the kubelet starts in the existing Pod."""

    def again(self) -> PodBuilder:
        """Returns a Pod after its sandbox was re-created. The first step runs again. The kubelet
        reports the old success of the second."""
        pod = running_pod().init("one", running=True, restarts=1, start=50, last=End())
        return pod.app(exit=137).ready(False)

    def test_run_has_the_next_number_and_the_same_pod(self) -> None:
        after = started(running_pod()).reconcile(self.again(), 50)
        assert after.past == [(1, "Created", "Initialized")]
        assert (after.run.number, after.run.trigger) == (2, Trigger.POD_RESTARTED)
        assert (after.run.pod_uid, after.run.start_time) == ("pod-1", at(50))
        assert after.run.token is None

    def test_old_successes_are_stale(self) -> None:
        run = started(running_pod()).reconcile(self.again(), 50).run
        assert run.stale_container_ids == (container_id("two"), container_id("app"))
        assert run.completed_init_containers == ()

    def test_stale_containers_are_kept_through_another_run(self) -> None:
        """The node's clock is not used: the second step has not run since run 1."""
        first = started(running_pod()).reconcile(self.again(), 50)
        half = self.again().init("one", exit=0, restarts=1, start=50)
        second = self.again().init("one", exit=0, restarts=2, start=0, end=1, last=End())
        after = first.reconcile(half, 60).reconcile(second, 70)
        assert after.run.number == 3
        assert not after.initialized, "the success of run 1 was taken for one of run 3"

    def test_uninitialized_run_ends_as_unknown(self) -> None:
        half = fresh_pod().init("one", exit=0).init("two", running=True)
        again = half.init("one", running=True, restarts=1, start=50, last=End())
        assert started(half).reconcile(again, 50).past == [(1, "Created", "Unknown")]

    def test_restart_baselines_are_reset(self) -> None:
        after = started(running_pod()).reconcile(self.again(), 50)
        assert after.run.restart_baselines == ()


class TestTokens:
    @pytest.mark.parametrize(
        ("token", "pending"),
        [
            pytest.param("in history", False, id="in history"),
            pytest.param("in the run", False, id="in the current run"),
            pytest.param("last", False, id="the last one, though history has forgotten it"),
            pytest.param("new", True, id="a new one"),
        ],
    )
    def test_token_starts_one_run(self, token: str, pending: bool) -> None:
        state = runs.end(begun(pipeline().token("in history")), Result.FAILED, at(1))
        second = pipeline().token("in the run").build()
        state = runs.begin(second, state, Trigger.REQUESTED, at(2))
        state = replace(state, last_rerun_token="last")
        asked = pipeline().token(token).build()
        assert runs.pending_token(asked, state) == (token if pending else None)

    def test_missing_token_is_not_pending(self) -> None:
        status = InitPipelineStatus(last_rerun_token="old")
        assert runs.pending_token(pipeline().build(), status) is None
