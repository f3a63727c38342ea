"""Events that follow from the status writes of a pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from initpipeline.api.models import (
    Cause,
    Condition,
    FailedStep,
    InitPipelineStatus,
    Run,
    RunRecord,
)
from initpipeline.api.names import MAX_MESSAGE_LENGTH
from initpipeline.api.reasons import ConditionType, EventReason, Reason, Result, Trigger
from initpipeline.api.triggers import TRIGGERS
from initpipeline.core.facts import Refusal
from initpipeline.core.kubelet_reasons import RESTARTING_ALL_CONTAINERS
from initpipeline.core.run_events import RunEvent, events_between
from tests.builders import End, PodBuilder, at, fresh_pod, pod, running_pod
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline

STARTED, INITIALIZED = EventReason.RUN_STARTED, EventReason.RUN_INITIALIZED
STEP_FAILED, RUN_FAILED = EventReason.STEP_FAILED, EventReason.RUN_FAILED
POD_LOST, GIVEN_UP = EventReason.POD_LOST, EventReason.GIVEN_UP
FAILED_CREATE, FAILED_DELETE = EventReason.FAILED_CREATE, EventReason.FAILED_DELETE

Brief = list[tuple[str, int] | tuple[str, int, str]]

FAILED = End(1, message="no such table")
FAILED_ONCE = fresh_pod().init("one", exit=1, message="no such table")
BACK_OFF = fresh_pod().init("one", waiting="CrashLoopBackOff", last=FAILED)
AGAIN = fresh_pod().init("one", running=True, start=20, restarts=1, last=FAILED)
FAILED_TWICE = fresh_pod().init("one", exit=1, start=20, restarts=1, last=FAILED)
SIDECAR_BACK_OFF = fresh_pod().sidecar("one", waiting="CrashLoopBackOff", last=FAILED)
AT_STEP_TWO = fresh_pod().initialized("one").init("two", running=True)
DONE = fresh_pod().initialized("one", "two")
FAILED_FOR_GOOD = FAILED_ONCE.restarts("Never").phase("Failed")


@dataclass
class Story:
    """A pipeline with the events of each status write."""

    state: SimulatedPipeline
    events: list[RunEvent]

    @classmethod
    def of(cls, *pods: PodBuilder | None) -> "Story":
        story = cls(new_pipeline(), [])
        return story.then(None, *pods)

    def then(self, *pods: PodBuilder | None) -> "Story":
        """Reconciles with each of these Pods, half a minute apart. None: no Pod exists."""
        for seen in pods:
            self._note(self.state.reconcile(seen, self.state.now + 30))
        return self

    def refused(self, refusal: Refusal) -> "Story":
        self._note(self.state.reconcile(None, self.state.now + 30, refusal))
        return self

    def forget(self) -> "Story":
        self.events.clear()
        return self

    def change(self, state: SimulatedPipeline) -> "Story":
        self.state = state
        return self

    def _note(self, after: SimulatedPipeline) -> None:
        self.events += events_between(self.state.status, after.status)
        self.state = after


def brief(events: Sequence[RunEvent]) -> Brief:
    return [
        (h.reason.value, h.run, h.step) if h.step is not None else (h.reason.value, h.run)
        for h in events
    ]


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        pytest.param([], [(STARTED, 1)], id="before its Pod is there"),
        pytest.param(
            [fresh_pod(), AT_STEP_TWO, DONE, running_pod()],
            [(STARTED, 1), (INITIALIZED, 1)],
            id="a run without trouble",
        ),
        pytest.param(
            [FAILED_ONCE], [(STARTED, 1), (STEP_FAILED, 1, "one")], id="a step that fails"
        ),
        pytest.param(
            [FAILED_ONCE, BACK_OFF, AGAIN],
            [(STARTED, 1), (STEP_FAILED, 1, "one")],
            id="the same failure, shown while it waits and while it runs again",
        ),
        pytest.param(
            [
                SIDECAR_BACK_OFF,
                SIDECAR_BACK_OFF.init("two", running=True),
                SIDECAR_BACK_OFF.init("two", exit=1),
            ],
            [(STARTED, 1), (STEP_FAILED, 1, "one"), (STEP_FAILED, 1, "two")],
            id="a step that fails while a sidecar is in back-off",
        ),
        pytest.param(
            [FAILED_ONCE, AGAIN, FAILED_TWICE],
            [(STARTED, 1), (STEP_FAILED, 1, "one"), (STEP_FAILED, 1, "one")],
            id="a step that fails again",
        ),
        pytest.param(
            [AGAIN], [(STARTED, 1), (STEP_FAILED, 1, "one")], id="a failure seen only afterwards"
        ),
        pytest.param(
            [fresh_pod().init("one", running=True), DONE.init("one", exit=0, last=FAILED)],
            [(STARTED, 1), (INITIALIZED, 1)],
            id="a failure that the step recovered from unobserved",
        ),
        pytest.param(
            [FAILED_FOR_GOOD],
            [(STARTED, 1), (STEP_FAILED, 1, "one"), (RUN_FAILED, 1), (GIVEN_UP, 1)],
            id="a step that fails for good",
        ),
        pytest.param(
            [running_pod().app(exit=3).restarts("Never").phase("Failed")],
            [(STARTED, 1), (INITIALIZED, 1), (RUN_FAILED, 1), (GIVEN_UP, 1)],
            id="an app container that fails for good",
        ),
        pytest.param(
            [DONE.restarts("OnFailure").app(exit=0).phase("Succeeded")],
            [(STARTED, 1), (INITIALIZED, 1)],
            id="a Pod that succeeds",
        ),
        pytest.param(
            [running_pod(), None],
            [(STARTED, 1), (INITIALIZED, 1), (POD_LOST, 1), (STARTED, 2)],
            id="a Pod that is lost: first that, then what follows",
        ),
        pytest.param(
            [AT_STEP_TWO, None],
            [(STARTED, 1), (POD_LOST, 1), (STARTED, 2)],
            id="a Pod that is lost before the run is initialized",
        ),
        pytest.param(
            [AT_STEP_TWO, AT_STEP_TWO.init("two", exit=137).deleting(60), None],
            [(STARTED, 1), (POD_LOST, 1), (STARTED, 2)],
            id="a step that ends with its Pod has not failed",
        ),
        pytest.param(
            [FAILED_ONCE, None],
            [(STARTED, 1), (STEP_FAILED, 1, "one"), (POD_LOST, 1), (STARTED, 2)],
            id="a failure has one event if its Pod is lost later",
        ),
        pytest.param(
            [FAILED_ONCE, FAILED_ONCE.deleting(60), None, fresh_pod(2)],
            [(STARTED, 1), (STEP_FAILED, 1, "one"), (POD_LOST, 1), (STARTED, 2)],
            id="nor when the next Pod takes its place",
        ),
        pytest.param(
            [
                fresh_pod().init("one", exit=1, id=""),
                fresh_pod().init("one", exit=1, start=20, id=""),
            ],
            [(STARTED, 1), (STEP_FAILED, 1, "one"), (STEP_FAILED, 1, "one")],
            id="two failures, reported without container IDs",
        ),
        pytest.param(
            [running_pod(), running_pod().app(running=True, restarts=1)],
            [(STARTED, 1), (INITIALIZED, 1), (STARTED, 2)],
            id="an app container that restarts",
        ),
    ],
)
def test_life_of_a_pipeline_has_events(pods: list[PodBuilder | None], expected: Brief) -> None:
    assert brief(Story.of(*pods).events) == expected


def test_step_that_was_ended_with_its_lost_pod_has_no_event() -> None:
    """The lost run stays the current one, because rerunPolicy is Never."""
    disrupted = AT_STEP_TWO.init("two", exit=137).phase("Failed").condition("DisruptionTarget")
    story = Story(new_pipeline(rerunPolicy="Never"), []).then(None, AT_STEP_TWO, disrupted)
    assert brief(story.events) == [(STARTED, 1), (POD_LOST, 1), (GIVEN_UP, 1)]


def test_first_status_write_with_a_failed_step_has_both_events() -> None:
    """The write for the first run may be deferred until the kubelet has reported."""
    written = Story.of(FAILED_ONCE).state.status
    events = events_between(InitPipelineStatus(), written)
    assert brief(events) == [(STARTED, 1), (STEP_FAILED, 1, "one")]


def test_pipeline_without_a_run_has_no_events() -> None:
    story = Story(new_pipeline(suspend=True), []).then(None)
    assert story.state.status.run is None
    assert story.events == []


IN_PLACE = running_pod().ready(False)
"""The same Pod, whose init containers run again."""


class TestRunOfTheKubelet:
    def test_end_of_the_previous_run_comes_first(self) -> None:
        again = IN_PLACE.init("one", running=True, start=100, restarts=1, last=End(0))
        story = Story.of(running_pod()).forget().then(again)
        assert brief(story.events) == [(STARTED, 2)]

    def test_sidecar_ended_with_its_sandbox_is_not_a_failed_step(self) -> None:
        """It is not one while the old run is shown, and not one in the new run."""
        before = pod().sidecar("mesh", running=True).init("one", exit=0)
        before = before.app(running=True).phase("Running").ready()
        killed = before.sidecar("mesh", exit=137).ready(False)
        again = killed.init("one", running=True, start=100, restarts=1, last=End(0), id="new")
        again = again.sidecar(
            "mesh", running=True, start=99, restarts=1, last=End(137), started=False
        )
        for seen in ([killed, again], [again]):
            story = Story.of(before).forget().then(*seen)
            assert brief(story.events) == [(STARTED, 2)], seen

    def test_containers_restarted_in_place_have_not_failed(self) -> None:
        stopped = End(137, reason=RESTARTING_ALL_CONTAINERS)
        again = IN_PLACE.init("one", running=True, start=100, restarts=1, last=stopped)
        story = Story.of(running_pod()).forget().then(again)
        assert brief(story.events) == [(STARTED, 2)]

    def test_step_ended_by_the_sandbox_failed_in_the_previous_run(self) -> None:
        again = AT_STEP_TWO.init("one", running=True, start=100, restarts=1, last=End(0))
        again = again.init("two", exit=137)
        story = Story.of(AT_STEP_TWO).forget().then(again)
        assert brief(story.events) == [(STEP_FAILED, 1, "two"), (STARTED, 2)]

    def test_step_failed_in_the_new_run(self) -> None:
        failed = IN_PLACE.init("one", exit=1, start=100, restarts=1, last=End(0))
        story = Story.of(running_pod()).forget().then(failed)
        assert brief(story.events) == [(STARTED, 2), (STEP_FAILED, 2, "one")]


class TestRunStartedByUser:
    def test_request_starts_a_run(self) -> None:
        story = Story.of(running_pod()).forget()
        story.change(story.state.token("now")).then(running_pod())
        assert brief(story.events) == [(STARTED, 2)]

    def test_changed_template_starts_a_run_of_a_given_up_pipeline(self) -> None:
        story = Story.of(FAILED_FOR_GOOD).forget()
        story.change(story.state.edited()).then(FAILED_FOR_GOOD)
        assert brief(story.events) == [(STARTED, 2)]


INVALID = Refusal(Reason.INVALID_TEMPLATE, "spec.containers: Required value")


class TestRefusal:
    @pytest.mark.parametrize(
        "refusal", [INVALID, Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota: used: pods=1")]
    )
    def test_refusal_is_posted_once_for_many_retries(self, refusal: Refusal) -> None:
        story = Story.of()
        for _ in range(3):
            story.refused(refusal)
        assert brief(story.events) == [(STARTED, 1), (FAILED_CREATE, 1)]
        [_, event] = story.events
        assert event.note == f"run 1: Pod not created ({refusal.reason}): {refusal.message}"
        assert (event.type, event.action) == ("Warning", "CreatePod")

    def test_refusal_with_another_message_is_posted_again(self) -> None:
        story = Story.of().refused(INVALID).forget()
        story.refused(Refusal(Reason.INVALID_TEMPLATE, "spec.nodeName: Invalid value"))
        assert brief(story.events) == [(FAILED_CREATE, 1)]

    def test_refusal_of_another_run_is_posted_again(self) -> None:
        story = Story.of().refused(INVALID).forget()
        story.change(story.state.token("now")).refused(INVALID)
        assert brief(story.events) == [(STARTED, 2), (FAILED_CREATE, 2)]

    def test_refusal_that_becomes_stalled_is_not_posted_again(self) -> None:
        quota = Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota")
        story = Story.of().refused(quota).forget()
        before, after = story.state, story.state.reconcile(None, 900, quota)
        assert after.status.condition(ConditionType.STALLED) is not None
        assert events_between(before.status, after.status) == ()

    def test_failed_deletion_is_posted_once(self) -> None:
        story = Story.of(running_pod()).forget()
        old = story.state.edited().reconcile(running_pod(), 30)
        failed = old.reconcile(running_pod(), 40, undeleted="403: no")
        stalled = failed.reconcile(running_pod(), 900, undeleted="500: later")
        [event] = events_between(old.status, failed.status)
        assert (event.reason, event.type, event.action) == (FAILED_DELETE, "Warning", "Delete")
        assert event.note.endswith("because the request failed: 403: no")
        assert events_between(failed.status, stalled.status) == ()

    def test_taken_name_is_posted(self) -> None:
        story = Story.of().forget()
        story.then(running_pod().owned_by("somebody-else"))
        assert brief(story.events) == [(FAILED_CREATE, 1)]


def test_equal_statuses_have_no_events() -> None:
    story = Story.of(FAILED_FOR_GOOD)
    assert events_between(story.state.status, story.state.status) == ()


RUN = Run(number=1, trigger=Trigger.CREATED, pod_uid="pod-1", start_time=at(0))
LOST_TABLE = FailedStep(name="one", exit_code=1, message="no such table", restart_count=0)


def ended(run: Run, result: Result, failed: FailedStep | None = None, **more: Any) -> RunRecord:
    fields = {**run.model_dump(), "result": result, "completion_time": at(60), **more}
    return RunRecord.model_validate({**fields, "failed_step": failed})


def retried(*history: RunRecord, retry: int = 2) -> InitPipelineStatus:
    run = RUN.model_copy(update={"number": retry, "trigger": Trigger.RETRY, "pod_uid": None})
    return InitPipelineStatus(run=run, history=history)


class TestSeveralChangesInOneWrite:
    """The end of a run and the beginning of the next one are one write. An operator that was down
    writes even more changes at once."""

    def test_failure_only_in_history_has_an_event(self) -> None:
        before = InitPipelineStatus(run=RUN)
        after = retried(ended(RUN, Result.FAILED, LOST_TABLE))
        assert brief(events_between(before, after)) == [
            (STEP_FAILED, 1, "one"),
            (RUN_FAILED, 1),
            (STARTED, 2),
        ]

    def test_recorded_failure_has_no_second_event(self) -> None:
        """For example after a back-off without a Pod."""
        record = ended(RUN, Result.FAILED, LOST_TABLE)
        run = RUN.model_copy(update={"result": Result.FAILED, "completion_time": at(60)})
        before = InitPipelineStatus(run=run, history=(record,))
        assert brief(events_between(before, retried(record))) == [(STARTED, 2)]

    def test_run_initialized_and_ended_has_both_events(self) -> None:
        record = ended(RUN, Result.LOST, initialized_time=at(30))
        assert brief(events_between(InitPipelineStatus(run=RUN), retried(record))) == [
            (INITIALIZED, 1),
            (POD_LOST, 1),
            (STARTED, 2),
        ]

    def test_whole_run_between_two_others_has_all_events(self) -> None:
        second = RUN.model_copy(update={"number": 2, "trigger": Trigger.POD_RESTARTED})
        after = retried(
            ended(second, Result.FAILED, LOST_TABLE), ended(RUN, Result.UNKNOWN), retry=3
        )
        assert brief(events_between(InitPipelineStatus(run=RUN), after)) == [
            (STARTED, 2),
            (STEP_FAILED, 2, "one"),
            (RUN_FAILED, 2),
            (STARTED, 3),
        ]

    def test_only_the_next_run_has_an_event_if_history_is_empty(self) -> None:
        assert brief(events_between(InitPipelineStatus(run=RUN), retried())) == [(STARTED, 2)]


def stalled(reason: Reason, result: Result | None = Result.FAILED) -> InitPipelineStatus:
    condition = Condition(
        type="Stalled",
        status="True",
        observed_generation=1,
        last_transition_time=at(0),
        reason=reason,
        message="why",
    )
    return InitPipelineStatus(
        run=RUN.model_copy(update={"result": result}), conditions=(condition,)
    )


def test_run_of_a_changed_template_names_the_fields() -> None:
    seen = running_pod().made_of(new_pipeline().pipeline.template)
    before = new_pipeline().reconcile(None).reconcile(seen)
    after = before.edited().reconcile(seen)
    [started] = [h for h in events_between(before.status, after.status) if h.reason == STARTED]
    assert started.note == "run 2 started (SpecChanged): spec.containers[0].image changed"


class TestGivenUp:
    def test_failed_run_is_given_up_when_its_limit_is_lowered(self) -> None:
        """A limit was lowered while the next run waited."""
        before = InitPipelineStatus(run=RUN.model_copy(update={"result": Result.FAILED}))
        after = stalled(Reason.BACKOFF_LIMIT_EXCEEDED)
        assert events_between(before, after) == (RunEvent(GIVEN_UP, 1, "why"),)

    def test_lost_run_without_another_is_given_up(self) -> None:
        after = stalled(Reason.POD_LOST, Result.LOST)
        assert brief(events_between(InitPipelineStatus(run=RUN), after)) == [
            (POD_LOST, 1),
            (GIVEN_UP, 1),
        ]

    @pytest.mark.parametrize("result", [None, Result.FAILED])
    def test_stuck_pod_is_not_given_up(self, result: Result | None) -> None:
        before = InitPipelineStatus(run=RUN.model_copy(update={"result": result}))
        assert events_between(before, stalled(Reason.POD_TERMINATING, result)) == ()


class TestNotes:
    @pytest.mark.parametrize("trigger", Trigger)
    def test_start_has_trigger_and_text(self, trigger: Trigger) -> None:
        run = RUN.model_copy(update={"trigger": trigger})
        (started,) = events_between(InitPipelineStatus(), InitPipelineStatus(run=run))
        text = TRIGGERS[trigger].event_text
        assert started.note == f"run 1 started ({trigger.value}): {text}"

    def test_start_has_the_end_of_the_app_container(self) -> None:
        cause = Cause(container="app", exit_code=137, signal=9, reason="OOMKilled")
        run = RUN.model_copy(update={"trigger": Trigger.CONTAINER_RESTARTED, "cause": cause})
        (started,) = events_between(InitPipelineStatus(), InitPipelineStatus(run=run))
        assert started.note == (
            'run 1 started (ContainerRestarted): container "app" was terminated by signal 9 '
            "(OOMKilled)"
        )

    def test_start_after_a_successful_exit_has_exit_code_0(self) -> None:
        cause = Cause(container="app", exit_code=0, reason="Completed")
        run = RUN.model_copy(update={"trigger": Trigger.CONTAINER_RESTARTED, "cause": cause})
        (started,) = events_between(InitPipelineStatus(), InitPipelineStatus(run=run))
        assert started.note.endswith(': container "app" exited with 0')

    def test_failed_step_has_position_and_termination_message(self) -> None:
        failed = Story.of(FAILED_ONCE).events[-1]
        assert failed.note == 'run 1: init container 1 of 2 "one" exited with 1: no such table'

    def test_end_has_the_message_of_status(self) -> None:
        for result, message, note in (
            (Result.FAILED, "too slow", "run 1 failed: too slow"),
            (Result.LOST, "too slow", "run 1 ended: too slow"),
            (Result.LOST, None, "run 1 ended"),
        ):
            after = retried(ended(RUN, result, message=message))
            assert events_between(InitPipelineStatus(run=RUN), after)[0].note == note

    @pytest.mark.parametrize(
        ("failed", "text"),
        [
            pytest.param(
                FailedStep(name="x", message="too slow", restart_count=0),
                "failed: too slow",
                id="words",
            ),
            pytest.param(
                FailedStep(name="x", reason="Odd", restart_count=0), "failed: Odd", id="a reason"
            ),
            pytest.param(
                FailedStep(name="x", restart_count=0), "failed: no reason given", id="nothing"
            ),
        ],
    )
    def test_step_without_exit_code_has_reason(self, failed: FailedStep, text: str) -> None:
        after = retried(ended(RUN, Result.FAILED, failed))
        note = events_between(InitPipelineStatus(run=RUN), after)[0].note
        assert note == f'run 1: init container "x" {text}'

    def test_note_is_clipped_to_the_limit_of_the_api(self) -> None:
        after = retried(ended(RUN, Result.FAILED, message="ü" * 999))
        note = events_between(InitPipelineStatus(run=RUN), after)[0].note
        assert len(note.encode()) <= MAX_MESSAGE_LENGTH

    @pytest.mark.parametrize("reason", EventReason)
    def test_events_other_than_start_and_initialization_are_warnings(
        self, reason: EventReason
    ) -> None:
        event = RunEvent(reason, 1, "x")
        good = reason in {STARTED, INITIALIZED}
        assert event.type == ("Normal" if good else "Warning")
        assert event.action

    def test_field_path_has_the_form_of_the_kubelet(self) -> None:
        event = RunEvent(STEP_FAILED, 1, "x", "migrate")
        assert event.field_path == "spec.template.spec.initContainers{migrate}"
        assert RunEvent(RUN_FAILED, 1, "x").field_path is None
