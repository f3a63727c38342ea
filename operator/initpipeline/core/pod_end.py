"""Decides what has become of a Pod: completion, failure or loss.

The phase alone does not separate completion from disruption. Since Kubernetes 1.27 the kubelet sets
the phase Succeeded if all containers of a Pod exit with 0 after an eviction or a shutdown of the
node. And a Pod that exceeds a limit of its own spec gets the phase Failed, like one that the
cluster disrupts.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from initpipeline.api.reasons import Reason
from initpipeline.core.container_status import ContainerStatus
from initpipeline.core.containers import Container
from initpipeline.core.kubelet_reasons import LOST_ENDS
from initpipeline.core.pod import Pod

STUCK_AFTER = timedelta(minutes=5)
"""If a Pod still exists this long after its grace period, it needs user action."""

DISRUPTION_TARGET: Final = "DisruptionTarget"
"""The Pod condition that the cluster sets on a Pod that it is about to terminate (KEP-3329)."""

_OWN_ENDS: Final[Mapping[str, Reason]] = {
    "DeadlineExceeded": Reason.POD_DEADLINE_EXCEEDED,
    "Evicted": Reason.POD_EVICTED,
}
"""Reasons of a Failed Pod that exceeded a limit of its own spec."""


class Fate(Enum):
    """What has become of a Pod."""

    ALIVE = auto()
    SUCCEEDED = auto()
    """Its app containers have completed."""
    FAILED = auto()
    """A container failed for good, or the Pod exceeded a limit of its own spec."""
    LOST = auto()
    """The cluster terminated the Pod."""


def fate(pod: Pod) -> Fate:
    """Returns what has become of the Pod.

    A Pod with a deletionTimestamp is ALIVE until it is gone, because its last phase depends on how
    its containers handle the signal. When it is gone, ``decide`` ends the run as lost
    (``runs.lost``).
    """
    if pod.deleting or not pod.ended:
        return Fate.ALIVE
    if pod.phase == "Succeeded":
        return Fate.SUCCEEDED if _completed(pod) else Fate.LOST
    if own_end(pod) is not None:
        return Fate.FAILED
    if pod.has_condition(DISRUPTION_TARGET):
        return Fate.LOST
    return Fate.FAILED if _failed_by_itself(pod) else Fate.LOST


def own_end(pod: Pod) -> Reason | None:
    """Returns the reason if the Pod failed because it exceeded a limit of its own spec:
    activeDeadlineSeconds, or the size of an emptyDir or of ephemeral storage.

    The kubelet evicts Pods because of node pressure, and because a Pod exceeds such a size. It sets
    DisruptionTarget only if the cause is node pressure (KEP-3329).
    """
    if pod.phase != "Failed":
        return None
    reason = _OWN_ENDS.get(pod.reason)
    if reason is Reason.POD_EVICTED and pod.has_condition(DISRUPTION_TARGET):
        return None
    return reason


def unexplained(pod: Pod) -> bool:
    """Returns whether the Pod was terminated, its containers exited with 0, and no disruption is
    reported. An eviction for a limit of the Pod may have this result, because the kubelet may
    overwrite the phase Failed and the reason Evicted with Succeeded within milliseconds, and the
    operator then observes only Succeeded."""
    ended = pod.phase == "Succeeded" and not pod.deleting
    return ended and not pod.has_condition(DISRUPTION_TARGET) and not _completed(pod)


def _completed(pod: Pod) -> bool:
    """Returns whether a Succeeded Pod has done its work.

    False if the kubelet would restart an app container after exit code 0, because then only the
    cluster can have terminated it. Also False if a container other than a sidecar has not
    terminated. If a Pod with restartPolicy OnFailure or Never is disrupted and exits with 0, the
    Job controller counts it as succeeded. So does the operator.
    """
    sidecars = pod.sidecars
    unfinished = any(s.terminated is None for s in pod.all_statuses if s.name not in sidecars)
    return not unfinished and not any(container.after_exit(0) for container in pod.containers)


def _failed_by_itself(pod: Pod) -> bool:
    """Returns whether a container failed and the kubelet does not restart it. If there is no
    such container, the kubelet rejected the Pod, or has lost its containers."""
    containers = {c.name: c for c in (*pod.init_containers, *pod.containers)}
    return any(_failed_for_good(containers.get(s.name), s) for s in pod.all_statuses)


def _failed_for_good(container: Container | None, status: ContainerStatus) -> bool:
    end = status.terminated
    if container is None or end is None or end.exit_code == 0 or end.reason in LOST_ENDS:
        return False
    return not container.after_exit(end.exit_code)


def stuck_at(pod: Pod) -> datetime | None:
    """Returns the time after which a terminating Pod needs user action. None: it is not
    terminating."""
    return None if pod.deletion_time is None else pod.deletion_time + STUCK_AFTER


def is_stuck(pod: Pod, now: datetime) -> bool:
    """Returns whether the Pod still exists long after its grace period."""
    at = stuck_at(pod)
    return at is not None and at <= now
