"""Decides whether an InitPipeline has reached the state that a command waits for. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from initpipeline.api.models import Condition, InitPipelineStatus, Run, RunFacts
from initpipeline.api.reasons import ConditionType, Result
from initpipeline.api.triggers import by_user
from initpipeline.core import runs
from initpipeline.core.facts import Pipeline


class Milestone(StrEnum):
    """A state of a run that a command can wait for."""

    INITIALIZED = "initialized"
    """All init containers have succeeded."""
    READY = "ready"
    """The Pod is Ready, or all its containers have succeeded."""


@dataclass(frozen=True, slots=True)
class WaitResult:
    """The end of a wait."""

    ok: bool
    """The awaited state was reached. False: it will not be reached."""
    message: str


def ready_stalled_or_suspended(pipeline: Pipeline) -> WaitResult | None:
    """Returns the result when the pipeline is Ready, Stalled, or suspended: no run starts then, so
    waiting does not help. None: it is still in progress, or its Pod terminates."""
    result = ready_or_stalled(pipeline)
    if result is None and pipeline.policies.suspend and suspended(pipeline) is not None:
        return WaitResult(False, "suspended: no run starts until kubectl initpipeline resume")
    return result


def ready_or_stalled(pipeline: Pipeline) -> WaitResult | None:
    """Returns the result when the pipeline is Ready or Stalled. None: it is still in progress."""
    status = pipeline.status
    if not up_to_date(pipeline):
        return None
    ready = _true_condition(status, ConditionType.READY)
    stalled = status.condition(ConditionType.STALLED)
    if ready is not None and not status.condition(ConditionType.RECONCILING):
        return WaitResult(True, f"{_run_name(status)} is Ready: {ready.message}")
    return WaitResult(False, f"{_stalled_label(status)}: {stalled.message}") if stalled else None


def suspended(pipeline: Pipeline) -> WaitResult | None:
    """Returns the result when spec.suspend has taken effect: there is no Pod. If a user has resumed
    the pipeline meanwhile, that state will not be reached. None: not yet."""
    status = pipeline.status
    if not pipeline.policies.suspend:
        return WaitResult(False, "resumed: spec.suspend is false")
    if not up_to_date(pipeline):
        return None
    stalled = status.condition(ConditionType.STALLED)
    if stalled is not None:
        return WaitResult(False, stalled.message)
    condition = _true_condition(status, ConditionType.SUSPENDED)
    done = condition is not None and not status.condition(ConditionType.RECONCILING)
    return WaitResult(True, "suspended: there is no Pod") if done else None


def rerun_result(pipeline: Pipeline, token: str, milestone: Milestone) -> WaitResult | None:
    """Returns the result when the run with this rerun token has reached the milestone, or cannot
    reach it any more. A later run that no user started, such as a retry, counts as well. None: not
    yet."""
    status, run = pipeline.status, pipeline.status.run
    answer = _run_of_token(status, token)
    if answer is None or run is None:
        return _result_without_record(pipeline, token, milestone)
    if milestone is Milestone.INITIALIZED and answer.initialized_time is not None:
        return WaitResult(True, f"run {answer.number} is initialized")
    if answer.number != run.number and not _continues(status, answer.number, run):
        return WaitResult(
            False,
            f"run {answer.number} ended ({_result_name(answer)}): run {run.number} "
            f"({run.trigger}) replaced it",
        )
    return _result_of_current(pipeline, run, milestone)


def _result_of_current(pipeline: Pipeline, run: Run, milestone: Milestone) -> WaitResult | None:
    status = pipeline.status
    if milestone is Milestone.INITIALIZED and _true_condition(status, ConditionType.INITIALIZED):
        return WaitResult(True, f"run {run.number} is initialized")
    if run.result is Result.SUCCEEDED:
        return WaitResult(True, f"run {run.number} has succeeded")
    result = ready_or_stalled(pipeline)
    if result is None and _true_condition(status, ConditionType.SUSPENDED):
        return WaitResult(False, f"run {run.number} ended: the InitPipeline was suspended")
    return result


def _result_without_record(
    pipeline: Pipeline, token: str, milestone: Milestone
) -> WaitResult | None:
    """Returns the result if status has no run with the token: no run has started, or history has
    dropped it."""
    run = pipeline.status.run
    if run is not None and pipeline.status.last_rerun_token == token:
        if not by_user(run.trigger):
            return _result_of_current(pipeline, run, milestone)
        return WaitResult(False, f"run {run.number} ({run.trigger}) replaced it")
    if pipeline.policies.suspend:
        return WaitResult(False, "suspended: the request waits until kubectl initpipeline resume")
    if pipeline.rerun_token != token:
        return WaitResult(False, f'another request ("{pipeline.rerun_token}") replaced it')
    return None


def _run_of_token(status: InitPipelineStatus, token: str) -> RunFacts | None:
    if status.run is not None and status.run.token == token:
        return status.run
    return next((record for record in status.history if record.token == token), None)


def _continues(status: InitPipelineStatus, number: int, current: Run) -> bool:
    """Returns whether no user has started a run after the run with this number. If so, the current
    run counts for the rerun request of that run."""
    later = [record.trigger for record in status.history if record.number > number]
    return not any(map(by_user, (*later, current.trigger)))


def _result_name(run: RunFacts) -> str:
    return run.result.value if run.result else "unfinished"


def _true_condition(status: InitPipelineStatus, type_: ConditionType) -> Condition | None:
    """Returns the condition if it is True. None: it is not True, or not reported."""
    condition = status.condition(type_)
    return condition if condition is not None and condition.status == "True" else None


def up_to_date(pipeline: Pipeline) -> bool:
    """Returns whether status reflects the current spec and the last rerun request."""
    pending = runs.pending_token(pipeline, pipeline.status) and not pipeline.policies.suspend
    return pipeline.generation == pipeline.status.observed_generation and not pending


def _stalled_label(status: InitPipelineStatus) -> str:
    """Returns "given up" if no further run starts, or "stalled" if the current run makes no
    progress."""
    ended = status.run is not None and status.run.completion_time is not None
    return "given up" if ended else "stalled"


def _run_name(status: InitPipelineStatus) -> str:
    return f"run {status.run.number}" if status.run else "it"
