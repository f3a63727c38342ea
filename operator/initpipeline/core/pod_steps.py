"""What a Pod tells about the current run: which steps are done, what the kubelet did by itself,
whether an app container restarted, and whether the Pod has come to an end.

The rules are read off the statuses that a real kubelet writes. Two of them matter everywhere: the
Pod's own Initialized condition stays True while init containers run again, so it is never looked
at; and after a restart of the sandbox the kubelet goes on showing the old success of an init
container until it has run again, so a success must be shown to belong to this run.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from initpipeline.api.models import Cause, CompletedInitContainer, RestartBaseline, Run
from initpipeline.api.reasons import BY_KUBELET, Trigger
from initpipeline.core.facts import (
    RESTART_ALL_CONTAINERS,
    Container,
    ContainerStatus,
    Pod,
    Terminated,
)
from initpipeline.core.pod_end import LOST_ENDS, Fate, fate
from initpipeline.core.text import clip

RESTARTING_ALL_CONTAINERS = "RestartingAllContainers"
"""The kubelet's reason for containers that a RestartAllContainers rule restarts (KEP-5532)."""


ALL_CONTAINERS_RESTARTING = "AllContainersRestarting"
"""The Pod's condition while its containers are being ended for that (KEP-5532)."""


STUCK_AFTER = timedelta(minutes=5)
"""So long after the end of its grace period a Pod that is still there needs a person."""

CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
"""The kubelet's reason for a container that it will start again after a while."""

INVALID_IMAGE_NAME = "InvalidImageName"
"""The kubelet's reason for an image that no registry can be asked for."""

IMAGE_NEVER_PULLED = "ErrImageNeverPull"
"""The kubelet's reason for an image that its node lacks and imagePullPolicy has it not pull."""


@dataclass(frozen=True, slots=True)
class Step:
    """An init container in the current run."""

    container: Container
    position: int
    """1 for the first."""
    status: ContainerStatus | None
    """What the kubelet reports; None: nothing yet."""
    done: bool
    """It has succeeded in this run; a sidecar: has started."""


def steps(pod: Pod, run: Run) -> tuple[Step, ...]:
    """Returns the Pod's init containers in order, each with whether it is done in this run.

    A sidecar is done once it has started. If it has crashed since, a container after it that
    has started shows that it had. Any other init container is done if all before it are and its
    success belongs to this run (see ``_Evidence``).
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
    """All of them are done."""
    once: bool = True
    """Each has run only once in this run, sidecars excepted."""
    finished: datetime | None = None
    """When the last one that is no sidecar finished, by the node's clock."""

    def followed_by(
        self, container: Container, status: ContainerStatus | None, done: bool, restarted: bool
    ) -> "_Before":
        end = status.terminated if status and not container.sidecar else None
        return _Before(
            done=self.done and done,
            once=self.once and not restarted,
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
        if status is None or status.container_id in stale or status.started_at is None:
            return self
        starts = (start for start in (self.latest_start, status.started_at) if start)
        return _Later(self.running or status.running, True, max(starts))


def _later(
    pod: Pod, statuses: Mapping[str, ContainerStatus], stale: Collection[str]
) -> Sequence[_Later]:
    """Returns, by position, what the containers after it show."""
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
    has run again. In the order of their strength, these show that a success is of this run:

    - the container was recorded as a success of this run, or of an earlier one;
    - a later container runs: the kubelet ends all containers before it starts over;
    - no init container before it has been restarted in this run;
    - it started no earlier than its predecessor finished. The node's clock may have been set back
      or forward meanwhile, so this comes last.
    """

    statuses: Mapping[str, ContainerStatus]
    later: Sequence[_Later]
    """By position: the state of the containers after it."""
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
        if status.container_id in self.recorded or later.running or before.once:
            return True
        return _no_earlier(status.started_at, before.finished)

    def has_started(self, later: _Later, before: _Before) -> bool:
        """Returns whether a later container has started in this run."""
        if later.running or (later.started and before.once):
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
    """Returns whether the start is not before the end. Kubernetes' times are whole seconds, so a
    start in the same second counts."""
    return start is not None and (finished is None or start >= finished)


def _succeeded(status: ContainerStatus) -> bool:
    return status.terminated is not None and status.terminated.exit_code == 0


def all_done(pod: Pod, all_steps: Collection[Step]) -> bool:
    """Returns whether the run is initialized. A Pod that is Ready or has completed is, even if the
    node's clock or a crashed sidecar leaves a step in doubt."""
    ended_well = pod.has_condition("Ready") or fate(pod) is Fate.SUCCEEDED
    return ended_well or all(step.done for step in all_steps)


def completed(run: Run, all_steps: Collection[Step]) -> tuple[CompletedInitContainer, ...]:
    """Returns the containers by which a later run of the same steps is recognized. Sidecars are
    excluded: the kubelet restarts them within a run."""
    known = {entry.name for entry in run.completed_init_containers}
    return run.completed_init_containers + tuple(
        CompletedInitContainer(name=step.container.name, container_id=step.status.container_id)
        for step in all_steps
        if step.done and step.status is not None and not step.container.sidecar
        if step.container.name not in known
    )


def stale_container_ids(run: Run, before: Collection[ContainerStatus], pod: Pod) -> tuple[str, ...]:
    """Returns the containers that the Pod still reports and that belong to earlier runs in it. The
    kubelet has just begun another; ``run`` is the one before, ``before`` its init containers as
    they were last mirrored.

    A container that is reported for the first time may belong to either run. The kubelet starts the
    init containers in order: if one has not succeeded again, all after it are old. A container is
    of the new run if a later one runs, since the kubelet ends all before it starts over. It is also
    if its init container had succeeded in the run before, and the kubelet has started over only
    once since. Otherwise the node's clock decides.
    """
    old = {*run.stale_container_ids, *(s.container_id for s in before if s.container_id)}
    old |= {entry.container_id for entry in run.completed_init_containers}
    statuses = {status.name: status for status in pod.init_container_statuses}
    once = _started_over_once(before, pod, statuses)
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
            proven = status.name in succeeded or later[position].running
            in_order = _no_earlier(status.started_at or finished, finished)
            is_old = is_old or not (proven or in_order)
            reached = not is_old and _succeeded(status)
            finished = status.terminated.finished_at if status.terminated else None
        stale += [status.container_id] if is_old else []
    if not reached:
        stale += [status.container_id for status in pod.container_statuses]
    return tuple(id_ for id_ in stale if id_)


def _started_over_once(
    before: Collection[ContainerStatus], pod: Pod, statuses: Mapping[str, ContainerStatus]
) -> bool:
    """Returns whether the kubelet has started over only once since ``before``: each time, it raises
    the restart count of the first init container."""
    counts = {status.name: status.restart_count for status in before}
    first = next((c.name for c in pod.init_containers if not c.sidecar), "")
    return (
        first in counts
        and first in statuses
        and (statuses[first].restart_count - counts[first] <= 1)
    )


def current(all_steps: Collection[Step]) -> Step | None:
    """The first step that is not done."""
    return next((step for step in all_steps if not step.done), None)


def last_finished(done: Collection[Step]) -> datetime | None:
    """When the last plain init container finished, by the kubelet's clock."""
    ends = [step.status.terminated for step in done if step.status and not step.container.sidecar]
    return max((end.finished_at for end in ends if end and end.finished_at), default=None)


def kubelet_rerun(run: Run, pod: Pod) -> Trigger | None:
    """Returns the trigger of the run that the kubelet has begun by itself in the same Pod.

    It has begun one if an init container that had succeeded has another container, or waits to be
    restarted together with all others. None: it has not.
    """
    succeeded = {step.name: step.container_id for step in run.completed_init_containers}
    for status in pod.init_container_statuses:
        if status.name not in succeeded:
            continue
        if _removed_in_place(status):
            return Trigger.RESTARTED_IN_PLACE
        if status.container_id and status.container_id != succeeded[status.name]:
            in_place = _restarted_in_place(status, succeeded, pod)
            return Trigger.RESTARTED_IN_PLACE if in_place else Trigger.POD_RESTARTED
    return None


def _removed_in_place(status: ContainerStatus) -> bool:
    """Returns whether the kubelet has removed the container to restart all (KEP-5532). Once it has
    started another container of the Pod, the waiting reason is no longer the one of the restart."""
    if status.waiting_reason == RESTARTING_ALL_CONTAINERS:
        return True
    last = status.last_terminated
    restarted = last is not None and last.reason == RESTARTING_ALL_CONTAINERS
    return restarted and status.waiting is not None and not status.container_id


def _restarted_in_place(first: ContainerStatus, succeeded: Mapping[str, str], pod: Pod) -> bool:
    """Whether the pass that ``first`` tells of is one in place. What it was restarted for the first
    time is forgotten where it has failed since; then a later one tells, of which the container of
    the pass before is gone as well."""
    last = first.last_terminated
    if last is not None and last.exit_code == 0:
        return False
    return any(
        status.container_id != succeeded.get(status.name, status.container_id or None)
        and status.last_terminated is not None
        and status.last_terminated.reason == RESTARTING_ALL_CONTAINERS
        for status in pod.init_container_statuses
    )


def restart_baselines(run: Run, pod: Pod, initialized: datetime) -> tuple[RestartBaseline, ...]:
    """Returns for each app container the restart count of its first start in this run.

    A known baseline stays as it is, unless a resize in place has restarted the container since
    (KEP-1287). If the run was initialized before and has no baselines, the user has just set the
    rerunPolicy: restarts count from now on.
    """
    known = {baseline.name: baseline for baseline in run.restart_baselines}
    judged_from_now = run.initialized_time is not None and not known
    containers = {container.name: container for container in pod.containers}
    baselines: list[RestartBaseline] = []
    for status in pod.container_statuses:
        container, baseline = containers.get(status.name), known.get(status.name)
        if baseline is not None:
            restarted = status.restart_count > baseline.restart_count
            if not (restarted and _resized(pod, container, baseline)):
                baselines.append(baseline)
                continue
        if baseline is not None or judged_from_now:
            count = status.restart_count
        else:
            count = _baseline(run, pod, status, initialized)
        resources = dict(container.resize_restarts) if container else {}
        baselines.append(
            RestartBaseline(name=status.name, restart_count=count, resources=resources or None)
        )
    return tuple(baselines)


def _resized(pod: Pod, container: Container | None, baseline: RestartBaseline) -> bool:
    """Returns whether the kubelet has carried out, or is about to, a change of a resource that
    restarts the container. It has not if it reports the resize as deferred or infeasible."""
    if container is None or baseline.resources is None or pod.has_condition("PodResizePending"):
        return False
    return dict(container.resize_restarts) != baseline.resources


def init_restart_baselines(
    run: Run, before: Collection[ContainerStatus], pod: Pod
) -> tuple[RestartBaseline, ...]:
    """For each init container the restart count of its first start in the run that the kubelet has
    just begun. ``run`` is the one before, ``before`` is what was seen of it.

    The kubelet counts on across the runs in a Pod. It raises the count when it makes the new
    container, except for a restart in place, which is counted at once. A container that is another
    one already may have been restarted unseen: that is not held against it. If the run was not
    initialized and an init container's own exit has restarted all containers, its count goes on.
    """
    shown = {status.name: status.container_id for status in before}
    known = {baseline.name: baseline.restart_count for baseline in run.init_restart_baselines}
    cause = run.in_place_cause if run.initialized_time is None else None
    return tuple(
        RestartBaseline(
            name=status.name,
            restart_count=known.get(status.name, 0)
            if cause is not None and cause.container == status.name
            else status.restart_count + is_old,
        )
        for status in pod.init_container_statuses
        if (is_old := _still_the_old(status, shown)) or status.restart_count
    )


def raised_baselines(run: Run, pod: Pod) -> tuple[RestartBaseline, ...]:
    """The baselines of the init containers, without restarts for which a step is not to blame: its
    container was lost with its sandbox or node; or a restart in place has cut short the run that a
    restart of the sandbox began, which ends app containers, for whose end a rule then fires."""
    forgiven = set(LOST_ENDS)
    if run.trigger is Trigger.POD_RESTARTED:
        forgiven.add(RESTARTING_ALL_CONTAINERS)
    counts = {baseline.name: baseline.restart_count for baseline in run.init_restart_baselines}
    for status in pod.init_container_statuses:
        last = status.last_terminated
        if last is not None and last.reason in forgiven and status.restart_count:
            counts[status.name] = max(counts.get(status.name, 0), status.restart_count)
    return tuple(RestartBaseline(name=name, restart_count=n) for name, n in counts.items())


def in_place_cause(pod: Pod) -> Cause | None:
    """Returns the end of the container that restarts all containers of the Pod (KEP-5532).

    The kubelet reports it once, just before it starts over. From then on it reports each end as
    one by that restart. Of the containers that have ended, the one has caused it whose rule has
    that action; the kubelet itself has ended the others.
    """
    if not pod.has_condition(ALL_CONTAINERS_RESTARTING):
        return None
    containers = {c.name: c for c in (*pod.init_containers, *pod.containers)}
    ended = [
        (status.name, end)
        for status in (*pod.init_container_statuses, *pod.container_statuses)
        if status.name in containers and (end := status.terminated) is not None
    ]
    by_rule = [
        (name, end)
        for name, end in ended
        if containers[name].after_exit(end.exit_code) == RESTART_ALL_CONTAINERS
    ]
    name, end = max(by_rule, key=lambda found: _finished(found[1]), default=(None, None))
    return None if name is None else _cause_of(name, end)


def _finished(end: Terminated | None) -> float:
    return end.finished_at.timestamp() if end and end.finished_at else 0.0


def _still_the_old(status: ContainerStatus, shown: Mapping[str, str]) -> bool:
    restarting = status.waiting_reason == RESTARTING_ALL_CONTAINERS
    old = bool(status.container_id) and status.container_id == shown.get(status.name)
    return old and not restarting


def _baseline(run: Run, pod: Pod, status: ContainerStatus, initialized: datetime) -> int:
    """Returns the restart count of the container's first start in this run.

    The kubelet counts the first start after a restart of the sandbox as a restart of the container,
    and it counts a restart in place before the container starts. Neither is one in this run.
    """
    count, last = status.restart_count, status.last_terminated
    if run.trigger not in BY_KUBELET and not any(s.restart_count for s in _plain_inits(pod)):
        return 0  # No init container has run twice, so the app container has started in this run.
    restarted_unseen = _since(last, initialized, run.stale_container_ids)
    of_this_run = status.running or (
        status.container_id not in run.stale_container_ids
        and status.started_at is not None
        and status.started_at >= initialized
    )
    if of_this_run:
        return max(count - 1, 0) if restarted_unseen else count
    of_an_earlier_run = status.started_at is not None or (
        last is not None and not restarted_unseen and last.reason != RESTARTING_ALL_CONTAINERS
    )
    return count + 1 if of_an_earlier_run else count


def _plain_inits(pod: Pod) -> Iterator[ContainerStatus]:
    sidecars = {container.name for container in pod.init_containers if container.sidecar}
    return (s for s in pod.init_container_statuses if s.name not in sidecars)


def _since(end: Terminated | None, time: datetime, stale: Collection[str]) -> bool:
    """Returns whether a container of this run ended. By the node's clock it has started since the
    time; a container of an earlier run has not, whatever the clock was then."""
    return (
        end is not None
        and end.reason != RESTARTING_ALL_CONTAINERS
        and end.container_id not in stale
        and end.started_at is not None
        and end.started_at >= time
    )


def app_restart(run: Run, pod: Pod) -> Cause | None:
    """Returns the end of the first app container that has restarted since the run was initialized.

    One that waits in CrashLoopBackOff counts: the kubelet has decided to restart it, and waiting
    for that would only add its back-off to the operator's. A restart by a resize in place does not
    count. None: no app container has restarted.
    """
    if run.initialized_time is None:
        return None
    baselines = {baseline.name: baseline for baseline in run.restart_baselines}
    containers = {container.name: container for container in pod.containers}
    for status in pod.container_statuses:
        baseline = baselines.get(status.name)
        if baseline is None or _resized(pod, containers.get(status.name), baseline):
            continue
        waits = status.waiting_reason == CRASH_LOOP_BACK_OFF
        if status.restart_count + waits > baseline.restart_count:
            return _cause(status)
    return None


def _cause(status: ContainerStatus) -> Cause:
    return _cause_of(status.name, status.last_terminated or status.terminated)


def _cause_of(name: str, end: Terminated | None) -> Cause:
    if end is None:
        return Cause(container=name)
    return Cause(
        container=name,
        exit_code=end.exit_code,
        signal=end.signal,
        reason=end.reason,
        message=clip(end.message) if end.message else None,
    )


def stuck_at(pod: Pod) -> datetime | None:
    """From when on a Pod that is being deleted needs a person; None: it is not being deleted."""
    return None if pod.deletion_time is None else pod.deletion_time + STUCK_AFTER
