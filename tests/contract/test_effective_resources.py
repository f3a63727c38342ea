"""Kubernetes computes the same effective resources of a Pod as effective_resources().

The quota controller and the scheduler check the examples of tests/pod_shapes.py. The nodes are
API objects without a kubelet.
"""

import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.core.quantity import Quantity
from initpipeline.core.resources import effective_resources
from tests.api_client import connected
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component, Mode
from tests.pod_shapes import DISK, GPU, HUGE, OVERHEAD, RUNTIME_CLASS, SHAPES, Amounts, Shape
from tests.poll import poll_until

pytestmark = pytest.mark.newest

FLAGS: Final = {
    # Pods need no ServiceAccount, and nodes without a kubelet get no taint.
    Component.API_SERVER: ["--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"],
    Component.CONTROLLER_MANAGER: [
        "--controllers=resourcequota-controller,serviceaccount-controller",
        # The controller soon counts Pods that it had not observed before.
        "--resource-quota-sync-period=2s",
    ],
}
TIMEOUT_SECONDS: Final = 30.0
COUNTED: Final = {
    "requests": ("cpu", "memory", DISK, HUGE, GPU),
    "limits": ("cpu", "memory", DISK),
}
"""Resources that a quota can count."""


@pytest.fixture(scope="module")
def core() -> Iterator[client.CoreV1Api]:
    """Starts an API server, the quota controller and the scheduler, with the RuntimeClass of the
    examples."""
    components = {Component.CONTROLLER_MANAGER, Component.SCHEDULER}
    name = f"resources-{os.getpid()}"
    with (
        Cluster(name, Mode.CONTROL_PLANE, components=components, flags=FLAGS) as cluster,
        connected(cluster.kubeconfig) as api,
    ):
        client.NodeV1Api(api).create_runtime_class(
            {
                "metadata": {"name": RUNTIME_CLASS},
                "handler": "none",
                "overhead": {"podFixed": OVERHEAD},
            }
        )
        yield client.CoreV1Api(api)


class TestQuota:
    def test_quota_counts_each_shape_as_expected(self, core: client.CoreV1Api) -> None:
        for name, shape in SHAPES.items():
            core.create_namespace({"metadata": {"name": name}})
            create_pod(core, name, "shape", {**shape.spec, "schedulerName": "none"})
            # The quota is created after the Pod: it would require that each container sets the
            # resources that it counts.
            hard = {f"{kind}.{one}": "1000" for kind in COUNTED for one in COUNTED[kind]}
            quota = {"metadata": {"name": "all"}, "spec": {"hard": hard}}
            core.create_namespaced_resource_quota(name, quota)

        def different() -> dict[str, Amounts]:
            usage = {name: used(core, name) for name in SHAPES}
            return {name: usage[name] for name in SHAPES if usage[name] != expected(SHAPES[name])}

        poll_until(lambda: not different(), TIMEOUT_SECONDS, "usage as expected", state=different)


class TestScheduler:
    def test_scheduler_needs_exactly_the_requests(self, core: client.CoreV1Api) -> None:
        results: dict[str, str] = {}
        for name, shape in SHAPES.items():
            offer(core, name, shape, shape.requests)
            results[name] = "fits"
            for lacking, amount in shape.requests.items():
                if amount != "0":
                    node = f"{name}.{lacking.replace('/', '.')}".lower()
                    offer(core, node, shape, {**shape.requests, lacking: reduced(lacking, amount)})
                    results[node] = f"Insufficient {lacking}"

        def different() -> dict[str, str]:
            pods = {pod.metadata.name: pod for pod in core.list_namespaced_pod("default").items}
            return {
                name: result
                for name, message in results.items()
                if message not in (result := scheduling_result(pods[name]))
            }

        poll_until(
            lambda: not different(), TIMEOUT_SECONDS, "scheduling as expected", state=different
        )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_stored_pod_has_the_resources_of_its_template(core: client.CoreV1Api, shape: Shape) -> None:
    """The stored Pod has the API server's defaults and notation."""
    created = create_pod(core, "default", "shape", shape.spec, dry_run="All")
    assert effective_resources(created["spec"]) == effective_resources(shape.spec)


def create_pod(
    core: client.CoreV1Api, namespace: str, name: str, spec: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Create a Pod. Returns it as stored."""
    body = {"metadata": {"name": name}, "spec": spec}
    pod = core.create_namespaced_pod(namespace, body, field_validation="Strict", **options)
    raw: dict[str, Any] = core.api_client.sanitize_for_serialization(pod)
    return raw


def used(core: client.CoreV1Api, namespace: str) -> Amounts:
    """Returns the usage that the quota reports, without zeros."""
    quota = core.read_namespaced_resource_quota("all", namespace)
    usage = (quota.status and quota.status.used) or {}
    return {name: amount for name, amount in usage.items() if amount != "0"}


def expected(shape: Shape) -> Amounts:
    """Returns the usage that the quota should report, without zeros."""
    resources = {"requests": shape.requests, "limits": shape.limits}
    return {
        f"{kind}.{name}": resources[kind][name]
        for kind, names in COUNTED.items()
        for name in names
        if resources[kind].get(name, "0") != "0"
    }


def offer(core: client.CoreV1Api, name: str, shape: Shape, amounts: Amounts) -> None:
    """Create a node with these amounts, and a Pod of this shape that only fits on this node."""
    capacity = {**amounts, "pods": "1"}
    status = {"capacity": capacity, "allocatable": capacity}
    core.create_node({"metadata": {"name": name, "labels": {"name": name}}, "status": status})
    create_pod(core, "default", name, {**shape.spec, "nodeSelector": {"name": name}})


def reduced(name: str, amount: str) -> str:
    """Returns the amount less 1m of CPU, or less 1 of another resource."""
    return str(Quantity(Quantity.parse(amount).milli - (1 if name == "cpu" else 1000)))


def scheduling_result(pod: Any) -> str:
    """Returns "fits", or the message of the scheduler."""
    if pod.spec.node_name:
        return "fits"
    messages = [c.message for c in pod.status.conditions or () if c.type == "PodScheduled"]
    return messages[0] if messages else "not scheduled yet"
