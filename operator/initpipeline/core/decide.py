"""The one decision: from the facts of a pipeline to what is written, done, and waited for."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from initpipeline.api import names
from initpipeline.api.models import INT32_MAX, InitPipelineStatus, Run
from initpipeline.api.reasons import ConditionType, Reason, Trigger
from initpipeline.core import (
    admission,
    conditions,
    in_place,
    pod_end,
    pod_ownership,
    pod_steps,
    podspec,
    run_limits,
    runs,
    status_size,
    template,
    triggers,
)
from initpipeline.core import status as statuses
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import Facts, Pipeline, Pod
from initpipeline.core.triggers import Rerun


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create this Pod; the status that names its run must have been written before."""

    manifest: dict[str, Any]
    in_place: bool = False
    """It has our rules to restart in place, which an API server may refuse."""


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete the Pod that has this UID, and no other."""

    uid: str


@dataclass(frozen=True, slots=True)
class DeletePipeline:
    """Delete the InitPipeline, if nobody has changed it since: its time is over."""


Action = CreatePod | DeletePod | DeletePipeline


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from the facts. To be carried out in the order of the fields; dying between any
    two of them is safe, since the same facts and what was written lead to the rest."""

    status: InitPipelineStatus
    action: Action | None = None
    wake_at: datetime | None = None
    """Decide again then, if nothing else happens before."""
    retry: bool = False
    """Decide again after a growing delay: the API server may accept the Pod then."""


def decide(facts: Facts, now: datetime) -> Decision:
    """What to do about a pipeline. ``now`` is UTC; like the API's, its seconds are whole."""
    now = now.replace(microsecond=0)
    pipeline = facts.pipeline
    if pipeline.deleting:
        return Decision(pipeline.status)
    status = triggers.settle(pipeline.status, now)
    status = _without_unfit_pod(facts, _with_run(facts, status, now))
    status = _follow(facts, status, now)
    if pipeline.policies.suspend:
        decision = _suspend(facts, status, now)
    else:
        decision = _go_on(facts, status, now)
    kept = decision.status.history[: pipeline.policies.run_history_limit]
    whole = decision.status.model_copy(update={"history": kept})
    return replace(decision, status=status_size.fitted(whole, pipeline.size))


def needs_live_pod(pipeline: Pipeline) -> bool:
    """Returns whether the API server must confirm that there is no Pod.

    The watch does not show a Pod that has lost its label. If the operator took it for gone, it
    would end the run, or leave the Pod behind when a changed spec requires its deletion.
    """
    status = pipeline.status
    if status.run is None or status.run.pod_uid is None:
        return False
    reconciling = status.condition(ConditionType.RECONCILING)
    terminating = reconciling is not None and reconciling.reason == Reason.POD_TERMINATING
    changed = pipeline.generation != status.observed_generation
    return status.run.completion_time is None or terminating or changed


def _with_run(facts: Facts, status: InitPipelineStatus, now: datetime) -> InitPipelineStatus:
    """The status with its first run, unless that is not to start. A pipeline without a run whose
    Pod exists has lost its status, as after a restore from a backup: its numbers go on from the
    Pod's."""
    if status.run is not None:
        return status
    pipeline, pod = facts.pipeline, facts.pod
    number = pod.run if pod is not None and pod_ownership.ours(pod, pipeline) else None
    if pipeline.policies.suspend and number is None:
        return status
    resumed = status.condition(ConditionType.SUSPENDED) is not None
    trigger = Trigger.RESUMED if resumed else Trigger.CREATED
    return runs.begin(pipeline, status, trigger, number or 1, now)


def _without_unfit_pod(facts: Facts, status: InitPipelineStatus) -> InitPipelineStatus:
    """A Pod that no node takes because of our rules gives way to one without, in the same run."""
    pod, run = facts.pod, status.run
    if pod is None or run is None or run.completion_time is not None:
        return status
    if run.pod_uid != pod.uid or not in_place.unfit(pod):
        return status
    return status.model_copy(update={"run": run.model_copy(update={"pod_uid": None})})


def _follow(facts: Facts, status: InitPipelineStatus, now: datetime) -> InitPipelineStatus:
    if facts.pod is not None and pod_ownership.ours(facts.pod, facts.pipeline):
        status = runs.with_last_words(status, facts.pod)
    pod = pod_ownership.pod_of_run(facts, status, now)
    if pod is not None:
        return runs.follow(status, facts.pipeline.policies, pod, now)
    uid, gone = status.run.pod_uid if status.run else None, facts.gone
    if uid is None:
        return status
    last = gone if gone is not None and gone.uid == uid else None
    return runs.lost(status, facts.pipeline.policies, last, now)


def _suspend(facts: Facts, status: InitPipelineStatus, now: datetime) -> Decision:
    """No run, and no Pod: not even one that has ended, since the next run's takes its name."""
    pod, pipeline = facts.pod, facts.pipeline
    status = runs.superseded(status, pod_ownership.pod_of_run(facts, status, now), now)
    said = statuses.suspended(status, facts, now)
    if pod is None or not pod_ownership.ours(pod, pipeline):
        return Decision(said)
    if pod.deleting:
        return Decision(said, wake_at=_next(now, pod_end.stuck_at(pod)))
    return Decision(said, DeletePod(pod.uid))


def _go_on(facts: Facts, status: InitPipelineStatus, now: datetime) -> Decision:
    pipeline, pod = facts.pipeline, pod_ownership.pod_of_run(facts, status, now)
    again = triggers.due(pipeline, status, pod)
    if again is not None:
        again = _with_changes(facts, status, again)
        status = _start_or_wait(pipeline, status, pod, again, now)
    else:
        status = status.model_copy(update={"next_run_time": None})
    facts = _validated(facts, status)
    obstacle = in_place.obstacle(facts, status, pod_ownership.any_pod_of_run(facts, status), now)
    decision = _conclude(facts, status, obstacle, now)
    said = conditions.with_rerun_in_place(
        decision.status, pipeline.status, obstacle, pipeline.generation, now
    )
    return replace(decision, status=said)


def _with_changes(facts: Facts, status: InitPipelineStatus, again: Rerun) -> Rerun:
    """Returns the rerun with the fields of the template that changed, if a Pod of the last run has
    or had the previous template."""
    if again.trigger is not Trigger.SPEC_CHANGED:
        return again
    for pod in filter(None, (facts.pod, facts.gone)):
        older = template.verified(pod.template_text, status.template_hash)
        if older is not None:
            return replace(again, cause=template.cause(older, facts.pipeline.template))
    return again


def _validated(facts: Facts, status: InitPipelineStatus) -> Facts:
    """Returns the facts, with the operator's own refusal of a Pod that it is about to create. It is
    reported like a refusal by the API server, but not retried."""
    run = status.run
    assert run is not None
    awaited = facts.pod is None and run.completion_time is None
    if facts.refusal is not None or not awaited:
        return facts
    return replace(facts, refusal=admission.refusal_of_spec(facts.pipeline))


def _start_or_wait(
    pipeline: Pipeline,
    status: InitPipelineStatus,
    pod: Pod | None,
    again: Rerun,
    now: datetime,
) -> InitPipelineStatus:
    run = status.run
    assert run is not None
    at = triggers.start_time(again, status, now)
    if at > now:
        return status.model_copy(update={"next_run_time": at})
    counts = (
        triggers.FORGIVEN
        if again.asked_for
        else {"rerun_count": min(status.rerun_count + 1, INT32_MAX)}
    )
    status = runs.superseded(status, pod, now).model_copy(update=counts)
    return runs.begin(pipeline, status, again.trigger, run.number + 1, now, again.cause)


def _conclude(
    facts: Facts, status: InitPipelineStatus, obstacle: Explanation | None, now: datetime
) -> Decision:
    pipeline, run = facts.pipeline, status.run
    assert run is not None
    pod = pod_ownership.pod_of_run(facts, status, now)
    if pod is not None:
        said = statuses.with_pod(pipeline, status, pod, now)
    elif run.completion_time is not None:
        said = statuses.without_pod(status, facts, now)
    else:
        return _towards_pod(facts, status, run, obstacle, now)
    if run.completion_time is not None and status.next_run_time is None:
        return _at_rest(pipeline, said, run, pod, now)
    ahead = [status.next_run_time, *_limits_ahead(pipeline, run, pod)]
    return Decision(said, wake_at=_next(now, *ahead))


def _limits_ahead(pipeline: Pipeline, run: Run, pod: Pod | None) -> list[datetime | None]:
    """When the run's present state will have lasted too long."""
    if pod is None:
        return []
    steps = pod_steps.steps(pod, run)
    found = run_limits.limits(pipeline.policies, run, pod, steps)
    return [pod_end.stuck_at(pod), *(limit.at for limit in found)]


def _at_rest(
    pipeline: Pipeline, said: InitPipelineStatus, run: Run, pod: Pod | None, now: datetime
) -> Decision:
    """The last run has ended, and none follows by itself. Its Pod stays for its logs, unless its
    containers run on although it was given up."""
    ttl, ended = pipeline.policies.ttl_seconds_after_finished, run.completion_time
    if pod is not None and not pod.ended and not pod.deleting:
        return Decision(said, DeletePod(pod.uid))
    if ttl is None or ended is None:
        return Decision(said)
    over = ended + timedelta(seconds=ttl)
    return Decision(said, DeletePipeline()) if over <= now else Decision(said, wake_at=over)


def _next(now: datetime, *times: datetime | None) -> datetime | None:
    """The first of these times that is still to come."""
    return min((time for time in times if time is not None and time > now), default=None)


def _towards_pod(
    facts: Facts,
    status: InitPipelineStatus,
    run: Run,
    obstacle: Explanation | None,
    now: datetime,
) -> Decision:
    """The next step for a run that has no Pod, or one of which nothing is known yet."""
    pipeline, pod = facts.pipeline, facts.pod
    stalled_at = _next(now, statuses.stalled_without_pod_at(run))
    if facts.refusal is not None and not in_place.refused(facts):
        blocked = statuses.without_pod(status, facts, now)
        if facts.refusal.final:
            return Decision(blocked)
        return Decision(blocked, wake_at=stalled_at, retry=True)
    if pod is None:
        creation = _creation(pipeline, run, obstacle)
        return Decision(_as_said(facts, status, run, now), creation)
    if pod_ownership.of_run(pod, pipeline, run):
        said = _as_said(facts, status, run, now)
        return Decision(said, wake_at=pod_ownership.silent_until(pod, now))
    blocked = statuses.without_pod(status, facts, now)
    if pod.deleting:
        return Decision(blocked, wake_at=_next(now, pod_end.stuck_at(pod)))
    if pod_ownership.ours(pod, pipeline):
        return Decision(blocked, DeletePod(pod.uid))
    return Decision(blocked, wake_at=stalled_at)


def _creation(pipeline: Pipeline, run: Run, obstacle: Explanation | None) -> CreatePod:
    if not in_place.wanted(pipeline):
        return CreatePod(podspec.build(pipeline, run.number))
    told = obstacle.reason.value if obstacle else names.IN_PLACE
    return CreatePod(podspec.build(pipeline, run.number, told), in_place=obstacle is None)


def _as_said(
    facts: Facts, status: InitPipelineStatus, run: Run, now: datetime
) -> InitPipelineStatus:
    """Returns the status until the API server answers the creation of the Pod.

    The conditions of this run stay, so that the retry of a refused creation writes nothing. A
    refusal of another generation of the spec, or from before the Pod was created, is removed.
    """
    before = facts.pipeline.status
    same_run = before.run is not None and before.run.number == run.number
    ready = before.condition(ConditionType.READY)
    refused = ready is not None and ready.reason in admission.NOT_CREATED
    over = facts.pod is not None or facts.pipeline.generation != before.observed_generation
    if same_run and not (refused and over):
        return statuses.as_before(status, facts.pipeline)
    return statuses.without_pod(status, replace(facts, pod=None, refusal=None), now)
