"""Where a pipeline stands, in a word, and what comes next if nobody does anything. Pure."""

from collections.abc import Sequence
from datetime import datetime

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.reasons import ConditionType, Result
from initpipeline.core import admission
from initpipeline.core.facts import Pipeline, Pod
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.steps import State, Step, steps


def summary(status: InitPipelineStatus) -> str:
    """In a word: Ready, Stalled, Suspended, Reconciling, or NotReady."""
    ready = status.condition(ConditionType.READY)
    if ready is not None and ready.status == "True":
        return "Ready"
    told = (ConditionType.SUSPENDED, ConditionType.STALLED, ConditionType.RECONCILING)
    return next((type_.value for type_ in told if status.condition(type_)), "NotReady")


def short_forecast(pipeline: Pipeline, now: datetime, pod: Pod | None = None) -> str:
    """Returns what happens next if no user acts. ``pod``: as for ``steps``."""
    status = pipeline.status
    run = status.run
    if pipeline.deleting:
        return "it is being deleted"
    if status.next_run_time is not None:
        return f"another run, at {formatting.moment(status.next_run_time, now)}"
    if formatting.ready_reason(status) in admission.NOT_CREATED:
        return "its Pod, once it can be created"
    if status.condition(ConditionType.STALLED):
        return "nothing by itself: it needs a person"
    if status.condition(ConditionType.SUSPENDED):
        return "nothing until it is resumed"
    if run is None:
        return "the operator starts run 1"
    if run.result is Result.SUCCEEDED:
        return "nothing, all containers ended well"
    if run.initialized_time is not None:
        ready = summary(status) == "Ready"
        return "nothing, it is at work" if ready else "the app containers become ready"
    return _remaining(steps(pipeline, pod), status)


def _remaining(all_steps: Sequence[Step], status: InitPipelineStatus) -> str:
    ahead = [step for step in all_steps if step.state is not State.DONE and not step.sidecar]
    later = [step.name for step in ahead if step.name != status.current_step]
    now_at = [status.current_step] if status.current_step else []
    return ", then ".join([*now_at, *later, "the app containers"])
