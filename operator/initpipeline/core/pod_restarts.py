"""Recognizes kubelet-initiated runs and restarts of app containers in the Pod of the current run.

The kubelet's restart counts continue across the runs in a Pod. Each run therefore records
baselines: the part of each container's restart count that does not count in this run.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Final

from initpipeline.api.models import Cause, RestartBaseline, Run
from initpipeline.api.reasons import Trigger
from initpipeline.api.triggers import by_kubelet
from initpipeline.core.container_status import ContainerStatus, Terminated
from initpipeline.core.containers import RESTART_ALL_CONTAINERS, Container
from initpipeline.core.kubelet_reasons import (
    CRASH_LOOP_BACK_OFF,
    LOST_ENDS,
    RESTARTING_ALL_CONTAINERS,
)
from initpipeline.core.pod import Pod
from initpipeline.core.text import clip_start

ALL_CONTAINERS_RESTARTING: Final = "AllContainersRestarting"
"""The Pod condition that the kubelet sets while it terminates all containers because of a
RestartAllContainers rule (KEP-5532)."""


def kubelet_rerun(run: Run, pod: Pod) -> Trigger | None:
    """Returns PodRestarted or RestartedInPlace if the kubelet has begun a run in the same Pod.

    The kubelet has begun one if an init container that had succeeded now has another container ID,
    or waits because the kubelet is restarting all containers of the Pod. None: there is no such
    run.
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
    """Returns whether the kubelet has removed the container in order to restart all containers
    (KEP-5532). After the kubelet starts another container of the Pod, the waiting reason no longer
    shows this. Then the last termination does."""
    if status.waiting_reason == RESTARTING_ALL_CONTAINERS:
        return True
    last = status.last_terminated
    restarted = last is not None and last.reason == RESTARTING_ALL_CONTAINERS
    return restarted and status.waiting is not None and not status.container_id


def _restarted_in_place(first: ContainerStatus, succeeded: Mapping[str, str], pod: Pod) -> bool:
    """Returns whether the kubelet has restarted all containers in place. If not, it has re-created
    the sandbox.

    ``first`` is the first init container whose container ID has changed. An in-place restart
    overwrites its last termination: the reason is RestartingAllContainers, and the exit code 137.
    So if the last termination has exit code 0, the kubelet re-created the sandbox. If ``first`` has
    failed since, its status no longer shows why all containers restarted. A later init container
    whose ID has changed still shows it.
    """
    last = first.last_terminated
    if last is not None and last.exit_code == 0:
        return False
    return any(
        status.container_id != succeeded.get(status.name, status.container_id or None)
        and status.last_terminated is not None
        and status.last_terminated.reason == RESTARTING_ALL_CONTAINERS
        for status in pod.init_container_statuses
    )


def app_restart(run: Run, pod: Pod) -> Cause | None:
    """Finds the first app container that has restarted since the run was initialized, and returns
    how it terminated.

    A container in CrashLoopBackOff counts. The kubelet will restart it, so waiting would only add
    the kubelet's back-off to the operator's. A restart by a resize in place does not count. None:
    no app container has restarted.
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
            return _cause(status.name, status.last_terminated or status.terminated)
    return None


def _cause(name: str, end: Terminated | None) -> Cause:
    if end is None:
        return Cause(container=name)
    return Cause(
        container=name,
        exit_code=end.exit_code,
        signal=end.signal,
        reason=end.reason,
        message=clip_start(end.message) if end.message else None,
    )


def restart_baselines(run: Run, pod: Pod, initialized: datetime) -> tuple[RestartBaseline, ...]:
    """Returns for each app container the restart count of its first start in this run.

    A known baseline stays as it is, unless a resize in place has restarted the container since
    (KEP-1287). If the run was already initialized and has no baselines, the user has just changed
    rerunPolicy to OnRestart. Restarts count from now on.
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
            count = status.restart_count
        elif judged_from_now:
            count = status.restart_count
        else:
            count = _baseline(run, pod, status, initialized)
        resources = dict(container.resize_restarts) if container else {}
        baselines.append(
            RestartBaseline(name=status.name, restart_count=count, resources=resources or None)
        )
    return tuple(baselines)


def _resized(pod: Pod, container: Container | None, baseline: RestartBaseline) -> bool:
    """Returns whether a resize that restarts the container is done or in progress. A resize that is
    reported as deferred or infeasible is neither."""
    if container is None or baseline.resources is None or pod.has_condition("PodResizePending"):
        return False
    return dict(container.resize_restarts) != baseline.resources


def _baseline(run: Run, pod: Pod, status: ContainerStatus, initialized: datetime) -> int:
    """Returns the restart count of the container's first start in this run.

    The kubelet counts the first start after a restart of the sandbox as a restart of the container.
    For a restart in place, the kubelet raises restartCount before the new container starts. Neither
    increase is a restart in this run.
    """
    count, last = status.restart_count, status.last_terminated
    if not by_kubelet(run.trigger) and not any(s.restart_count for s in _plain_inits(pod)):
        # The init containers have run once in this Pod, so all restarts of the app container are of
        # this run.
        return 0
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
    sidecars = pod.sidecars
    return (s for s in pod.init_container_statuses if s.name not in sidecars)


def _since(end: Terminated | None, time: datetime, stale: Collection[str]) -> bool:
    """Returns whether ``end`` belongs to a container that started at or after ``time``, by the
    node's clock. Containers in ``stale``, and those that a restart of all containers terminated,
    belong to earlier runs, so their times are ignored."""
    return (
        end is not None
        and end.reason != RESTARTING_ALL_CONTAINERS
        and end.container_id not in stale
        and end.started_at is not None
        and end.started_at >= time
    )


def init_restart_baselines(
    run: Run, mirrored: Collection[ContainerStatus], pod: Pod
) -> tuple[RestartBaseline, ...]:
    """Returns the baselines of the init containers for the run that the kubelet has just begun.
    ``run`` is the previous run, ``mirrored`` its init containers as last mirrored.

    A restart of the sandbox raises the count when the kubelet creates the new container. An
    in-place restart raises it before the new container exists. The new container may have restarted
    before the operator observed it. None of these restarts counts toward maxRestarts.

    If an init container's exit restarted all containers before initialization, its baseline stays,
    so that this restart counts against its maxRestarts.
    """
    old_ids = {status.name: status.container_id for status in mirrored}
    known = {baseline.name: baseline.restart_count for baseline in run.init_restart_baselines}
    cause = run.in_place_cause if run.initialized_time is None else None
    baselines: list[RestartBaseline] = []
    for status in pod.init_container_statuses:
        count = status.restart_count + _still_the_old(status, old_ids)
        if not count:
            continue
        if cause is not None and cause.container == status.name:
            count = known.get(status.name, 0)
        baselines.append(RestartBaseline(name=status.name, restart_count=count))
    return tuple(baselines)


def restarts_in_run(run: Run, status: ContainerStatus) -> int:
    """Returns how often the init container has restarted in the run. Negative while the kubelet
    still reports the container of an earlier run."""
    baselines = {baseline.name: baseline.restart_count for baseline in run.init_restart_baselines}
    return status.restart_count - baselines.get(status.name, 0)


def _still_the_old(status: ContainerStatus, old_ids: Mapping[str, str]) -> bool:
    """Returns whether the kubelet still reports the container of the previous run."""
    restarting = status.waiting_reason == RESTARTING_ALL_CONTAINERS
    old = bool(status.container_id) and status.container_id == old_ids.get(status.name)
    return old and not restarting


def raised_baselines(run: Run, pod: Pod) -> tuple[RestartBaseline, ...]:
    """Returns the baselines of the init containers, raised so that some restarts do not count.

    A restart does not count if the container was lost with its sandbox or node. The app containers
    terminate with the old sandbox, so their RestartAllContainers rules may then restart all
    containers. That restart does not count either.
    """
    forgiven = set(LOST_ENDS)
    if run.trigger is Trigger.POD_RESTARTED:
        forgiven.add(RESTARTING_ALL_CONTAINERS)
    baselines = {baseline.name: baseline for baseline in run.init_restart_baselines}
    for status in pod.init_container_statuses:
        last, known = status.last_terminated, baselines.get(status.name)
        if last is None or last.reason not in forgiven:
            continue
        if status.restart_count > (known.restart_count if known else 0):
            raised = RestartBaseline(name=status.name, restart_count=status.restart_count)
            baselines[status.name] = raised
    return tuple(baselines.values())


def in_place_cause(pod: Pod) -> Cause | None:
    """Finds the container whose exit matches a RestartAllContainers rule (KEP-5532), and returns
    how it terminated. None: no restart of all containers is in progress, or its cause is not
    reported.

    The kubelet terminates the other containers of the Pod. It reports the termination that matches
    the rule only until it starts over. Afterwards the reason of every termination is
    RestartingAllContainers.
    """
    if not pod.has_condition(ALL_CONTAINERS_RESTARTING):
        return None
    containers = {c.name: c for c in (*pod.init_containers, *pod.containers)}
    ended = [
        (status.name, end)
        for status in pod.all_statuses
        if status.name in containers and (end := status.terminated) is not None
    ]
    by_rule = [
        (name, end)
        for name, end in ended
        if containers[name].after_exit(end.exit_code) == RESTART_ALL_CONTAINERS
    ]
    if not by_rule:
        return None
    name, end = max(by_rule, key=lambda entry: _finished(entry[1]))
    return _cause(name, end)


def _finished(end: Terminated) -> float:
    return end.finished_at.timestamp() if end.finished_at else 0.0
