"""Derives the log lines that follow from one write of the status.

They have the values of status and of its Events, but not their messages. A message may contain the
end of a container's log, and the operator's log has other readers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.reasons import ConditionType, EventReason
from initpipeline.core.run_changes import completed_steps, ended_runs, runs_of
from initpipeline.core.run_events import MOST_AT_ONCE, RunEvent

STARTED: Final = "run started"
STEP_COMPLETED: Final = "step completed"
STEP_FAILED: Final = "step failed"
INITIALIZED: Final = "run initialized"
ENDED: Final = "run ended"
NOT_CREATED: Final = "Pod not created"
GIVEN_UP: Final = "given up"

ORDER: Final = (
    STARTED,
    STEP_COMPLETED,
    STEP_FAILED,
    INITIALIZED,
    ENDED,
    NOT_CREATED,
    GIVEN_UP,
)
"""All messages, in the order of the lines of a run that follow from the same write."""

_OF_EVENTS: Final = {
    EventReason.RUN_STARTED: STARTED,
    EventReason.STEP_FAILED: STEP_FAILED,
    EventReason.RUN_INITIALIZED: INITIALIZED,
    EventReason.FAILED_CREATE: NOT_CREATED,
    EventReason.GIVEN_UP: GIVEN_UP,
}
"""The message for each reason. RunFailed and PodLost have none, because ENDED reports each end."""

Value = str | int


@dataclass(frozen=True, slots=True)
class RunLine:
    """A log line about a run."""

    message: str
    run: int
    trigger: str
    """The trigger of the run."""
    step: str | None = None
    """Name of the init container. None: the line is about the run."""
    fields: Mapping[str, Value] = field(default_factory=dict)
    """Further fields. They contain no text of a container."""


def lines_between(
    before: InitPipelineStatus, after: InitPipelineStatus, events: Sequence[RunEvent]
) -> tuple[RunLine, ...]:
    """Returns the lines between two statuses, oldest first. ``events`` are the events between
    them."""
    lines = [*_of_events(after, events), *_of_steps(after, completed_steps(before, after))]
    for run in ended_runs(before, after):
        fields = _present(result=run.result, reason=run.reason)
        lines.append(RunLine(ENDED, run.number, run.trigger.value, fields=fields))
    lines.sort(key=lambda line: (line.run, ORDER.index(line.message)))
    return tuple(lines[-MOST_AT_ONCE:])


def _of_events(status: InitPipelineStatus, events: Sequence[RunEvent]) -> Iterator[RunLine]:
    """Yields the lines for the events of the write of ``status``. Status reports the run of each
    event, and the condition that it follows from."""
    runs = runs_of(status)
    conditions = {
        EventReason.FAILED_CREATE: ConditionType.READY,
        EventReason.GIVEN_UP: ConditionType.STALLED,
    }
    for event in events:
        if event.reason not in _OF_EVENTS:
            continue
        fields: Mapping[str, Value] = {}
        if event.failure is not None:
            failure = event.failure
            fields = _present(
                exit_code=failure.exit_code, signal=failure.signal, reason=failure.reason
            )
        elif event.reason in conditions:
            condition = status.condition(conditions[event.reason])
            assert condition is not None
            fields = {"reason": condition.reason}
        trigger = runs[event.run].trigger.value
        yield RunLine(_OF_EVENTS[event.reason], event.run, trigger, event.step, fields)


def _of_steps(status: InitPipelineStatus, completed: Sequence[str]) -> Iterator[RunLine]:
    if status.run is not None:
        for step in completed:
            yield RunLine(STEP_COMPLETED, status.run.number, status.run.trigger.value, step)


def _present(**fields: Value | None) -> dict[str, Value]:
    return {name: value for name, value in fields.items() if value is not None}
