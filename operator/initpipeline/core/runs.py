"""The life of a run: how one begins, follows its Pod, and ends in history.

A number is never used twice, and a run that has ended has exactly one entry in history, however
often its end is seen.
"""

from datetime import datetime
from typing import Any, TypeVar

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
from initpipeline.core import explanations, pod_restarts, pod_steps, run_limits
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import ContainerStatus, Pipeline, Pod
from initpipeline.core.failures import failed_step
from initpipeline.core.pod_end import DISRUPTION_TARGET, Fate, own_end, unexplained
from initpipeline.core.pod_end import fate as fate_of
from initpipeline.core.pod_steps import Step
from initpipeline.core.run_limits import Limit
from initpipeline.core.text import clip

_RESULT_OF_FATE = {
    Fate.SUCCEEDED: Result.SUCCEEDED,
    Fate.FAILED: Result.FAILED,
    Fate.LOST: Result.LOST,
}


_ASKED_FOR = frozenset({Trigger.SPEC_CHANGED, Trigger.REQUESTED, Trigger.RESUMED})
"""By a person, whose word makes good what has been."""


def pending_token(pipeline: Pipeline, status: InitPipelineStatus) -> str | None:
    """The rerun token that no run has answered yet, if there is one."""
    token = pipeline.rerun_token
    answered = {status.last_rerun_token, *(record.token for record in status.history)}
    return None if token in answered or (status.run and token == status.run.token) else token


def begin(
    pipeline: Pipeline,
    status: InitPipelineStatus,
    trigger: Trigger,
    number: int,
    now: datetime,
    cause: Cause | None = None,
) -> InitPipelineStatus:
    """A run whose Pod is still to be created. It answers the token that is pending, if any."""
    token = pending_token(pipeline, status)
    return status.model_copy(
        update={
            "run": Run(
                number=number,
                trigger=trigger,
                token=token,
                cause=cause,
                start_time=now,
                last_in_place_time=None if trigger in _ASKED_FOR else _last_in_place(status.run),
            ),
            "last_rerun_token": token or status.last_rerun_token,
            "template_hash": pipeline.template_hash,
            "next_run_time": None,
        }
    )


def end(
    status: InitPipelineStatus,
    result: Result,
    now: datetime,
    *,
    why: Explanation | None = None,
    failed: FailedStep | None = None,
    exceeded: Exceeded | None = None,
) -> InitPipelineStatus:
    """The current run has ended, and history says how. A run ends once: later words are ignored."""
    run = status.run
    if run is None or run.completion_time is not None:
        return status
    run = run.model_copy(
        update={
            "completion_time": now,
            "result": result,
            "reason": why.reason.value if why else None,
            "message": why.message if why else None,
            "exceeded": exceeded,
        }
    )
    record = RunRecord(
        **{name: getattr(run, name) for name in RunFacts.model_fields}, failed_step=failed
    )
    return status.model_copy(
        update={
            "run": run,
            # Of a status that somebody else wrote, history may have the number already.
            "history": (record, *(old for old in status.history if old.number != run.number)),
            "failed_runs": min(status.failed_runs + (result is Result.FAILED), INT32_MAX),
        }
    )


def follow(
    status: InitPipelineStatus, policies: Policies, pod: Pod, now: datetime
) -> InitPipelineStatus:
    """The current run, brought up to what its Pod shows: another run of the kubelet's, progress,
    initialization, the Pod's end or that of the run's patience."""
    run = status.run
    assert run is not None, "a Pod belongs to a run"
    if run.completion_time is not None:
        return status
    trigger = pod_restarts.kubelet_rerun(run, pod)
    if trigger is not None:
        status = _next_pass(status, trigger, pod, now)
    status, steps = _progress(status, policies, pod, now)
    fate = fate_of(pod)
    if fate is not Fate.ALIVE:
        return _end_with_pod(status, pod, steps, fate, now)
    assert status.run is not None
    first = next(iter(run_limits.limits(policies, status.run, pod, steps)), None)
    return status if first is None or first.at > now else _end_by(first, status, steps, now)


def _end_with_pod(
    status: InitPipelineStatus, pod: Pod, steps: tuple[Step, ...], fate: Fate, now: datetime
) -> InitPipelineStatus:
    assert status.run is not None
    initialized = status.run.initialized_time is not None
    why = explanations.why(pod, steps, fate, initialized=initialized)
    # The kubelet has ended the sidecars of a Pod that exceeded a limit after its steps were done.
    ended = fate is Fate.LOST or (initialized and own_end(pod) is not None)
    failed = failed_step(pod.init_container_statuses, pod_lost=ended)
    if unexplained(pod) and status.run.trigger is Trigger.POD_LOST:
        return end(status, Result.FAILED, now, why=explanations.lost_again(pod), failed=failed)
    told = None if fate is Fate.SUCCEEDED else why
    return end(status, _RESULT_OF_FATE[fate], now, why=told, failed=failed)


def _end_by(
    limit: Limit, status: InitPipelineStatus, steps: tuple[Step, ...], now: datetime
) -> InitPipelineStatus:
    failed = run_limits.failed_step(limit, steps)
    return end(status, Result.FAILED, now, why=limit.why, failed=failed, exceeded=limit.exceeded)


def lost(
    status: InitPipelineStatus, policies: Policies, last: Pod | None, now: datetime
) -> InitPipelineStatus:
    """The Pod of the current run is gone. ``last`` is what it was when it went, if that was told:
    it may have come to its own end before. What was told of its end while it could still be seen
    is kept as the reason."""
    if last is not None:
        status = follow(status, policies, last, now)
    run = status.run
    told = run.message if run else None
    why = Explanation(Reason.POD_LOST, told) if told else explanations.lost(None)
    seen = last.init_container_statuses if last else _last_seen(status)
    failed = failed_step(seen, pod_lost=True)
    return end(status, Result.LOST, now, why=why, failed=failed)


def _last_seen(status: InitPipelineStatus) -> tuple[ContainerStatus, ...]:
    """The init containers as they were last mirrored: what is left when the Pod is gone."""
    return tuple(ContainerStatus(raw) for raw in status.init_container_statuses)


def with_last_words(status: InitPipelineStatus, pod: Pod) -> InitPipelineStatus:
    """What a step left when it was ended for a limit of its run. Often the only hint at what it
    hung on, and it comes after the run's end, when the Pod is on its way out."""
    run, newest, older = status.run, status.history[:1], status.history[1:]
    told = tuple(_with_words_of(pod, record) for record in newest)
    update = {"run": run and _with_words_of(pod, run), "history": told + older}
    return status.model_copy(update=update)


R = TypeVar("R", bound=RunFacts)


def _with_words_of(pod: Pod, run: R) -> R:
    exceeded = run.exceeded
    if exceeded is None or exceeded.termination_message or run.pod_uid != pod.uid:
        return run
    ends = (s.terminated for s in pod.init_container_statuses if s.name == exceeded.step)
    words = next((clip(end.message) for end in ends if end and end.message), "")
    if not words or words in (run.message or ""):
        return run
    told = exceeded.model_copy(update={"termination_message": words})
    return run.model_copy(update={"exceeded": told})


def superseded(status: InitPipelineStatus, pod: Pod | None, now: datetime) -> InitPipelineStatus:
    """The current run ends because another takes its place. ``pod`` is its Pod, if it is there."""
    run = status.run
    if run is None:
        return status
    seen = pod.init_container_statuses if pod else _last_seen(status)
    if run.initialized_time is not None:
        return end(status, Result.INITIALIZED, now, failed=failed_step(seen))
    why = _not_initialized(run, status, pod)
    return end(status, Result.SUPERSEDED, now, why=why, failed=failed_step(seen))


def _not_initialized(run: Run, status: InitPipelineStatus, pod: Pod | None) -> Explanation | None:
    """Returns why the run was not initialized, by its Pod, or if it has none, by the condition that
    was last reported. None: that cannot be read."""
    if pod is not None:
        steps = pod_steps.steps(pod, run)
        return explanations.initialization(pod, steps, fate_of(pod))
    reported = status.condition(ConditionType.INITIALIZED)
    if reported is None or reported.reason not in set(
        Reason
    ):  # Another client may have written it.
        return None
    return Explanation(Reason(reported.reason), reported.message)


def _next_pass(
    status: InitPipelineStatus, trigger: Trigger, pod: Pod, now: datetime
) -> InitPipelineStatus:
    """The kubelet runs the init containers again in the Pod of the current run.

    How a run ended that was never seen initialized, the API does not tell. A time that the next
    run waits for stays: the kubelet may begin one run after another meanwhile.
    """
    run = status.run
    assert run is not None
    result = Result.INITIALIZED if run.initialized_time else Result.UNKNOWN
    before = _last_seen(status)
    status = end(status, result, now, failed=failed_step(before))
    return status.model_copy(
        update={
            "run": Run(
                number=run.number + 1,
                trigger=trigger,
                pod_uid=run.pod_uid,
                cause=run.in_place_cause if trigger is Trigger.RESTARTED_IN_PLACE else None,
                start_time=now,
                stale_container_ids=pod_steps.stale_container_ids(run, before, pod),
                init_restart_baselines=pod_restarts.init_restart_baselines(run, before, pod),
                last_in_place_time=_last_in_place(run),
            ),
        }
    )


def _last_in_place(run: Run | None) -> datetime | None:
    """When, as of the end of this run, the last run in place had started."""
    if run is None:
        return None
    return run.start_time if run.trigger is Trigger.RESTARTED_IN_PLACE else run.last_in_place_time


def _progress(
    status: InitPipelineStatus, policies: Policies, pod: Pod, now: datetime
) -> tuple[InitPipelineStatus, tuple[Step, ...]]:
    run = status.run
    assert run is not None
    steps = pod_steps.steps(pod, run)
    initialized = run.initialized_time
    if initialized is None and pod_steps.all_done(pod, steps):
        initialized = pod_steps.last_finished(steps) or now
    judged = initialized is not None and policies.rerun_policy is RerunPolicy.ON_RESTART
    update: dict[str, Any] = {
        "pod_uid": pod.uid,
        "initialized_time": initialized,
        "completed_init_containers": pod_steps.completed(run, steps),
        "init_restart_baselines": pod_restarts.raised_baselines(run, pod),
        **_gate(run, pod, now),
        "in_place_cause": pod_restarts.in_place_cause(pod),
        "running_step": None if initialized else run_limits.running_step(run, steps, now),
        "restart_baselines": pod_restarts.restart_baselines(run, pod, initialized)
        if judged and initialized
        else (),
    }
    if pod.deleting and pod.has_condition(DISRUPTION_TARGET):
        # The Pod is about to go, and with it the only word about who made it go.
        update |= {"reason": Reason.POD_LOST.value, "message": explanations.lost(pod).message}
    return status.model_copy(update={"run": run.model_copy(update=update)}), steps


def _gate(run: Run, pod: Pod, now: datetime) -> dict[str, Any]:
    """Returns since when the Pod can make progress, if it was observed behind a scheduling gate.
    The API server does not record when the last gate was removed."""
    if pod.scheduling_gated:
        return {"scheduling_gated": True, "ungated_time": None}
    if run.scheduling_gated and run.ungated_time is None:
        return {"ungated_time": now}
    return {}
