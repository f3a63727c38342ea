"""Decides whether a Pod belongs to a pipeline and to its current run."""

from datetime import datetime, timedelta
from typing import Final

from initpipeline.api.models import INT32_MAX, InitPipelineStatus, Run
from initpipeline.core import in_place, template
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.pod import Pod

FIRST_REPORT_GRACE: Final = timedelta(seconds=3)
"""How long the first status write for a new Pod waits for the scheduler, and then again for the
kubelet. They write several statuses at first; one status write reports them all."""

LARGEST_ADOPTED_RUN: Final = INT32_MAX // 2
"""Users can write the number on a Pod. From a larger number, the numbers of further runs could
exceed 32 bits."""


def is_owned_by(pod: Pod, pipeline: Pipeline) -> bool:
    """Returns whether the pipeline is the Pod's controller, so that garbage collection deletes the
    Pod with it."""
    return pod.owner_uid == pipeline.uid


def is_of_earlier_pipeline(pod: Pod, pipeline: Pipeline) -> bool:
    """Returns whether the Pod's only owner was an InitPipeline of the same name that was deleted.

    Garbage collection deletes such a Pod. But if the InitPipeline is deleted and created again
    while the garbage collector's watch is interrupted, as by a restart of the API server, the Pod
    would remain. A Pod that is not older than the pipeline may belong to a later one, if the
    pipeline is read from an outdated cache.
    """
    if not pod.only_owner_is_pipeline or is_owned_by(pod, pipeline):
        return False
    if pod.created_at is None or pipeline.created_at is None:
        return False
    return pod.created_at < pipeline.created_at


def may_be_deleted(pod: Pod, pipeline: Pipeline) -> bool:
    """Returns whether the operator may delete the Pod on behalf of the pipeline."""
    return is_owned_by(pod, pipeline) or is_of_earlier_pipeline(pod, pipeline)


def adopted_run(pod: Pod, pipeline: Pipeline) -> int | None:
    """Returns the number of the Pod's run, for a pipeline whose status records no run. None: the
    pipeline does not own the Pod, the Pod has no number, or one above LARGEST_ADOPTED_RUN."""
    if not is_owned_by(pod, pipeline) or pod.run is None or pod.run > LARGEST_ADOPTED_RUN:
        return None
    return pod.run


def belongs_to_run(pod: Pod, pipeline: Pipeline, run: Run) -> bool:
    """Returns whether the Pod has the UID that the run has recorded. If the run has not recorded a
    UID, returns whether the Pod was created for the run. A Pod that no node accepts because of the
    restartPolicyRules that the operator added does not belong to the run. The run gets another
    Pod."""
    if not is_owned_by(pod, pipeline) or in_place.unfit(pod):
        return False
    if run.pod_uid:
        return pod.uid == run.pod_uid
    return pod.run == run.number and not _precedes(pod, pipeline.status, run)


def _precedes(pod: Pod, status: InitPipelineStatus, run: Run) -> bool:
    """Returns whether the Pod was created before status recorded the run, from another template or
    with another rerun token.

    The Pod of the first run is created before the run is recorded. If the response is lost, and the
    user then changes the InitPipeline, the API server may refuse the next creation. That refusal is
    recorded with the new template and token, and the first Pod may still appear.
    """
    if status.run is None or status.run.number != run.number:
        return False
    hashes = {hash_ for hash_ in (pod.template_hash, status.template_hash) if hash_}
    comparable = all(template.is_comparable(hash_) for hash_ in hashes)
    other_template = comparable and len(hashes) > 1
    known = pod.rerun_token is not None
    return other_template or (known and pod.rerun_token != (status.last_rerun_token or ""))


def pod_of_run(facts: Facts, run: Run) -> Pod | None:
    """Returns the Pod of the run. None: the run has no Pod."""
    pod = facts.pod
    return pod if pod is not None and belongs_to_run(pod, facts.pipeline, run) else None


def first_report_deadline(pod: Pod, run: Run, now: datetime) -> datetime | None:
    """Returns the time until which the status write for a new Pod is deferred: FIRST_REPORT_GRACE
    after the creation of the Pod, or after the scheduler has bound it. None: it is not deferred,
    because no report is awaited (Pod.silent_since), that time has passed, the clocks disagree, or
    the run has recorded the Pod before."""
    since = pod.silent_since
    if run.pod_uid is not None or since is None or not since <= now < since + FIRST_REPORT_GRACE:
        return None
    return since + FIRST_REPORT_GRACE
