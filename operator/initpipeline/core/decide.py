"""The one decision: from the facts of a pipeline to what is written, done, and waited for."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.api.reasons import Result, Trigger
from initpipeline.core import podspec, rerun, runs
from initpipeline.core import status as statuses
from initpipeline.core.facts import Facts, Pipeline, Pod
from initpipeline.core.rerun import Rerun

NAME_CONFLICT_RECHECK = timedelta(minutes=5)
"""A Pod that is not ours is not watched, so it is looked at again from time to time."""


NEXT_WORD = timedelta(seconds=3)
"""A new Pod is spoken of several times within milliseconds: by the scheduler, by the kubelet. For
so long the next word is waited for, instead of a write for each."""


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create this Pod; the status that names its run must have been written before."""

    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete the Pod that has this UID, and no other."""

    uid: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from the facts. To be carried out in the order of the fields; dying between any
    two of them is safe, since the same facts and what was written lead to the rest."""

    status: InitPipelineStatus
    action: CreatePod | DeletePod | None = None
    wake_at: datetime | None = None
    """Decide again then, if nothing else happens before."""
    retry: bool = False
    """Decide again after a growing delay: the API server's no may become a yes."""


def decide(facts: Facts, now: datetime) -> Decision:
    """What to do about a pipeline. ``now`` is UTC; like the API's, its seconds are whole."""
    now = now.replace(microsecond=0)
    pipeline = facts.pipeline
    if pipeline.deleting:
        return Decision(pipeline.status)
    status = rerun.settle(pipeline.status, now)
    if status.run is None:
        status = _first_run(facts, status, now)
    status = _follow(facts, status, now)
    pod = _pod_of_run(facts, status, now)
    again = rerun.due(pipeline, status, pod)
    if again is not None:
        status = _start_or_wait(pipeline, status, pod, again, now)
    else:
        status = status.model_copy(update={"next_run_time": None})
    if facts.refusal is not None and facts.refusal.final:
        status = runs.end(status, Result.FAILED, now)
    return _conclude(facts, status, now)


def needs_live_pod(pipeline: Pipeline) -> bool:
    """Whether a Pod's absence from what was watched must be confirmed, since it would end a run."""
    run = pipeline.status.run
    return run is not None and run.pod_uid is not None and run.completion_time is None


def _first_run(facts: Facts, status: InitPipelineStatus, now: datetime) -> InitPipelineStatus:
    """A pipeline without a run whose Pod exists has lost its status, as after a restore from a
    backup: its numbers go on from the Pod's."""
    number = facts.pod.run if facts.pod is not None and _ours(facts.pod, facts.pipeline) else None
    return runs.begin(facts.pipeline, status, Trigger.CREATED, number or 1, now)


def _follow(facts: Facts, status: InitPipelineStatus, now: datetime) -> InitPipelineStatus:
    pod = _pod_of_run(facts, status, now)
    if pod is not None:
        return runs.follow(status, pod, now)
    gone = status.run is not None and status.run.pod_uid is not None
    return runs.lost(status, now) if gone else status


def _start_or_wait(
    pipeline: Pipeline,
    status: InitPipelineStatus,
    pod: Pod | None,
    again: Rerun,
    now: datetime,
) -> InitPipelineStatus:
    run = status.run
    assert run is not None
    at = rerun.start_time(again, status, now)
    if at > now:
        return status.model_copy(update={"next_run_time": at})
    count = 0 if again.asked_for else status.rerun_count + 1
    status = runs.superseded(status, pod, now).model_copy(update={"rerun_count": count})
    return runs.begin(pipeline, status, again.trigger, run.number + 1, now, again.cause)


def _conclude(facts: Facts, status: InitPipelineStatus, now: datetime) -> Decision:
    pipeline, run = facts.pipeline, status.run
    assert run is not None
    pod = _pod_of_run(facts, status, now)
    if pod is not None:
        return Decision(statuses.with_pod(pipeline, status, pod, now), wake_at=status.next_run_time)
    if run.completion_time is not None:
        return Decision(statuses.without_pod(status, facts, now), wake_at=status.next_run_time)
    return _towards_pod(facts, status, run, now)


def _towards_pod(facts: Facts, status: InitPipelineStatus, run: Run, now: datetime) -> Decision:
    """The next step for a run that has no Pod, or one of which nothing is known yet."""
    pipeline, pod = facts.pipeline, facts.pod
    if facts.refusal is not None:
        return Decision(statuses.without_pod(status, facts, now), retry=True)
    if pod is None:
        manifest = podspec.build(pipeline, run.number)
        return Decision(_as_said(facts, status, run, now), CreatePod(manifest))
    if _of_run(pod, pipeline, run):
        said = _as_said(facts, status, run, now)
        return Decision(said, wake_at=_silent_until(pod, now))
    blocked = statuses.without_pod(status, facts, now)
    if pod.deleting:
        return Decision(blocked)
    if _ours(pod, pipeline):
        return Decision(blocked, DeletePod(pod.uid))
    return Decision(blocked, wake_at=now + NAME_CONFLICT_RECHECK)


def _as_said(
    facts: Facts, status: InitPipelineStatus, run: Run, now: datetime
) -> InitPipelineStatus:
    """What was said of this run before stays until the answer to the creation says otherwise: a
    refusal that is tried again must not be taken back each time."""
    before = facts.pipeline.status.run
    if before is not None and before.number == run.number:
        return statuses.as_before(status, facts.pipeline)
    return statuses.without_pod(status, replace(facts, pod=None), now)


def _ours(pod: Pod, pipeline: Pipeline) -> bool:
    return pod.owner_uid == pipeline.uid


def _pod_of_run(facts: Facts, status: InitPipelineStatus, now: datetime) -> Pod | None:
    """The current run's Pod, once there is something to be said of it."""
    pod, run = facts.pod, status.run
    if pod is None or run is None or not _of_run(pod, facts.pipeline, run):
        return None
    return None if run.pod_uid is None and _silent_until(pod, now) else pod


def _silent_until(pod: Pod, now: datetime) -> datetime | None:
    """When to speak of a Pod of which nothing new is known, unless it is spoken of before. A clock
    that disagrees with the API server's makes this None, which costs a write."""
    since = pod.silent_since
    if since is None or not since <= now < since + NEXT_WORD:
        return None
    return since + NEXT_WORD


def _of_run(pod: Pod, pipeline: Pipeline, run: Run) -> bool:
    """The one that was seen before, or, before any was seen, the one that was created for it."""
    if not _ours(pod, pipeline):
        return False
    return pod.uid == run.pod_uid if run.pod_uid else pod.run == run.number
