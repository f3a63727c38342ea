"""The life of a run: how one begins, follows its Pod, and ends in history.

A number is never used twice, and a run that has ended has exactly one entry in history, however
often its end is seen.
"""

from datetime import datetime
from typing import Any

from initpipeline.api.models import (
    Cause,
    FailedStep,
    InitPipelineStatus,
    Run,
    RunFacts,
    RunRecord,
)
from initpipeline.api.reasons import Result, Trigger
from initpipeline.core import observe
from initpipeline.core.diagnose import failed_step
from initpipeline.core.facts import ContainerStatus, Pipeline, Pod
from initpipeline.core.observe import Fate

HISTORY_LIMIT = 10

_RESULT_OF_FATE = {
    Fate.SUCCEEDED: Result.SUCCEEDED,
    Fate.FAILED: Result.FAILED,
    Fate.LOST: Result.LOST,
}


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
            "run": Run(number=number, trigger=trigger, token=token, cause=cause, start_time=now),
            "last_rerun_token": token or status.last_rerun_token,
            "template_hash": pipeline.template_hash,
            "next_run_time": None,
        }
    )


def end(
    status: InitPipelineStatus, result: Result, now: datetime, failed: FailedStep | None = None
) -> InitPipelineStatus:
    """The current run has ended, and history says how. A run ends once: later words are ignored."""
    run = status.run
    if run is None or run.completion_time is not None:
        return status
    run = run.model_copy(update={"completion_time": now, "result": result})
    record = RunRecord(
        **{name: getattr(run, name) for name in RunFacts.model_fields}, failed_step=failed
    )
    return status.model_copy(
        update={"run": run, "history": (record, *status.history)[:HISTORY_LIMIT]}
    )


def follow(status: InitPipelineStatus, pod: Pod, now: datetime) -> InitPipelineStatus:
    """The current run, brought up to what its Pod shows: another run of the kubelet's, progress,
    initialization, the Pod's end."""
    run = status.run
    assert run is not None, "a Pod belongs to a run"
    if run.completion_time is not None:
        return status
    trigger = observe.kubelet_rerun(run, pod)
    if trigger is not None:
        status = _next_pass(status, trigger, pod, now)
    status = _progress(status, pod, now)
    fate = observe.fate(pod)
    if fate is Fate.ALIVE:
        return status
    return end(status, _RESULT_OF_FATE[fate], now, failed_step(pod.init_container_statuses))


def lost(status: InitPipelineStatus, now: datetime) -> InitPipelineStatus:
    """The Pod of the current run is gone."""
    return end(status, Result.LOST, now, failed_step(_last_seen(status)))


def _last_seen(status: InitPipelineStatus) -> tuple[ContainerStatus, ...]:
    """The init containers as they were last mirrored: what is left when the Pod is gone."""
    return tuple(ContainerStatus(raw) for raw in status.init_container_statuses)


def superseded(status: InitPipelineStatus, pod: Pod | None, now: datetime) -> InitPipelineStatus:
    """The current run ends because another takes its place. ``pod`` is its Pod, if it is there."""
    run = status.run
    initialized = run is not None and run.initialized_time is not None
    result = Result.INITIALIZED if initialized else Result.SUPERSEDED
    seen = pod.init_container_statuses if pod else _last_seen(status)
    return end(status, result, now, failed_step(seen))


def _next_pass(
    status: InitPipelineStatus, trigger: Trigger, pod: Pod, now: datetime
) -> InitPipelineStatus:
    """The kubelet runs the init containers again in the Pod of the current run.

    How a run ended that was never seen initialized, the API does not tell.
    """
    run = status.run
    assert run is not None
    result = Result.INITIALIZED if run.initialized_time else Result.UNKNOWN
    status = end(status, result, now, failed_step(_last_seen(status)))
    return status.model_copy(
        update={
            "run": Run(
                number=run.number + 1,
                trigger=trigger,
                pod_uid=run.pod_uid,
                start_time=now,
                stale_container_ids=observe.stale_container_ids(run, pod),
            ),
            "next_run_time": None,
        }
    )


def _progress(status: InitPipelineStatus, pod: Pod, now: datetime) -> InitPipelineStatus:
    run = status.run
    assert run is not None
    steps = observe.steps(pod, run.stale_container_ids)
    initialized = run.initialized_time
    if initialized is None and observe.all_done(pod, steps):
        initialized = observe.last_finished(steps) or now
    update: dict[str, Any] = {
        "pod_uid": pod.uid,
        "initialized_time": initialized,
        "completed_init_containers": observe.completed(run, steps),
    }
    if initialized is not None:
        update["restart_baselines"] = observe.restart_baselines(run, pod, initialized)
    return status.model_copy(update={"run": run.model_copy(update=update)})
