"""Computes the runs and steps of a pipeline as bars over time, for any way of drawing. Pure.

Runs and steps have separate time axes, since a step takes seconds and a run may last for days. Only
the steps of the current run are known.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from initpipeline.api.models import Run, RunFacts, RunRecord, format_time
from initpipeline.api.reasons import FAULTS, Result
from initpipeline.api.triggers import by_kubelet
from initpipeline.core.container_status import ContainerStatus, Terminated
from initpipeline.core.facts import Pipeline
from initpipeline.core.kubelet_reasons import (
    CRASH_LOOP_BACK_OFF,
    POD_INITIALIZING,
    RESTARTING_ALL_CONTAINERS,
)
from initpipeline.core.mirror import mirrored
from initpipeline.core.pod import Pod
from initpipeline.core.pod_restarts import restarts_in_run
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.formatting import Line, Mode, Moment
from initpipeline.plugin.report.history import recorded_runs
from initpipeline.plugin.report.steps import ShownStep, State, duration, steps

_MIN_LENGTH: Final = timedelta(seconds=1)
"""Minimum length of an axis. Kubernetes reports times in whole seconds."""


class Phase(StrEnum):
    """Meaning of a segment of a bar."""

    INIT = "init containers"
    """A run until all its init containers have succeeded."""
    APP = "initialized"
    """A run after all its init containers have succeeded."""
    DONE = "succeeded"
    """An attempt of a step that has succeeded."""
    RUNNING = "running"
    """An attempt of a step that is running, or a sidecar."""
    FAILED = "failed"
    """An attempt of a step that has failed, or a run that has failed or was lost."""
    WAITING = "back-off"
    """The time between two attempts of a step."""
    ENDED = "superseded"
    """A run that ended before it was initialized, or whose result is unknown."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar."""

    phase: Phase
    start: datetime
    end: datetime
    """Not before start. The current time if the segment is still open."""
    open: bool = False
    """It has not ended yet."""


@dataclass(frozen=True, slots=True)
class Row:
    """A run or a step."""

    label: str
    segments: tuple[Segment, ...]
    words: str
    """A short text with the same content as the bar."""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that share a time axis."""

    title: str
    start: datetime
    end: datetime
    """After start."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """The content of a timeline."""

    title: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...]

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of all segments, in the order of the enumeration. The legend explains them."""
        rows = (row for section in self.sections for row in section.rows)
        used = {segment.phase for row in rows for segment in row.segments}
        return tuple(phase for phase in Phase if phase in used)

    def data(self) -> dict[str, Any]:
        """Returns the chart for -o json and yaml."""
        return {
            "title": self.title,
            "sections": [_section_data(section) for section in self.sections],
            "notes": list(self.notes),
        }


def chart(pipeline: Pipeline, now: datetime, pod: Pod | None = None) -> Chart:
    """Returns the chart of a pipeline at the time ``now``. ``pod``: as in ``steps``."""
    runs = recorded_runs(pipeline.status)[::-1]
    title = f"{pipeline.namespace}/{pipeline.name}"
    sections = tuple(section for section in _sections(pipeline, runs, now, pod) if section.rows)
    return Chart(title, sections, tuple(_notes(pipeline, runs, now)))


def _sections(
    pipeline: Pipeline, runs: list[RunFacts], now: datetime, pod: Pod | None
) -> Iterator[Section]:
    if runs:
        rows = (_run_row(run, pipeline, now) for run in runs)
        yield _section("Runs", rows, [run.start_time for run in runs])
    if pipeline.status.run is not None:
        yield _steps_section(pipeline, pipeline.status.run, now, pod)


def _section(title: str, rows: Iterable[Row], times: Iterable[datetime]) -> Section:
    """Returns a section whose axis covers the given times and all bars."""
    rows = tuple(rows)
    bars = [segment for row in rows for segment in row.segments]
    covered = [*times, *(bar.start for bar in bars), *(bar.end for bar in bars)]
    return Section(title, min(covered), max(*covered, min(covered) + _MIN_LENGTH), rows)


def _notes(pipeline: Pipeline, runs: list[RunFacts], now: datetime) -> Iterator[str]:
    if not runs:
        yield "no run has started yet"
    elif runs[0].number > 1:
        dropped = runs[0].number - 1
        which = "run 1 is" if dropped == 1 else f"runs 1 to {dropped} are"
        limit = pipeline.policies.run_history_limit
        yield f"{which} no longer kept: spec.runHistoryLimit is {limit}"
    next_time = pipeline.status.next_run_time
    if next_time is not None and next_time > now:
        yield Line(now, "the next run starts at ", Moment(next_time, Mode.UNTIL))


def _run_row(run: RunFacts, pipeline: Pipeline, now: datetime) -> Row:
    label = f"{run.number} {run.trigger.value}"
    return Row(label, tuple(_run_segments(run, now)), _run_text(run, pipeline, now))


def _run_segments(run: RunFacts, now: datetime) -> Iterator[Segment]:
    end, is_open = run.completion_time or now, run.completion_time is None
    if run.initialized_time is None:
        phase = Phase.INIT if run.result is None else Phase.ENDED
        phase = Phase.FAILED if run.result in FAULTS else phase
        yield _segment(phase, run.start_time, end, is_open=is_open)
        return
    yield _segment(Phase.INIT, run.start_time, run.initialized_time)
    yield _segment(Phase.APP, max(run.initialized_time, run.start_time), end, is_open=is_open)
    if run.result in FAULTS:
        yield _segment(Phase.FAILED, end, end)


def _segment(phase: Phase, start: datetime, end: datetime, *, is_open: bool = False) -> Segment:
    """Returns a segment that does not end before it starts, even if the clocks of node and operator
    differ."""
    return Segment(phase, start, max(start, end), is_open)


def _run_text(run: RunFacts, pipeline: Pipeline, now: datetime) -> str:
    init = f"init {formatting.between(run.start_time, run.initialized_time)}"
    failed = run.failed_step if isinstance(run, RunRecord) else None
    if run.result is None:
        if run.initialized_time is not None:
            return init
        step = pipeline.status.current_step
        return Line(now, "for ", Moment(run.start_time, Mode.FOR), f", at {step}" if step else "")
    if failed is not None:
        how = formatting.exit_text(failed.exit_code, failed.signal, failed.reason)
        return f"{run.result.value} at {failed.name}" + (f", {how}" if how else "")
    if run.initialized_time is None:
        return run.result.value + (f", {run.reason}" if run.reason else "")
    return init if run.result is Result.INITIALIZED else f"{init}, then {run.result.value}"


def _steps_section(pipeline: Pipeline, run: Run, now: datetime, pod: Pod | None) -> Section:
    """Returns the steps from the start of the run until the run is initialized or has ended."""
    end = max(run.initialized_time or run.completion_time or now, run.start_time)
    pairs = zip(mirrored(pipeline.status), steps(pipeline, pod), strict=True)
    rows = (_step_row(status, step, run, end, now) for status, step in pairs)
    return _section(f"Steps of run {run.number}", rows, [run.start_time, end])


def _step_row(
    status: ContainerStatus, step: ShownStep, run: Run, end: datetime, now: datetime
) -> Row:
    segments = tuple(_step_segments(status, run, end))
    label = f"{status.name} (sidecar)" if step.sidecar else status.name
    return Row(label, segments, _step_text(status, step, segments, run, now))


def _step_segments(status: ContainerStatus, run: Run, end: datetime) -> Iterator[Segment]:
    """Yields the attempts that the kubelet reports: the previous and the current one."""
    last = status.last_terminated if _last_is_of(run, status) else None
    if last is not None and last.started_at is not None:
        yield _attempt(last, end)
    of_this_run = status.container_id not in run.stale_container_ids
    start = status.started_at if of_this_run else None
    if last is not None and last.finished_at is not None:
        backing_off = status.waiting_reason == CRASH_LOOP_BACK_OFF
        until = start or (end if backing_off else last.finished_at)
        if until > last.finished_at:
            is_open = start is None and run.completion_time is None
            yield _segment(Phase.WAITING, last.finished_at, until, is_open=is_open)
    if start is None:
        return
    if status.terminated is not None:
        yield _attempt(status.terminated, end)
    else:
        yield _segment(Phase.RUNNING, start, end, is_open=run.completion_time is None)


def _attempt(ended: Terminated, otherwise: datetime) -> Segment:
    """Returns the segment of an attempt. ``otherwise`` is its end if no end is reported."""
    assert ended.started_at is not None
    phase = Phase.DONE if ended.exit_code == 0 else Phase.FAILED
    return _segment(phase, ended.started_at, ended.finished_at or otherwise)


def _last_is_of(run: Run, status: ContainerStatus) -> bool:
    """Returns whether the previous attempt belongs to this run.

    It always does in a run that the operator started, since that has a Pod of its own. In a
    kubelet-initiated run, it may belong to the run before.
    """
    last = status.last_terminated
    if last is None or last.reason == RESTARTING_ALL_CONTAINERS:
        return False
    if last.container_id in run.stale_container_ids:
        return False
    if not by_kubelet(run.trigger):
        return True
    return last.finished_at is not None and last.finished_at >= run.start_time


def _step_text(
    status: ContainerStatus, step: ShownStep, segments: tuple[Segment, ...], run: Run, now: datetime
) -> str:
    attempts = [segment for segment in segments if segment.phase is not Phase.WAITING]
    if not attempts:
        # The times of the attempts are not known, as when the pipeline is suspended.
        if step.state in (State.DONE, State.STOPPED):
            return Phase.DONE.value if step.state is State.DONE else step.state.value
        if step.state is State.FAILED and step.exit_code is not None:
            return formatting.exit_text(step.exit_code, step.signal, step.reason)
        reason = status.waiting_reason
        return "to run" if reason in ("", POD_INITIALIZING) else f"to run: {reason}"
    last = attempts[-1]
    how = f"{last.phase.value} in {formatting.span(last.end - last.start)}"
    if last.phase is Phase.RUNNING:
        # A sidecar runs longer than the time axis of the steps.
        how = Line(now, "running for ", duration(step, run, now))
    if last.phase is Phase.FAILED:
        end = status.terminated or status.last_terminated
        assert end is not None
        how = formatting.exit_text(end.exit_code, end.signal, end.reason)
    more = ", backing off" if status.waiting_reason == CRASH_LOOP_BACK_OFF else ""
    restarts = restarts_in_run(run, status)
    if restarts > 0:
        more += ", restarted once" if restarts == 1 else f", restarted {restarts} times"
    return Line(now, how, more)


def _section_data(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "startTime": format_time(section.start),
        "endTime": format_time(section.end),
        "rows": [
            {"label": row.label, "words": row.words, "segments": list(_segment_data(row.segments))}
            for row in section.rows
        ],
    }


def _segment_data(segments: Iterable[Segment]) -> Iterator[dict[str, str]]:
    for segment in segments:
        times = {"startTime": format_time(segment.start), "endTime": format_time(segment.end)}
        yield {"phase": segment.phase.value, **times}
