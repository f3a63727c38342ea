"""Does a new run start, why, and when?

Several causes at once make one run. Those that a person gave come first and never wait; those that
a restart or a loss gave wait longer each time they come again, until the Pod has been Ready for a
while.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from initpipeline.api.models import Cause, InitPipelineStatus
from initpipeline.api.reasons import ConditionType, Result, Trigger
from initpipeline.core import observe, runs
from initpipeline.core.facts import Pipeline, Pod

BACK_OFF_FIRST = timedelta(seconds=10)
BACK_OFF_LONGEST = timedelta(minutes=5)
BACK_OFF_RESET = timedelta(minutes=10)
"""After so long a time of Ready the next restart counts as the first again."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """A reason for a new run."""

    trigger: Trigger
    cause: Cause | None = None
    asked_for: bool = False
    """By a person, through the template or a token."""


def due(pipeline: Pipeline, status: InitPipelineStatus, pod: Pod | None) -> Rerun | None:
    """Why there should be a run after the current one, or None. ``status`` has followed the Pod of
    the current run, ``pod`` is that Pod, None where it is gone or was never seen."""
    run = status.run
    assert run is not None, "the first run has begun"
    if _template_changed(pipeline, status):
        return Rerun(Trigger.SPEC_CHANGED, asked_for=True)
    if runs.pending_token(pipeline, status):
        return Rerun(Trigger.REQUESTED, asked_for=True)
    if run.completion_time is not None:
        was_lost = bool(status.history) and status.history[0].result is Result.LOST
        return Rerun(Trigger.POD_LOST) if was_lost else None
    if pod is None or pod.deleting:
        return None
    cause = observe.app_restart(run, pod)
    return Rerun(Trigger.CONTAINER_RESTARTED, cause) if cause else None


def _template_changed(pipeline: Pipeline, status: InitPipelineStatus) -> bool:
    """The hash alone does not tell: another version of the CRD may read the same spec otherwise."""
    return (
        pipeline.generation != status.observed_generation
        and pipeline.template_hash != status.template_hash
    )


def settle(status: InitPipelineStatus, now: datetime) -> InitPipelineStatus:
    """Forgive the re-runs before a time of Ready that was long enough. Judged when something else
    happens, so that it costs no write and no wake-up of its own."""
    ready = status.condition(ConditionType.READY)
    if status.rerun_count == 0 or ready is None or ready.status != "True":
        return status
    if now - ready.last_transition_time < BACK_OFF_RESET:
        return status
    return status.model_copy(update={"rerun_count": 0})


def start_time(rerun: Rerun, status: InitPipelineStatus, now: datetime) -> datetime:
    """When the run may start: at once if a person asked or it is the first of its kind, then after
    10 s, 20 s ... 5 min. A time that was set before stays, whoever asks again."""
    if rerun.asked_for or status.rerun_count == 0:
        return now
    if status.next_run_time is not None:
        return status.next_run_time
    doubled: timedelta = BACK_OFF_FIRST * 2 ** min(status.rerun_count - 1, 10)
    return now + min(doubled, BACK_OFF_LONGEST)
