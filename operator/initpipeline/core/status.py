"""Facts to status: the mirror of the Pod's init containers, and the conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from initpipeline.api.models import Condition, InitPipelineStatus, format_time
from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.core import diagnose, observe
from initpipeline.core.diagnose import Explanation
from initpipeline.core.facts import (
    Facts,
    InitContainer,
    Pipeline,
    Pod,
    Refusal,
    init_containers,
)
from initpipeline.core.observe import Fate, Step


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the conditions will say."""

    initialized: bool
    initialized_why: Explanation
    ready: bool
    ready_why: Explanation
    reconciling: Explanation | None = None
    stalled: Explanation | None = None


def with_pod(
    pipeline: Pipeline, status: InitPipelineStatus, pod: Pod, now: datetime
) -> InitPipelineStatus:
    """The status while the current run has a Pod."""
    run = status.run
    assert run is not None
    steps = observe.steps(pod, run.stale_container_ids)
    initialized = run.initialized_time is not None
    done = len(steps) if initialized else sum(step.done for step in steps)
    mirror = {
        "pod_uid": pod.uid,
        "node_name": pod.node_name,
        "init_container_statuses": mirrored(pod),
        "init_progress": f"{done}/{len(steps)}",
        "current_step": None if initialized else _current(steps),
    }
    if _had_ended(pipeline, status):
        return as_before(status, pipeline).model_copy(update=mirror)
    return _conclude(pipeline, status, mirror, _outlook(status, pod, steps), now)


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
    mirror = {
        "pod_uid": None,
        "node_name": None,
        "init_container_statuses": tuple(placeholder(c) for c in containers),
        "init_progress": f"0/{len(containers)}",
        "current_step": containers[0].name if containers else None,
    }
    if facts.refusal is not None and facts.refusal.final:
        outlook = _given_up(facts.refusal)
    else:
        outlook = _on_the_way(_why_no_pod(status, facts))
    return _conclude(facts.pipeline, status, mirror, outlook, now)


def mirrored(pod: Pod) -> tuple[dict[str, Any], ...]:
    """The kubelet's words in the order of the spec, and a placeholder where it has said nothing.

    Without nulls, which the API writes for an unset time and prunes from a custom resource: what
    was written would never be what comes back.
    """
    statuses = {status.name: _without_nulls(status.raw) for status in pod.init_container_statuses}
    return tuple(statuses.get(c.name) or placeholder(c) for c in pod.init_containers)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def placeholder(container: InitContainer) -> dict[str, Any]:
    """What the kubelet itself reports of an init container whose turn has not come."""
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "started": False,
        "state": {"waiting": {"reason": "PodInitializing"}},
    }


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
            f"all {len(steps)} init containers are done"
            if len(steps) > 1
            else "the init container is done",
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
        f"{status.rerun_count} re-runs in a row were caused by a restart or the loss of the Pod; "
        f"the next run starts at {format_time(status.next_run_time)}",
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
    conditions = tuple(
        c.model_copy(update={"observed_generation": pipeline.generation}) for c in status.conditions
    )
    return status.model_copy(update={**_identity(pipeline), "conditions": conditions})


def _conclude(
    pipeline: Pipeline,
    status: InitPipelineStatus,
    mirror: dict[str, Any],
    outlook: Outlook,
    now: datetime,
) -> InitPipelineStatus:
    conditions = _conditions(status, outlook, pipeline.generation, now)
    return status.model_copy(update={**mirror, **_identity(pipeline), "conditions": conditions})


def _identity(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "pod_name": pipeline.name,
        "observed_generation": pipeline.generation,
        "template_hash": pipeline.template_hash,
    }


def _conditions(
    status: InitPipelineStatus, outlook: Outlook, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Reconciling and Stalled are absent unless they hold, as kstatus wants them."""
    said: list[tuple[ConditionType, bool, Explanation]] = [
        (ConditionType.INITIALIZED, outlook.initialized, outlook.initialized_why),
        (ConditionType.READY, outlook.ready, outlook.ready_why),
    ]
    if outlook.reconciling:
        said.append((ConditionType.RECONCILING, True, outlook.reconciling))
    if outlook.stalled:
        said.append((ConditionType.STALLED, True, outlook.stalled))
    return tuple(
        _condition(status.condition(type_), type_, holds, why, generation, now)
        for type_, holds, why in said
    )


def _condition(
    before: Condition | None,
    type_: ConditionType,
    holds: bool,
    why: Explanation,
    generation: int,
    now: datetime,
) -> Condition:
    """A transition time moves only when the status does."""
    value = "True" if holds else "False"
    unchanged = before is not None and before.status == value
    return Condition(
        type=type_,
        status="True" if holds else "False",
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and unchanged else now,
        reason=why.reason,
        message=why.message,
    )
