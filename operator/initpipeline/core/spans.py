"""Derives the spans that have ended with one write of the status, for traces.

Each run is a trace. Its root span is the run, with a child for its initialization and one for each
attempt of a step. All IDs are derived from the UID of the pipeline, the number of the run, and the
container. So nothing is stored, another process continues the trace, and a span that is exported
twice has the same ID. Spans have no messages: a message may contain the end of a container's log.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from initpipeline.api.models import InitPipelineStatus, Run, RunFacts
from initpipeline.api.reasons import FAULTS
from initpipeline.api.triggers import by_kubelet
from initpipeline.core.container_status import Terminated
from initpipeline.core.facts import PipelineMetadata
from initpipeline.core.mirror import mirrored
from initpipeline.core.run_changes import ended_runs, runs_of
from initpipeline.core.run_ids import span_id, trace_id

Value = str | int


@dataclass(frozen=True, slots=True)
class Span:
    """An operation that has ended."""

    trace_id: int
    span_id: int
    parent_id: int | None
    """None: this is the root of the trace."""
    name: str
    start: datetime
    end: datetime
    """Not before the start."""
    attributes: Mapping[str, Value]
    error: str | None = None
    """Why the operation failed, in CamelCase. "": there is no reason. None: it has not failed."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of a run."""

    pipeline: PipelineMetadata
    number: int

    @property
    def id(self) -> int:
        return trace_id(self.pipeline.uid, self.number)

    @property
    def root_id(self) -> int:
        """The ID of the root span, the parent of all others."""
        return span_id(self.id, "run")

    @property
    def attributes(self) -> dict[str, Value]:
        """The attributes of each span."""
        return {
            "k8s.namespace.name": self.pipeline.namespace,
            "initpipeline.name": self.pipeline.name,
            "initpipeline.uid": self.pipeline.uid,
            "initpipeline.run.number": self.number,
        }


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt of a step that has terminated."""

    step: str
    restarts: int
    end: Terminated
    start: datetime
    finish: datetime
    is_last_state: bool
    """Whether the attempt is in lastState, and not in state."""

    @property
    def id(self) -> tuple[str, str]:
        return self.step, self.end.container_id or self.finish.isoformat()


def spans_between(
    pipeline: PipelineMetadata,
    before: InitPipelineStatus,
    after: InitPipelineStatus,
    *,
    again: bool,
) -> tuple[Span, ...]:
    """Returns the spans that ended between two statuses: first attempts, then initialization, then
    the run.

    With ``again``, also returns the spans of the current run that had ended before, and the root of
    the previous run. The process that wrote the earlier status may not have exported them.
    """
    reported = InitPipelineStatus(history=after.history[1:]) if again else before
    ended = {run.number: run for run in ended_runs(before, after)}
    ended |= {run.number: run for run in ended_runs(reported, after)}
    exported = set() if again else {attempt.id for attempt in _attempts(before)}
    return (
        *_steps(pipeline, before, after, exported),
        *_initializations(pipeline, reported, after, ended),
        *(_root(Trace(pipeline, number), run) for number, run in sorted(ended.items())),
    )


def _root(trace: Trace, run: RunFacts) -> Span:
    assert run.completion_time is not None
    attributes = trace.attributes | {"initpipeline.run.trigger": run.trigger.value}
    if run.result is not None:
        attributes["initpipeline.run.result"] = run.result.value
    if run.reason is not None:
        attributes["initpipeline.run.reason"] = run.reason
    if run.pod_uid is not None:
        attributes |= _pod(trace, run.pod_uid)
    return Span(
        trace.id,
        trace.root_id,
        None,
        "run",
        run.start_time,
        max(run.completion_time, run.start_time),
        attributes,
        (run.reason or "") if run.result in FAULTS else None,
    )


def _initializations(
    pipeline: PipelineMetadata,
    before: InitPipelineStatus,
    after: InitPipelineStatus,
    ended: Mapping[int, RunFacts],
) -> Iterator[Span]:
    """Yields a span for each run that was initialized between the statuses."""
    current = before.run.number if before.run else 0
    exported = {record.number for record in before.history}
    if before.run is not None and before.run.initialized_time is not None:
        exported.add(current)
    for number, run in sorted((runs_of(after) | dict(ended)).items()):
        if number < current or number in exported or run.initialized_time is None:
            continue
        trace = Trace(pipeline, number)
        yield Span(
            trace.id,
            span_id(trace.id, "initialize"),
            trace.root_id,
            "initialize",
            run.start_time,
            max(run.initialized_time, run.start_time),
            trace.attributes,
        )


def _steps(
    pipeline: PipelineMetadata,
    before: InitPipelineStatus,
    after: InitPipelineStatus,
    exported: Collection[tuple[str, str]],
) -> Iterator[Span]:
    """Yields a span for each attempt of a step that has terminated and was not exported."""
    if after.run is None:
        return
    earlier = {str(raw.get("containerID")) for raw in before.init_container_statuses}
    for attempt in _attempts(after):
        number = _run_of(attempt, before.run, after.run, earlier)
        if number is not None and attempt.id not in exported:
            yield _step(Trace(pipeline, number), after.pod_uid, attempt)


def _run_of(
    attempt: _Attempt, before: Run | None, run: Run, earlier: Collection[str]
) -> int | None:
    """Returns the number of the attempt's run. ``before`` is the run before the write, and
    ``earlier`` are the IDs of its containers. None: the attempt is of an earlier run in the same
    Pod, and was exported with it."""
    identifier = attempt.end.container_id
    is_stale = identifier in run.stale_container_ids or (
        # The startTime of a kubelet-initiated run is when the operator first observed it.
        by_kubelet(run.trigger) and attempt.is_last_state and attempt.finish < run.start_time
    )
    if before is not None and before.number != run.number and (is_stale or identifier in earlier):
        return before.number
    return None if is_stale else run.number


def _step(trace: Trace, pod_uid: str | None, attempt: _Attempt) -> Span:
    end = attempt.end
    attributes = trace.attributes | (_pod(trace, pod_uid) if pod_uid else {})
    attributes |= {
        "k8s.container.name": attempt.step,
        "k8s.container.restart_count": attempt.restarts,
        "container.id": end.container_id,
        "initpipeline.step.exit_code": end.exit_code,
    }
    if end.signal is not None:
        attributes["initpipeline.step.signal"] = end.signal
    if end.reason is not None:
        attributes["initpipeline.step.reason"] = end.reason
    return Span(
        trace.id,
        span_id(trace.id, "step", *attempt.id),
        trace.root_id,
        f"step {attempt.step}",
        attempt.start,
        max(attempt.finish, attempt.start),
        attributes,
        (end.reason or "") if end.exit_code else None,
    )


def _pod(trace: Trace, uid: str) -> dict[str, Value]:
    return {"k8s.pod.name": trace.pipeline.name, "k8s.pod.uid": uid}


def _attempts(status: InitPipelineStatus) -> Iterator[_Attempt]:
    """Yields the terminated attempts that the mirror has: the state of each init container, and
    the state before its last restart."""
    for one in mirrored(status):
        for end, is_last in ((one.last_terminated, True), (one.terminated, False)):
            if end is None or end.started_at is None or end.finished_at is None:
                continue
            restarts = one.restart_count - (is_last and one.waiting is None)
            yield _Attempt(
                one.name, max(restarts, 0), end, end.started_at, end.finished_at, is_last
            )
