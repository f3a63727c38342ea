"""The decision: from the facts about a pipeline to its status, one action and the next reconcile.

``decide`` has this order: which run is current, what its Pod reports, whether the run
has ended, whether a new run is due, what must be done now, and what status reports.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from initpipeline.api import names
from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.api.reasons import ConditionType, Reason, Trigger
from initpipeline.api.triggers import by_user
from initpipeline.core import (
    admission,
    conditions,
    in_place,
    log_tails,
    pod_end,
    pod_ownership,
    podspec,
    runs,
    status_size,
    triggers,
)
from initpipeline.core import status as statuses
from initpipeline.core.evolve import evolve
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.patch import merge_patch
from initpipeline.core.pod import Pod
from initpipeline.core.runs import FollowedRun, RunState


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create this Pod. Its annotations carry the number of its run. Unless the run is the first,
    the status that records the run must have been written before."""

    manifest: dict[str, Any]
    in_place: bool = False
    """The Pod has the operator's rules for in-place re-runs, which the API server may refuse."""


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete the Pod with this UID."""

    uid: str


@dataclass(frozen=True, slots=True)
class UngatePod:
    """Remove the operator's scheduling gate from the Pod with this UID. The status that records the
    Pod must be written first. So a Pod that is created late, for a run that has ended, does not
    start."""

    uid: str


@dataclass(frozen=True, slots=True)
class DeletePipeline:
    """Delete the InitPipeline, because its ttlSecondsAfterFinished has passed.

    If the InitPipeline has changed since it was read, it is not deleted.
    """


Action = CreatePod | DeletePod | UngatePod | DeletePipeline


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from the facts, to be carried out in this order: write the status, carry out the
    action, requeue. With ``defer_status``, there is no patch: a later decision writes the status.

    If the operator stops between two of these steps, the next reconcile decides the remaining ones
    from the facts and the written status.
    """

    status: InitPipelineStatus
    patch: dict[str, Any] = field(default_factory=dict, kw_only=True)
    """The merge patch that writes this status. Empty: it is stored already, or deferred."""
    action: Action | None = None
    wake_at: datetime | None = None
    """When to reconcile again, even if nothing changes. None: only after a change."""
    retry: bool = False
    """Requeue with back-off, because the API server may later accept the Pod, or the removal of its
    gate."""
    defer_status: bool = False
    """Do not write the status yet. It would report only that the first run has begun: its Pod is to
    be created, or exists and its first report is awaited (first_report_deadline)."""


def decide(facts: Facts, now: datetime) -> Decision:
    """Returns what to do about a pipeline. ``now`` is UTC. Its fraction of a second is dropped, as
    in a metav1.Time."""
    now = now.replace(microsecond=0)
    stored = facts.pipeline.status
    if facts.pipeline.deleting:
        return Decision(stored)
    if log_tails.are_omitted(facts):
        facts = log_tails.omitted(facts)
    pipeline = facts.pipeline
    # First, which run is current, and what its Pod reports about it.
    state = _current_run(facts, now)
    followed = _follow_pod(facts, state, now) if state else None
    # Next, whether another run is due, what must be done now, and what status reports.
    if followed is None or pipeline.policies.suspend:
        decision = _suspend(facts, followed, now)
    else:
        decision = _reconcile_run(facts, followed, now)
    if decision.defer_status:
        return decision
    # Last, cut the status to what may be stored: runHistoryLimit and the size of the object.
    status, limit = decision.status, pipeline.policies.run_history_limit
    if len(status.history) > limit:
        status = evolve(status, history=status.history[:limit])
    status, written = status_size.fitted(status, pipeline.size)
    patch = {} if status == stored else merge_patch(stored.to_api(), written)
    return replace(decision, status=status, patch=patch)


def _current_run(facts: Facts, now: datetime) -> RunState | None:
    """Returns the current run, or begins the first one. None: the pipeline was created suspended.

    If a pipeline without a run has a Pod, that Pod is new, or the status was lost, for instance by
    a restore from a backup. The Pod has the number of the run that it was created for, and later
    runs continue from there. The runs that the kubelet has started in this Pod are not known.
    """
    pipeline, pod, status = facts.pipeline, facts.pod, facts.pipeline.status
    if status.run is not None:
        return triggers.reset_counts(RunState.of(status, status.run), status, now)
    resumed = status.condition(ConditionType.SUSPENDED) is not None
    trigger = Trigger.RESUMED if resumed else Trigger.CREATED
    if pod is not None and (number := pod_ownership.adopted_run(pod, pipeline)) is not None:
        return runs.adopted(pipeline, trigger, pod, number, now)
    return None if pipeline.policies.suspend else runs.first(pipeline, trigger, now)


def _follow_pod(facts: Facts, state: RunState, now: datetime) -> FollowedRun:
    """Updates the current run from its Pod. If the Pod is gone, or has another owner, the run ends
    (``runs.lost``). While the first report on a new Pod is awaited (first_report_deadline), the Pod
    does not change the run."""
    pipeline, pod = facts.pipeline, facts.pod
    if pod is not None and pod_ownership.is_owned_by(pod, pipeline):
        if in_place.unfit(pod):
            state = runs.without_unfit_pod(state, pod)
        state = runs.with_termination_message(state, pod)
    run_pod, uid = pod_ownership.pod_of_run(facts, state.run), state.run.pod_uid
    if run_pod is not None:
        deadline = pod_ownership.first_report_deadline(run_pod, state.run, now)
        if deadline is not None:
            return FollowedRun(state, run_pod, None, report_deadline=deadline)
        return runs.follow(state, pipeline, run_pod, now)
    if uid is not None:
        last = facts.gone if facts.gone is not None and facts.gone.uid == uid else None
        released = pod is not None and pod.uid == uid
        state = runs.lost(state, pipeline, last, now, released=released)
    return FollowedRun(state, None, None)


def _suspend(facts: Facts, followed: FollowedRun | None, now: datetime) -> Decision:
    """Ends the current run and deletes its Pod. A Pod that has terminated is deleted as well,
    because it has the name that the next run's Pod needs. ``followed`` None: no run has started
    yet. If the pipeline is resumed, and the rate of runs delays the next one, the suspension
    continues until then."""
    pod, pipeline = facts.pod, facts.pipeline
    state = runs.superseded(followed, pipeline.status, now) if followed else None
    status = statuses.suspended(facts, state, now)
    if pod is None or not pod_ownership.may_be_deleted(pod, pipeline):
        return Decision(status, wake_at=status.next_run_time)
    if pod.deleting:
        return Decision(status, wake_at=_next(now, pod_end.stuck_at(pod), status.next_run_time))
    return Decision(status, DeletePod(pod.uid))


def _reconcile_run(facts: Facts, followed: FollowedRun, now: datetime) -> Decision:
    """Starts the next run if one is due. Then decides for the current run, which may be the new
    one."""
    pipeline = facts.pipeline
    followed = _start_due_run(facts, followed, now)
    if followed.state.rate_limited and pipeline.status.condition(ConditionType.SUSPENDED):
        return _suspend(facts, followed, now)
    facts = _with_own_validation(facts, followed.state.run)
    obstacle = in_place.obstacle(facts, followed.state, followed.pod, now)
    decision = _decide_with_status(facts, followed, obstacle, now)
    status = conditions.with_condition(
        decision.status,
        pipeline.status,
        ConditionType.IN_PLACE_UNAVAILABLE,
        obstacle,
        pipeline.generation,
        now,
    )
    return decision if status is decision.status else replace(decision, status=status)


def _start_due_run(facts: Facts, followed: FollowedRun, now: datetime) -> FollowedRun:
    """Returns the next run if one is due and does not have to wait, else the current one."""
    state, due = followed.state, triggers.due(facts, followed)
    at = triggers.start_time(due, state, now) if due else None
    if due and at and at <= now:
        state = runs.replace_run(facts.pipeline, followed, due.trigger, due.cause, now)
        # After a restore from a backup there may already be a Pod with the number of the new run.
        return _follow_pod(facts, state, now)
    limited = due.trigger if due and by_user(due.trigger) else None
    # While the run for a changed template waits, the old hash is kept, so that the next reconcile
    # recognizes the change again.
    used = state.template_hash if limited is Trigger.SPEC_CHANGED else facts.pipeline.template_hash
    state = replace(state, next_run_time=at, rate_limited=limited, template_hash=used)
    return replace(followed, state=state)


def _with_own_validation(facts: Facts, run: Run) -> Facts:
    """Returns the facts. If the operator itself would refuse the Pod that it must create next, they
    include that refusal. Status reports it like one by the API server, but it is not retried."""
    awaited = facts.pod is None and run.completion_time is None
    if facts.refusal is not None or not awaited:
        return facts
    return replace(facts, refusal=admission.refusal_of_spec(facts.pipeline))


def _decide_with_status(
    facts: Facts, followed: FollowedRun, obstacle: Explanation | None, now: datetime
) -> Decision:
    """Returns the decision for the current run, with its status."""
    pipeline, state, observation = facts.pipeline, followed.state, followed.observation
    ended = state.run.completion_time is not None
    if ended and state.run.result is not None and not state.run.result.is_known:
        # Only the newer version that wrote the result knows its conditions, and whether the Pod is
        # still needed.
        status = statuses.unchanged(pipeline, state)
        return Decision(status, wake_at=_next(now, state.next_run_time))
    if observation is not None:
        status = statuses.with_pod(pipeline, state, observation, now)
    elif ended:
        status = statuses.without_pod(facts, state, now)
    else:
        return _ensure_pod(facts, followed, obstacle, now)
    pod = observation.pod if observation else None
    if ended and state.next_run_time is None:
        return _at_rest(facts, status, state.run, pod, now)
    stuck_at = pod_end.stuck_at(pod) if pod else None
    limits = (limit.at for limit in followed.limits)
    gated = pod is not None and pod.run_gated and not pod.deleting and not ended
    action = UngatePod(pod.uid) if pod is not None and gated and not facts.gate_refused else None
    return Decision(
        status,
        action,
        wake_at=_next(now, state.next_run_time, stuck_at, *limits),
        retry=gated and facts.gate_refused,
    )


def _at_rest(
    facts: Facts, status: InitPipelineStatus, run: Run, pod: Pod | None, now: datetime
) -> Decision:
    """Returns the decision after a run that ended, if no other run is due.

    If the Pod has terminated, it is kept for its logs. Otherwise the operator deletes it, for
    example after an exceeded limit.
    """
    ttl, ended = facts.pipeline.policies.ttl_seconds_after_finished, run.completion_time
    if pod is not None and not pod.ended and not pod.deleting:
        status = statuses.not_deleted(facts, status, "the Pod", ended or now, now)
        return Decision(status, DeletePod(pod.uid))
    if ttl is None or ended is None:
        return Decision(status)
    expires = ended + timedelta(seconds=ttl)
    if expires <= now:
        status = statuses.not_deleted(facts, status, "the InitPipeline", expires, now)
        return Decision(status, DeletePipeline())
    return Decision(status, wake_at=expires)


def _next(now: datetime, *times: datetime | None) -> datetime | None:
    """Returns the earliest of these times after ``now``. None: there is no such time."""
    return min((time for time in times if time is not None and time > now), default=None)


def _ensure_pod(
    facts: Facts, followed: FollowedRun, obstacle: Explanation | None, now: datetime
) -> Decision:
    """Returns the decision for a run that has no Pod yet, or whose Pod's first report is awaited
    (first_report_deadline)."""
    pipeline, pod, state = facts.pipeline, facts.pod, followed.state
    if state.rate_limited is not None and (pod is None or followed.pod is not None):
        # The next run would replace the Pod within seconds, so none is created.
        delayed = statuses.without_pod(replace(facts, pod=None), state, now)
        wake_at = _next(now, followed.report_deadline, state.next_run_time)
        return Decision(delayed, wake_at=wake_at)
    stalled_at = _next(now, statuses.stalled_without_pod_at(state.run))
    if facts.refusal is not None and not in_place.refused(facts):
        blocked = statuses.without_pod(facts, state, now)
        if facts.refusal.final:
            return Decision(blocked)
        return Decision(blocked, wake_at=stalled_at, retry=True)
    if pod is None:
        creation = _creation(pipeline, state, obstacle)
        status = _keep_reported_status(facts, state, now)
        # A second request means that the first one failed, or that its Pod is gone. If the status
        # were deferred again, there would be no status until a request succeeds.
        requested = facts.requested or facts.failed is not None
        deferred = not requested and _is_deferred(pipeline, obstacle)
        return Decision(status, creation, defer_status=deferred)
    if followed.pod is not None:
        status = _keep_reported_status(facts, state, now)
        deferred = _is_deferred(pipeline, obstacle)
        return Decision(status, wake_at=followed.report_deadline, defer_status=deferred)
    return _free_name(facts, pod, state, stalled_at, now)


def _free_name(
    facts: Facts, pod: Pod, state: RunState, stalled_at: datetime | None, now: datetime
) -> Decision:
    """Returns the decision while another Pod has the name of the run's Pod. The Pod is terminating,
    or the operator deletes it, or only a user may delete it."""
    blocked = statuses.without_pod(facts, state, now)
    if pod.deleting:
        return Decision(blocked, wake_at=_next(now, pod_end.stuck_at(pod), state.next_run_time))
    if pod_ownership.may_be_deleted(pod, facts.pipeline):
        return Decision(blocked, DeletePod(pod.uid))
    return Decision(blocked, wake_at=_next(now, stalled_at, state.next_run_time))


def _is_deferred(pipeline: Pipeline, obstacle: Explanation | None) -> bool:
    """Returns whether the first status of the first run can wait: there is no obstacle to report,
    and no earlier error to remove."""
    stalled = pipeline.status.condition(ConditionType.STALLED)
    return pipeline.status.run is None and obstacle is None and stalled is None


def _creation(pipeline: Pipeline, state: RunState, obstacle: Explanation | None) -> CreatePod:
    """Returns the creation of the run's Pod. If the user wants in-place re-runs, an annotation
    records that the Pod has the rules for them, or why it does not have them."""
    number, token = state.run.number, state.last_rerun_token
    if not in_place.wanted(pipeline):
        return CreatePod(podspec.build(pipeline, number, rerun_token=token))
    annotation = obstacle.reason.value if obstacle else names.IN_PLACE
    manifest = podspec.build(pipeline, number, annotation, token)
    return CreatePod(manifest, in_place=obstacle is None)


def _keep_reported_status(facts: Facts, state: RunState, now: datetime) -> InitPipelineStatus:
    """Returns the status to report while the API server has not answered the creation of the Pod,
    or while the first report on that Pod is awaited.

    The conditions of this run stay as written. So if an earlier creation was refused, a retry that
    is refused with the same message costs no status write. If the spec changed since the refusal,
    or the Pod exists, the refusal is no longer reported. A failed deletion of the previous Pod is
    no longer reported in any case. If several requests to create the Pod have failed, status
    reports that before the next request.
    """
    if facts.failed is not None and facts.pod is None:
        return statuses.without_pod(replace(facts, refusal=facts.failed), state, now)
    before = facts.pipeline.status
    same_run = before.run is not None and before.run.number == state.run.number
    ready = before.condition(ConditionType.READY)
    refused = ready is not None and ready.reason in admission.NOT_CREATED
    over = facts.pod is not None or facts.pipeline.generation != before.observed_generation
    undeleted = conditions.failed_deletion(before) is not None
    if same_run and not (refused and over) and not undeleted:
        return statuses.unchanged(facts.pipeline, state)
    return statuses.without_pod(replace(facts, pod=None, refusal=None), state, now)


def needs_live_pod(pipeline: Pipeline) -> bool:
    """Returns whether the API server must confirm that there is no Pod.

    The watch does not report a Pod that has lost its label. If the operator assumed that such a Pod
    was deleted, it would end the run. Or, after a change of the spec, it would not delete the old
    Pod.
    """
    status = pipeline.status
    if status.run is None or status.run.pod_uid is None:
        return False
    reconciling = status.condition(ConditionType.RECONCILING)
    terminating = reconciling is not None and reconciling.reason == Reason.POD_TERMINATING
    undeleted = conditions.failed_deletion(status) is not None
    changed = pipeline.generation != status.observed_generation
    return status.run.completion_time is None or terminating or undeleted or changed
