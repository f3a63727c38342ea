"""Whether what was waited for has come, has failed, or is still to come. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from initpipeline.api.models import Condition, InitPipelineStatus, RunFacts
from initpipeline.api.reasons import ConditionType, Result, Trigger
from initpipeline.core import runs
from initpipeline.core.facts import Pipeline

CONTINUES_REQUEST = frozenset(
    {
        Trigger.RETRY,
        Trigger.POD_LOST,
        Trigger.CONTAINER_RESTARTED,
        Trigger.POD_RESTARTED,
        Trigger.RESTARTED_IN_PLACE,
    }
)
"""A run that started so goes on with what the one before it was for."""


class Milestone(StrEnum):
    """What a run is waited for."""

    INITIALIZED = "initialized"
    """All init containers have succeeded."""
    READY = "ready"
    """The Pod is Ready, or its containers ended well."""


@dataclass(frozen=True, slots=True)
class WaitResult:
    """The end of the waiting."""

    ok: bool
    message: str


def ready_or_stalled(pipeline: Pipeline) -> WaitResult | None:
    """Returns the result once the pipeline makes no more progress by itself: Ready, or Stalled.
    None: it still makes progress."""
    status = pipeline.status
    if not up_to_date(pipeline):
        return None
    ready, stalled = (
        _condition(status, ConditionType.READY),
        status.condition(ConditionType.STALLED),
    )
    if ready is not None and not status.condition(ConditionType.RECONCILING):
        return WaitResult(True, f"{_run(status)} is Ready: {ready.message}")
    return WaitResult(False, f"{_end(status)}: {stalled.message}") if stalled else None


def suspended(pipeline: Pipeline) -> WaitResult | None:
    """Whether the suspension is complete: no Pod is left. None: not yet."""
    status = pipeline.status
    if not up_to_date(pipeline):
        return None
    stalled = status.condition(ConditionType.STALLED)
    if stalled is not None:
        return WaitResult(False, stalled.message)
    said = _condition(status, ConditionType.SUSPENDED)
    gone = said is not None and not status.condition(ConditionType.RECONCILING)
    return WaitResult(True, "suspended: there is no Pod") if gone else None


def rerun_result(pipeline: Pipeline, token: str, goal: Milestone) -> WaitResult | None:
    """Whether the run that answers the token, or one that the operator or the kubelet made after
    it to the same end, has reached the goal. None: not yet."""
    status, run = pipeline.status, pipeline.status.run
    answer = _of_token(status, token)
    if answer is None or run is None:
        return _without_record(pipeline, token, goal)
    if goal is Milestone.INITIALIZED and answer.initialized_time is not None:
        return WaitResult(True, f"run {answer.number} is initialized")
    if answer.number != run.number and not _same_end(status, answer.number):
        return WaitResult(
            False,
            f"run {answer.number} ended ({_result(answer)}): run {run.number} ({run.trigger}) "
            "came after it",
        )
    return _of_current(pipeline, goal)


def _of_current(pipeline: Pipeline, goal: Milestone) -> WaitResult | None:
    status, run = pipeline.status, pipeline.status.run
    assert run is not None
    if goal is Milestone.INITIALIZED and _condition(status, ConditionType.INITIALIZED):
        return WaitResult(True, f"run {run.number} is initialized")
    if run.result is Result.SUCCEEDED:
        return WaitResult(True, f"run {run.number} has succeeded")
    result = ready_or_stalled(pipeline)
    if result is None and _condition(status, ConditionType.SUSPENDED):
        return WaitResult(False, f"run {run.number} ended: the InitPipeline was suspended")
    return result


def _without_record(pipeline: Pipeline, token: str, goal: Milestone) -> WaitResult | None:
    """No run is known to answer the token: none has begun, or history, which is bounded, has
    forgotten it."""
    run = pipeline.status.run
    if run is not None and pipeline.status.last_rerun_token == token:
        if run.trigger in CONTINUES_REQUEST:
            return _of_current(pipeline, goal)
        return WaitResult(False, f"run {run.number} ({run.trigger}) came after it")
    if pipeline.policies.suspend:
        return WaitResult(False, "suspended: the request waits until kubectl initpipeline resume")
    if pipeline.rerun_token != token:
        return WaitResult(False, f'another request ("{pipeline.rerun_token}") took its place')
    return None


def _of_token(status: InitPipelineStatus, token: str) -> RunFacts | None:
    if status.run is not None and status.run.token == token:
        return status.run
    return next((record for record in status.history if record.token == token), None)


def _same_end(status: InitPipelineStatus, number: int) -> bool:
    """Whether all runs after this one came of it, as far as history tells."""
    assert status.run is not None
    later = [r.trigger for r in status.history if r.number > number]
    return {*later, status.run.trigger} <= CONTINUES_REQUEST


def _result(run: RunFacts) -> str:
    return run.result.value if run.result else "unfinished"


def _condition(status: InitPipelineStatus, type_: ConditionType) -> Condition | None:
    """The condition, where it is True."""
    found = status.condition(type_)
    return found if found is not None and found.status == "True" else None


def up_to_date(pipeline: Pipeline) -> bool:
    """Whether status speaks of what the spec is now: until then it says nothing of it."""
    pending = runs.pending_token(pipeline, pipeline.status) and not pipeline.policies.suspend
    return pipeline.generation == pipeline.status.observed_generation and not pending


def _end(status: InitPipelineStatus) -> str:
    """Returns the word for Stalled: no other run follows, or the current one makes no progress."""
    ended = status.run is not None and status.run.completion_time is not None
    return "given up" if ended else "stalled"


def _run(status: InitPipelineStatus) -> str:
    return f"run {status.run.number}" if status.run else "it"
