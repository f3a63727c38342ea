"""Does a new run start, why, and when?

Several causes at once make one run. Those that a person gave come first and never wait; those that
a restart, a loss or a failure gave wait longer each time they come again, until the Pod has been
Ready for a while.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from initpipeline.api.models import Cause, InitPipelineStatus, Policies, Run
from initpipeline.api.reasons import ConditionType, RerunPolicy, Result, Trigger
from initpipeline.core import in_place, pod_restarts, run_limits, runs, template
from initpipeline.core.facts import Pipeline, Pod

BACK_OFF_FIRST = timedelta(seconds=10)
BACK_OFF_LONGEST = timedelta(minutes=5)
BACK_OFF_RESET = timedelta(minutes=10)
"""After so long a time of Ready the next restart counts as the first again."""


FORGIVEN: Final = {"rerun_count": 0, "failed_runs": 0}
"""What a person's word, or a long time of Ready, does to the counts."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """A reason for a new run."""

    trigger: Trigger
    cause: Cause | None = None
    asked_for: bool = False
    """By a person: through the template, a token, or the end of a suspension."""


def due(pipeline: Pipeline, status: InitPipelineStatus, pod: Pod | None) -> Rerun | None:
    """Why there should be a run after the current one, or None. ``status`` has followed the Pod of
    the current run, ``pod`` is that Pod, None where it is gone or was never seen."""
    run = status.run
    assert run is not None, "the first run has begun"
    if _template_changed(pipeline, status, pod):
        return Rerun(Trigger.SPEC_CHANGED, asked_for=True)
    if runs.pending_token(pipeline, status):
        return Rerun(Trigger.REQUESTED, asked_for=True)
    if _was_suspended(status, run):
        return Rerun(Trigger.RESUMED, asked_for=True)
    policies = pipeline.policies
    if run.completion_time is not None:
        return _after_the_end(run, policies, status.failed_runs)
    if pod is None or pod.deleting or policies.rerun_policy is not RerunPolicy.ON_RESTART:
        return None
    if in_place.too_often(run, pod):
        return Rerun(Trigger.CONTAINER_RESTARTED, run.cause)
    cause = pod_restarts.app_restart(run, pod)
    return Rerun(Trigger.CONTAINER_RESTARTED, cause) if cause else None


_FOLLOWED_AT_ONCE = frozenset({Result.INITIALIZED, Result.SUPERSEDED, Result.UNKNOWN})
"""A run that ends so makes way for another. Where none came, suspend had ended it."""


def _was_suspended(status: InitPipelineStatus, run: Run) -> bool:
    """Whether the run is the last before a suspension, which is over."""
    ended = run.completion_time is not None
    suspended = status.condition(ConditionType.SUSPENDED) is not None
    return run.result in _FOLLOWED_AT_ONCE or (ended and suspended)


def _after_the_end(run: Run, policies: Policies, failed_runs: int) -> Rerun | None:
    if run.result is Result.LOST and policies.rerun_policy is not RerunPolicy.NEVER:
        return Rerun(Trigger.POD_LOST)
    if run.result is Result.FAILED and _retried(run, policies, failed_runs):
        return Rerun(Trigger.RETRY)
    return None


def _retried(run: Run, policies: Policies, failed_runs: int) -> bool:
    """Returns whether a failed run is followed by another: within backoffLimit, or if the user has
    raised the limit that ended it."""
    if run.exceeded is not None and run_limits.raised(run.exceeded, policies):
        return True
    return failed_runs <= policies.backoff_limit


def _template_changed(pipeline: Pipeline, status: InitPipelineStatus, pod: Pod | None) -> bool:
    """Returns whether the user has changed the template. The hash alone does not show that: another
    version of the CRD may decode the same object differently."""
    if status.template_hash is None or pipeline.generation == status.observed_generation:
        return False
    if pipeline.template_hash == status.template_hash:
        return False
    if pod is None or template.by_these_rules(status.template_hash):
        return True
    # The operator was upgraded, and the spec changed meanwhile: maybe only a policy.
    older = template.unpacked(pod.template_text)
    return older is None or template.digest(older) != pipeline.template_hash


def settle(status: InitPipelineStatus, now: datetime) -> InitPipelineStatus:
    """Forgive the re-runs and failures before a time of Ready that was long enough. Judged when
    something else happens, so that it costs no write and no wake-up of its own."""
    ready = status.condition(ConditionType.READY)
    if not (status.rerun_count or status.failed_runs) or ready is None or ready.status != "True":
        return status
    if now - ready.last_transition_time < BACK_OFF_RESET:
        return status
    return status.model_copy(update=FORGIVEN)


def start_time(rerun: Rerun, status: InitPipelineStatus, now: datetime) -> datetime:
    """When the run may start: at once if a person asked or it is the first of its kind, then after
    10 s, 20 s ... 5 min. A time that was set before stays, whoever asks again."""
    if rerun.asked_for or status.rerun_count == 0:
        return now
    if status.next_run_time is not None:
        return status.next_run_time
    doubled: timedelta = BACK_OFF_FIRST * 2 ** min(status.rerun_count - 1, 10)
    return now + min(doubled, BACK_OFF_LONGEST)
