"""Derives the steps of the current run from the status, since the Pod may be deleted. Pure."""

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from initpipeline.api.models import FailedStep, InitPipelineStatus, Run, format_time
from initpipeline.api.reasons import Result
from initpipeline.core.container_status import ContainerStatus, Terminated
from initpipeline.core.containers import init_containers
from initpipeline.core.facts import Pipeline
from initpipeline.core.failures import could_not_start, failure
from initpipeline.core.kubelet_reasons import CRASH_LOOP_BACK_OFF, POD_INITIALIZING
from initpipeline.core.mirror import mirrored
from initpipeline.core.pod import Pod
from initpipeline.core.pod_restarts import restarts_in_run
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.formatting import Line, Mode, Moment


class State(StrEnum):
    """State of an init container in the current run."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    BACKING_OFF = "backing off"
    """The step failed, and the kubelet waits before it restarts the step."""
    WAITING = "waiting"
    """The step is next and cannot start; the reason is reported."""
    TO_RUN = "to run"
    """The step has not started in this run. It may have succeeded in an earlier run."""
    STOPPED = "stopped"
    """The step was running when the run ended. It ends with the Pod."""


_ENDS_OF_PODS = frozenset({Result.FAILED, Result.LOST, Result.SUCCEEDED})


@dataclass(frozen=True, slots=True)
class ShownStep:
    """An init container in the current run, as the plugin shows it. It follows from the status; the
    operator's ``core.pod_steps.Step`` follows from the Pod."""

    position: int
    name: str
    state: State
    sidecar: bool
    started: datetime | None
    """Start of the attempt that is shown: the current attempt, or else the last one."""
    finished: datetime | None
    restarts: int
    """Number of restarts in this run."""
    exit_code: int | None
    signal: int | None
    reason: str | None
    message: str | None

    def data(self) -> dict[str, Any]:
        """Returns the step for -o json and yaml, without fields that are not set."""
        times = {"started": self.started, "finished": self.finished}
        fields = asdict(self) | {k: format_time(t) if t else None for k, t in times.items()}
        camel = {"exit_code": "exitCode", "started": "startTime", "finished": "finishTime"}
        return {camel.get(key, key): value for key, value in fields.items() if value is not None}


def sidecars(pipeline: Pipeline, pod: Pod | None) -> frozenset[str]:
    """Returns the names of the sidecars in the current run.

    ``pod`` is the Pod with the name of the pipeline. If it belongs to the current run, its spec
    decides, since admission may have injected sidecars. Otherwise the template decides. A container
    that the template does not have is a sidecar if it runs while a later one has started.
    """
    run = pipeline.status.run
    if pod is not None and run is not None and pod.uid == run.pod_uid:
        return pod.sidecars
    known = {one.name: one.sidecar for one in init_containers(pipeline.template["spec"])}
    statuses = mirrored(pipeline.status)
    injected = {
        one.name
        for position, one in enumerate(statuses)
        if one.name not in known and one.running
        if any(later.container_id for later in statuses[position + 1 :])
    }
    return frozenset(injected | {name for name, sidecar in known.items() if sidecar})


def steps(pipeline: Pipeline, pod: Pod | None = None) -> tuple[ShownStep, ...]:
    """Returns the steps in the order of the Pod's spec, or of the template if there is no Pod.

    ``pod`` is the Pod with the name of the pipeline. None: there is no Pod, or it was not read.
    """
    status = pipeline.status
    sidecar_names = sidecars(pipeline, pod)
    return tuple(
        _step(position, one, one.name in sidecar_names, status)
        for position, one in enumerate(mirrored(status), start=1)
    )


def duration(step: ShownStep, run: Run | None, now: datetime) -> str:
    """Returns how long the attempt of the step that is shown lasts or has lasted. A step that has
    not terminated ends with its run. Empty: the times are not known."""
    if step.started is None or run is None:
        return ""
    end = step.finished or run.completion_time
    return formatting.span(end - step.started) if end else Line(now, Moment(step.started, Mode.FOR))


def _step(
    position: int,
    container: ContainerStatus,
    sidecar: bool,
    status: InitPipelineStatus,
) -> ShownStep:
    state = _state(container, sidecar, status)
    end = container.terminated or container.last_terminated
    recorded = _recorded(container, status)
    failed = None if state in (State.DONE, State.TO_RUN) else recorded or failure(container)
    attempt = _attempt(container, end, state)
    waiting = container.waiting or {}
    blocked_by = waiting if state is State.WAITING else {}
    restarts = max(0, restarts_in_run(status.run, container)) if status.run else 0
    return ShownStep(
        position=position,
        name=container.name,
        state=state,
        sidecar=sidecar,
        started=attempt[0],
        finished=attempt[1],
        restarts=recorded.restart_count if recorded else restarts,
        exit_code=failed.exit_code if failed else None,
        signal=failed.signal if failed else None,
        reason=blocked_by.get("reason") or (failed.reason if failed else None),
        message=blocked_by.get("message") or (failed.message if failed else None),
    )


def _recorded(container: ContainerStatus, status: InitPipelineStatus) -> FailedStep | None:
    """Returns how the container failed in the ended run, if its mirror was reset, as when the
    pipeline is suspended. None: it did not fail, or the mirror has it."""
    run = status.run
    if run is None or run.result is None or container.container_id:
        return None
    records = (record.failed_step for record in status.history if record.number == run.number)
    return next((one for one in records if one and one.name == container.name), None)


def _attempt(
    container: ContainerStatus, end: Terminated | None, state: State
) -> tuple[datetime | None, datetime | None]:
    """Returns the start and the end of the attempt that is shown. None: the step has not started in
    this run, or the time is unknown."""
    if state is State.TO_RUN:
        return None, None
    if container.running:
        return container.started_at, None
    return (end.started_at, end.finished_at) if end else (None, None)


def _state(container: ContainerStatus, sidecar: bool, status: InitPipelineStatus) -> State:
    run = status.run
    if run is None:
        return State.TO_RUN
    if container.waiting_reason == CRASH_LOOP_BACK_OFF:
        return State.BACKING_OFF
    if container.running:
        return State.STOPPED if run.result in _ENDS_OF_PODS else State.RUNNING
    completed = {entry.name for entry in run.completed_init_containers}
    if container.name in completed or (run.initialized_time and not sidecar):
        return State.DONE
    interrupted = run.running_step if run.result is not None else None
    if interrupted and interrupted.name == container.name and not container.container_id:
        return State.STOPPED
    if _recorded(container, status):
        return State.FAILED
    if container.terminated is not None and container.terminated.exit_code != 0:
        return (
            State.FAILED if container.container_id not in run.stale_container_ids else State.TO_RUN
        )
    if could_not_start(container):
        return State.FAILED
    blocked = container.waiting_reason not in ("", POD_INITIALIZING)
    return State.WAITING if blocked and container.waiting is not None else State.TO_RUN
