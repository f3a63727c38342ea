"""Derives the events that follow from one write of the status.

The inputs are the status before the write and after it. So a reconcile that writes nothing posts no
event, and an event reports nothing that status does not. The exceptions are StatusNotWritten and
StatusFieldsDropped, which runtime.events posts if the API server refuses or changes the status.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from initpipeline.api.models import Cause, FailedStep, InitPipelineStatus, Run, RunFacts
from initpipeline.api.reasons import ConditionType, EventReason, Reason, Result
from initpipeline.api.triggers import event_text
from initpipeline.core import admission, conditions
from initpipeline.core.container_status import ContainerStatus, Terminated
from initpipeline.core.failures import ending, failed_step
from initpipeline.core.mirror import mirrored
from initpipeline.core.run_changes import runs_of
from initpipeline.core.template_changes import changed_fields_message
from initpipeline.core.text import clip

_ENDS = {Result.FAILED: EventReason.RUN_FAILED, Result.LOST: EventReason.POD_LOST}
_NORMAL = frozenset({EventReason.RUN_STARTED, EventReason.RUN_INITIALIZED})
_ACTIONS = {
    EventReason.RUN_STARTED: "StartRun",
    EventReason.STEP_FAILED: "RunStep",
    EventReason.RUN_INITIALIZED: "RunStep",
    EventReason.RUN_FAILED: "EndRun",
    EventReason.POD_LOST: "EndRun",
    EventReason.GIVEN_UP: "GiveUp",
    EventReason.FAILED_CREATE: "CreatePod",
    EventReason.FAILED_DELETE: "Delete",
    EventReason.STATUS_NOT_WRITTEN: "WriteStatus",
    EventReason.STATUS_FIELDS_DROPPED: "WriteStatus",
}
_NOT_GIVEN_UP = frozenset(
    {
        Reason.POD_TERMINATING,
        Reason.DELETION_FAILED,
        Reason.UNREADABLE,
        Reason.RECONCILE_ERROR,
    }
)

MOST_AT_ONCE: Final = 50
"""Maximum number of events of one status write. A real status has fewer, because
steps fail one after the other. A status that another client wrote must not delay the events of
other pipelines."""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event about a run."""

    reason: EventReason
    run: int
    note: str
    """For users. At most 1 KiB, the limit of an event's note."""
    step: str | None = None
    """Name of the init container that the event is about. None: it is about the run."""
    failure: FailedStep | None = field(default=None, compare=False)
    """How the init container failed. None: the reason is not StepFailed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "note", clip(self.note))

    @property
    def type(self) -> str:
        return "Normal" if self.reason in _NORMAL else "Warning"

    @property
    def action(self) -> str:
        """What the operator or kubelet did or failed to do, in CamelCase."""
        return _ACTIONS[self.reason]

    @property
    def field_path(self) -> str | None:
        """The field of the step, in the form that the kubelet uses for a container of a Pod."""
        return self.step and f"spec.template.spec.initContainers{{{self.step}}}"


def events_between(before: InitPipelineStatus, after: InitPipelineStatus) -> tuple[RunEvent, ...]:
    """Returns the events between two statuses, oldest first.

    If runHistoryLimit is 0 and one write ends a run and begins the next, there is no event for the
    end: status has nothing about it but the next run's trigger.
    """
    known = before.run.number if before.run else 0
    failed = _failed_steps(before, after)
    events: list[RunEvent] = []
    for number, run in sorted(runs_of(after).items()):
        if number >= known:
            earlier = before.run if number == known else None
            events += _of_run(earlier, run, failed.get(number, {}), after)
    events = events[-MOST_AT_ONCE:]
    return (
        *events,
        *_failed_create(before, after),
        *_failed_delete(before, after),
        *_given_up(before, after),
    )


def _of_run(
    earlier: Run | None, run: RunFacts, failed: Mapping[str, FailedStep], status: InitPipelineStatus
) -> Iterator[RunEvent]:
    number = run.number
    if earlier is None:
        yield RunEvent(EventReason.RUN_STARTED, number, _started(run))
    if run.initialized_time is None:
        places = _places(status) if failed else {}
        for name, step in failed.items():
            title = f'init container{places.get(name, "")} "{name}"'
            note = f"run {number}: {title} {_how(step)}"
            yield RunEvent(EventReason.STEP_FAILED, number, note, name, step)
    elif earlier is None or earlier.initialized_time is None:
        note = f"run {number}: all init containers have completed"
        yield RunEvent(EventReason.RUN_INITIALIZED, number, note)
    ended_before = earlier is not None and earlier.result is not None
    if run.result in _ENDS and not ended_before:
        verb = "failed" if run.result is Result.FAILED else "ended"
        note = f"run {number} {verb}" + (f": {run.message}" if run.message else "")
        yield RunEvent(_ENDS[run.result], number, note)


def _started(run: RunFacts) -> str:
    why = event_text(run.trigger)
    if run.cause is not None and run.cause.changed_paths:
        why = changed_fields_message(run.cause)
    elif run.cause is not None:
        why = f'container "{run.cause.container}" {_ending(run.cause)}'
    return f"run {run.number} started ({run.trigger}): {why}"


def _failed_create(before: InitPipelineStatus, after: InitPipelineStatus) -> Iterator[RunEvent]:
    """Yields the event for a run without a Pod, if the run, the reason or the message has
    changed."""
    refused = _refused(after)
    if refused is not None and refused != _refused(before):
        run, reason, message = refused
        yield RunEvent(
            EventReason.FAILED_CREATE, run, f"run {run}: Pod not created ({reason}): {message}"
        )


def _refused(status: InitPipelineStatus) -> tuple[int, str, str] | None:
    """Returns the run whose Pod was refused, with reason and message. None: no Pod was
    refused."""
    run, ready = status.run, status.condition(ConditionType.READY)
    if run is None or run.completion_time is not None or ready is None:
        return None
    if ready.reason not in admission.NOT_CREATED:
        return None
    return run.number, ready.reason, ready.message


def _failed_delete(before: InitPipelineStatus, after: InitPipelineStatus) -> Iterator[RunEvent]:
    """Yields the event for a deletion that fails, when it is first reported."""
    failed = conditions.failed_deletion(after)
    if failed is not None and conditions.failed_deletion(before) is None:
        run = after.run.number if after.run else 0
        yield RunEvent(EventReason.FAILED_DELETE, run, failed.message)


def _given_up(before: InitPipelineStatus, after: InitPipelineStatus) -> Iterator[RunEvent]:
    run, stalled = _run_given_up(after), after.condition(ConditionType.STALLED)
    if run is not None and stalled is not None and run != _run_given_up(before):
        yield RunEvent(EventReason.GIVEN_UP, run, stalled.message)


def _run_given_up(status: InitPipelineStatus) -> int | None:
    """Returns the run after which the pipeline was given up. None: the pipeline was
    not given up. Stalled with a reason of _NOT_GIVEN_UP does not count."""
    run, stalled = status.run, status.condition(ConditionType.STALLED)
    if run is None or run.result not in _ENDS:
        return None
    if stalled is None or stalled.status != "True" or stalled.reason in _NOT_GIVEN_UP:
        return None
    return run.number


def _failed_steps(
    before: InitPipelineStatus, after: InitPipelineStatus
) -> dict[int, dict[str, FailedStep]]:
    """Returns the failures that ``before`` did not report, by run and step.

    Of the steps of an initialized run, only sidecars still run. They fail when the sandbox or the
    Pod ends. events_between returns no event for that.
    """
    failures: dict[int, dict[str, FailedStep]] = {}
    lost = _pod_lost(after)
    failed = [(one, step) for one in mirrored(after) if (step := failed_step([one], pod_lost=lost))]
    if after.run is not None and failed:
        earlier = mirrored(before)
        ended_before = {_last_ended(status) for status in earlier}
        mirrored_before = {status.container_id for status in earlier}
        known = before.run.number if before.run else after.run.number
        for status, step in failed:
            if _last_ended(status) in ended_before:
                continue
            run = known if _last_ended(status) in mirrored_before else after.run.number
            failures.setdefault(run, {})[step.name] = step
    _add_evidence(failures, before, after)
    return failures


def _add_evidence(
    failures: dict[int, dict[str, FailedStep]],
    before: InitPipelineStatus,
    after: InitPipelineStatus,
) -> None:
    """Adds the failures that are only in history, since status mirrors another Pod by now.

    History has no container IDs, so a recorded failure is compared with the mirrored ones by its
    content. If a later failure has the same content, no event StepFailed is posted for it;
    RunFailed reports it.
    """
    recorded_before = {record.number for record in before.history}
    new = [record for record in after.history if record.number not in recorded_before]
    if not new:
        return
    reported = [failed_step([status]) for status in (*mirrored(before), *mirrored(after))]
    for record in new:
        step = record.failed_step
        if step is not None and step not in reported:
            failures.setdefault(record.number, {}).setdefault(step.name, step)


def _pod_lost(status: InitPipelineStatus) -> bool:
    """Returns whether the mirrored Pod is lost or terminating."""
    ready, run = status.condition(ConditionType.READY), status.run
    terminating = ready is not None and ready.reason == Reason.POD_TERMINATING
    return terminating or (run is not None and run.result is Result.LOST)


def _last_ended(status: ContainerStatus) -> str:
    """Returns the ID of the container that terminated last, by this status. "": no container has
    terminated."""
    end = status.terminated or status.last_terminated
    return (end.container_id or f"{status.name} {end.finished_at}") if end else ""


def _places(status: InitPipelineStatus) -> dict[str, str]:
    """Returns the position of each init container by its name, as in conditions: " 2 of 3"."""
    names = [container.name for container in mirrored(status)]
    return {name: f" {place} of {len(names)}" for place, name in enumerate(names, start=1)}


def _how(step: FailedStep) -> str:
    """Returns how the step failed, without its restart count: the notes of an Event's series must
    be equal, and the series has the count."""
    if step.exit_code is None:
        return f"failed: {step.message or step.reason or 'no reason given'}"
    return _ending(step)


def _ending(left: Cause | FailedStep) -> str:
    end = Terminated(left.exit_code or 0, left.signal, left.reason, left.message, None, None)
    return ending(end, 0)
