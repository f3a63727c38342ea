"""The next run: whether it is due, its trigger, and its start."""

from typing import Any, Final

import pytest

from initpipeline.api.models import Cause
from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from tests.builders import (
    End,
    PodBuilder,
    at,
    completed_pod,
    fresh_pod,
    pipeline,
    running_pod,
    silent_pod,
)
from tests.unit.core.simulation import SimulatedPipeline, after_requests, new_pipeline, started


def restarted(run: int = 1, start: float = 20) -> PodBuilder:
    """Returns a Pod whose app container has restarted once since initialization."""
    return running_pod(run).app(running=True, restarts=1, last=End(1, start=start))


def lost_pod(run: int = 1) -> PodBuilder:
    return running_pod(run).phase("Failed", "Evicted").condition("DisruptionTarget")


class TestPrecedence:
    """Several causes at once make one run."""

    @pytest.mark.parametrize(
        ("edited", "token", "observed", "trigger"),
        [
            pytest.param(True, "t", restarted(), Trigger.SPEC_CHANGED, id="all three"),
            pytest.param(True, None, restarted(), Trigger.SPEC_CHANGED, id="template, restart"),
            pytest.param(True, "t", running_pod(), Trigger.SPEC_CHANGED, id="template, token"),
            pytest.param(True, "t", None, Trigger.SPEC_CHANGED, id="template, token, Pod gone"),
            pytest.param(False, "t", restarted(), Trigger.REQUESTED, id="token, restart"),
            pytest.param(False, "t", None, Trigger.REQUESTED, id="token, Pod gone"),
            pytest.param(False, None, restarted(), Trigger.CONTAINER_RESTARTED, id="restart"),
            pytest.param(False, None, None, Trigger.POD_LOST, id="Pod gone"),
            pytest.param(False, None, lost_pod(), Trigger.POD_LOST, id="Pod evicted"),
        ],
    )
    def test_first_trigger_starts_one_run(
        self, edited: bool, token: str | None, observed: PodBuilder | None, trigger: Trigger
    ) -> None:
        before = started(running_pod())
        before = before.edited() if edited else before
        before = before.token(token) if token else before
        after = before.reconcile(observed, 60)
        assert (after.run.number, after.run.trigger) == (2, trigger)
        assert len(after.past) == 1

    def test_template_change_answers_the_token(self) -> None:
        after = started(running_pod()).edited().token("t").reconcile(running_pod())
        assert after.run.token == "t"
        again = after.reconcile(running_pod(2)).reconcile(running_pod(2))
        assert again.run.number == 2

    def test_run_after_a_restart_has_its_cause(self) -> None:
        after = started(running_pod()).reconcile(restarted(), 60)
        assert after.run.cause is not None
        assert (after.run.cause.container, after.run.cause.exit_code) == ("app", 1)


class TestNoRun:
    """Events that do not start a run."""

    @pytest.mark.parametrize(
        "observed",
        [
            pytest.param(running_pod(), id="all is well"),
            pytest.param(running_pod().ready(False), id="not ready"),
            pytest.param(running_pod().app(exit=1), id="app container ended, not restarted yet"),
            pytest.param(running_pod().phase("Unknown"), id="node unreachable"),
            pytest.param(completed_pod(), id="succeeded"),
            pytest.param(running_pod().app(exit=1).restarts("Never").phase("Failed"), id="failed"),
            pytest.param(restarted().deleting(), id="being deleted: what comes after decides"),
            pytest.param(running_pod().init("one", exit=0, image="patched"), id="image patched"),
        ],
    )
    def test_status_of_the_pod_starts_no_run(self, observed: PodBuilder) -> None:
        assert started(running_pod()).reconcile(observed, 60).run.number == 1

    def test_restart_of_a_sidecar_starts_no_run(self) -> None:
        pod = fresh_pod().init("one", exit=0).sidecar("two", running=True).app(running=True)
        crashed = pod.sidecar("two", running=True, restarts=3, last=End(1))
        assert started(pod).reconcile(crashed, 60).run.number == 1

    def test_loss_of_a_succeeded_pod_starts_no_run(self) -> None:
        succeeded = started(running_pod()).reconcile(completed_pod())
        after = succeeded.reconcile(None, 60)
        assert after.past == [(1, "Created", "Succeeded")]
        assert after.decision.action is None

    def test_loss_of_a_failed_pod_starts_no_run(self) -> None:
        failed = started(running_pod()).reconcile(
            running_pod().app(exit=1).restarts("Never").phase("Failed")
        )
        assert failed.reconcile(None, 60).past == [(1, "Created", "Failed")]

    def test_new_generation_of_the_same_template_starts_no_run(self) -> None:
        before = started(running_pod())
        after = before.change(before.pipeline.of_generation(5)).reconcile(running_pod())
        assert after.run.number == 1
        assert after.status.observed_generation == 5

    def test_other_hash_of_the_same_generation_is_recorded(self) -> None:
        """As after an upgrade of the operator, which compares templates by other rules."""
        before = started(running_pod())
        by_others = before.status.model_copy(update={"template_hash": "0123456789abcdef"})
        after = SimulatedPipeline(before.pipeline.with_status(by_others), now=before.now).reconcile(
            running_pod()
        )
        assert after.run.number == 1
        assert after.status.template_hash == before.status.template_hash
        assert after.policy(backoffLimit=3).reconcile(running_pod()).run.number == 1

    @pytest.mark.parametrize(("edited", "run"), [(False, 1), (True, 2)])
    def test_spec_changed_during_an_upgrade_runs_only_for_the_template(
        self, edited: bool, run: int
    ) -> None:
        """The hashes cannot be compared, but the Pod carries the template."""
        seen = running_pod().made_of(pipeline().template)
        before = started(seen)
        by_others = before.status.model_copy(update={"template_hash": "0123456789abcdef"})
        changed = SimulatedPipeline(before.pipeline.with_status(by_others), now=before.now)
        changed = changed.edited() if edited else changed.policy(backoffLimit=3)
        assert changed.reconcile(seen).run.number == run

    def test_spec_changed_during_an_upgrade_and_without_a_pod_starts_a_run(self) -> None:
        """The hashes cannot be compared, and no Pod carries the template."""
        before = started(running_pod())
        by_others = before.status.model_copy(update={"template_hash": "0123456789abcdef"})
        changed = SimulatedPipeline(before.pipeline.with_status(by_others), now=before.now)
        after = changed.edited().reconcile(None, 60)
        assert (after.run.number, after.run.trigger) == (2, Trigger.SPEC_CHANGED)

    def test_resumption_after_an_upgrade_to_other_rules_is_the_trigger(self) -> None:
        """During a suspension, status keeps the hash of the last run, and there is no Pod."""
        suspended = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 10)
        before = suspended.reconcile(None, 20)
        by_others = before.status.model_copy(update={"template_hash": "0123456789abcdef"})
        upgraded = SimulatedPipeline(before.pipeline.with_status(by_others), now=before.now)
        after = upgraded.reconcile(None, 30).policy(suspend=False).reconcile(None, 40)
        assert (after.run.number, after.run.trigger) == (2, Trigger.RESUMED)

    def test_template_on_the_pod_is_not_compared_if_the_hashes_can_be(self) -> None:
        """Another client may have changed the annotation of the Pod."""
        annotated = running_pod().made_of(pipeline().edited().template)
        assert started(running_pod()).edited().reconcile(annotated).run.number == 2

    def test_template_in_another_spelling_starts_no_run(self) -> None:
        before = started(running_pod())
        app = {"name": "app", "image": "nginx", "imagePullPolicy": "Always", "env": []}
        spelled = {"spec": {**before.pipeline.template["spec"], "containers": [app]}}
        after = before.change(before.pipeline.with_template(spelled).of_generation(2))
        assert after.reconcile(running_pod()).run.number == 1
        assert after.reconcile(running_pod()).status.observed_generation == 2

    def test_changed_template_is_the_next_run_after_a_suspension(self) -> None:
        """The generation that the suspended pipeline has observed does not matter."""
        suspended = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 10)
        edited = suspended.reconcile(None, 20).edited().reconcile(None, 30)
        after = edited.policy(suspend=False).reconcile(None, 40)
        assert (after.run.number, after.run.trigger) == (2, Trigger.SPEC_CHANGED)


class TestChangedTemplate:
    """The cause that a run with trigger SpecChanged records."""

    OLD: Final = pipeline().template

    def test_changed_fields_are_recorded(self) -> None:
        seen = running_pod().made_of(self.OLD)
        after = started(seen).edited().reconcile(seen)
        assert after.run.cause == Cause(
            changed_paths=("spec.containers[0].image",), changed_path_count=1
        )

    def test_changed_fields_stay_in_history(self) -> None:
        seen = running_pod().made_of(self.OLD)
        after = started(seen).edited().reconcile(seen).reconcile(None).reconcile(running_pod(2), 20)
        newest = after.token("t").reconcile(running_pod(2), 30).status.history[0]
        assert newest.cause is not None
        assert newest.cause.changed_paths == ("spec.containers[0].image",)

    def test_first_three_fields_are_recorded(self) -> None:
        seen = running_pod().made_of(self.OLD)
        labels = {"metadata": {"labels": {"a": "x"}}}
        steps = [{"name": name, "image": "busybox:2"} for name in ("one", "two")]
        apps = [{"name": "app", "image": "nginx:2", "args": ["x"]}]
        new = {**labels, "spec": {"initContainers": steps, "containers": apps}}
        before = started(seen)
        after = before.change(before.pipeline.with_template(new).of_generation(2)).reconcile(seen)
        assert after.run.cause == Cause(
            changed_paths=(
                "spec.initContainers[0].image",
                "spec.initContainers[1].image",
                "spec.containers[0].image",
            ),
            changed_path_count=5,
        )

    def test_fields_are_read_from_the_pod_that_is_gone(self) -> None:
        seen = running_pod().made_of(self.OLD)
        after = started(seen).edited().reconcile(None, gone=seen)
        assert after.run.trigger is Trigger.SPEC_CHANGED
        assert after.run.cause is not None

    @pytest.mark.parametrize(
        "carried",
        [
            pytest.param(None, id="nothing"),
            pytest.param("AAAA", id="what cannot be read"),
            pytest.param({"spec": {"hostname": "x"}}, id="another template"),
            pytest.param(pipeline().edited().template, id="the new template"),
        ],
    )
    def test_no_fields_are_recorded_if_the_pod_does_not_carry_the_template(
        self, carried: Any
    ) -> None:
        seen = running_pod().made_of(carried)
        after = started(seen).edited().reconcile(seen)
        assert (after.run.trigger, after.run.cause) == (Trigger.SPEC_CHANGED, None)


class TestTokens:
    def test_token_of_a_new_pipeline_starts_one_run(self) -> None:
        state = (
            SimulatedPipeline(started(fresh_pod()).pipeline)
            .without_status()
            .token("first")
            .reconcile(None)
        )
        assert (state.run.number, state.run.token) == (1, "first")
        assert state.reconcile(fresh_pod()).run.number == 1

    def test_token_starts_one_run(self) -> None:
        after = started(running_pod()).token("t").reconcile(running_pod())
        assert (
            after.reconcile(None).reconcile(running_pod(2)).reconcile(running_pod(2)).run.number
            == 2
        )

    def test_older_token_starts_no_run(self) -> None:
        a = started(running_pod()).token("a").reconcile(running_pod()).reconcile(running_pod(2))
        b = a.token("b").reconcile(running_pod(2)).reconcile(running_pod(3))
        assert b.token("a").reconcile(running_pod(3)).run.number == 3

    def test_removed_token_starts_no_run(self) -> None:
        after = started(running_pod()).token("t").reconcile(running_pod()).reconcile(running_pod(2))
        without = after.pipeline.__class__(status=after.pipeline.status)
        assert after.change(without).reconcile(running_pod(2)).run.number == 2

    def test_token_starts_a_run_of_a_given_up_pipeline(self) -> None:
        failed = started(running_pod()).reconcile(
            running_pod().app(exit=1).restarts("Never").phase("Failed")
        )
        after = failed.token("t").reconcile(
            running_pod().app(exit=1).restarts("Never").phase("Failed")
        )
        assert (after.run.number, after.run.trigger) == (2, Trigger.REQUESTED)
        assert after.status.condition(ConditionType.STALLED) is None


def lose(state: SimulatedPipeline, seconds: float) -> SimulatedPipeline:
    """Returns the pipeline after the Pod of the current run was lost at that time."""
    return state.reconcile(None, seconds)


class TestBackOff:
    """Reruns after a restart or a loss wait longer each time."""

    def test_first_rerun_is_immediate_then_10_seconds_doubling_to_5_minutes(self) -> None:
        state, now, waits = started(running_pod()), 100.0, []
        for run in range(1, 9):
            state = lose(state, now)
            due = state.status.next_run_time
            waits.append(0.0 if due is None else (due - at(now)).total_seconds())
            now += waits[-1]
            state = state.reconcile(None, now)
            assert (state.run.number, state.run.trigger) == (run + 1, Trigger.POD_LOST)
            state = state.reconcile(fresh_pod(run + 1), now)
            now += 1
        assert waits == [0, 10, 20, 40, 80, 160, 300, 300]

    def waiting(self) -> SimulatedPipeline:
        """Returns run 2 with a restart at second 100. The next run may start at 110."""
        first = started(running_pod()).reconcile(restarted(), 50)
        state = first.reconcile(running_pod(2), 60).reconcile(restarted(2), 100)
        assert state.status.next_run_time == at(110)
        return state

    def test_old_pod_is_kept_during_back_off(self) -> None:
        state = self.waiting()
        assert state.run.number == 2
        assert state.decision.action is None
        assert state.decision.wake_at == at(110)

    def test_back_off_is_reported(self) -> None:
        reconciling = self.waiting().condition(ConditionType.RECONCILING)
        assert reconciling.reason == Reason.RERUN_BACK_OFF
        assert "2030-01-01T12:01:50Z" in reconciling.message

    def test_next_run_time_is_kept(self) -> None:
        assert self.waiting().reconcile(restarted(2), 105).status.next_run_time == at(110)

    def test_run_starts_at_next_run_time(self) -> None:
        after = self.waiting().reconcile(restarted(2), 110)
        assert (after.run.number, after.status.next_run_time) == (3, None)
        assert after.status.rerun_count == 2

    def test_loss_during_back_off_keeps_the_time(self) -> None:
        lost = self.waiting().reconcile(None, 105)
        assert lost.status.next_run_time == at(110)
        after = lost.reconcile(None, 110)
        assert (after.run.number, after.run.trigger) == (3, Trigger.POD_LOST)
        assert [record[0] for record in after.past] == [1, 2]

    def test_template_change_during_back_off_starts_at_once(self) -> None:
        after = self.waiting().edited().reconcile(restarted(2), 105)
        assert (after.run.number, after.run.trigger) == (3, Trigger.SPEC_CHANGED)
        assert (after.status.next_run_time, after.status.rerun_count) == (None, 0)

    def test_token_during_back_off_starts_at_once(self) -> None:
        after = self.waiting().token("t").reconcile(restarted(2), 105)
        assert (after.run.number, after.run.trigger) == (3, Trigger.REQUESTED)
        assert (after.status.next_run_time, after.status.rerun_count) == (None, 0)

    def test_kubelet_run_during_back_off_is_the_run(self) -> None:
        again = restarted(2).init("one", running=True, restarts=1, start=105, last=End())
        after = self.waiting().reconcile(again.ready(False), 105)
        assert (after.run.number, after.run.trigger) == (3, Trigger.POD_RESTARTED)
        assert after.status.next_run_time is None

    @pytest.mark.parametrize(
        ("ready_for", "number", "count"),
        [
            pytest.param(599, 2, 1, id="just short of 10 minutes of Ready: it waits"),
            pytest.param(600, 3, 1, id="10 minutes of Ready: it is the first again"),
        ],
    )
    def test_ten_minutes_ready_reset_back_off(
        self, ready_for: float, number: int, count: int
    ) -> None:
        state = started(running_pod()).reconcile(restarted(), 50).reconcile(running_pod(2), 60)
        after = state.reconcile(restarted(2), 60 + ready_for)
        assert (after.run.number, after.status.rerun_count) == (number, count)

    def test_ten_minutes_not_ready_keep_back_off(self) -> None:
        state = started(running_pod()).reconcile(restarted(), 50)
        state = state.reconcile(running_pod(2).ready(False), 60)
        assert state.reconcile(restarted(2).ready(False), 5000).run.number == 2

    def test_ready_time_counts_if_not_ready_is_observed_before_the_restart(self) -> None:
        state = started(running_pod()).reconcile(restarted(), 50).reconcile(running_pod(2), 60)
        crashed = running_pod(2).app(exit=1).ready(False)
        assert state.reconcile(crashed, 700).reconcile(restarted(2), 701).run.number == 3


DELAYED = (
    "the next run (Requested) is delayed until 2030-01-01T12:01:10Z: after a burst, users can "
    "start one run every 10 s"
)


class TestUserRuns:
    """At most five runs that users start begin without delay, and then one every ten seconds."""

    def limited(self, **policies: Any) -> SimulatedPipeline:
        """Returns run 6, the fifth that was requested at second 60, with another request."""
        return after_requests(5, 60, **policies).token("6").reconcile(running_pod(6), 60)

    def test_sixth_request_waits_and_is_reported(self) -> None:
        state = self.limited()
        assert (state.run.number, state.status.next_run_time) == (6, at(70))
        assert (state.decision.action, state.decision.wake_at) == (None, at(70))
        reconciling = state.condition(ConditionType.RECONCILING)
        assert (reconciling.reason, reconciling.message) == (Reason.RATE_LIMITED, DELAYED)
        assert state.condition(ConditionType.READY).status == "True"

    def test_one_more_run_starts_every_ten_seconds(self) -> None:
        state, starts = self.limited(), []
        for second in range(60, 100):
            before = state.run.number
            state = state.token(f"at {second}").reconcile(running_pod(before), second)
            if state.run.number != before:
                starts.append(second)
                state = state.reconcile(running_pod(before + 1), second)
        assert starts == [70, 80, 90]

    def test_newest_request_is_answered(self) -> None:
        after = self.limited().token("7").reconcile(running_pod(6), 65)
        assert after.run.number == 6
        after = after.reconcile(running_pod(6), 70)
        assert (after.run.number, after.run.token, after.status.next_run_time) == (7, "7", None)
        assert after.condition(ConditionType.RECONCILING).reason != Reason.RATE_LIMITED

    def test_further_requests_write_no_status(self) -> None:
        assert not self.limited().token("7").reconcile(running_pod(6), 65).decision.patch

    def test_withdrawn_request_starts_no_run(self) -> None:
        state = self.limited()
        after = state.token("5").reconcile(running_pod(6), 65)
        assert (after.status.next_run_time, after.decision.wake_at) == (None, None)
        assert after.status.condition(ConditionType.RECONCILING) is None

    @pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 10])
    def test_burst_is_not_larger_than_the_recorded_runs(self, limit: int) -> None:
        """Five earlier requests let a small limit drop runs. Without that, the burst is five."""
        state = after_requests(5, 0, runHistoryLimit=limit)
        now, allowed = 1000, 0
        while (
            state.token(f"t{allowed}").reconcile(running_pod(), now).run.number > state.run.number
        ):
            number = state.run.number
            state = state.token(f"t{allowed}").reconcile(running_pod(number), now)
            state = state.reconcile(running_pod(number + 1), now)
            allowed += 1
        assert allowed == min(limit + 1, 5)

    def test_pipeline_created_suspended_has_the_whole_burst(self) -> None:
        """Its first run is one that a user starts, and no earlier run can be missing."""
        state = new_pipeline(suspend=True).reconcile(None).policy(suspend=False)
        state = state.reconcile(None).reconcile(running_pod(1))
        for number in range(2, 6):
            state = state.token(f"{number}").reconcile(running_pod(number - 1))
            assert state.run.number == number
            state = state.reconcile(running_pod(number))
        after = state.token("6").reconcile(running_pod(5))
        assert (after.run.number, after.status.next_run_time) == (5, at(10))

    def test_runs_by_others_do_not_count(self) -> None:
        state = after_requests(4, 60)
        state = state.reconcile(None, 60).reconcile(None, 60).reconcile(running_pod(6), 60)
        after = state.token("6").reconcile(running_pod(6), 60)
        assert (after.run.number, after.run.trigger) == (7, Trigger.REQUESTED)

    def test_start_in_the_future_does_not_count(self) -> None:
        state = after_requests(5, 7200).token("6")
        assert state.reconcile(running_pod(6), 60).run.number == 7

    def test_request_replaces_the_back_off_by_its_delay(self) -> None:
        state = self.limited()
        lost = state.reconcile(None, 62)
        assert (lost.run.result, lost.status.next_run_time) == (Result.LOST, at(70))
        assert lost.reconcile(None, 70).run.trigger is Trigger.REQUESTED

    def test_run_without_a_pod_gets_none_before_the_next_run(self) -> None:
        """The next run would replace it within seconds."""
        state = after_requests(4, 60).token("5").reconcile(running_pod(5), 60)
        after = state.token("6").reconcile(running_pod(5).deleting(60), 61).reconcile(None, 62)
        assert (after.run.number, after.run.pod_uid) == (6, None)
        assert (after.decision.action, after.decision.wake_at) == (None, at(70))
        assert after.condition(ConditionType.READY).message == DELAYED

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(running_pod(5).deleting(60), id="an earlier run, terminating"),
            pytest.param(running_pod(1).owned_by("other").deleting(60), id="another, terminating"),
            pytest.param(running_pod(1).owned_by("other"), id="another"),
        ],
    )
    def test_name_that_another_pod_has_does_not_delay_the_next_run(self, other: PodBuilder) -> None:
        state = after_requests(4, 60).token("5").reconcile(running_pod(5), 60)
        after = state.token("6").reconcile(other, 61)
        assert (after.run.number, after.status.next_run_time) == (6, at(70))
        assert (after.decision.action, after.decision.wake_at) == (None, at(70))

    def test_resumed_pipeline_whose_pod_terminates_starts_its_run_in_time(self) -> None:
        state = after_requests(5, 60).policy(suspend=True).reconcile(running_pod(6), 60)
        after = state.policy(suspend=False).reconcile(running_pod(6).deleting(60), 61)
        assert after.condition(ConditionType.SUSPENDED).status == "True"
        assert (after.status.next_run_time, after.decision.wake_at) == (at(70), at(70))

    def test_succeeded_pipeline_is_reconciling(self) -> None:
        """kstatus would otherwise report the end state before the requested run."""
        done = running_pod(6).app(exit=0).restarts("Never").phase("Succeeded")
        state = after_requests(5, 60).reconcile(done, 60).token("6").reconcile(done, 60)
        assert state.condition(ConditionType.RECONCILING).message == DELAYED


class TestChangedTemplateThatWaits:
    def changed(self) -> SimulatedPipeline:
        state = after_requests(5, 60)
        return state.edited("nginx:6").reconcile(running_pod(6), 60)

    def test_observed_generation_and_hash_stay_until_the_run_starts(self) -> None:
        """Therefore ``kubectl wait`` waits, and the change is still recognized after a restart."""
        before, after = after_requests(5, 60).status, self.changed().status
        assert after.observed_generation == before.observed_generation
        assert after.template_hash == before.template_hash
        assert {c.observed_generation for c in after.conditions} == {before.observed_generation}

    def test_template_that_changes_ten_times_a_second_writes_no_status(self) -> None:
        state = self.changed()
        for number in range(50):
            state = state.edited(f"nginx:{number + 7}").reconcile(running_pod(6), 61)
            assert (state.decision.patch, state.decision.action) == ({}, None)

    def test_run_has_the_newest_template(self) -> None:
        state = self.changed().edited("nginx:7").reconcile(running_pod(6), 70)
        assert (state.run.number, state.run.trigger) == (7, Trigger.SPEC_CHANGED)
        assert state.status.template_hash == state.pipeline.build().template_hash
        assert state.status.observed_generation == state.pipeline.build().generation

    def test_reverted_template_starts_no_run(self) -> None:
        before = after_requests(5, 60)
        after = (
            self.changed().change(before.pipeline.of_generation(99)).reconcile(running_pod(6), 61)
        )
        assert (after.run.number, after.status.next_run_time) == (6, None)
        assert after.status.observed_generation == 99

    def test_delay_is_reported_before_the_first_report_on_the_pod(self) -> None:
        state = after_requests(4, 60).token("5").reconcile(running_pod(5), 60)
        silent = silent_pod(6, created=62)
        after = state.reconcile(silent, 62).edited().reconcile(silent, 62)
        assert (after.run.number, after.decision.wake_at) == (6, at(65))
        assert after.condition(ConditionType.RECONCILING).reason == Reason.RATE_LIMITED
        assert after.reconcile(silent, 65).decision.wake_at == at(70)


class TestResumedPipelineThatWaits:
    def resumed(self, pod: PodBuilder | None = None) -> SimulatedPipeline:
        state = after_requests(5, 60)
        if pod is not None:
            state = state.reconcile(pod, 60)
        state = state.policy(suspend=True).reconcile(pod, 60).reconcile(None, 60)
        return state.policy(suspend=False).reconcile(None, 61)

    @pytest.mark.parametrize(
        "pod",
        [
            pytest.param(running_pod(6), id="initialized"),
            pytest.param(
                fresh_pod(6).init("one", exit=1).restarts("Never").phase("Failed"), id="failed"
            ),
        ],
    )
    def test_suspension_continues_until_the_run_may_start(self, pod: PodBuilder) -> None:
        state = self.resumed(pod)
        assert state.run.number == 6
        assert (state.status.next_run_time, state.decision.wake_at) == (at(70), at(70))
        for type_ in (ConditionType.SUSPENDED, ConditionType.RECONCILING):
            assert state.condition(type_).reason == Reason.RATE_LIMITED
        after = state.reconcile(None, 65).reconcile(None, 70)
        assert (after.run.number, after.run.trigger) == (7, Trigger.RESUMED)
        assert after.status.condition(ConditionType.SUSPENDED) is None

    def test_observed_generation_stays_until_the_run_starts(self) -> None:
        """Therefore ``kubectl wait`` waits for the run."""
        suspended = after_requests(5, 60).policy(suspend=True).reconcile(None, 60)
        after = suspended.policy(suspend=False).reconcile(None, 61)
        assert after.condition(ConditionType.SUSPENDED).reason == Reason.RATE_LIMITED
        before = suspended.status.observed_generation
        assert after.status.observed_generation == before
        assert {c.observed_generation for c in after.status.conditions} == {before}
        assert after.reconcile(None, 70).status.observed_generation != before

    def test_further_suspension_ends_the_wait(self) -> None:
        after = self.resumed().policy(suspend=True).reconcile(None, 62)
        assert (after.status.next_run_time, after.decision.wake_at) == (None, None)
        assert after.condition(ConditionType.SUSPENDED).reason == Reason.SUSPENDED
