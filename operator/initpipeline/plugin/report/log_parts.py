"""Lists the logs of a Pod that can be read: one for each attempt of a container. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from initpipeline.api.models import InitPipelineStatus
from initpipeline.core import pod_ownership
from initpipeline.core.container_status import ContainerStatus, Terminated
from initpipeline.core.explanations import step_title
from initpipeline.core.facts import Facts
from initpipeline.core.failures import ending
from initpipeline.core.pod import Pod


@dataclass(frozen=True, slots=True)
class Part:
    """The log of one attempt."""

    container: str
    container_id: str
    title: str
    """The container, the attempt and how it ended, for the header."""
    previous: bool
    """The log of the previous container must be requested."""
    running: bool
    sidecar: bool
    termination_message: str
    """Shown if the node does not have the log any more."""


def pod_of_run(facts: Facts) -> Pod | None:
    """Returns the Pod of the current run. None: there is no run, or it has no Pod."""
    run = facts.pipeline.status.run
    return pod_ownership.pod_of_run(facts, run) if run else None


def stale_ids(status: InitPipelineStatus) -> tuple[str, ...]:
    """Returns the IDs of the containers that an earlier run has left in the same Pod."""
    return status.run.stale_container_ids if status.run else ()


def container_names(pod: Pod) -> list[str]:
    """Returns the init containers in order, then the app containers."""
    inits = [container.name for container in pod.init_containers]
    return inits + [status.name for status in pod.container_statuses]


def newest(pod: Pod, wanted: str | None, stale: Collection[str]) -> list[Part]:
    """Returns the newest attempt of each init container, or only of the container ``wanted``.

    ``stale`` are the IDs of containers of an earlier run in the same Pod, which are omitted.
    """
    parts = (_newest(title, sidecar, status) for title, sidecar, status in _containers(pod, wanted))
    return [part for part in parts if part and part.container_id not in stale]


def previous(pod: Pod, wanted: str | None) -> list[Part]:
    """Returns the attempts before the newest that the API still reports."""
    parts = (
        _previous(title, sidecar, status) for title, sidecar, status in _containers(pod, wanted)
    )
    return [part for part in parts if part]


def not_printed(
    pod: Pod, wanted: str | None, stale: Collection[str], printed: Collection[str]
) -> list[Part]:
    """Returns the attempts that were not printed yet, in order. An attempt that started and ended
    between two requests comes before the current one."""
    order = container_names(pod)
    parts = [*previous(pod, wanted), *newest(pod, wanted, stale)]
    parts.sort(key=lambda part: (order.index(part.container), not part.previous))
    return [part for part in parts if part.container_id not in {*printed, *stale}]


def _containers(pod: Pod, wanted: str | None) -> Iterator[tuple[str, bool, ContainerStatus]]:
    """Yields title, whether it is a sidecar, and status of the containers to print."""
    statuses = {status.name: status for status in pod.init_container_statuses}
    total = len(pod.init_containers)
    for position, container in enumerate(pod.init_containers, start=1):
        if wanted in (None, container.name) and container.name in statuses:
            title = step_title(container, position, total)
            yield title, container.sidecar, statuses[container.name]
    for status in pod.container_statuses:
        if status.name == wanted:
            yield f'container "{status.name}"', False, status


def _newest(title: str, sidecar: bool, status: ContainerStatus) -> Part | None:
    """Returns the newest attempt, which is the last one while the container waits for a restart.
    None: the container has not started."""
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
        termination_message=(end.message or "") if end else "",
    )


def _previous(title: str, sidecar: bool, status: ContainerStatus) -> Part | None:
    end = status.last_terminated
    if end is None or end.container_id in ("", status.container_id):
        return None
    return Part(
        status.name,
        end.container_id,
        f"{title}{_attempt(status.restart_count - 1)}: {_how(end)}",
        previous=True,
        running=False,
        sidecar=sidecar,
        termination_message=end.message or "",
    )


def _how(end: Terminated | None) -> str:
    if end is None:
        return "ended"
    if end.exit_code == 0 and not end.signal:
        return "done"
    without_message = Terminated(end.exit_code, end.signal, end.reason, None, None, None)
    return ending(without_message, 0)


def _attempt(restarts: int) -> str:
    return f", attempt {restarts + 1}" if restarts > 0 else ""
