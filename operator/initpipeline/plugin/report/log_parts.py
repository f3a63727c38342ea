"""Which logs there are to read of a Pod: one for each attempt of a container. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from initpipeline.core.facts import ContainerStatus, Pod, Terminated
from initpipeline.core.failures import ending


@dataclass(frozen=True, slots=True)
class Part:
    """The log of one attempt."""

    container: str
    container_id: str
    title: str
    """What it is, and what became of it."""
    previous: bool
    """The API is to be asked for the container before the present one."""
    running: bool
    sidecar: bool
    last_words: str
    """Its termination message: what is left where the node has no log any more."""


def container_names(pod: Pod) -> list[str]:
    """Init containers in their order, then app containers."""
    inits = [container.name for container in pod.init_containers]
    return inits + [status.name for status in pod.container_statuses]


def present(pod: Pod, wanted: str | None, stale: Collection[str]) -> list[Part]:
    """The newest attempt of each init container, or of the container that is wanted, whichever
    kind it is. Those of an earlier run in the same Pod (``stale``) have no part in this one."""
    parts = (
        _present(title, sidecar, status) for title, sidecar, status in _containers(pod, wanted)
    )
    return [part for part in parts if part and part.container_id not in stale]


def before(pod: Pod, wanted: str | None) -> list[Part]:
    """The attempt before the newest, where there was one and the API still tells."""
    parts = (_before(title, sidecar, status) for title, sidecar, status in _containers(pod, wanted))
    return [part for part in parts if part]


def unseen(
    pod: Pod, wanted: str | None, stale: Collection[str], seen: Collection[str]
) -> list[Part]:
    """Attempts that were not read yet, in their order: where one came and went between two looks,
    it comes before the one that is there now."""
    order = container_names(pod)
    parts = [*before(pod, wanted), *present(pod, wanted, stale)]
    parts.sort(key=lambda part: (order.index(part.container), not part.previous))
    return [part for part in parts if part.container_id not in {*seen, *stale}]


def _containers(pod: Pod, wanted: str | None) -> Iterator[tuple[str, bool, ContainerStatus]]:
    statuses = {status.name: status for status in pod.init_container_statuses}
    total = len(pod.init_containers)
    for position, container in enumerate(pod.init_containers, start=1):
        if wanted in (None, container.name) and container.name in statuses:
            kind = "sidecar" if container.sidecar else "init container"
            title = f'{kind} {position} of {total} "{container.name}"'
            yield title, container.sidecar, statuses[container.name]
    for status in pod.container_statuses:
        if status.name == wanted:
            yield f'container "{status.name}"', False, status


def _present(title: str, sidecar: bool, status: ContainerStatus) -> Part | None:
    """While a container waits to be started again, the log is that of the last attempt."""
    end = status.terminated or (None if status.running else status.last_terminated)
    if not status.container_id or not (status.running or end):
        return None
    how = "running" if status.running else _how(end)
    return Part(
        status.name,
        status.container_id,
        f"{title}{_attempt(status.restart_count)}: {how}",
        previous=False,
        running=status.running,
        sidecar=sidecar,
        last_words=(end.message or "") if end else "",
    )


def _before(title: str, sidecar: bool, status: ContainerStatus) -> Part | None:
    end = status.last_terminated
    last = (status.raw.get("lastState") or {}).get("terminated") or {}
    id_ = last.get("containerID") or ""
    if end is None or not id_ or id_ == status.container_id:
        return None
    return Part(
        status.name,
        id_,
        f"{title}{_attempt(status.restart_count - 1)}: {_how(end)}",
        previous=True,
        running=False,
        sidecar=sidecar,
        last_words=end.message or "",
    )


def _how(end: Terminated | None) -> str:
    if end is None:
        return "ended"
    if end.exit_code == 0 and not end.signal:
        return "done"
    words = Terminated(end.exit_code, end.signal, end.reason, None, None, None)
    return ending(words, 0)


def _attempt(restarts: int) -> str:
    return f", attempt {restarts + 1}" if restarts > 0 else ""
