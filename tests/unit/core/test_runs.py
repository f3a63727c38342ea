"""The life of a run: it begins, follows its Pod, and ends once, with one entry in history."""

from dataclasses import replace

import pytest

from initpipeline.api.models import Condition, Exceeded, InitPipelineStatus
from initpipeline.api.reasons import Reason, Result, Trigger
from initpipeline.core import lenient, runs
from initpipeline.core.evolve import evolve
from initpipeline.core.facts import Refusal
from initpipeline.core.runs import FollowedRun, RunState
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
    return runs.first((of or pipeline()).build(), Trigger.CREATED, at(0))


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

    def test_run_has_the_hash_of_the_present_template(self) -> None:
        of = pipeline().edited().build()
        state = runs.begin(of, begun(), Trigger.SPEC_CHANGED, at(0))
        assert state.template_hash == of.template_hash


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

    def test_failure_for_good_is_in_history(self) -> None:
        failed = fresh_pod().init("one", exit=7).restarts("Never").phase("Failed")
        [record] = started(fresh_pod()).reconcile(failed, 30).status.history
        assert record.failed_step is not None
        assert (record.failed_step.name, record.failed_step.exit_code) == ("one", 7)

    def test_step_killed_by_the_deadline_of_its_pod_is_in_history(self) -> None:
        killed = fresh_pod().init("one", exit=137).phase("Failed", "DeadlineExceeded")
        [record] = started(fresh_pod()).reconcile(killed, 30).status.history
        assert record.failed_step is not None
        assert (record.failed_step.name, record.failed_step.exit_code) == ("one", 137)

    def test_sidecar_killed_before_the_app_container_failed_is_in_history(self) -> None:
        before = fresh_pod().init("one", exit=0).sidecar("two", running=True).restarts("Never")
        before = before.app(running=True).phase("Running").ready()
        failed = before.sidecar("two", exit=137).app(exit=1).phase("Failed").ready(False)
        [record] = started(before).reconcile(failed, 30).status.history
        assert (record.result, record.initialized_time) == (Result.FAILED, at(8))
        assert record.failed_step is not None
        assert (record.failed_step.name, record.failed_step.exit_code) == ("two", 137)

    @pytest.mark.parametrize(
        "observed",
        [
            pytest.param(running_pod(), id="reported"),
            pytest.param(
                running_pod().init("one", reported=False).init("two", reported=False),
                id="without its init containers",
            ),
        ],
    )
    def test_failed_app_container_is_the_reason_of_an_initialized_run(
        self, observed: PodBuilder
    ) -> None:
        failed = observed.app(exit=3).restarts("Never").phase("Failed").ready(False)
        [record] = started(running_pod()).reconcile(failed, 30).status.history
        assert (record.reason, record.message) == (
            "ContainerFailed",
            'container "app" exited with 3',
        )

    def test_succeeded_run_has_no_reason(self) -> None:
        [record] = started(running_pod()).reconcile(completed_pod(), 30).status.history
        assert (record.result, record.reason, record.message) == (Result.SUCCEEDED, None, None)

    def test_pod_lost_twice_without_disruption_fails_with_its_evidence(self) -> None:
        ended = fresh_pod(2).init("one", exit=7).phase("Succeeded", message="usage exceeds limit")
        [record, first] = started(fresh_pod()).reconcile(None).reconcile(ended, 30).status.history
        assert (first.result, record.result) == (Result.LOST, Result.FAILED)
        assert record.message is not None
        assert "usage exceeds limit" in record.message
        assert record.failed_step is not None
        assert record.failed_step.exit_code == 7

    def test_ended_run_does_not_follow_its_pod(self) -> None:
        hanging = fresh_pod().init("one", running=True)
        ended = started(hanging, initDeadlineSeconds=30).reconcile(hanging, 30)
        assert ended.run.result is Result.FAILED
        assert ended.reconcile(running_pod().deleting(30), 40).run == ended.run

    def test_initialized_run_has_no_running_step(self) -> None:
        ready = running_pod().init("two", running=True)
        run = started(fresh_pod()).reconcile(ready, 30).run
        assert run.initialized_time is not None
        assert run.running_step is None

    @pytest.mark.parametrize(
        ("observed", "expected"),
        [
            pytest.param(
                running_pod().deleting().condition("DisruptionTarget", message="preempted"),
                "PodLost",
                id="disrupted and deleted: recorded, because the report goes with the Pod",
            ),
            pytest.param(running_pod().deleting(), None, id="deleted"),
            pytest.param(running_pod().condition("DisruptionTarget"), None, id="disrupted"),
        ],
    )
    def test_disruption_of_a_deleted_pod_is_recorded(
        self, observed: PodBuilder, expected: str | None
    ) -> None:
        run = started(running_pod()).reconcile(observed, 30).run
        assert (run.reason, "preempted" in (run.message or "")) == (expected, bool(expected))

    def test_pod_that_is_gated_again_has_no_ungated_time(self) -> None:
        """The run got another Pod, which has scheduling gates too."""
        gated = fresh_pod().with_spec(schedulingGates=[{"name": "quota"}])
        ungated = started(gated).reconcile(fresh_pod(), 20)
        assert ungated.run.ungated_time == at(20)
        run = ungated.reconcile(gated, 30).run
        assert (run.scheduling_gated, run.ungated_time) == (True, None)

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
    @pytest.mark.parametrize(
        ("observed", "result"),
        [
            pytest.param(fresh_pod(), Result.SUPERSEDED, id="not initialized"),
            pytest.param(running_pod(), Result.INITIALIZED, id="initialized"),
        ],
    )
    def test_run_followed_by_another_ends(self, observed: PodBuilder, result: Result) -> None:
        [record] = started(observed).token("go").reconcile(observed, 40).status.history
        assert (record.result, record.completion_time) == (result, at(40))

    def test_failed_sidecar_of_an_initialized_run_is_in_history(self) -> None:
        before = fresh_pod().init("one", exit=0).sidecar("two", running=True).app(running=True)
        crashed = before.sidecar("two", waiting="CrashLoopBackOff", restarts=1, last=End(5))
        [record] = started(before).token("go").reconcile(crashed).status.history
        assert record.failed_step is not None
        assert (record.failed_step.name, record.failed_step.exit_code) == ("two", 5)

    def test_run_without_pod_has_the_mirrored_failure(self) -> None:
        written = started(fresh_pod().init("one", exit=9)).status
        state = runs.superseded(FollowedRun(begun(), None, None), written, at(5))
        assert state.history[0].failed_step is not None
        assert state.history[0].failed_step.exit_code == 9

    def test_run_without_pod_and_condition_has_no_reason(self) -> None:
        written = InitPipelineStatus(run=begun().run)
        [record] = runs.superseded(FollowedRun(begun(), None, None), written, at(5)).history
        assert (record.result, record.reason) == (Result.SUPERSEDED, None)

    @pytest.mark.parametrize("reason", ["Invented", "R" * 1024])
    def test_run_without_pod_has_the_reason_that_only_a_newer_version_knows(
        self, reason: str
    ) -> None:
        condition = Condition(
            type="Initialized",
            status="False",
            last_transition_time=at(0),
            reason=reason,
            message="by another version",
        )
        written = InitPipelineStatus(run=begun().run, conditions=(condition,))
        [record] = runs.superseded(FollowedRun(begun(), None, None), written, at(5)).history
        assert record.message == "by another version"
        assert record.reason == lenient.identifier(reason)

    def test_condition_of_a_status_without_run_is_not_the_reason(self) -> None:
        written = evolve(started(fresh_pod()).status, run=None)
        [record] = runs.superseded(FollowedRun(begun(), None, None), written, at(5)).history
        assert (record.result, record.reason) == (Result.SUPERSEDED, None)

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
        after = started(half).reconcile(again, 50)
        assert after.past == [(1, "Created", "Unknown")]
        assert after.status.history[0].completion_time == at(50)

    def test_mirrored_failure_of_the_previous_run_is_in_history(self) -> None:
        half = fresh_pod().init("one", exit=0).init("two", exit=6)
        again = half.init("one", running=True, restarts=1, start=50, last=End())
        [record] = started(half).reconcile(again, 50).status.history
        assert record.failed_step is not None
        assert (record.failed_step.name, record.failed_step.exit_code) == ("two", 6)

    def test_restart_baselines_are_reset(self) -> None:
        after = started(running_pod()).reconcile(self.again(), 50)
        assert after.run.restart_baselines == ()

    def test_restart_after_initialization_counts_if_both_are_reported_at_once(self) -> None:
        """The restart of the sandbox and that of the container raise restartCount by one each."""
        done = (
            self.again()
            .init("one", exit=0, restarts=1, start=50, end=51, last=End())
            .init("two", exit=0, restarts=1, start=51, end=52, last=End())
            .app(running=True, start=60, restarts=2, last=End(1, start=55))
        )
        after = started(running_pod()).reconcile(self.again(), 50).reconcile(done, 70)
        assert (after.run.number, after.run.trigger) == (3, Trigger.CONTAINER_RESTARTED)


class TestTerminationMessage:
    """The termination message of the step at which the run exceeded a limit."""

    TERMINATED = fresh_pod().init("one", exit=143, message="waits for the database")

    def ended(self, message: str | None = None) -> RunState:
        exceeded = Exceeded(
            limit="timeoutSeconds", step="one", value=10, termination_message=message
        )
        past = runs.end(begun(), Result.LOST, at(1))
        state = runs.begin(pipeline().build(), past, Trigger.POD_LOST, at(2))
        state = replace(state, run=evolve(state.run, pod_uid="pod-1"))
        return runs.end(state, Result.FAILED, at(9), exceeded=exceeded)

    @pytest.mark.parametrize(
        ("observed", "known", "expected"),
        [
            pytest.param(TERMINATED, None, "waits for the database", id="new"),
            pytest.param(TERMINATED, "known", "known", id="recorded before"),
            pytest.param(TERMINATED.of_run(2), None, None, id="of another Pod"),
            pytest.param(fresh_pod().init("one", exit=143), None, None, id="none"),
        ],
    )
    def test_message_is_added_to_run_and_history(
        self, observed: PodBuilder, known: str | None, expected: str | None
    ) -> None:
        state = runs.with_termination_message(self.ended(known), observed.build())
        run, (newest, oldest) = state.run, state.history
        assert run.exceeded is not None
        assert newest.exceeded is not None
        assert run.exceeded.termination_message == expected
        assert newest.exceeded.termination_message == expected
        assert (oldest.number, oldest.exceeded) == (1, None)


class TestUnfitPod:
    @pytest.mark.parametrize(
        ("uid", "ended", "expected"),
        [
            pytest.param("pod-1", False, None, id="of the run"),
            pytest.param("pod-7", False, "pod-7", id="of an earlier run"),
            pytest.param("pod-1", True, "pod-1", id="of the run, which has ended"),
        ],
    )
    def test_unfit_pod_is_detached_from_an_active_run(
        self, uid: str, ended: bool, expected: str | None
    ) -> None:
        state = replace(begun(), run=evolve(begun().run, pod_uid=uid))
        state = runs.end(state, Result.LOST, at(1)) if ended else state
        assert runs.without_unfit_pod(state, fresh_pod().build()).run.pod_uid == expected


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
