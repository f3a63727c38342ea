"""Inject faults: kill the processes of a Pod."""

from collections.abc import Sequence
from typing import Final

from tests.cluster.errors import ClusterError
from tests.cluster.runtime import Containerd
from tests.poll import poll_until

# Labels that the kubelet and containerd set on containers.
KIND: Final = "io.cri-containerd.kind"
NAMESPACE: Final = "io.kubernetes.pod.namespace"
POD: Final = "io.kubernetes.pod.name"
CONTAINER: Final = "io.kubernetes.container.name"

ENDED_SECONDS: Final = 15.0
"""How long the processes of a deleted Pod may run."""


def kill_sandbox(containerd: Containerd, namespace: str, pod: str) -> None:
    """Kill the process that holds a Pod's namespaces. The kubelet then restarts the whole Pod."""
    labels = {KIND: "sandbox", NAMESPACE: namespace, POD: pod}
    _kill(containerd, labels, 9, f"Pod {namespace}/{pod}")


def kill_container(
    containerd: Containerd, namespace: str, pod: str, container: str, number: int
) -> None:
    """Send a signal to a container's first process."""
    labels = {KIND: "container", NAMESPACE: namespace, POD: pod, CONTAINER: container}
    _kill(containerd, labels, number, f"container {container} of Pod {namespace}/{pod}")


def _kill(containerd: Containerd, labels: dict[str, str], number: int, what: str) -> None:
    running: list[str] = []

    def at_most_one() -> bool:
        running[:] = _running(containerd, labels)
        return len(running) < 2

    # A Pod without a grace period is deleted from the API seconds before its processes end. The
    # next Pod of the same name may run by then.
    message = f"{what} to run once: nothing was killed"
    poll_until(at_most_one, ENDED_SECONDS, message, state=lambda: running, error=ClusterError)
    if not running:
        raise ClusterError(f"{what} does not run: nothing was killed")
    # The process's parent sends the signal. It cannot mistake another process of the same pid.
    containerd.ctr(["tasks", "kill", f"--signal={number}", running[0]], f"killing {what}")


def _running(containerd: Containerd, labels: dict[str, str]) -> Sequence[str]:
    """Return the containers with these labels that have a running process."""
    wanted = ",".join(f'labels."{key}"=="{value}"' for key, value in labels.items())
    matching = containerd.ctr(
        ["containers", "list", "--quiet", wanted], "listing containers"
    ).split()
    tasks = containerd.ctr(["tasks", "list"], "listing processes").splitlines()[1:]
    running = {line.split()[0] for line in tasks if line.split()[2] == "RUNNING"}
    return [container for container in matching if container in running]
