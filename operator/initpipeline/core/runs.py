"""The life of a run: how it begins, follows its Pod, and ends in history.

A run number is not used twice as long as status exists. Without status, the run has the number
that its Pod was created with (``adopted``). A run that ends is added to history once, even if its
end is observed several times.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from initpipeline.api.models import (
    INT32_MAX,
    Cause,
    Exceeded,
    FailedStep,
    InitPipelineStatus,
    Policies,
    Run,
    RunFacts,
    RunRecord,
)
from initpipeline.api.reasons import ConditionType, Reason, RerunPolicy, Result, Trigger
from initpipeline.api.triggers import by_user
from initpipeline.core import (
    explanations,
    lenient,
    pod_restarts,
    pod_steps,
    run_limits,
    template,
    template_annotation,
)
from initpipeline.core.evolve import RunChanges, evolve
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import Pipeline
from initpipeline.core.failures import failed_step, failure_of_current_step
from initpipeline.core.mirror import mirrored
from initpipeline.core.observation import Observation, observe
from initpipeline.core.pod import Pod
from initpipeline.core.pod_end import DISRUPTION_TARGET, Fate, own_end, unexplained
from initpipeline.core.run_limits import RunLimit
from initpipeline.core.text import clip_start

_RESULT_OF_FATE = {
    Fate.SUCCEEDED: Result.SUCCEEDED,
    Fate.FAILED: Result.FAILED,
    Fate.LOST: Result.LOST,
}


@dataclass(frozen=True, slots=True)
class RunState:
    """What status records about runs. Functions do not change it: they return a new RunState."""

    run: Run
    """The current run."""
    history: tuple[RunRecord, ...]
    failed_runs: int
    rerun_count: int
    next_run_time: datetime | None
    last_rerun_token: str | None
    template_hash: str | None
    rate_limited: Trigger | None = None
    """The trigger of the next run, if a user starts it and USER_RUNS delays it until next_run_time.
    None: there is no such run."""

    @classmethod
    def of(cls, status: InitPipelineStatus, run: Run) -> "RunState":
        """Returns the state that status records, with this run."""
        return cls(
            run=run,
            history=status.history,
            failed_runs=status.failed_runs,
            rerun_count=status.rerun_count,
            next_run_time=status.next_run_time,
            last_rerun_token=status.last_rerun_token,
            template_hash=status.template_hash,
        )

    def with_counts_reset(self) -> "RunState":
        """Returns the state without earlier failures and reruns: the next rerun does not wait."""
        return replace(self, rerun_count=0, failed_runs=0)


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """The current run, updated from its Pod."""

    state: RunState
    pod: Pod | None
    """The run's Pod. None: it does not exist yet, or does not exist any more."""
    observation: Observation | None
    """What the Pod reports for this run. None: there is no Pod, or the kubelet's first report on
    the new Pod is awaited, until report_deadline."""
    limits: tuple[RunLimit, ...] = ()
    """The limits that apply to the run, earliest first."""
    report_deadline: datetime | None = None
    """The end of the wait for the kubelet's first report on the Pod. None: there is no wait."""


def pending_token(pipeline: Pipeline, status: InitPipelineStatus | RunState) -> str | None:
    """Returns the user's rerun token if no run has started for it yet. None: there is no such
    token."""
    token = pipeline.rerun_token
    answered = {status.last_rerun_token, *(record.token for record in status.history)}
    return None if token in answered or (status.run and token == status.run.token) else token


def first(pipeline: Pipeline, trigger: Trigger, now: datetime) -> RunState:
    """Begins the first run of a pipeline. The run records the pending token, if there is one."""
    status = pipeline.status
    token = pending_token(pipeline, status)
    run = Run(number=1, trigger=trigger, token=token, start_time=now)
    return _begun(RunState.of(status, run), pipeline)


def adopted(pipeline: Pipeline, trigger: Trigger, pod: Pod, number: int, now: datetime) -> RunState:
    """Returns the state whose run is that of an existing Pod, if status records no run. The run has
    the number, start, template and rerun token with which the Pod was created.

    So a template that has changed since, and a token that was set since, start another run. Without
    evidence no run starts: if the Pod does not show its template, the template counts as unchanged.
    If the Pod does not show its token, the present token starts no run.
    """
    status = pipeline.status
    unknown = pod.rerun_token is None
    token = pending_token(pipeline, status) if unknown else pod.rerun_token or None
    started = min(pod.created_at or now, now)
    run = Run(number=number, trigger=trigger, token=token, start_time=started)
    state = _begun(RunState.of(status, run), pipeline)
    return replace(state, template_hash=_template_hash(pod) or pipeline.template_hash)


def _template_hash(pod: Pod) -> str | None:
    """Returns the hash of the template that the Pod was created from, by the present rules. None:
    the Pod does not show it."""
    if pod.template_hash is not None:
        return pod.template_hash
    used = template_annotation.unpacked(pod.template_text)
    return None if used is None else template.digest(used)


def begin(
    pipeline: Pipeline,
    state: RunState,
    trigger: Trigger,
    now: datetime,
    cause: Cause | None = None,
) -> RunState:
    """Begins the next run, whose Pod is still to be created. The current one must have ended.

    The new run records the pending token, if there is one.
    """
    run = Run(
        number=state.run.number + 1,
        trigger=trigger,
        token=pending_token(pipeline, state),
        cause=cause,
        start_time=now,
        last_in_place_time=None if by_user(trigger) else _last_in_place(state.run),
    )
    return _begun(replace(state, run=run), pipeline)


def _begun(state: RunState, pipeline: Pipeline) -> RunState:
    return replace(
        state,
        last_rerun_token=state.run.token or state.last_rerun_token,
        template_hash=pipeline.template_hash,
        next_run_time=None,
        rate_limited=None,
    )


def replace_run(
    pipeline: Pipeline,
    followed: FollowedRun,
    trigger: Trigger,
    cause: Cause | None,
    now: datetime,
) -> RunState:
    """Ends the current run, if it has not ended, and begins the next one."""
    state = superseded(followed, pipeline.status, now)
    if by_user(trigger):
        state = state.with_counts_reset()
    else:
        state = replace(state, rerun_count=min(state.rerun_count + 1, INT32_MAX))
    return begin(pipeline, state, trigger, now, cause)


def end(
    state: RunState,
    result: Result,
    now: datetime,
    *,
    why: Explanation | None = None,
    failed: FailedStep | None = None,
    exceeded: Exceeded | None = None,
) -> RunState:
    """Ends the current run and adds it to history. If the run has ended already, returns the state
    unchanged."""
    if state.run.completion_time is not None:
        return state
    run = evolve(
        state.run,
        completion_time=now,
        result=result,
        reason=why.reason.value if why else None,
        message=why.message if why else None,
        exceeded=exceeded,
    )
    known = {field.alias: getattr(run, name) for name, field in RunFacts.model_fields.items()}
    # Fields of the run that only a newer version knows are copied to its entry in history.
    record = RunRecord.model_validate({**(run.model_extra or {}), **known, "failedStep": failed})
    # If another client wrote the status, history may already have an entry of this number.
    older = tuple(entry for entry in state.history if entry.number != run.number)
    failed_runs = min(state.failed_runs + (result is Result.FAILED), INT32_MAX)
    return replace(state, run=run, history=(record, *older), failed_runs=failed_runs)


def follow(state: RunState, pipeline: Pipeline, pod: Pod, now: datetime) -> FollowedRun:
    """Updates the current run from its Pod. Recognizes a kubelet-initiated run, progress of steps,
    initialization, the termination of the Pod, and an exceeded limit.

    If the kubelet has begun another run in the Pod, the steps are derived for that run.
    """
    ended = state.run.completion_time is not None
    if not ended:
        state = _with_kubelet_run(state, pipeline.status, pod, now)
    observation = observe(pod, state.run)
    if not ended:
        state = replace(state, run=_progressed(state.run, pipeline.policies, observation, now))
    limits = run_limits.applicable(pipeline.policies, state.run, observation)
    if not ended and observation.fate is not Fate.ALIVE:
        state = _end_with_pod(state, observation, now)
    elif not ended and limits and limits[0].at <= now:
        state = _end_by_limit(state, limits[0], observation, now)
    return FollowedRun(state, pod, observation, limits)


def _end_with_pod(state: RunState, observation: Observation, now: datetime) -> RunState:
    run, pod, fate = state.run, observation.pod, observation.fate
    initialized = run.initialized_time is not None
    why = explanations.why(observation, initialized=initialized)
    # If the Pod exceeded a limit after initialization, the kubelet terminated its sidecars. They
    # did not fail.
    terminated = fate is Fate.LOST or (initialized and own_end(pod) is not None)
    failed = failed_step(pod.init_container_statuses, pod_lost=terminated)
    if failed is None and not initialized and own_end(pod) is not None:
        # The kubelet may report the phase Failed before it has terminated the running step.
        failed = failure_of_current_step(observation, why.reason)
    if unexplained(pod) and run.trigger is Trigger.POD_LOST:
        return end(state, Result.FAILED, now, why=explanations.lost_again(pod), failed=failed)
    recorded = None if fate is Fate.SUCCEEDED else why
    return end(state, _RESULT_OF_FATE[fate], now, why=recorded, failed=failed)


def _end_by_limit(
    state: RunState, limit: RunLimit, observation: Observation, now: datetime
) -> RunState:
    failed = failure_of_current_step(observation, limit.why.reason)
    return end(state, Result.FAILED, now, why=limit.why, failed=failed, exceeded=limit.exceeded)


def lost(
    state: RunState, pipeline: Pipeline, last: Pod | None, now: datetime, *, released: bool
) -> RunState:
    """Ends the current run, whose Pod is gone or ``released``: the Pod exists, and the pipeline is
    not its controller any more.

    ``last`` is the last known state of the Pod, or None. If it has a final phase and no
    deletionTimestamp, that phase decides the run's result. Otherwise the run is Lost. A reason
    recorded while the Pod was terminating is kept.
    """
    if last is not None:
        state = follow(state, pipeline, last, now).state
    message = state.run.message
    cause = explanations.RELEASED if released else explanations.lost(None)
    why = Explanation(Reason.POD_LOST, message) if message else cause
    seen = last.init_container_statuses if last else mirrored(pipeline.status)
    return end(state, Result.LOST, now, why=why, failed=failed_step(seen, pod_lost=True))


def with_termination_message(state: RunState, pod: Pod) -> RunState:
    """Adds the termination message of the step at which the run exceeded a limit.

    Often this message is the only hint at what the step waited for. The kubelet reports it after
    the run has ended, when the Pod terminates. It is added to the run and to the newest entry of
    history.
    """
    if (exceeded := _with_message(pod, state.run)) is not None:
        state = replace(state, run=evolve(state.run, exceeded=exceeded))
    if state.history and (exceeded := _with_message(pod, state.history[0])) is not None:
        newest = evolve(state.history[0], exceeded=exceeded)
        state = replace(state, history=(newest, *state.history[1:]))
    return state


def _with_message(pod: Pod, run: RunFacts) -> Exceeded | None:
    """Returns the exceeded limit with the termination message of its step. None: there is no
    message to add."""
    exceeded = run.exceeded
    if exceeded is None or exceeded.termination_message or run.pod_uid != pod.uid:
        return None
    ends = (s.terminated for s in pod.init_container_statuses if s.name == exceeded.step)
    message = next((clip_start(end.message) for end in ends if end and end.message), "")
    if not message or message in (run.message or ""):
        return None
    return evolve(exceeded, termination_message=message)


def without_unfit_pod(state: RunState, pod: Pod) -> RunState:
    """Detaches the Pod from the current run, so that the run gets another Pod."""
    if state.run.pod_uid != pod.uid or state.run.completion_time is not None:
        return state
    return replace(state, run=evolve(state.run, pod_uid=None))


def superseded(followed: FollowedRun, written: InitPipelineStatus, now: datetime) -> RunState:
    """Ends the current run, unless it has ended. Its result is Initialized if it was initialized,
    else Superseded. Called when another run starts or spec.suspend is true. ``written`` is the
    status as last written."""
    state, observation = followed.state, followed.observation
    if observation is None and followed.pod is not None:
        observation = observe(followed.pod, state.run)
    if observation is not None:
        failed = failed_step(observation.pod.init_container_statuses)
    else:
        failed = failed_step(mirrored(written))
    if state.run.initialized_time is not None:
        return end(state, Result.INITIALIZED, now, failed=failed)
    why = _not_initialized(observation, written)
    return end(state, Result.SUPERSEDED, now, why=why, failed=failed)


def _not_initialized(
    observation: Observation | None, written: InitPipelineStatus
) -> Explanation | None:
    """Returns why the run was not initialized. The source is its Pod, or without a Pod the last
    reported condition. None: the condition is absent."""
    if observation is not None:
        return explanations.initialization(observation)
    reported = written.condition(ConditionType.INITIALIZED)
    if written.run is None or reported is None:  # Without a run, the condition describes none.
        return None
    return Explanation(Reason(lenient.identifier(reported.reason)), reported.message)


def _with_kubelet_run(
    state: RunState, written: InitPipelineStatus, pod: Pod, now: datetime
) -> RunState:
    """Returns the state with the kubelet-initiated run as the current run, if there is one. With or
    without such a run, restarts because a sandbox or node was lost are added to the baselines."""
    trigger = pod_restarts.kubelet_rerun(state.run, pod)
    if trigger is not None:
        state = _kubelet_run(state, trigger, written, pod, now)
    baselines = pod_restarts.raised_baselines(state.run, pod)
    if baselines == state.run.init_restart_baselines:
        return state
    return replace(state, run=evolve(state.run, init_restart_baselines=baselines))


def _kubelet_run(
    state: RunState, trigger: Trigger, written: InitPipelineStatus, pod: Pod, now: datetime
) -> RunState:
    """Ends the current run and begins the one that the kubelet has started in the same Pod.

    If the current run was never observed as initialized, the API does not report how it ended.
    next_run_time is kept: a kubelet-initiated run neither shortens nor lengthens the delay of the
    operator's next run.
    """
    run, before = state.run, mirrored(written)
    result = Result.INITIALIZED if run.initialized_time else Result.UNKNOWN
    state = end(state, result, now, failed=failed_step(before))
    next_run = Run(
        number=run.number + 1,
        trigger=trigger,
        cause=run.in_place_cause if trigger is Trigger.RESTARTED_IN_PLACE else None,
        start_time=now,
        stale_container_ids=pod_steps.stale_container_ids(run, before, pod),
        init_restart_baselines=pod_restarts.init_restart_baselines(run, before, pod),
        last_in_place_time=_last_in_place(run),
    )
    return replace(state, run=next_run)


def _last_in_place(run: Run) -> datetime | None:
    """Returns the start of the latest in-place re-run, including this run. None: no in-place re-run
    has started since a user last started a run."""
    return run.start_time if run.trigger is Trigger.RESTARTED_IN_PLACE else run.last_in_place_time


def _progressed(run: Run, policies: Policies, observation: Observation, now: datetime) -> Run:
    """Returns the run, updated with what its Pod reports."""
    pod, steps = observation.pod, observation.steps
    initialized = run.initialized_time
    if initialized is None and observation.initialized:
        initialized = pod_steps.last_finished(steps) or now
    counts_restarts = policies.rerun_policy is RerunPolicy.ON_RESTART
    changes: RunChanges = {
        "pod_uid": pod.uid,
        "initialized_time": initialized,
        "completed_init_containers": pod_steps.completed(run, steps),
        "in_place_cause": pod_restarts.in_place_cause(pod),
        "running_step": None if initialized else run_limits.running_step(run, observation, now),
        "restart_baselines": pod_restarts.restart_baselines(run, pod, initialized)
        if counts_restarts and initialized
        else (),
    }
    if pod.deleting and pod.has_condition(DISRUPTION_TARGET):
        # When the Pod is deleted, the report of what disrupted it is lost. So it is recorded now.
        changes["reason"] = Reason.POD_LOST.value
        changes["message"] = explanations.lost(pod).message
    return _gated(evolve(run, **changes), pod, now)


def _gated(run: Run, pod: Pod, now: datetime) -> Run:
    """Returns the run, with the time at which its Pod was first observed without scheduling gates,
    if it had any. The API server does not record when the last gate was removed."""
    if pod.scheduling_gated:
        return evolve(run, scheduling_gated=True, ungated_time=None)
    if run.scheduling_gated and run.ungated_time is None:
        return evolve(run, ungated_time=now)
    return run
