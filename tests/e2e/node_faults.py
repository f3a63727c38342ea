"""Faults of a node, as context managers. At the end of the context the node is Ready again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubernetes import client

from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import NODE_NAME
from tests.cluster.kwok import LABEL, FakeNodes
from tests.cluster.plan import Component
from tests.poll import poll_until

HEARTBEATS = Path(__file__).with_name("heartbeats.yaml")
BACK_SECONDS = 60.0
NOT_READY_SECONDS = 120.0


@contextmanager
def tainted(api: client.ApiClient) -> Iterator[None]:
    """Drain the node by a taint that no Pod of the tests tolerates."""
    core = client.CoreV1Api(api)
    taint = {"key": "e2e.test/drained", "effect": "NoExecute"}
    core.patch_node(NODE_NAME, {"spec": {"taints": [taint]}})
    try:
        yield
    finally:
        core.patch_node(NODE_NAME, {"spec": {"taints": None}})
        _wait_until_usable(core)


@contextmanager
def kubelet_stopped(api: client.ApiClient, node: Cluster) -> Iterator[None]:
    """Stop the kubelet. The containers continue to run."""
    with _stopped(api, node, Component.KUBELET):
        yield


@contextmanager
def runtime_stopped(api: client.ApiClient, node: Cluster) -> Iterator[None]:
    """Stop containerd. The containers continue to run."""
    with _stopped(api, node, Component.CONTAINERD):
        yield


def wait_until_not_ready(api: client.ApiClient) -> None:
    """Wait until the kubelet or the node lifecycle controller reports that the node is not Ready.

    The kubelet does when containerd has not answered for 30 seconds. The node lifecycle controller
    of these tests waits 10 seconds for a kubelet that does not report.
    """

    def not_ready() -> bool:
        conditions = client.CoreV1Api(api).read_node(NODE_NAME).status.conditions
        return any(one.type == "Ready" and one.status != "True" for one in conditions)

    poll_until(not_ready, NOT_READY_SECONDS, "the node is not Ready")


@contextmanager
def another_node(api: client.ApiClient, node: Cluster) -> Iterator[None]:
    """Add a second node that is Ready. No Pod of the tests is scheduled to it.

    If no node at all is Ready, the node lifecycle controller evicts no Pod.
    """
    try:
        with FakeNodes(node, more_stages=[HEARTBEATS]):
            yield
    finally:
        label = ",".join(f"{key}={value}" for key, value in LABEL.items())
        client.CoreV1Api(api).delete_collection_node(label_selector=label)


@contextmanager
def powered_off(api: client.ApiClient, node: Cluster) -> Iterator[None]:
    """Switch the node off: the kubelet, the container runtime and all containers are gone."""
    node.power_off_node()
    try:
        yield
    finally:
        node.power_on_node()
        _wait_until_usable(client.CoreV1Api(api))


@contextmanager
def deleted(api: client.ApiClient, node: Cluster) -> Iterator[None]:
    """Delete the Node object, as a cloud does after it has removed the machine.

    A kubelet registers its node only when it starts.
    """
    core = client.CoreV1Api(api)
    core.delete_node(NODE_NAME)
    try:
        yield
    finally:
        node.stop(Component.KUBELET)
        node.start(Component.KUBELET)
        _wait_until_usable(core)


@contextmanager
def _stopped(api: client.ApiClient, node: Cluster, component: Component) -> Iterator[None]:
    node.stop(component)
    try:
        yield
    finally:
        node.start(component)
        _wait_until_usable(client.CoreV1Api(api))


def _wait_until_usable(core: client.CoreV1Api) -> None:
    def usable() -> bool:
        nodes = core.list_node(field_selector=f"metadata.name={NODE_NAME}").items
        conditions = nodes[0].status.conditions or () if nodes else ()
        ready = any(c.type == "Ready" and c.status == "True" for c in conditions)
        return ready and not nodes[0].spec.taints

    poll_until(usable, BACK_SECONDS, "the node is Ready again")
