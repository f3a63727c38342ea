"""Determines which steps of the current run are done.

The rules follow the statuses that a real kubelet writes. Two facts matter throughout:

- The Pod's own Initialized condition stays True while init containers run again, so it is not used.
- After a restart of the sandbox, the kubelet reports the old success of an init container until the
  container has run again. A success therefore needs evidence that it belongs to this run.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from initpipeline.api.models import CompletedInitContainer, Run
from initpipeline.core.container_status import ContainerStatus
from initpipeline.core.containers import Container
from initpipeline.core.kubelet_reasons import LOST_ENDS
from initpipeline.core.pod import Pod


@dataclass(frozen=True, slots=True)
class Step:
    """An init container in the current run."""

    container: Container
    position: int
    """1 for the first."""
    status: ContainerStatus | None
    """What the kubelet reports. None: the kubelet has not reported on the container."""
    done: bool
    """Whether the init container has succeeded in this run. A sidecar is done once it has
    started."""


def steps(pod: Pod, run: Run) -> tuple[Step, ...]:
    """Returns the Pod's init containers in order, each with whether it is done in this run.

    A sidecar is done once it has started. If the sidecar has crashed since, a later container that
    started proves that the sidecar started first. Any other init container is done if all init
    containers before it are done and its success belongs to this run (see ``_Evidence``).
    """
    evidence = _Evidence.of(pod, run)
    result: list[Step] = []
    before = _Before()
    for position, container in enumerate(pod.init_containers, start=1):
        status, later = evidence.statuses.get(container.name), evidence.later[position]
        if not before.done or status is None:
            done = False
        elif container.sidecar:
            done = status.started or evidence.has_started(later, before)
        else:
            done = _succeeded(status) and evidence.is_of_this_run(status, later, before)
        before = before.followed_by(container, status, done, evidence.restarted(container, status))
        result.append(Step(container, position, status, done))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class _Before:
    """State of the init containers before a step."""

    done: bool = True
    """All init containers before the step are done."""
    none_restarted: bool = True
    """No init container before the step has run more than once in this run, except sidecars."""
    finished: datetime | None = None
    """When the last init container before the step finished, by the node's clock. Sidecars do not
    count. None: no init container has finished."""

    def followed_by(
        self, container: Container, status: ContainerStatus | None, done: bool, restarted: bool
    ) -> "_Before":
        """Returns the state before the next step: this one is ``container``."""
        end = status.terminated if status and not container.sidecar else None
        return _Before(
            done=self.done and done,
            none_restarted=self.none_restarted and not restarted,
            finished=end.finished_at if end else self.finished,
        )


@dataclass(frozen=True, slots=True)
class _Later:
    """State of the containers after a step, without containers of earlier runs."""

    running: bool = False
    started: bool = False
    latest_start: datetime | None = None
    """By the node's clock."""

    def preceded_by(self, status: ContainerStatus | None, stale: Collection[str]) -> "_Later":
        """Returns the state of these containers and of the one before them. ``status`` is None if
        the kubelet has not reported on that one."""
        if status is None or status.container_id in stale or status.started_at is None:
            return self
        starts = (start for start in (self.latest_start, status.started_at) if start)
        return _Later(self.running or status.running, True, max(starts))


def _later(
    pod: Pod, statuses: Mapping[str, ContainerStatus], stale: Collection[str]
) -> Sequence[_Later]:
    """Returns a list: at index n, the state of the containers after the init container at position
    n."""
    later = [_Later()]
    for status in pod.container_statuses:
        later[0] = later[0].preceded_by(status, stale)
    for container in reversed(pod.init_containers):
        later.append(later[-1].preceded_by(statuses.get(container.name), stale))
    return later[::-1]


@dataclass(frozen=True, slots=True)
class _Evidence:
    """The evidence that a container belongs to this run.

    After a restart of the sandbox the kubelet reports the old success of an init container until it
    has run again. The first of these that applies decides:

    - The container is recorded as stale: earlier run.
    - The container is recorded in completedInitContainers: this run.
    - A later container is running: this run, because the kubelet terminates all containers before
      it starts over.
    - No init container before this one has restarted in this run: this run.
    - Otherwise: this run if the container's startedAt is not before finishedAt of the previous init
      container. The node's clock may have been set meanwhile, so this comes last.
    """

    statuses: Mapping[str, ContainerStatus]
    later: Sequence[_Later]
    """At index n, the state of the containers after the init container at position n."""
    stale: frozenset[str]
    recorded: frozenset[str]
    baselines: Mapping[str, int]

    @classmethod
    def of(cls, pod: Pod, run: Run) -> "_Evidence":
        statuses = {status.name: status for status in pod.init_container_statuses}
        stale = frozenset(run.stale_container_ids)
        return cls(
            statuses=statuses,
            later=_later(pod, statuses, stale),
            stale=stale,
            recorded=frozenset(entry.container_id for entry in run.completed_init_containers),
            baselines={b.name: b.restart_count for b in run.init_restart_baselines},
        )

    def is_of_this_run(self, status: ContainerStatus, later: _Later, before: _Before) -> bool:
        if status.container_id in self.stale or status.started_at is None:
            return False
        if status.container_id in self.recorded or later.running or before.none_restarted:
            return True
        return _no_earlier(status.started_at, before.finished)

    def has_started(self, later: _Later, before: _Before) -> bool:
        """Returns whether a later container has started in this run."""
        if later.running or (later.started and before.none_restarted):
            return True
        return _no_earlier(later.latest_start, before.finished)

    def restarted(self, container: Container, status: ContainerStatus | None) -> bool:
        """Returns whether the container may have run more than once in this run."""
        if status is None or container.sidecar:
            return False
        last = status.last_terminated
        lost = last is not None and last.reason in LOST_ENDS
        return lost or status.restart_count > self.baselines.get(status.name, 0)


def _no_earlier(start: datetime | None, finished: datetime | None) -> bool:
    """Returns whether a container started at or after the time ``finished``, at which an earlier
    container finished. Kubernetes' times are whole seconds, so a start in the same second
    counts."""
    return start is not None and (finished is None or start >= finished)


def _succeeded(status: ContainerStatus) -> bool:
    return status.terminated is not None and status.terminated.exit_code == 0


def completed(run: Run, all_steps: Collection[Step]) -> tuple[CompletedInitContainer, ...]:
    """Returns the init containers that have succeeded in this run. If the container ID of one of
    them changes, the kubelet has begun another run. Sidecars are excluded, because the kubelet
    restarts them within a run."""
    known = {entry.name for entry in run.completed_init_containers}
    return run.completed_init_containers + tuple(
        CompletedInitContainer(name=step.container.name, container_id=step.status.container_id)
        for step in all_steps
        if step.done and step.status is not None and not step.container.sidecar
        if step.container.name not in known
    )


def stale_container_ids(
    run: Run, mirrored: Collection[ContainerStatus], pod: Pod
) -> tuple[str, ...]:
    """Returns the IDs of containers of earlier runs that the Pod's status still has after the
    kubelet has begun a new run. ``run`` is the previous run, ``mirrored`` its init containers as
    last mirrored.

    A container that was not mirrored before may belong to the previous or to the new run. The
    kubelet starts the init containers in order: if an init container has not succeeded in the new
    run, all later containers are of the previous one. A container cannot be of the previous run if
    it or a later container runs, because the kubelet terminates all containers before it starts
    over. If an init container had already succeeded in the previous run, and the kubelet has
    started over only once since the last mirror, its present container is of the new run. Otherwise
    the node's clock decides.
    """
    old = {*run.stale_container_ids, *(s.container_id for s in mirrored if s.container_id)}
    old |= {entry.container_id for entry in run.completed_init_containers}
    statuses = {status.name: status for status in pod.init_container_statuses}
    once = _started_over_once(mirrored, pod, statuses)
    succeeded = {entry.name for entry in run.completed_init_containers if once}
    later = _later(pod, statuses, old)
    stale: list[str] = []
    reached, finished = True, None
    for position, container in enumerate(pod.init_containers, start=1):
        status = statuses.get(container.name)
        if status is None:
            continue
        is_old = status.container_id in old or not reached
        if not container.sidecar:
            proven = status.name in succeeded or status.running or later[position].running
            in_order = _no_earlier(status.started_at or finished, finished)
            is_old = is_old or not (proven or in_order)
            reached = not is_old and _succeeded(status)
            finished = status.terminated.finished_at if status.terminated else None
        if is_old:
            stale.append(status.container_id)
    if not reached:
        stale += [status.container_id for status in pod.container_statuses]
    return tuple(id_ for id_ in stale if id_)


def _started_over_once(
    mirrored: Collection[ContainerStatus], pod: Pod, statuses: Mapping[str, ContainerStatus]
) -> bool:
    """Returns whether the kubelet has started over only once since the statuses in ``mirrored``.
    Each time it does, the restart count of the first init container rises by one."""
    counts = {status.name: status.restart_count for status in mirrored}
    first = next((c.name for c in pod.init_containers if not c.sidecar), "")
    return (
        first in counts
        and first in statuses
        and (statuses[first].restart_count - counts[first] <= 1)
    )


def last_finished(steps: Collection[Step]) -> datetime | None:
    """Returns when the last init container finished, by the node's clock. Sidecars do not count.
    None: no init container has finished."""
    ends = [step.status.terminated for step in steps if step.status and not step.container.sidecar]
    return max((end.finished_at for end in ends if end and end.finished_at), default=None)
