"""Summarizes the state of a pipeline and what happens next. Pure."""

from datetime import datetime
from typing import Final

from initpipeline.api.models import InitPipelineStatus, format_time
from initpipeline.api.reasons import ConditionType, Reason, Result
from initpipeline.core import admission, conditions
from initpipeline.core.explanations import IS_RUNNING, PROBE_PENDING
from initpipeline.core.facts import Pipeline
from initpipeline.core.mirror import mirrored
from initpipeline.core.pod import Pod
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.formatting import Line, Mode, Moment
from initpipeline.plugin.report.steps import State, steps

UNTIL_RESUMED: Final = "no run starts until you resume it"
"""What happens next to a suspended pipeline."""

GOOD_REASONS: Final = frozenset({Reason.POD_READY, Reason.POD_SUCCEEDED, Reason.INITIALIZED})
_BUSY_REASONS: Final = frozenset(
    {
        Reason.POD_PENDING,
        Reason.STEP_PENDING,
        Reason.STEP_RUNNING,
        Reason.CONTAINERS_NOT_READY,
        Reason.POD_TERMINATING,
        Reason.SUSPENDED,
        Reason.RATE_LIMITED,
    }
)


def is_failure(reason: str) -> bool:
    """Returns whether the reason of a condition is a failure: not a goal, and not progress."""
    return bool(reason) and reason not in GOOD_REASONS | _BUSY_REASONS


def headline(status: InitPipelineStatus) -> str:
    """Returns Ready, Suspended, Stalled, Failing, Reconciling or NotReady.

    Failing: neither Ready, Suspended nor Stalled, and the reason is a failure. The condition
    Reconciling is then usually True, as for a pipeline without failures: something is retried.
    """
    found = summary(status)
    failing = found in ("Reconciling", "NotReady") and is_failure(formatting.ready_reason(status))
    return "Failing" if failing else found


def summary(status: InitPipelineStatus) -> str:
    """Returns Ready, Suspended, Stalled, Reconciling or NotReady: what the conditions report."""
    ready = status.condition(ConditionType.READY)
    if ready is not None and ready.status == "True":
        return "Ready"
    types = (ConditionType.SUSPENDED, ConditionType.STALLED, ConditionType.RECONCILING)
    return next((type_.value for type_ in types if status.condition(type_)), "NotReady")


def state_line(pipeline: Pipeline, now: datetime) -> Line:
    """Returns the message of ``state_message`` in one line. The start of the next run and of the
    step that is running are relative to ``now``. A step that no limit ends is reported as such."""
    status = pipeline.status
    text, at = formatting.one_line(formatting.state_message(status)), status.next_run_time
    before, found, after = text.partition(format_time(at)) if at else (text, "", "")
    if at and found:
        return Line(now, before, Moment(at, Mode.UNTIL), after)
    before, found, after = text.partition(IS_RUNNING)
    running = found and formatting.ready_reason(status) == Reason.STEP_RUNNING
    since = step_started(status) if running else None
    if since is None:
        return Line(now, text)
    limit = ", without a timeout" if is_endless(pipeline) else ""
    return Line(now, before, " has been running for ", Moment(since, Mode.FOR), limit, after)


def is_endless(pipeline: Pipeline) -> bool:
    """Returns whether the current step is running and no limit ends it."""
    status = pipeline.status
    step, reason = status.current_step, formatting.ready_reason(status)
    if step is None or reason != Reason.STEP_RUNNING or pipeline.policies.has_time_limit(step):
        return False
    # A sidecar is the current step only as long as its startupProbe has not succeeded.
    return PROBE_PENDING not in formatting.state_message(status)


def step_started(status: InitPipelineStatus) -> datetime | None:
    """Returns when the attempt of the current step that is running has started. None: no attempt is
    running."""
    current = (one for one in mirrored(status) if one.name == status.current_step)
    return next((one.started_at for one in current if one.running), None)


def short_forecast(pipeline: Pipeline, now: datetime, pod: Pod | None = None) -> str:
    """Returns what happens next if no user takes action, in one line. ``pod``: as in ``steps``."""
    status = pipeline.status
    run = status.run
    if pipeline.deleting:
        return "the InitPipeline is being deleted"
    if status.next_run_time is not None:
        number = run.number + 1 if run else 1
        return Line(now, f"run {number} starts at ", Moment(status.next_run_time, Mode.UNTIL))
    if formatting.ready_reason(status) in admission.NOT_CREATED:
        return "the operator creates the Pod when the cause is removed"
    blocked = _blocked(status)
    if blocked:
        return blocked
    if run is None:
        return "the operator starts run 1"
    if run.result is Result.SUCCEEDED:
        return "nothing, all containers have succeeded"
    if run.initialized_time is not None:
        ready = summary(status) == "Ready"
        return "nothing, the Pod is Ready" if ready else "the app containers become ready"
    return steps_in_order(pipeline, pod)


def _blocked(status: InitPipelineStatus) -> str:
    """Returns what the pipeline waits for if its current run does not progress. Empty if it does,
    or if the pipeline is in order."""
    run, stalled = status.run, formatting.stalled_reason(status)
    if stalled == Reason.RECONCILE_ERROR:
        return "the operator retries"
    if conditions.failed_deletion(status):
        return "the operator retries the deletion"
    if status.condition(ConditionType.SUSPENDED):
        return "nothing until it is resumed"
    if formatting.ready_reason(status) == Reason.POD_TERMINATING and run is not None:
        if run.pod_uid is None:
            return "the operator creates the Pod when the old Pod is gone"
        return f"run {run.number} ends when its Pod is gone"
    return "no run starts until a user takes action" if stalled else ""


def steps_in_order(pipeline: Pipeline, pod: Pod | None) -> str:
    """Returns the current step, the steps after it and the app containers. ``pod``: as in
    ``steps``."""
    status = pipeline.status
    all_steps = steps(pipeline, pod)
    unfinished = [step for step in all_steps if step.state is not State.DONE and not step.sidecar]
    later = [step.name for step in unfinished if step.name != status.current_step]
    current = [status.current_step] if status.current_step else []
    return ", then ".join([*current, *later, "the app containers"])
