"""How a container failed, and the evidence of it."""

import re
from collections.abc import Iterable
from typing import Final

from initpipeline.api.models import FailedStep
from initpipeline.api.reasons import Reason
from initpipeline.core.container_status import ContainerStatus, Terminated
from initpipeline.core.evolve import evolve
from initpipeline.core.kubelet_reasons import (
    CANNOT_START,
    LOST_ENDS,
    PLAIN_ENDS,
    RESTARTING_ALL_CONTAINERS,
    START_ERROR,
)
from initpipeline.core.observation import Observation
from initpipeline.core.text import clip_start

MOST_IN_MESSAGE = 640
"""Maximum number of bytes of a termination message in a condition or event. The rest of 1 KiB is
for what precedes it."""


def failure(status: ContainerStatus) -> Terminated | None:
    """Returns the termination of the failed container. If it waits or runs again: its last
    termination.

    None: the container has not failed. It has not failed either if the kubelet terminated it to
    restart all containers, or if it runs again after it was lost with its sandbox or node.
    """
    last = status.last_terminated
    if status.terminated is None and last is not None and last.reason in LOST_ENDS:
        return None
    return _unsuccessful(status.terminated or last)


def _unsuccessful(end: Terminated | None) -> Terminated | None:
    """Returns the termination. None: it is absent, a success, or a restart of all containers."""
    if end is None or end.exit_code == 0 or end.reason == RESTARTING_ALL_CONTAINERS:
        return None
    return end


def could_not_start(status: ContainerStatus) -> bool:
    """Returns whether the container waits after a failed start. The kubelet reports a failed start
    as a termination with the reason StartError, and restarts the container like after any other."""
    return status.waiting_reason == CANNOT_START and failure(status) is not None


def ending(end: Terminated, restart_count: int) -> str:
    """Returns for example "exited with 1, restarted 3 times: <termination message>". Of a long
    message, only the end."""
    how = f"was terminated by signal {end.signal}" if end.signal else f"exited with {end.exit_code}"
    if end.reason == START_ERROR:
        how = "could not be started"
    elif end.reason and end.reason not in PLAIN_ENDS:
        how += f" ({end.reason})"
    if restart_count:
        how += f", restarted {restart_count} time{'s' if restart_count > 1 else ''}"
    message = clip_start(end.message or "", MOST_IN_MESSAGE)
    return f"{how}: {message}" if message else how


_ENDING: Final = re.compile(
    r"""
    ( (?:exited\ with|was\ terminated\ by\ signal)\ -?\d+
      (?:\ \(.*?\))?                # the kubelet's reason
      (?:,\ restarted\ \d+\ times?)?
    ):\ .*
    """,
    re.VERBOSE | re.DOTALL,
)
"""An ``ending`` with a termination message. Group 1 is what precedes the message."""


def replace_message(text: str, message: str) -> str:
    """Returns the text with this message in place of the termination message, if the text ends with
    an ``ending`` that has one. The message of a container that could not be started is kept."""
    return _ENDING.sub(lambda found: f"{found[1]}: {message}", text)


def failed_step(
    statuses: Iterable[ContainerStatus], *, pod_lost: bool = False
) -> FailedStep | None:
    """Returns the evidence of the first init container that has failed and has not recovered.

    A sidecar has recovered once it is ready again. A step that runs again has not. If the Pod is
    lost or about to be (``pod_lost``), a termination by the loss itself is not a failure. None: no
    init container has failed.
    """
    for status in statuses:
        end = _failure_before_the_loss(status) if pod_lost else failure(status)
        if end is None or status.ready:
            continue
        return evidence(status.name, status, end)
    return None


def evidence(name: str, status: ContainerStatus | None, end: Terminated | None) -> FailedStep:
    """Returns how the init container last terminated. Without ``end``, the evidence has
    the name and the restart count only."""
    return FailedStep(
        name=name,
        exit_code=end.exit_code if end else None,
        signal=end.signal if end else None,
        reason=end.reason if end else None,
        message=clip_start(end.message) if end and end.message else None,
        restart_count=status.restart_count if status else 0,
    )


def failure_of_current_step(observation: Observation, reason: Reason) -> FailedStep | None:
    """Returns the evidence of the step that was current when the operator ended the run. The
    kubelet may not have terminated the step yet; then the evidence has ``reason`` instead of the
    kubelet's reason. None: all steps are done."""
    current = observation.current_step
    if current is None:
        return None
    end = failure(current.status) if current.status else None
    step = evidence(current.container.name, current.status, end)
    return evolve(step, reason=step.reason or reason.value)


_KILLED = frozenset({137, 143})
"""128 + SIGKILL and 128 + SIGTERM, the signals that the kubelet terminates containers with."""


def _failure_before_the_loss(status: ContainerStatus) -> Terminated | None:
    """Returns how the container failed before the Pod was lost. None: the container had not failed.

    When a Pod is lost, the kubelet kills the running containers. For a container that was never
    created, for instance because its image was still being pulled, it reports 137 and
    ContainerStatusUnknown.
    """
    end = status.terminated
    if end is None or end.exit_code not in _KILLED:
        return failure(status)
    own_reason = end.reason not in {"Error", "ContainerStatusUnknown"}  # Such as OOMKilled.
    return end if own_reason else _unsuccessful(status.last_terminated)
