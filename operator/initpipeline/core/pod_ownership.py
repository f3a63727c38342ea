"""Which Pod is a pipeline's own, and which its current run's."""

from datetime import datetime, timedelta

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.core import in_place
from initpipeline.core.facts import Facts, Pipeline, Pod

NEXT_WORD = timedelta(seconds=3)
"""A new Pod is spoken of several times within milliseconds: by the scheduler, by the kubelet. For
so long the next word is waited for, instead of a write for each."""


def ours(pod: Pod, pipeline: Pipeline) -> bool:
    """Whether garbage collection would take it with this pipeline."""
    return pod.owner_uid == pipeline.uid


def pod_of_run(facts: Facts, status: InitPipelineStatus, now: datetime) -> Pod | None:
    """The current run's Pod, once there is something to be said of it."""
    pod, run = any_pod_of_run(facts, status), status.run
    if pod is None or run is None:
        return None
    return None if run.pod_uid is None and silent_until(pod, now) else pod


def any_pod_of_run(facts: Facts, status: InitPipelineStatus) -> Pod | None:
    """The current run's Pod, though nobody may have said anything of it yet."""
    pod, run = facts.pod, status.run
    if pod is None or run is None or not of_run(pod, facts.pipeline, run):
        return None
    return pod


def silent_until(pod: Pod, now: datetime) -> datetime | None:
    """When to speak of a Pod of which nothing new is known, unless it is spoken of before. A clock
    that disagrees with the API server's makes this None, which costs a write."""
    since = pod.silent_since
    if since is None or not since <= now < since + NEXT_WORD:
        return None
    return since + NEXT_WORD


def of_run(pod: Pod, pipeline: Pipeline, run: Run) -> bool:
    """The one that was seen before, or, before any was seen, the one that was created for it."""
    if not ours(pod, pipeline) or in_place.unfit(pod):
        return False
    return pod.uid == run.pod_uid if run.pod_uid else pod.run == run.number
