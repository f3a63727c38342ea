"""Explains the state of a run and its Pod by one reason and one message.

One function determines both, so that reason and message are always about the same thing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from initpipeline.api.reasons import Reason
from initpipeline.core.container_status import ContainerStatus
from initpipeline.core.containers import Container
from initpipeline.core.failures import could_not_start, ending, failure
from initpipeline.core.kubelet_reasons import (
    CANNOT_START,
    CRASH_LOOP_BACK_OFF,
    IMAGE_NEVER_PULLED,
    INVALID_IMAGE_NAME,
)
from initpipeline.core.observation import Observation
from initpipeline.core.pod import Pod
from initpipeline.core.pod_end import DISRUPTION_TARGET, Fate, own_end
from initpipeline.core.pod_steps import Step
from initpipeline.core.text import clip

IS_RUNNING: Final = " is running"
PROBE_PENDING: Final = ", but its startupProbe has not succeeded yet"
"""These are parts of the messages of StepRunning. The plugin looks for them."""

_OBSTACLES: Final[Mapping[str, Reason]] = {
    "ErrImagePull": Reason.IMAGE_PULL_FAILED,
    "ImagePullBackOff": Reason.IMAGE_PULL_FAILED,
    INVALID_IMAGE_NAME: Reason.IMAGE_PULL_FAILED,
    IMAGE_NEVER_PULLED: Reason.IMAGE_PULL_FAILED,
    "ImageInspectError": Reason.IMAGE_PULL_FAILED,
    "RegistryUnavailable": Reason.IMAGE_PULL_FAILED,
    "SignatureValidationFailed": Reason.IMAGE_PULL_FAILED,
    "CreateContainerConfigError": Reason.CONTAINER_CONFIG_ERROR,
    "CreateContainerError": Reason.CONTAINER_CONFIG_ERROR,
    "PreCreateHookError": Reason.CONTAINER_CONFIG_ERROR,
    CANNOT_START: Reason.CONTAINER_CONFIG_ERROR,
}
"""What keeps a container from starting, by the kubelet's reason. Other reasons, such as
PodInitializing, mean that the kubelet does not start the container yet."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A reason for programs, and a message for users of at most 1 KiB."""

    reason: Reason
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", clip(self.message))


SUCCEEDED: Final = Explanation(Reason.POD_SUCCEEDED, "all containers of the Pod succeeded")


def why(observation: Observation, *, initialized: bool) -> Explanation:
    """Returns why the run is not initialized. If it is, returns why its Pod is Ready or not."""
    return readiness(observation) if initialized else initialization(observation)


def initialization(observation: Observation) -> Explanation:
    """Returns why the run is not initialized.

    First, what ends the Pod: its deletion, a disruption, a failure. Next, what keeps the current
    step from starting. Last, what the current step does.
    """
    pod, steps, fate = observation.pod, observation.steps, observation.fate
    current = observation.current_step
    if current is None:
        return readiness(observation)  # Such as a Pod without init containers that a user created.
    title = step_title(current.container, current.position, len(steps))
    if pod.deleting:
        return terminating(pod)
    if fate is Fate.LOST:
        return lost(pod)
    if fate is Fate.FAILED and (own_end(pod) or not _ended_badly(current.status)):
        return _pod_failed(pod)
    status = current.status
    if status is None or not status.ever_started:
        return _unscheduled(pod) or _not_started(pod, title, current)
    return _running_step(title, current, status)


def readiness(observation: Observation) -> Explanation:
    """Returns why the Pod of an initialized run is Ready or not."""
    pod, fate = observation.pod, observation.fate
    if fate is Fate.SUCCEEDED:
        return SUCCEEDED
    if fate is Fate.LOST:
        return lost(pod)
    if pod.deleting:
        return terminating(pod)
    if fate is not Fate.FAILED and pod.has_condition("Ready"):
        return Explanation(Reason.POD_READY, "the Pod is Ready")
    apps = _trouble(pod.container_statuses, "container")
    if fate is Fate.FAILED:
        return (None if own_end(pod) else apps) or _pod_failed(pod)
    return apps or _trouble(_sidecars(pod), "sidecar") or _not_ready(pod)


def _not_ready(pod: Pod) -> Explanation:
    """Returns why the Pod is not Ready: the kubelet's message, or else what the conditions show."""
    ready, containers = pod.condition("Ready"), pod.condition("ContainersReady")
    if ready is not None and ready.message:
        return Explanation(Reason.CONTAINERS_NOT_READY, ready.message)
    if ready is not None and ready.reason == "PodCompleted":
        # For a moment, until the kubelet reports the phase Succeeded.
        return Explanation(Reason.CONTAINERS_NOT_READY, "app containers have terminated")
    if ready is not None and containers is not None and containers.status == "True":
        # If the kubelet reports Ready False and ContainersReady True, it adds a message. The node
        # lifecycle controller adds none when it marks the Pods of a node that stopped reporting.
        return Explanation(
            Reason.NODE_NOT_READY,
            "the node lifecycle controller set Ready to False, because node "
            f'"{pod.node_name}" has stopped reporting; its containers were Ready when the kubelet '
            "last reported them",
        )
    unready = ", ".join(f'"{s.name}"' for s in pod.container_statuses if not s.ready)
    if unready:
        message = f"app containers are not ready: {unready}"
    else:
        message = "the Pod is not Ready, and the API server gives no reason"
    return Explanation(Reason.CONTAINERS_NOT_READY, message)


def lost(pod: Pod | None) -> Explanation:
    """Returns how the Pod was lost, with the message of the component that ended it."""
    if pod is None:
        return Explanation(Reason.POD_LOST, "the Pod was deleted")
    if pod.phase == "Succeeded":
        unasked = "its phase became Succeeded before all containers had completed"
    else:
        unasked = "no reason given"
    return Explanation(Reason.POD_LOST, f"the Pod was lost: {_disruption(pod) or unasked}")


RELEASED: Final = Explanation(
    Reason.POD_LOST, "the Pod exists, but this InitPipeline is not its controller any more"
)
"""The ownerReference of the run's Pod was removed or changed."""


def lost_again(pod: Pod) -> Explanation:
    """Returns PodFailed for a Pod that ended without a reported disruption (pod_end.unexplained) in
    a run that a lost Pod had caused."""
    return Explanation(
        Reason.POD_FAILED,
        f"{lost(pod).message}. No disruption is reported, and the previous run was also lost, so "
        "the Pod may have exceeded a limit of its own spec. Check its events",
    )


def _disruption(pod: Pod) -> str:
    """Returns which component disrupted the Pod and why, as far as the API server reports it
    (KEP-3329)."""
    disruption = pod.condition(DISRUPTION_TARGET)
    reported = (disruption.message or disruption.reason) if disruption else ""
    return pod.message or reported or pod.reason


def terminating(pod: Pod) -> Explanation:
    """Returns that the Pod is being deleted, with the cause if the API server reports one."""
    disruption = _disruption(pod)
    cause = f": {disruption}" if disruption else ""
    return Explanation(Reason.POD_TERMINATING, f"the Pod is being deleted{cause}")


def stuck(pod: Pod) -> Explanation:
    """Returns why a terminating Pod still exists, and what the user can do about it.

    The operator never forces a deletion. If the containers still run on the node, two Pods would
    run at the same time.
    """
    if pod.finalizers:
        return Explanation(
            Reason.POD_TERMINATING,
            "the Pod is being deleted, but is blocked by its finalizers "
            f"{', '.join(pod.finalizers)}: "
            "check the controllers that remove them",
        )
    if pod.node_name is None:
        remedy = "delete it with --grace-period=0 --force"
    else:
        remedy = (
            f'the kubelet of node "{pod.node_name}" has not confirmed that its containers have '
            "terminated. If the node is up, check its kubelet. Only if the node is down for good, "
            f'run "kubectl taint node {pod.node_name} '
            'node.kubernetes.io/out-of-service=nodeshutdown:NoExecute", or delete the Pod with '
            "--grace-period=0 --force"
        )
    return Explanation(
        Reason.POD_TERMINATING, f"the Pod is still there long after its grace period: {remedy}"
    )


def step_title(container: Container, position: int, total: int) -> str:
    """Returns the title of an init container in messages: init container 2 of 3 "migrate"."""
    kind = "sidecar" if container.sidecar else "init container"
    return f'{kind} {position} of {total} "{container.name}"'


def _pod_failed(pod: Pod) -> Explanation:
    reason = own_end(pod)
    if reason is None:
        return Explanation(Reason.POD_FAILED, pod.message or "the Pod failed")
    return Explanation(reason, f"{pod.reason}: {pod.message or 'a limit of the Pod was exceeded'}")


def _ended_badly(status: ContainerStatus | None) -> bool:
    return status is not None and status.terminated is not None and failure(status) is not None


def _unscheduled(pod: Pod) -> Explanation | None:
    scheduled = pod.condition("PodScheduled")
    if scheduled is None or scheduled.status == "True":
        return None
    reason = Reason.POD_UNSCHEDULABLE if scheduled.reason == "Unschedulable" else Reason.POD_PENDING
    return Explanation(reason, scheduled.message or "the Pod has not been scheduled yet")


def _not_started(pod: Pod, title: str, step: Step) -> Explanation:
    """Returns why the current step has not started. The kubelet reports details only in events."""
    if pod.node_name is None:
        return Explanation(Reason.POD_PENDING, "the Pod has not been scheduled yet")
    obstacle = _obstacle(title, step.status) if step.status else None
    if obstacle is not None:
        return obstacle
    message = f"{title} has not started yet"
    if not pod.init_container_statuses:
        message += f': node "{pod.node_name}" has not reported on the Pod'
    elif step.position == 1:
        message += ": the Pod's volumes or network, or the image, are not ready"
    return Explanation(Reason.STEP_PENDING, message)


def _obstacle(title: str, status: ContainerStatus) -> Explanation | None:
    """Returns what keeps a container from starting, with the kubelet's message. None: the kubelet
    reports no obstacle."""
    waiting = status.waiting_reason
    reason = _OBSTACLES.get(waiting)
    if reason is None or could_not_start(status):
        return None
    message = (status.waiting or {}).get("message") or waiting
    return Explanation(reason, f"{title}: {message}")


def _running_step(title: str, step: Step, status: ContainerStatus) -> Explanation:
    """Returns the state of a step that has run at least once in this Pod."""
    obstacle = _obstacle(title, status)
    if obstacle is not None:
        return obstacle
    bad = failure(status)
    if bad and status.waiting_reason == CRASH_LOOP_BACK_OFF:
        return Explanation(Reason.STEP_BACK_OFF, f"{title} {ending(bad, status.restart_count)}")
    if status.running:
        probed = step.container.startup_probe
        but = PROBE_PENDING if probed else ""
        after = f"; the previous attempt {ending(bad, status.restart_count)}" if bad else ""
        return Explanation(Reason.STEP_RUNNING, f"{title}{IS_RUNNING}{but}{after}")
    if bad:
        return Explanation(Reason.STEP_FAILED, f"{title} {ending(bad, status.restart_count)}")
    return Explanation(Reason.STEP_PENDING, f"{title} is waiting to run again")


def _trouble(statuses: Iterable[ContainerStatus], kind: str) -> Explanation | None:
    """Returns the obstacle or failure of the first container that has one. None: the kubelet
    reports neither."""
    for status in statuses:
        title = f'{kind} "{status.name}"'
        obstacle = _obstacle(title, status)
        if obstacle is not None:
            return obstacle
        end = failure(status)
        if end is not None and not status.running:
            how = ending(end, status.restart_count)
            return Explanation(Reason.CONTAINER_FAILED, f"{title} {how}")
    return None


def _sidecars(pod: Pod) -> Iterable[ContainerStatus]:
    """Returns the statuses of the sidecars. If all app containers have terminated, returns an empty
    result, because the kubelet then terminates the sidecars."""
    if all(status.terminated for status in pod.container_statuses):
        return ()
    sidecars = pod.sidecars
    return (status for status in pod.init_container_statuses if status.name in sidecars)
