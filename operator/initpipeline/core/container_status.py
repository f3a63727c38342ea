"""What the kubelet reports about a container, read from a v1.ContainerStatus.

Container statuses are kept whole, because init container statuses are mirrored verbatim.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from initpipeline.api.models import INT32_MAX
from initpipeline.api.times import parse_time
from initpipeline.core import lenient

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""The start that the kubelet reports for a container that the runtime could not start."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """How a container terminated: v1.ContainerStateTerminated."""

    exit_code: int
    signal: int | None
    reason: str | None
    message: str | None
    started_at: datetime | None
    """When the container started. If it could not be started (StartError): when the kubelet
    tried."""
    finished_at: datetime | None
    container_id: str = ""

    @classmethod
    def from_api(cls, state: Mapping[str, Any]) -> "Terminated | None":
        """Returns the termination in a v1.ContainerState. None: the container waits or runs."""
        raw = state.get("terminated")
        if not isinstance(raw, dict):
            return None
        return cls(
            exit_code=lenient.int32(raw.get("exitCode")),
            signal=lenient.int32(raw.get("signal")) or None,
            reason=lenient.reason(raw.get("reason")) or None,
            message=lenient.text(raw.get("message")) or None,
            started_at=_start(raw),
            finished_at=parse_time(raw.get("finishedAt")),
            container_id=lenient.identifier(raw.get("containerID")),
        )


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """v1.ContainerStatus, as the kubelet reported it."""

    raw: Mapping[str, Any]
    """The JSON, for the mirror."""
    name: str
    container_id: str
    """The container runtime's ID of the container. "" until the container is created."""
    restart_count: int
    started: bool
    """Whether the container runs and its startup probe has succeeded. A sidecar in this state
    counts as initialized (KEP-753)."""
    ready: bool
    waiting: Mapping[str, Any] | None
    running: bool
    terminated: Terminated | None
    last_terminated: Terminated | None
    started_at: datetime | None
    """When the current instance of the container started. None if the state is waiting."""

    @classmethod
    def from_api(cls, raw: Mapping[str, Any]) -> "ContainerStatus":
        """Returns the status. A field that cannot be read counts as absent."""
        state = lenient.mapping(raw.get("state"))
        waiting, running = state.get("waiting"), state.get("running")
        return cls(
            raw=raw,
            name=lenient.identifier(raw.get("name")),
            container_id=lenient.identifier(raw.get("containerID")),
            restart_count=min(lenient.count(raw.get("restartCount")), INT32_MAX - 1),
            started=raw.get("started") is True,
            ready=raw.get("ready") is True,
            waiting=waiting if isinstance(waiting, dict) else None,
            running="running" in state,
            terminated=Terminated.from_api(state),
            last_terminated=Terminated.from_api(lenient.mapping(raw.get("lastState"))),
            started_at=_start(lenient.mapping(running or state.get("terminated"))),
        )

    @property
    def waiting_reason(self) -> str:
        return lenient.identifier(self.waiting.get("reason")) if self.waiting else ""

    @property
    def ever_started(self) -> bool:
        """The container has started at least once in this Pod."""
        return bool(self.started_at or self.last_terminated or self.restart_count)


def _start(state: Mapping[str, Any]) -> datetime | None:
    """Returns the start time in a v1.ContainerStateRunning or ContainerStateTerminated. If the
    container could not be started, returns the time of the attempt."""
    started = parse_time(state.get("startedAt"))
    return parse_time(state.get("finishedAt")) if started == _NEVER else started
