"""Facts to status: the mirror of the Pod's init containers, and the conditions."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from initpipeline.api.models import InitPipelineStatus, Policies, Run, format_time
from initpipeline.api.names import MAX_MESSAGE_LENGTH
from initpipeline.api.reasons import Reason, Result
from initpipeline.core import conditions, explanations, mirror, pod_end, pod_steps, runs
from initpipeline.core.conditions import Outlook
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import Facts, Pipeline, Pod, Refusal, init_containers
from initpipeline.core.pod_steps import Step
from initpipeline.core.resources import effective_resources
from initpipeline.core.text import clip

_INITIALIZED = Explanation(Reason.INITIALIZED, "all init containers are done")
_SUCCEEDED = Explanation(Reason.POD_SUCCEEDED, "all containers of the Pod ended well")

POD_DEADLINE = timedelta(minutes=10)
"""How long a run may be without its Pod, because the API server refuses it or the name is taken,
before that is reported as Stalled: a Deployment's progressDeadlineSeconds by default."""

_LASTING = frozenset({Reason.INVALID_TEMPLATE, Reason.QUOTA_REQUIRES_RESOURCES})
_REMEDIES = {
    Reason.INVALID_TEMPLATE: "change the template, or the LimitRange, webhook or policy that "
    "changes the Pod",
    Reason.QUOTA_REQUIRES_RESOURCES: "add them to the template, or create a LimitRange with "
    "defaults",
    Reason.QUOTA_EXCEEDED: "free or raise the quota",
    Reason.POD_FORBIDDEN: "change the template, or create or allow what is missing",
}
_FOREIGN = "that does not belong to this InitPipeline"


def with_pod(
    pipeline: Pipeline, status: InitPipelineStatus, pod: Pod, now: datetime
) -> InitPipelineStatus:
    """The status while the current run has a Pod."""
    run = status.run
    assert run is not None
    steps = pod_steps.steps(pod, run)
    if run.completion_time is not None:
        outlook = _ended(run, status, pipeline.policies)
    else:
        outlook = _going_on(run, status, pod, steps, now)
    return _conclude(pipeline, status, _shown(pod, run, steps), outlook, now)


def without_pod(status: InitPipelineStatus, facts: Facts, now: datetime) -> InitPipelineStatus:
    """The status while the current run has no Pod: not yet, or not any more. A run that has ended
    for good goes on showing what its Pod was last seen as."""
    run, pipeline = status.run, facts.pipeline
    assert run is not None
    if run.completion_time is None:
        why, stalled = _why_no_pod(run, facts, now)
        outlook = Outlook(False, why, False, why, None if stalled else why, stalled)
        return _conclude(pipeline, status, _nothing_shown(pipeline), outlook, now)
    shown = {} if status.next_run_time is None else _nothing_shown(pipeline)
    return _conclude(pipeline, status, shown, _ended(run, status, pipeline.policies), now)


def suspended(status: InitPipelineStatus, facts: Facts, now: datetime) -> InitPipelineStatus:
    """The status while no run may start. ``status`` tells of no run, or of one that has ended.

    The hash of the template is left as it was: a change of the template is one for the next run.
    """
    pipeline, pod = facts.pipeline, facts.pod
    token = runs.pending_token(pipeline, status)
    waits = f'; then it answers the request "{token}"' if token else ""
    why = Explanation(
        Reason.SUSPENDED, f"suspended: a run starts once spec.suspend is false{waits}"
    )
    going = stuck = None
    if pod is not None and pod.owner_uid == pipeline.uid:
        stuck = explanations.stuck(pod) if _is_stuck(pod, now) else None
        going = None if stuck else explanations.terminating(pod)
    outlook = Outlook(False, why, False, why, going, stuck, suspended=why)
    said = _conclude(pipeline, status, _nothing_shown(pipeline), outlook, now)
    return said.model_copy(update={"template_hash": status.template_hash, "next_run_time": None})


def as_before(status: InitPipelineStatus, pipeline: Pipeline) -> InitPipelineStatus:
    """Mirror and conditions stay as they are; only the generation that they speak of is new."""
    same = tuple(
        c.model_copy(update={"observed_generation": pipeline.generation}) for c in status.conditions
    )
    return status.model_copy(update={**_identity(pipeline), "conditions": same})


def _shown(pod: Pod, run: Run, steps: Sequence[Step]) -> dict[str, Any]:
    initialized = run.initialized_time is not None
    done = len(steps) if initialized else sum(step.done for step in steps)
    current = None if initialized else pod_steps.current(steps)
    return {
        "pod_uid": pod.uid,
        "node_name": pod.node_name,
        "init_container_statuses": mirror.init_container_statuses(pod),
        "init_progress": f"{done}/{len(steps)}",
        "current_step": current.container.name if current else None,
        "effective_resources": pod.effective_resources,
    }


def _nothing_shown(pipeline: Pipeline) -> dict[str, Any]:
    spec = pipeline.template["spec"]
    containers = init_containers(spec)
    return {
        "pod_uid": None,
        "node_name": None,
        "init_container_statuses": tuple(mirror.placeholder(c) for c in containers),
        "init_progress": f"0/{len(containers)}",
        "current_step": containers[0].name if containers else None,
        "effective_resources": effective_resources(spec),
    }


def _going_on(
    run: Run, status: InitPipelineStatus, pod: Pod, steps: Sequence[Step], now: datetime
) -> Outlook:
    fate = pod_end.fate(pod)
    initialized = run.initialized_time is not None
    ready_why = explanations.why(pod, steps, fate, initialized=initialized)
    stuck = None
    if _is_stuck(pod, now):
        ready_why = stuck = explanations.stuck(pod)
    init_why = _INITIALIZED if initialized else ready_why
    ready = ready_why.reason is Reason.POD_READY
    busy = not stuck and (pod.deleting or not initialized)
    reconciling = _waiting(run, status) or (ready_why if busy else None)
    return Outlook(initialized, init_why, ready, ready_why, reconciling, stuck)


def _ended(run: Run, status: InitPipelineStatus, policies: Policies) -> Outlook:
    """What is to be said of a run that has ended follows from its end: what becomes of its Pod
    after that, deletion or disruption, changes nothing."""
    if run.result is Result.SUCCEEDED:
        return Outlook(True, _INITIALIZED, True, _SUCCEEDED)
    why = _end_of(run)
    initialized = run.initialized_time is not None and run.result is not Result.LOST
    init_why = _INITIALIZED if initialized else why
    waiting = _waiting(run, status)
    if waiting:
        return Outlook(initialized, init_why, False, waiting, reconciling=waiting)
    stalled = _given_up(run, why, status, policies)
    return Outlook(initialized, init_why, False, why, stalled=stalled)


def _end_of(run: Run) -> Explanation:
    """Why it ended, as it was said when it did."""
    reason = Reason(run.reason) if run.reason in set(Reason) else Reason.POD_FAILED
    words = run.exceeded.termination_message if run.exceeded else None
    message = run.message or "the run has ended"
    return Explanation(reason, f"{message}: {words}" if words else message)


def _given_up(
    run: Run, why: Explanation, status: InitPipelineStatus, policies: Policies
) -> Explanation:
    """Why there is no further run, naming what a person can change."""
    if run.result is Result.LOST:
        return Explanation(why.reason, f"{why.message}; rerunPolicy is {policies.rerun_policy}")
    failed = status.failed_runs
    subject = "1 run has" if failed == 1 else f"{failed} runs have"
    return Explanation(
        Reason.BACKOFF_LIMIT_EXCEEDED,
        f"{subject} failed, and backoffLimit is {policies.backoff_limit}: {why.message}",
    )


def _waiting(run: Run, status: InitPipelineStatus) -> Explanation | None:
    if status.next_run_time is None:
        return None
    last = f"; run {run.number} ended: {run.message}" if run.message else ""
    return Explanation(
        Reason.RERUN_BACK_OFF,
        f"the next run starts at {format_time(status.next_run_time)}: restarts, losses or failures "
        f"of the Pod have caused {status.rerun_count + 1} in a row{last}",
    )


def stalled_without_pod_at(run: Run) -> datetime:
    """Returns when a run whose Pod is refused, or whose name is taken, becomes Stalled at the
    latest."""
    return run.start_time + POD_DEADLINE


def _why_no_pod(run: Run, facts: Facts, now: datetime) -> tuple[Explanation, Explanation | None]:
    """Returns why the run has no Pod yet, and the explanation of Stalled. None for that: the
    pipeline is not Stalled."""
    pod, pipeline = facts.pod, facts.pipeline
    late = stalled_without_pod_at(run) <= now
    if facts.refusal is not None:
        why = Explanation(facts.refusal.reason, facts.refusal.message)
        return why, _stalled_by(facts.refusal) if late or _is_lasting(facts.refusal) else None
    if pod is None:
        return Explanation(Reason.POD_PENDING, "the Pod is about to be created"), None
    if pod.deleting and _is_stuck(pod, now):
        stuck = explanations.stuck(pod)
        return stuck, stuck
    if pod.deleting or pod.owner_uid == pipeline.uid:
        whose = "of an earlier run" if pod.owner_uid == pipeline.uid else _FOREIGN
        words = f'the Pod "{pipeline.name}" {whose} is being deleted'
        return Explanation(Reason.POD_TERMINATING, words), None
    words = (
        f'a Pod "{pipeline.name}" exists {_FOREIGN}: delete it, or give the InitPipeline another '
        "name"
    )
    conflict = Explanation(Reason.NAME_CONFLICT, words)
    return conflict, conflict if late else None


def _is_lasting(refusal: Refusal) -> bool:
    """Returns whether waiting is unlikely to help, so that it does not count as progress."""
    return refusal.final or refusal.reason in _LASTING


def _stalled_by(refusal: Refusal) -> Explanation:
    """Returns the refusal with its remedy. If both are too long, the API server's message is
    clipped."""
    if refusal.final:
        return Explanation(refusal.reason, refusal.message)
    helps = f": {_REMEDIES[refusal.reason]}. The operator retries at least every 5 minutes"
    words = clip(refusal.message, MAX_MESSAGE_LENGTH - len(helps))
    return Explanation(refusal.reason, words + helps)


def _is_stuck(pod: Pod, now: datetime) -> bool:
    at = pod_end.stuck_at(pod)
    return at is not None and at <= now


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
