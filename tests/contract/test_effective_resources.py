"""What Kubernetes itself counts a Pod as: the examples that our own sum is tested by.

The real controller of quotas and the real scheduler judge them, on nodes that are objects only.
"""

import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
from kubernetes import client, config

from initpipeline.core.quantity import Quantity
from initpipeline.core.resources import effective_resources
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component, Mode
from tests.contract.operator_world import until
from tests.pod_shapes import DISK, GPU, HUGE, OVERHEAD, RUNTIME_CLASS, SHAPES, Amounts, Shape

pytestmark = pytest.mark.newest

FLAGS: Final = {
    # No ServiceAccount has to be waited for, and no node needs a kubelet to be without a taint.
    Component.API_SERVER: ["--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"],
    Component.CONTROLLER_MANAGER: [
        "--controllers=resourcequota-controller,serviceaccount-controller",
        # A Pod that it had not seen yet when it counted is counted soon.
        "--resource-quota-sync-period=2s",
    ],
}
PATIENCE: Final = 30.0
COUNTED: Final = {
    "requests": ("cpu", "memory", DISK, HUGE, GPU),
    "limits": ("cpu", "memory", DISK),
}
"""What a quota can count."""


@pytest.fixture(scope="module")
def core() -> Iterator[client.CoreV1Api]:
    """An API server with quotas and a scheduler, and the examples' RuntimeClass."""
    components = {Component.CONTROLLER_MANAGER, Component.SCHEDULER}
    name = f"resources-{os.getpid()}"
    with Cluster(name, Mode.CONTROL_PLANE, components=components, flags=FLAGS) as cluster:
        kubeconfig = str(cluster.kubeconfig)
        with config.new_client_from_config(kubeconfig, persist_config=False) as api:
            client.NodeV1Api(api).create_runtime_class(
                {
                    "metadata": {"name": RUNTIME_CLASS},
                    "handler": "none",
                    "overhead": {"podFixed": OVERHEAD},
                }
            )
            yield client.CoreV1Api(api)


class TestQuota:
    def test_counts_each_shape_as_expected(self, core: client.CoreV1Api) -> None:
        for name, shape in SHAPES.items():
            core.create_namespace({"metadata": {"name": name}})
            create_pod(core, name, "shape", {**shape.spec, "schedulerName": "none"})
            # After the Pod: it would ask that each container sets what it counts.
            hard = {f"{kind}.{one}": "1000" for kind in COUNTED for one in COUNTED[kind]}
            quota = {"metadata": {"name": "all"}, "spec": {"hard": hard}}
            core.create_namespaced_resource_quota(name, quota)

        def different() -> dict[str, Amounts]:
            found = {name: used(core, name) for name in SHAPES}
            return {name: found[name] for name in SHAPES if found[name] != as_counted(SHAPES[name])}

        until(lambda: not different(), "used as expected", different, PATIENCE)


class TestScheduler:
    def test_needs_what_is_requested_and_not_a_bit_less(self, core: client.CoreV1Api) -> None:
        expected: dict[str, str] = {}
        for name, shape in SHAPES.items():
            offer(core, name, shape, shape.requests)
            expected[name] = "fits"
            for lacking, amount in shape.requests.items():
                if amount != "0":
                    node = f"{name}.{lacking.replace('/', '.')}".lower()
                    offer(
                        core, node, shape, {**shape.requests, lacking: a_bit_less(lacking, amount)}
                    )
                    expected[node] = f"Insufficient {lacking}"

        def different() -> dict[str, str]:
            answers = {pod.metadata.name: pod for pod in core.list_namespaced_pod("default").items}
            return {
                name: found
                for name, wanted in expected.items()
                if wanted not in (found := answer(answers[name]))
            }

        until(lambda: not different(), "scheduled as expected", different, PATIENCE)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_created_pod_counts_as_its_template(core: client.CoreV1Api, shape: Shape) -> None:
    """With the API server's defaults in it and in its spelling."""
    created = create_pod(core, "default", "shape", shape.spec, dry_run="All")
    assert effective_resources(created["spec"]) == effective_resources(shape.spec)


def create_pod(
    core: client.CoreV1Api, namespace: str, name: str, spec: dict[str, Any], **options: Any
) -> dict[str, Any]:
    body = {"metadata": {"name": name}, "spec": spec}
    pod = core.create_namespaced_pod(namespace, body, field_validation="Strict", **options)
    raw: dict[str, Any] = core.api_client.sanitize_for_serialization(pod)
    return raw


def used(core: client.CoreV1Api, namespace: str) -> Amounts:
    """What quota says, of what it says that any is used."""
    quota = core.read_namespaced_resource_quota("all", namespace)
    counted = (quota.status and quota.status.used) or {}
    return {name: amount for name, amount in counted.items() if amount != "0"}


def as_counted(shape: Shape) -> Amounts:
    """The same, as it should be."""
    asked = {"requests": shape.requests, "limits": shape.limits}
    return {
        f"{kind}.{name}": asked[kind][name]
        for kind, names in COUNTED.items()
        for name in names
        if asked[kind].get(name, "0") != "0"
    }


def offer(core: client.CoreV1Api, name: str, shape: Shape, amounts: Amounts) -> None:
    """A node that has so much, and a Pod of this shape for it alone."""
    capacity = {**amounts, "pods": "1"}
    status = {"capacity": capacity, "allocatable": capacity}
    core.create_node({"metadata": {"name": name, "labels": {"name": name}}, "status": status})
    create_pod(core, "default", name, {**shape.spec, "nodeSelector": {"name": name}})


def a_bit_less(name: str, amount: str) -> str:
    """A thousandth of a CPU less, and of all else one."""
    return str(Quantity(Quantity.parse(amount).milli - (1 if name == "cpu" else 1000)))


def answer(pod: Any) -> str:
    """The scheduler's."""
    if pod.spec.node_name:
        return "fits"
    said = [c.message for c in pod.status.conditions or () if c.type == "PodScheduled"]
    return said[0] if said else "nothing yet"
