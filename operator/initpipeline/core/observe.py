"""What a Pod tells about the current run: which steps are done, what the kubelet did by itself,
whether an app container restarted, and whether the Pod has come to an end.

The rules are read off the statuses that a real kubelet writes. Two of them matter everywhere: the
Pod's own Initialized condition stays True while init containers run again, so it is never looked
at; and after a restart of the sandbox the kubelet goes on showing the old success of an init
container until it has run again, so a success must be shown to belong to this run.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from initpipeline.api.models import Cause, CompletedInitContainer, RestartBaseline, Run
from initpipeline.api.reasons import Trigger
from initpipeline.core.facts import ContainerStatus, InitContainer, Pod, Terminated
from initpipeline.core.text import clip

RESTARTING_ALL_CONTAINERS = "RestartingAllContainers"
"""The kubelet's reason for containers that a RestartAllContainers rule restarts (KEP-5532)."""


ALL_CONTAINERS_RESTARTING = "AllContainersRestarting"
"""The Pod's condition while its containers are being ended for that (KEP-5532)."""


STUCK_AFTER = timedelta(minutes=5)
"""So long after the end of its grace period a Pod that is still there needs a person."""

LOST_ENDS = frozenset({"ContainerStatusUnknown", "Unknown"})
"""The kubelet's reasons for the end of a container that went with its sandbox or node, of which it
knows nothing but that it is gone. The exit code (137, 255) is made up."""

CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
"""The kubelet's reason for a container that it will start again after a while."""

INVALID_IMAGE_NAME = "InvalidImageName"
"""The kubelet's reason for an image that no registry can be asked for."""

IMAGE_NEVER_PULLED = "ErrImageNeverPull"
"""The kubelet's reason for an image that its node lacks and imagePullPolicy has it not pull."""


@dataclass(frozen=True, slots=True)
class Step:
    """An init container in the current run."""

    container: InitContainer
    position: int
    """1 for the first."""
    status: ContainerStatus | None
    """What the kubelet reports; None: nothing yet."""
    done: bool
    """It has succeeded in this run; a sidecar: has started."""


def steps(pod: Pod, stale_container_ids: Collection[str]) -> tuple[Step, ...]:
    """The Pod's init containers in order, each with whether it is done in the current run.

    A success counts when all before it are done, its container is none that succeeded in the run
    before, and it started no earlier than its predecessor finished. A sidecar has started if it
    says so or, where it has crashed since, if a container that comes after it has.
    """
    statuses = {status.name: status for status in pod.init_container_statuses}
    result: list[Step] = []
    all_done, finished_before = True, None
    for position, container in enumerate(pod.init_containers, start=1):
        status = statuses.get(container.name)
        later = [statuses.get(c.name) for c in pod.init_containers[position:]]
        later += pod.container_statuses
        if not all_done or status is None:
            done = False
        elif container.sidecar:
            done = status.started or any(
                _of_this_run(other, stale_container_ids, finished_before) for other in later
            )
        else:
            done = _succeeded(status) and _of_this_run(status, stale_container_ids, finished_before)
            finished_before = status.terminated.finished_at if status.terminated else None
        all_done = all_done and done
        result.append(Step(container, position, status, done))
    return tuple(result)


def _succeeded(status: ContainerStatus) -> bool:
    return status.terminated is not None and status.terminated.exit_code == 0


def _of_this_run(
    status: ContainerStatus | None, stale: Collection[str], not_before: datetime | None
) -> bool:
    """Whether the container shown has started in this run. Kubernetes' times are whole seconds, so
    one that starts in the second in which its predecessor finished counts."""
    if status is None or status.container_id in stale or status.started_at is None:
        return False
    return not_before is None or status.started_at >= not_before


def all_done(pod: Pod, all_steps: Collection[Step]) -> bool:
    """Whether the run is initialized. A Pod that is Ready or has Succeeded is, even where a step of
    the node's clock made a container seem to start before its predecessor finished."""
    ended_well = pod.has_condition("Ready") or fate(pod) is Fate.SUCCEEDED
    return ended_well or all(step.done for step in all_steps)


def completed(run: Run, all_steps: Collection[Step]) -> tuple[CompletedInitContainer, ...]:
    """The containers by which a later run of the same steps will be recognized. Sidecars are not
    among them: the kubelet restarts those within a run."""
    known = {entry.name for entry in run.completed_init_containers}
    return run.completed_init_containers + tuple(
        CompletedInitContainer(name=step.container.name, container_id=step.status.container_id)
        for step in all_steps
        if step.done and step.status is not None and not step.container.sidecar
        if step.container.name not in known
    )


def stale_container_ids(run: Run, pod: Pod) -> tuple[str, ...]:
    """Of the containers that succeeded in this run and in those before it, the ones that the Pod
    still shows: in the next run in this Pod none of them counts."""
    succeeded = (entry.container_id for entry in run.completed_init_containers)
    shown = {status.container_id for status in pod.init_container_statuses}
    return tuple(id_ for id_ in (*run.stale_container_ids, *succeeded) if id_ in shown)


def current(all_steps: Collection[Step]) -> Step | None:
    """The first step that is not done."""
    return next((step for step in all_steps if not step.done), None)


def last_finished(done: Collection[Step]) -> datetime | None:
    """When the last plain init container finished, by the kubelet's clock."""
    ends = [step.status.terminated for step in done if step.status and not step.container.sidecar]
    return max((end.finished_at for end in ends if end and end.finished_at), default=None)


def kubelet_rerun(run: Run, pod: Pod) -> Trigger | None:
    """The trigger of the run that the kubelet has begun by itself in the same Pod, if it has.

    It has when an init container that had succeeded shows another container, or waits to be
    restarted with all others.
    """
    succeeded = {step.name: step.container_id for step in run.completed_init_containers}
    for status in pod.init_container_statuses:
        if status.name not in succeeded:
            continue
        if status.waiting_reason == RESTARTING_ALL_CONTAINERS:
            return Trigger.RESTARTED_IN_PLACE
        if status.container_id and status.container_id != succeeded[status.name]:
            in_place = _restarted_in_place(status, succeeded, pod)
            return Trigger.RESTARTED_IN_PLACE if in_place else Trigger.POD_RESTARTED
    return None


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
    """For each app container the restart count of its first start in this run; those that are
    known stay as they are. None are kept under a rerunPolicy that does not judge restarts: where a
    run that was initialized before has none, the policy was set since, and what has been is not
    judged."""
    known = {baseline.name for baseline in run.restart_baselines}
    judged_from_now = run.initialized_time is not None and not known
    return run.restart_baselines + tuple(
        RestartBaseline(
            name=status.name,
            restart_count=status.restart_count
            if judged_from_now
            else _baseline(status, initialized),
        )
        for status in pod.container_statuses
        if status.name not in known
    )


def init_restart_baselines(
    before: Collection[ContainerStatus], pod: Pod
) -> tuple[RestartBaseline, ...]:
    """For each init container the restart count of its first start in the run that the kubelet has
    just begun. ``before`` is what was seen of the run before.

    The kubelet counts on across the runs in a Pod. It raises the count when it makes the new
    container, except for a restart in place, which is counted at once. A container that is another
    one already may have been restarted unseen: that is not held against it.
    """
    shown = {status.name: status.container_id for status in before}
    return tuple(
        RestartBaseline(name=status.name, restart_count=status.restart_count + is_old)
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
    """What the app container died of whose end restarts all containers of the Pod: the kubelet says
    so once, just before it does, and then calls each container's end one by that restart."""
    if not pod.has_condition(ALL_CONTAINERS_RESTARTING):
        return None
    ended = [status for status in pod.container_statuses if status.terminated is not None]
    last = max(ended, key=lambda status: _finished(status.terminated), default=None)
    return None if last is None else _cause_of(last.name, last.terminated)


def _finished(end: Terminated | None) -> float:
    return end.finished_at.timestamp() if end and end.finished_at else 0.0


def _still_the_old(status: ContainerStatus, shown: Mapping[str, str]) -> bool:
    restarting = status.waiting_reason == RESTARTING_ALL_CONTAINERS
    old = bool(status.container_id) and status.container_id == shown.get(status.name)
    return old and not restarting


def _baseline(status: ContainerStatus, initialized: datetime) -> int:
    """A start belongs to this run if it came no earlier than the end of the last init container.

    The kubelet counts the first start after a restart of the sandbox as a restart of the container,
    and it counts a restart in place before the container starts: neither is one in this run.
    """
    count, last = status.restart_count, status.last_terminated
    restarted_unseen = _since(last, initialized)
    if status.started_at is not None and status.started_at >= initialized:
        return max(count - 1, 0) if restarted_unseen else count
    belongs_to_an_earlier_run = status.started_at is not None or (
        last is not None and not restarted_unseen and last.reason != RESTARTING_ALL_CONTAINERS
    )
    return count + 1 if belongs_to_an_earlier_run else count


def _since(end: Terminated | None, time: datetime) -> bool:
    return (
        end is not None
        and end.reason != RESTARTING_ALL_CONTAINERS
        and end.started_at is not None
        and end.started_at >= time
    )


def app_restart(run: Run, pod: Pod) -> Cause | None:
    """What the first app container died of that has restarted since the run was initialized.

    One that waits in CrashLoopBackOff counts: the kubelet has decided to restart it, and to wait
    for that as well would only put its back-off before ours.
    """
    if run.initialized_time is None:
        return None
    baselines = {baseline.name: baseline.restart_count for baseline in run.restart_baselines}
    for status in pod.container_statuses:
        restarted = status.restart_count > baselines.get(status.name, status.restart_count)
        restarting = status.waiting_reason == CRASH_LOOP_BACK_OFF and _since(
            status.last_terminated, run.initialized_time
        )
        if restarted or restarting:
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


class Fate(Enum):
    """What has become of a Pod."""

    ALIVE = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    LOST = auto()
    """Disrupted: its containers are not to blame."""


def fate(pod: Pod) -> Fate:
    """A Pod that is being deleted ends in Succeeded or Failed by the way its containers take the
    signal, which says nothing about the run: it is alive until it is gone, and then lost.

    A Pod that is Failed was lost if the cluster ended it (the condition DisruptionTarget of
    KEP-3329, an eviction), or if it ended before any container of it had started, as a Pod that
    the kubelet does not admit."""
    if pod.deleting or not pod.ended:
        return Fate.ALIVE
    if pod.phase == "Succeeded":
        return Fate.SUCCEEDED
    every = (*pod.init_container_statuses, *pod.container_statuses)
    disrupted = pod.has_condition("DisruptionTarget") or pod.reason == "Evicted"
    return Fate.LOST if disrupted or not any(s.ever_started for s in every) else Fate.FAILED


def stuck_at(pod: Pod) -> datetime | None:
    """From when on a Pod that is being deleted needs a person; None: it is not being deleted."""
    return None if pod.deletion_time is None else pod.deletion_time + STUCK_AFTER
