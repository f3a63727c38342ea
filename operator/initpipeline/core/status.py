"""Builds the reported status: the mirror of the Pod's init containers, and the conditions."""

from datetime import datetime, timedelta
from typing import Any, Final, TypedDict

from initpipeline.api.models import (
    EffectiveResources,
    InitPipelineStatus,
    Policies,
    Run,
    format_time,
)
from initpipeline.api.names import MAX_MESSAGE_LENGTH
from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from initpipeline.core import conditions, explanations, mirror, pod_end, runs, triggers
from initpipeline.core.conditions import ConditionInputs
from initpipeline.core.containers import PodSpec
from initpipeline.core.evolve import evolve
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import Facts, Pipeline, Refusal
from initpipeline.core.observation import Observation
from initpipeline.core.pod import Pod
from initpipeline.core.pod_ownership import (
    is_of_earlier_pipeline,
    is_owned_by,
    may_be_deleted,
)
from initpipeline.core.runs import RunState
from initpipeline.core.text import clip

_INITIALIZED = Explanation(Reason.INITIALIZED, "all init containers have completed")

POD_DEADLINE: Final = timedelta(minutes=10)
"""How long a run may be without its Pod, because the API server refuses it or because its name is
taken, before the pipeline is Stalled. Ten minutes, like the default of a Deployment's
progressDeadlineSeconds."""

_LASTING = frozenset({Reason.INVALID_TEMPLATE, Reason.QUOTA_REQUIRES_RESOURCES})
"""Refusals of the API server that seldom end before a user makes a change."""
_REMEDIES = {
    Reason.INVALID_TEMPLATE: "change the template, or the LimitRange, webhook or policy that "
    "changes the Pod",
    Reason.QUOTA_REQUIRES_RESOURCES: "add the requests or limits to the template, or create a "
    "LimitRange with defaults",
    Reason.QUOTA_EXCEEDED: "free or raise the quota",
    Reason.POD_REQUEST_FAILED: "check the API server, and the admission webhooks for Pods",
    Reason.POD_FORBIDDEN: "change the template, or create or allow what is missing",
}

_REMEDY_OF_DELETION = (
    "check the operator's permissions, and the webhooks and policies that refuse the deletion. "
    "The operator retries at least every 5 minutes"
)


class _Mirror(TypedDict, total=False):
    """The fields of status that report on the Pod."""

    pod_uid: str | None
    node_name: str | None
    init_container_statuses: tuple[dict[str, Any], ...]
    init_progress: str | None
    current_step: str | None
    effective_resources: EffectiveResources | None


def with_pod(
    pipeline: Pipeline, state: RunState, observation: Observation, now: datetime
) -> InitPipelineStatus:
    """Returns the status while the current run has a Pod."""
    if state.run.completion_time is not None:
        inputs = _conditions_of_ended_run(state, pipeline.policies)
    else:
        inputs = _conditions_of_active_run(state, observation, now)
    return _reported(pipeline, state, _mirror_of(observation, state.run), inputs, now)


def without_pod(facts: Facts, state: RunState, now: datetime) -> InitPipelineStatus:
    """Returns the status while the current run has no Pod yet, or no Pod any more. If the run has
    ended and no other follows, the last mirror of its Pod is kept."""
    pipeline = facts.pipeline
    if state.run.completion_time is None:
        why, stalled = _why_no_pod(state.run, facts, now)
        if facts.pod is None and (delayed := _delayed(state)):
            why, stalled = delayed, None
        inputs = ConditionInputs(False, why, False, why, None if stalled else why, stalled)
        return _reported(pipeline, state, _placeholder_fields(pipeline), inputs, now)
    kept = state.next_run_time is None
    fields: _Mirror = {} if kept else _placeholder_fields(pipeline)
    inputs = _conditions_of_ended_run(state, pipeline.policies)
    return _reported(pipeline, state, fields, inputs, now)


def suspended(facts: Facts, state: RunState | None, now: datetime) -> InitPipelineStatus:
    """Returns the status while spec.suspend keeps runs from starting, and after that until the
    next run may start (triggers.USER_RUNS).

    ``state`` has a run that has ended. None: no run has started yet. status.templateHash remains
    the hash of the last run. So after the suspension the operator still recognizes that the
    template changed.
    """
    pipeline, pod = facts.pipeline, facts.pod
    before = pipeline.status
    token = runs.pending_token(pipeline, state or before)
    waits = f'; the rerun token "{token}" starts the same run' if token else ""
    delayed = _delayed(state) if state else None
    why = delayed or Explanation(
        Reason.SUSPENDED, f"suspended: a run starts once spec.suspend is false{waits}"
    )
    terminating = stalled = None
    if pod is not None and may_be_deleted(pod, pipeline):
        terminating = explanations.terminating(pod)
        if pod.deleting:
            stalled = explanations.stuck(pod) if pod_end.is_stuck(pod, now) else None
        else:
            suspension = before.condition(ConditionType.SUSPENDED)
            since = suspension.last_transition_time if suspension else now
            failed, stalled = _failed_deletion(facts, "the Pod", since, now)
            terminating = failed or terminating
    reconciling = None if stalled else terminating or delayed
    inputs = ConditionInputs(False, why, False, why, reconciling, stalled, suspended=why)
    status = _with_state(before, state) if state else before
    generation = _observed_generation(pipeline, state) if state else pipeline.generation
    return evolve(
        status,
        **_placeholder_fields(pipeline),
        pod_name=pipeline.name,
        observed_generation=generation,
        next_run_time=state.next_run_time if state and delayed else None,
        conditions=conditions.conditions(before, inputs, generation, now),
    )


def not_deleted(
    facts: Facts, status: InitPipelineStatus, what: str, since: datetime, now: datetime
) -> InitPipelineStatus:
    """Returns the status of a run that has ended, with the failure to delete its Pod or the
    InitPipeline. ``since`` is when the deletion was due. Without a failure, returns ``status``."""
    failed, late = _failed_deletion(facts, what, since, now)
    stalled = status.condition(ConditionType.STALLED)
    type_, why = (ConditionType.STALLED, late) if late else (ConditionType.RECONCILING, failed)
    if stalled is not None and failed is not None:
        message = f"{clip(failed.message, MAX_MESSAGE_LENGTH // 2)}. {stalled.message}"
        type_, why = ConditionType.STALLED, Explanation(Reason(stalled.reason), message)
    if why is None:
        return status
    pipeline = facts.pipeline
    return conditions.with_condition(status, pipeline.status, type_, why, pipeline.generation, now)


def _failed_deletion(
    facts: Facts, what: str, since: datetime, now: datetime
) -> tuple[Explanation | None, Explanation | None]:
    """Returns why the deletion fails, and the explanation of Stalled. If facts.undeleted is None,
    each is as status reports it, or None."""
    if facts.undeleted is None:
        before = facts.pipeline.status
        ready, reconciling, stalled = (
            _reported_deletion(before, type_)
            for type_ in (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
        )
        return ready or reconciling, stalled
    message = f"{what} is not deleted, because the request failed: {facts.undeleted}"
    why = Explanation(Reason.DELETION_FAILED, message)
    if now < since + POD_DEADLINE:
        return why, None
    return why, Explanation(why.reason, _with_remedy(why.message, _REMEDY_OF_DELETION))


def _reported_deletion(status: InitPipelineStatus, type_: ConditionType) -> Explanation | None:
    condition = status.condition(type_)
    if condition is None or condition.reason != Reason.DELETION_FAILED:
        return None
    return Explanation(Reason.DELETION_FAILED, condition.message)


def unchanged(pipeline: Pipeline, state: RunState) -> InitPipelineStatus:
    """Returns the status with the given run and the present observedGeneration. The mirror and the
    conditions stay as last written."""
    before = pipeline.status
    return evolve(
        _with_state(before, state),
        pod_name=pipeline.name,
        observed_generation=_observed_generation(pipeline, state),
        conditions=conditions.of_generation(before, _observed_generation(pipeline, state)),
    )


def _reported(
    pipeline: Pipeline,
    state: RunState,
    fields: _Mirror,
    inputs: ConditionInputs,
    now: datetime,
) -> InitPipelineStatus:
    before, generation = pipeline.status, _observed_generation(pipeline, state)
    return evolve(
        _with_state(before, state),
        **fields,
        pod_name=pipeline.name,
        observed_generation=generation,
        conditions=conditions.conditions(before, inputs, generation, now),
    )


def _observed_generation(pipeline: Pipeline, state: RunState) -> int:
    """Returns the generation that status reflects. While the run for a changed spec waits, that is
    the generation before the change."""
    if state.rate_limited in {None, Trigger.REQUESTED}:
        return pipeline.generation
    return max(pipeline.status.observed_generation or 0, 0)


def _with_state(status: InitPipelineStatus, state: RunState) -> InitPipelineStatus:
    return evolve(
        status,
        run=state.run,
        history=state.history,
        failed_runs=state.failed_runs,
        rerun_count=state.rerun_count,
        next_run_time=state.next_run_time,
        last_rerun_token=state.last_rerun_token,
        template_hash=state.template_hash,
    )


def _mirror_of(observation: Observation, run: Run) -> _Mirror:
    pod, steps = observation.pod, observation.steps
    initialized = run.initialized_time is not None
    done = len(steps) if initialized else sum(step.done for step in steps)
    current = None if initialized else observation.current_step
    return {
        "pod_uid": pod.uid,
        "node_name": pod.node_name,
        "init_container_statuses": mirror.init_container_statuses(pod),
        "init_progress": f"{done}/{len(steps)}",
        "current_step": current.container.name if current else None,
        "effective_resources": pod.effective_resources,
    }


def _placeholder_fields(pipeline: Pipeline) -> _Mirror:
    """Returns the fields that report on the Pod while the run has none, computed from the
    template."""
    spec = PodSpec.from_api(pipeline.template["spec"])
    containers = spec.init_containers
    return {
        "pod_uid": None,
        "node_name": None,
        "init_container_statuses": tuple(mirror.placeholder(c) for c in containers),
        "init_progress": f"0/{len(containers)}",
        "current_step": containers[0].name if containers else None,
        "effective_resources": spec.effective_resources,
    }


def _conditions_of_active_run(
    state: RunState, observation: Observation, now: datetime
) -> ConditionInputs:
    pod = observation.pod
    initialized = state.run.initialized_time is not None
    ready_why = explanations.why(observation, initialized=initialized)
    stuck = None
    if pod_end.is_stuck(pod, now):
        ready_why = stuck = explanations.stuck(pod)
    init_why = _INITIALIZED if initialized else ready_why
    ready = ready_why.reason is Reason.POD_READY
    busy = not stuck and (pod.deleting or not initialized)
    reconciling = _backing_off(state) or (ready_why if busy else None)
    return ConditionInputs(initialized, init_why, ready, ready_why, reconciling, stuck)


def _conditions_of_ended_run(state: RunState, policies: Policies) -> ConditionInputs:
    """Returns the conditions of a run that has ended. They follow from how it ended: the deletion
    or disruption of its Pod afterwards does not change them."""
    run = state.run
    if run.result is Result.SUCCEEDED:
        return ConditionInputs(
            True, _INITIALIZED, True, explanations.SUCCEEDED, _backing_off(state)
        )
    why = _end_of(run)
    initialized = run.initialized_time is not None and run.result is not Result.LOST
    init_why = _INITIALIZED if initialized else why
    backing_off = _backing_off(state)
    if backing_off:
        return ConditionInputs(initialized, init_why, False, backing_off, reconciling=backing_off)
    stalled = _given_up(state, why, policies)
    return ConditionInputs(initialized, init_why, False, why, stalled=stalled)


def _end_of(run: Run) -> Explanation:
    """Returns why the run ended, as recorded when it did."""
    reason = Reason(run.reason) if run.reason else Reason.POD_FAILED
    left = run.exceeded.termination_message if run.exceeded else None
    message = run.message or "the run has ended"
    return Explanation(reason, f"{message}: {left}" if left else message)


def _given_up(state: RunState, why: Explanation, policies: Policies) -> Explanation:
    """Returns why no further run follows, and what a user can do to start one."""
    if state.run.result is Result.LOST:
        cause = f"rerunPolicy is {policies.rerun_policy}, and {why.message}"
        remedy = "request a run, or set another rerunPolicy"
        return Explanation(why.reason, _with_remedy(cause, remedy))
    failed, exceeded = state.failed_runs, state.run.exceeded
    subject = "1 run has" if failed == 1 else f"{failed} runs have"
    cause = f"{subject} failed, and backoffLimit is {policies.backoff_limit}: {why.message}"
    limits = f"backoffLimit to {failed}"
    if exceeded is not None:
        limits = f"{exceeded.limit} above {exceeded.value}, or {limits}"
    remedy = f"change the template, request a run, or raise {limits}"
    return Explanation(Reason.BACKOFF_LIMIT_EXCEEDED, _with_remedy(cause, remedy))


def _with_remedy(cause: str, remedy: str) -> str:
    """Returns both in one message. If they are too long, the cause is clipped."""
    end = f"To continue: {remedy}"
    clipped = clip(cause, MAX_MESSAGE_LENGTH - len(end.encode()) - len(". "))
    return f"{clipped}{' ' if clipped.endswith('.') else '. '}{end}"


def _delayed(state: RunState) -> Explanation | None:
    """Returns why a run that a user starts waits. None: no such run waits."""
    if state.rate_limited is None or state.next_run_time is None:
        return None
    interval = triggers.USER_RUNS.interval
    # The burst is left out, because runHistoryLimit can make it smaller.
    return Explanation(
        Reason.RATE_LIMITED,
        f"the next run ({state.rate_limited}) is delayed until {format_time(state.next_run_time)}: "
        f"after a burst, users can start one run every {interval.total_seconds():.0f} s",
    )


def _backing_off(state: RunState) -> Explanation | None:
    """Returns why the next run waits. None: no run is due, or the next one does not wait."""
    run = state.run
    if state.next_run_time is None:
        return None
    if (delayed := _delayed(state)) is not None:
        return delayed
    runs = "run" if state.rerun_count == 1 else f"{state.rerun_count} runs"
    last = f"; run {run.number} ended: {run.message}" if run.message else ""
    return Explanation(
        Reason.RERUN_BACK_OFF,
        f"the next run is delayed until {format_time(state.next_run_time)}: restarts, lost Pods or "
        f"failures caused the last {runs}{last}",
    )


def stalled_without_pod_at(run: Run) -> datetime:
    """Returns when the pipeline becomes Stalled if the run still has no Pod. A lasting refusal
    (``_is_lasting``) makes it Stalled earlier."""
    return run.start_time + POD_DEADLINE


def _why_no_pod(run: Run, facts: Facts, now: datetime) -> tuple[Explanation, Explanation | None]:
    """Returns why the run has no Pod yet, and the explanation of Stalled. The second is None if the
    pipeline is not Stalled."""
    pod, pipeline = facts.pod, facts.pipeline
    late = stalled_without_pod_at(run) <= now
    if facts.refusal is not None:
        why = Explanation(facts.refusal.reason, facts.refusal.message)
        return why, _stalled_by(facts.refusal) if late or _is_lasting(facts.refusal) else None
    if pod is None:
        return Explanation(Reason.POD_PENDING, "the Pod is about to be created"), None
    if pod.deleting and pod_end.is_stuck(pod, now):
        stuck = explanations.stuck(pod)
        return stuck, stuck
    if pod.deleting or may_be_deleted(pod, pipeline):
        which = f'the Pod "{pipeline.name}" {_whose(pod, pipeline)}'
        if not pod.deleting:
            failed, stalled = _failed_deletion(facts, which, run.start_time, now)
            if failed is not None:
                return failed, stalled
        return Explanation(Reason.POD_TERMINATING, f"{which} is being deleted"), None
    message = (
        f'Pod "{pipeline.name}" exists and does not belong to this InitPipeline: delete that Pod, '
        "or give the InitPipeline another name"
    )
    conflict = Explanation(Reason.NAME_CONFLICT, message)
    return conflict, conflict if late else None


def _whose(pod: Pod, pipeline: Pipeline) -> str:
    if is_owned_by(pod, pipeline):
        return "of an earlier run"
    if is_of_earlier_pipeline(pod, pipeline):
        return "of an earlier InitPipeline of this name"
    return "that does not belong to this InitPipeline"


def _is_lasting(refusal: Refusal) -> bool:
    """Returns whether the refusal seldom ends before a user makes a change."""
    return refusal.final or refusal.reason in _LASTING


def _stalled_by(refusal: Refusal) -> Explanation:
    """Returns the refusal with its remedy."""
    if refusal.final:
        return Explanation(refusal.reason, refusal.message)
    remedy = f"{_REMEDIES[refusal.reason]}. The operator retries at least every 5 minutes"
    return Explanation(refusal.reason, _with_remedy(refusal.message, remedy))
