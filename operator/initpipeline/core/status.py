"""Facts to status: the mirror of the Pod's init containers, and the conditions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from initpipeline.api.models import InitPipelineStatus, format_time
from initpipeline.api.reasons import Reason
from initpipeline.core import conditions, diagnose, mirror, observe
from initpipeline.core.conditions import Outlook
from initpipeline.core.diagnose import Explanation
from initpipeline.core.facts import (
    Facts,
    Pipeline,
    Pod,
    Refusal,
    init_containers,
)
from initpipeline.core.observe import Fate, Step


def with_pod(
    pipeline: Pipeline, status: InitPipelineStatus, pod: Pod, now: datetime
) -> InitPipelineStatus:
    """The status while the current run has a Pod."""
    run = status.run
    assert run is not None
    steps = observe.steps(pod, run.stale_container_ids)
    initialized = run.initialized_time is not None
    done = len(steps) if initialized else sum(step.done for step in steps)
    shown = {
        "pod_uid": pod.uid,
        "node_name": pod.node_name,
        "init_container_statuses": mirror.init_container_statuses(pod),
        "init_progress": f"{done}/{len(steps)}",
        "current_step": None if initialized else _current(steps),
    }
    if _had_ended(pipeline, status):
        return as_before(status, pipeline).model_copy(update=shown)
    return _conclude(pipeline, status, shown, _outlook(status, pod, steps), now)


def _had_ended(pipeline: Pipeline, status: InitPipelineStatus) -> bool:
    """Whether the current run's end was told before, and no other is due: what becomes of its Pod
    after that, deletion or disruption, changes nothing."""
    before, run = pipeline.status.run, status.run
    if before is None or run is None or before.number != run.number:
        return False
    return before.completion_time is not None and status.next_run_time is None


def without_pod(status: InitPipelineStatus, facts: Facts, now: datetime) -> InitPipelineStatus:
    """The status while the current run has no Pod: not yet, or not any more."""
    run = status.run
    assert run is not None
    if run.completion_time is not None and not status.next_run_time and not facts.refusal:
        return as_before(status, facts.pipeline)
    containers = init_containers(facts.pipeline.template["spec"])
    shown = {
        "pod_uid": None,
        "node_name": None,
        "init_container_statuses": tuple(mirror.placeholder(c) for c in containers),
        "init_progress": f"0/{len(containers)}",
        "current_step": containers[0].name if containers else None,
    }
    if facts.refusal is not None and facts.refusal.final:
        outlook = _given_up(facts.refusal)
    else:
        outlook = _on_the_way(_why_no_pod(status, facts))
    return _conclude(facts.pipeline, status, shown, outlook, now)


def _current(steps: Sequence[Step]) -> str | None:
    return next((step.container.name for step in steps if not step.done), None)


def _outlook(status: InitPipelineStatus, pod: Pod, steps: Sequence[Step]) -> Outlook:
    run = status.run
    assert run is not None
    fate = observe.fate(pod)
    waiting = _waiting(status)
    if fate is Fate.LOST:
        return _on_the_way(waiting or diagnose.lost(pod))
    initialized = run.initialized_time is not None
    if initialized:
        init_why = Explanation(
            Reason.INITIALIZED,
            "all init containers are done",
        )
        ready_why = diagnose.readiness(pod, fate)
    else:
        init_why = ready_why = diagnose.initialization(pod, steps, fate)
    ready = ready_why.reason in {Reason.POD_READY, Reason.POD_SUCCEEDED}
    stalled = _limit_reached(ready_why) if fate is Fate.FAILED else None
    busy = pod.deleting or (not initialized and stalled is None)
    return Outlook(
        initialized, init_why, ready, ready_why, waiting or (ready_why if busy else None), stalled
    )


def _on_the_way(why: Explanation) -> Outlook:
    return Outlook(False, why, False, why, reconciling=why)


def _given_up(refusal: Refusal) -> Outlook:
    why = Explanation(refusal.reason, refusal.message)
    return Outlook(False, why, False, why, stalled=why)


def _limit_reached(failure: Explanation) -> Explanation:
    return Explanation(
        Reason.BACKOFF_LIMIT_EXCEEDED, f"the run failed and is not repeated: {failure.message}"
    )


def _waiting(status: InitPipelineStatus) -> Explanation | None:
    if status.next_run_time is None:
        return None
    return Explanation(
        Reason.RERUN_BACK_OFF,
        f"the next run starts at {format_time(status.next_run_time)}: restarts or losses of the "
        f"Pod have caused {status.rerun_count + 1} in a row",
    )


def _why_no_pod(status: InitPipelineStatus, facts: Facts) -> Explanation:
    waiting, pod, refusal = _waiting(status), facts.pod, facts.refusal
    name = facts.pipeline.name
    if waiting:
        return waiting
    if refusal is not None:
        return Explanation(refusal.reason, refusal.message)
    if pod is None:
        return Explanation(Reason.POD_PENDING, "the Pod is about to be created")
    if pod.deleting or pod.owner_uid == facts.pipeline.uid:
        return Explanation(
            Reason.POD_TERMINATING, f'the Pod "{name}" of an earlier run is being deleted'
        )
    return Explanation(
        Reason.NAME_CONFLICT,
        f'a Pod "{name}" exists that does not belong to this InitPipeline: delete it, or give the '
        "InitPipeline another name",
    )


def as_before(status: InitPipelineStatus, pipeline: Pipeline) -> InitPipelineStatus:
    """Mirror and conditions stay as they are; only the generation that they speak of is new."""
    same = tuple(
        c.model_copy(update={"observed_generation": pipeline.generation}) for c in status.conditions
    )
    return status.model_copy(update={**_identity(pipeline), "conditions": same})


def _conclude(
    pipeline: Pipeline,
    status: InitPipelineStatus,
    shown: dict[str, Any],
    outlook: Outlook,
    now: datetime,
) -> InitPipelineStatus:
    said = conditions.conditions(status, outlook, pipeline.generation, now)
    return status.model_copy(update={**shown, **_identity(pipeline), "conditions": said})


def _identity(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "pod_name": pipeline.name,
        "observed_generation": pipeline.generation,
        "template_hash": pipeline.template_hash,
    }
