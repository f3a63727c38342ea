"""How a container failed, and the evidence of it."""

from collections.abc import Iterable

from initpipeline.api.models import FailedStep
from initpipeline.core.facts import ContainerStatus, Terminated
from initpipeline.core.kubelet_reasons import (
    CANNOT_START,
    LOST_ENDS,
    RESTARTING_ALL_CONTAINERS,
    START_ERROR,
)
from initpipeline.core.text import clip


def failure(status: ContainerStatus) -> Terminated | None:
    """The container's present failure, or, while it waits or runs again, its last one. One that
    the kubelet ended to restart it with all others has not failed, nor has one that runs again
    because it went with its sandbox or node."""
    last = status.last_terminated
    if status.terminated is None and last is not None and last.reason in LOST_ENDS:
        return None
    return _bad(status.terminated or last)


def _bad(end: Terminated | None) -> Terminated | None:
    if end is None or end.exit_code == 0 or end.reason == RESTARTING_ALL_CONTAINERS:
        return None
    return end


def could_not_start(status: ContainerStatus) -> bool:
    """Whether it waits after a start that failed. That is told as an end of it, with StartError,
    counts as one, and is followed by a restart like any other."""
    return status.waiting_reason == CANNOT_START and failure(status) is not None


def ending(end: Terminated, restart_count: int) -> str:
    """ "exited with 1, restarted 3 times: <termination message>" """
    how = f"was ended by signal {end.signal}" if end.signal else f"exited with {end.exit_code}"
    if end.reason == START_ERROR:
        how = "could not be started"
    elif end.reason and end.reason not in {"Error", "Completed"}:
        how += f" ({end.reason})"
    if restart_count:
        how += f", restarted {restart_count} time{'s' if restart_count > 1 else ''}"
    return f"{how}: {end.message.strip()}" if end.message and end.message.strip() else how


def failed_step(
    statuses: Iterable[ContainerStatus], *, pod_lost: bool = False
) -> FailedStep | None:
    """The evidence of the first init container that has failed and not got over it.

    A sidecar is over it once it is ready again; a step that runs again is not. Where the Pod is
    lost, or on its way to be, what the loss itself did to a container is no failure of the step.
    """
    for status in statuses:
        end = _failure_before_the_loss(status) if pod_lost else failure(status)
        if end is None or status.ready:
            continue
        return evidence(status.name, status, end)
    return None


def evidence(name: str, status: ContainerStatus | None, end: Terminated | None) -> FailedStep:
    """Of an init container: how its last attempt ended, if one did."""
    return FailedStep(
        name=name,
        exit_code=end.exit_code if end else None,
        signal=end.signal if end else None,
        reason=end.reason if end else None,
        message=clip(end.message) if end and end.message else None,
        restart_count=status.restart_count if status else 0,
    )


_KILLED = frozenset({137, 143})
"""128 and the number of SIGKILL, SIGTERM: how the kubelet ends what has to go."""


def _failure_before_the_loss(status: ContainerStatus) -> Terminated | None:
    """The kubelet kills what runs, and of a container that never was, as while its image is pulled,
    it says in the end ContainerStatusUnknown and 137."""
    end = status.terminated
    if end is None or end.exit_code not in _KILLED:
        return failure(status)
    told_apart = end.reason not in {"Error", "ContainerStatusUnknown"}  # OOMKilled, for one
    return end if told_apart else _bad(status.last_terminated)
