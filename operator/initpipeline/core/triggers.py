"""When the operator starts the next run, and why.

Each trigger is one function in ``_CHAIN``. The first that is due decides, so several causes at the
same time start only one run. Runs that a user starts come first. They start immediately, unless
there are more of them than USER_RUNS allows. Runs after a restart, a loss or a failure start with
growing delays. The delays reset after the Pod has been Ready for BACK_OFF_RESET.

The triggers of the first run (see ``decide``) and of kubelet-initiated runs (see ``pod_restarts``)
are not in the chain.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from initpipeline.api.models import Cause, InitPipelineStatus
from initpipeline.api.reasons import ConditionType, RerunPolicy, Result, Trigger
from initpipeline.api.triggers import by_user
from initpipeline.core import (
    in_place,
    pod_restarts,
    run_limits,
    runs,
    template,
    template_annotation,
    template_changes,
)
from initpipeline.core.facts import Facts
from initpipeline.core.rates import Rate
from initpipeline.core.runs import FollowedRun, RunState

BACK_OFF_FIRST: Final = timedelta(seconds=10)
BACK_OFF_LONGEST: Final = timedelta(minutes=5)
BACK_OFF_RESET: Final = timedelta(minutes=10)
"""After the Pod has been Ready for this long, the series of runs ends: the next run starts without
delay."""

USER_RUNS: Final = Rate(burst=5, interval=timedelta(seconds=10))
"""How often users can start runs of one pipeline. Each run replaces the Pod. See
docs/decisions/0023-rates-of-runs-and-events.md."""


@dataclass(frozen=True, slots=True)
class DueRun:
    """A run that is due after the current one."""

    trigger: Trigger
    cause: Cause | None = None


def due(facts: Facts, followed: FollowedRun) -> DueRun | None:
    """Returns the run that is due after the current one. None: no run is due."""
    return next(filter(None, (check(facts, followed) for check in _CHAIN)), None)


def _spec_changed(facts: Facts, followed: FollowedRun) -> DueRun | None:
    if not _template_changed(facts, followed):
        return None
    return DueRun(Trigger.SPEC_CHANGED, _changed_paths(facts, followed.state))


def _spec_may_have_changed(facts: Facts, followed: FollowedRun) -> DueRun | None:
    """Due if the spec has changed, and nothing shows whether its template has. Other runs that a
    user starts have precedence, because they get the present template as well."""
    unknown = _template_changed(facts, followed) is None
    return DueRun(Trigger.SPEC_CHANGED) if unknown else None


def _requested(facts: Facts, followed: FollowedRun) -> DueRun | None:
    token = runs.pending_token(facts.pipeline, followed.state)
    return DueRun(Trigger.REQUESTED) if token else None


_SUSPENDED_RESULTS: Final = frozenset({Result.INITIALIZED, Result.SUPERSEDED, Result.UNKNOWN})
"""Results of runs that were ended by another run or by a suspension. If such a run is still the
current one, a suspension ended it."""


def _resumed(facts: Facts, followed: FollowedRun) -> DueRun | None:
    """Due if the current run has ended and the InitPipeline was suspended, whether or not the
    suspension ended the run. ``decide`` does not call this while spec.suspend is true."""
    run, written = followed.state.run, facts.pipeline.status
    # If status records no run, this run is the first one after the suspension.
    suspended = written.run and written.condition(ConditionType.SUSPENDED)
    ended = run.completion_time is not None
    if run.result in _SUSPENDED_RESULTS or (ended and suspended):
        return DueRun(Trigger.RESUMED)
    return None


def _pod_lost(facts: Facts, followed: FollowedRun) -> DueRun | None:
    lost = followed.state.run.result is Result.LOST
    if lost and facts.pipeline.policies.rerun_policy is not RerunPolicy.NEVER:
        return DueRun(Trigger.POD_LOST)
    return None


def _retry(facts: Facts, followed: FollowedRun) -> DueRun | None:
    """Due after a failed run if backoffLimit allows a retry, or if the user raised the limit that
    the run exceeded."""
    run, policies = followed.state.run, facts.pipeline.policies
    if run.result is not Result.FAILED:
        return None
    raised = run.exceeded is not None and run_limits.raised(run.exceeded, policies)
    if raised or followed.state.failed_runs <= policies.backoff_limit:
        return DueRun(Trigger.RETRY)
    return None


def _container_restarted(facts: Facts, followed: FollowedRun) -> DueRun | None:
    """Due if an app container restarted, or if in-place re-runs come too often."""
    run, observation = followed.state.run, followed.observation
    if facts.pipeline.policies.rerun_policy is not RerunPolicy.ON_RESTART:
        return None
    if run.completion_time is not None or observation is None or observation.pod.deleting:
        return None
    if in_place.too_often(run, observation.pod):
        return DueRun(Trigger.CONTAINER_RESTARTED, run.cause)
    cause = pod_restarts.app_restart(run, observation.pod)
    return DueRun(Trigger.CONTAINER_RESTARTED, cause) if cause else None


_CHAIN: Final[tuple[Callable[[Facts, FollowedRun], DueRun | None], ...]] = (
    _spec_changed,
    _requested,
    _resumed,
    _spec_may_have_changed,
    _pod_lost,
    _retry,
    _container_restarted,
)
"""In order of precedence."""


def _template_changed(facts: Facts, followed: FollowedRun) -> bool | None:
    """Returns whether the user has changed the template. The hash alone does not show that: another
    version of the CRD may decode the same object differently. None: the spec has changed, and
    nothing shows whether its template has."""
    pipeline, used = facts.pipeline, followed.state.template_hash
    if used is None or pipeline.generation == pipeline.status.observed_generation:
        return False
    if pipeline.template_hash == used:
        return False
    if template.is_comparable(used):
        return True
    # Another version of the operator computed the hash, and the generation has changed, maybe only
    # because another field of spec has. The template on the Pod shows whether the template changed.
    older = template_annotation.unpacked(followed.pod.template_text) if followed.pod else None
    return None if older is None else template.digest(older) != pipeline.template_hash


def _changed_paths(facts: Facts, state: RunState) -> Cause | None:
    """Returns the fields of the template that changed. None: the previous template is not known,
    because no Pod that has it is left."""
    for pod in filter(None, (facts.pod, facts.gone)):
        older = template_annotation.verified(pod.template_text, state.template_hash)
        if older is not None:
            return template_changes.cause(older, facts.pipeline.template)
    return None


def reset_counts(state: RunState, written: InitPipelineStatus, now: datetime) -> RunState:
    """Resets the counts of reruns and failures if the Pod has been Ready for long enough.

    ``written`` is the status as last written. No reconcile is queued for the reset: the next
    reconcile, for any cause, computes it.
    """
    ready = written.condition(ConditionType.READY)
    if ready is None or ready.status != "True":
        return state
    return (
        state.with_counts_reset() if now - ready.last_transition_time >= BACK_OFF_RESET else state
    )


def start_time(run: DueRun, state: RunState, now: datetime) -> datetime:
    """Returns when the run may start. If a user starts it: immediately, or when USER_RUNS allows
    it. Otherwise immediately if it is the first rerun since the counts were reset, else after 10 s,
    20 s ... 5 min. If such a rerun has a next_run_time already, it is kept."""
    if by_user(run.trigger):
        return _user_run_time(state, now)
    if state.rerun_count == 0:
        return now
    if state.next_run_time is not None:
        return state.next_run_time
    doubled: timedelta = BACK_OFF_FIRST * 2 ** min(state.rerun_count - 1, 10)
    return now + min(doubled, BACK_OFF_LONGEST)


def _user_run_time(state: RunState, now: datetime) -> datetime:
    """Returns when USER_RUNS allows the next run that a user starts: at most ten seconds after the
    last one, and not before ``now``.

    The starts of earlier runs are read from status. If history does not have all runs, the burst is
    not larger than the number of runs that status has. A start in the future is ignored: it shows
    that the clock was set back.
    """
    known = {run.number: run for run in (*state.history, state.run)}
    complete = state.run.number <= len(known)
    rate = USER_RUNS if complete else replace(USER_RUNS, burst=min(USER_RUNS.burst, len(known)))
    full_at: datetime | None = None
    for _, run in sorted(known.items()):
        if by_user(run.trigger) and run.trigger is not Trigger.CREATED and run.start_time <= now:
            full_at = rate.used(full_at, run.start_time)
    return now if full_at is None else max(now, rate.free_at(full_at))
