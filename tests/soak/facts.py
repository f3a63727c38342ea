"""What the judge sees: the states of objects, reduced to what an invariant needs.

Each state has its resourceVersion as a number. The API server takes it from one counter for all
objects of an etcd, so the states of InitPipelines and Pods have one order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from initpipeline.api import names

DELETED: Final = "DELETED"


@dataclass(frozen=True, slots=True)
class RunSeen:
    """One run, as status reports it: the current one, or an entry of history."""

    number: int
    trigger: str
    token: str
    pod_uid: str
    initialized: bool
    result: str
    """Empty while the run is active."""


@dataclass(frozen=True, slots=True)
class PipelineSeen:
    """A state of an InitPipeline."""

    version: int
    at: float
    """Seconds since the start of the soak."""
    name: str
    uid: str
    gone: bool
    """The object was deleted."""
    suspend: bool
    requested: str
    """The rerun token that the user has set."""
    history_limit: int
    template_hash: str
    conditions: Mapping[str, str]
    """The status of each condition, by type."""
    reasons: Mapping[str, str]
    """The reason of each condition, by type."""
    run: RunSeen | None
    history: tuple[RunSeen, ...]
    """Newest first."""


@dataclass(frozen=True, slots=True)
class StepSeen:
    """An init container of a Pod, as the kubelet reports it."""

    name: str
    container: str
    """The container's ID. Empty before the container exists."""
    done: bool
    """It terminated with 0. A sidecar: it has started in the Pod."""
    sidecar: bool


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A state of a Pod."""

    version: int
    at: float
    name: str
    uid: str
    gone: bool
    owner: str
    """UID of the InitPipeline."""
    run: int
    """Number of the run that the Pod was created for."""
    deleting: bool
    phase: str
    steps: tuple[StepSeen, ...]
    restarts: int
    """Restarts of app containers. A container in CrashLoopBackOff counts as restarted."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A watch has missed states: the API server could not continue it."""

    version: int
    """The last version before the gap."""
    at: float
    source: str
    """The plural of the kind."""
    until: int
    """The version of the list after the gap."""
    uids: tuple[str, ...]
    """The objects that have changed meanwhile."""


@dataclass(frozen=True, slots=True)
class ContainersSeen:
    """The running containers of the real node at one moment."""

    at: float
    pods: Mapping[str, tuple[str, ...]]
    """UIDs of the Pods that have a running container, by the name of the Pod."""


class Role(StrEnum):
    """What a replica's process does. It uses more when it becomes the holder of the Lease."""

    STARTING = "starting"
    STANDBY = "standby"
    HOLDER = "holder"


@dataclass(frozen=True, slots=True)
class ProcessSeen:
    """Memory and file descriptors of a replica's process."""

    at: float
    replica: str
    pid: int
    role: Role
    memory: int
    """Resident bytes."""
    descriptors: int


Stored = PipelineSeen | PodSeen
"""A fact with a resourceVersion."""


def pipeline(raw: Mapping[str, Any], at: float, *, gone: bool = False) -> PipelineSeen:
    """Return what an InitPipeline shows."""
    metadata, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    conditions = status.get("conditions", ())
    current = status.get("run")
    return PipelineSeen(
        version=int(metadata["resourceVersion"]),
        at=at,
        name=metadata["name"],
        uid=metadata["uid"],
        gone=gone,
        suspend=bool(spec.get("suspend")),
        requested=metadata.get("annotations", {}).get(names.RERUN_ANNOTATION, ""),
        history_limit=int(spec.get("runHistoryLimit", 10)),
        template_hash=status.get("templateHash", ""),
        conditions={one["type"]: one["status"] for one in conditions},
        reasons={one["type"]: one["reason"] for one in conditions},
        run=_run(current) if current else None,
        history=tuple(map(_run, status.get("history", ()))),
    )


def pod(raw: Mapping[str, Any], at: float, *, gone: bool = False) -> PodSeen:
    """Return what a Pod shows."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    owners = (one["uid"] for one in metadata.get("ownerReferences", ()) if one.get("controller"))
    reported = {one["name"]: one for one in status.get("initContainerStatuses") or ()}
    return PodSeen(
        version=int(metadata["resourceVersion"]),
        at=at,
        name=metadata["name"],
        uid=metadata["uid"],
        gone=gone,
        owner=next(owners, ""),
        run=int(metadata.get("annotations", {}).get(names.RUN_ANNOTATION, 0)),
        deleting="deletionTimestamp" in metadata,
        phase=status.get("phase", ""),
        steps=_steps(raw["spec"].get("initContainers", ()), reported),
        restarts=sum(map(_restarts, status.get("containerStatuses") or ())),
    )


def _run(raw: Mapping[str, Any]) -> RunSeen:
    return RunSeen(
        number=raw["number"],
        trigger=raw["trigger"],
        token=raw.get("token", ""),
        pod_uid=raw.get("podUID", ""),
        initialized="initializedTime" in raw,
        result=raw.get("result", ""),
    )


def _steps(
    containers: Sequence[Mapping[str, Any]], reported: Mapping[str, Mapping[str, Any]]
) -> tuple[StepSeen, ...]:
    """Return the steps. A sidecar has started if a later step has a container. When a Pod ends, the
    kubelet may report both for the first time, and that the sidecar has ended."""
    steps: list[StepSeen] = []
    started = False
    for container in reversed(containers):
        step = _step(container, reported.get(container["name"], {}))
        steps.append(replace(step, done=step.done or (step.sidecar and started)))
        started = started or bool(step.container)
    return tuple(reversed(steps))


def _step(container: Mapping[str, Any], status: Mapping[str, Any]) -> StepSeen:
    sidecar = container.get("restartPolicy") == "Always"
    terminated = status.get("state", {}).get("terminated")
    succeeded = terminated is not None and terminated["exitCode"] == 0
    return StepSeen(
        name=container["name"],
        container=status.get("containerID", ""),
        done=bool(status.get("started")) if sidecar else succeeded,
        sidecar=sidecar,
    )


def _restarts(status: Mapping[str, Any]) -> int:
    waiting = status.get("state", {}).get("waiting", {}).get("reason")
    return int(status.get("restartCount", 0)) + int(waiting == "CrashLoopBackOff")


def deleted(state: Stored, version: int, at: float) -> Stored:
    """Return the last state of an object whose deletion was not observed."""
    return replace(state, version=version, at=at, gone=True)
