"""Fake nodes run the containers of a Pod like a kubelet."""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bench import environment
from tests.bench.connection import Connection, connect
from tests.bench.errors import BenchError
from tests.bench.workloads import PODS_PATH
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import ready
from tests.cluster.kwok import FakeNodes
from tests.cluster.plan import Component, Mode
from tests.kubectl import Kubectl
from tests.poll import poll_until

pytestmark = pytest.mark.cluster

PODS = 20
STEPS = 4
STEP_OF_TEKTON = {"app.kubernetes.io/managed-by": "tekton-pipelines"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[FakeNodes]:
    """Start a cluster with fake nodes, which also know the stages of the benchmark."""
    components = {Component.CONTROLLER_MANAGER, Component.SCHEDULER}
    with (
        Cluster(f"test-kwok-{os.getpid()}", Mode.CONTROL_PLANE, components=components) as cluster,
        FakeNodes(cluster, 3, (environment.STAGES,)) as nodes,
    ):
        yield nodes
        assert "failed to apply stage" not in nodes.daemon.log.read_text()


def containers(count: int) -> list[dict[str, Any]]:
    return [{"name": f"step-{i}", "image": "none.test/none"} for i in range(count)]


def pod(name: str, labels: dict[str, str], **containers: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    spec = {"restartPolicy": "Never", **containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def states(status: dict[str, Any], field: str) -> str:
    """Return the initial letters of the containers' states: waiting, running, terminated."""
    return "".join(next(iter(one["state"]))[0] for one in status.get(field, []))


def observed(nodes: FakeNodes, pods: list[dict[str, Any]], field: str) -> set[str]:
    """Create the Pods, and return all observed states of their containers until the end."""
    cluster, label = nodes.cluster, next(iter(pods[0]["metadata"]["labels"]))
    Kubectl(cluster.kubeconfig)("create", "-f", "-", stdin=pods)
    path = f"/api/v1/namespaces/default/pods?labelSelector={label}"
    seen: set[str] = set()

    def all_succeeded() -> bool:
        listed = cluster.api.get(path) or {"items": []}
        statuses = [one["status"] for one in listed["items"]]
        seen.update(states(status, field) for status in statuses)
        return [one["phase"] for one in statuses] == ["Succeeded"] * len(pods)

    poll_until(all_succeeded, 60, "all Pods have succeeded", state=lambda: seen)
    return seen


def test_init_containers_run_one_after_the_other(nodes: FakeNodes) -> None:
    parts = {"initContainers": containers(STEPS), "containers": containers(1)}
    parts["containers"][0]["name"] = "main"
    pods = [pod(f"p-{number}", {"init": ""}, **parts) for number in range(PODS)]
    seen = observed(nodes, pods, "initContainerStatuses")
    sequential = {f"{'t' * i}r{'w' * (STEPS - 1 - i)}" for i in range(STEPS)}
    assert seen <= sequential | {"", "t" * STEPS}
    assert len(seen & sequential) > 1


def test_steps_of_tekton_start_together_and_end_one_after_the_other(nodes: FakeNodes) -> None:
    pods = [
        pod(f"t-{number}", STEP_OF_TEKTON, containers=containers(STEPS)) for number in range(PODS)
    ]
    seen = observed(nodes, pods, "containerStatuses")
    sequential = {f"{'t' * i}{'r' * (STEPS - i)}" for i in range(STEPS)}
    assert seen <= sequential | {"", "w" * STEPS, "t" * STEPS}
    assert len(seen & sequential) > 1


def test_pods_that_waited_for_kwok_continue_after_its_restart(nodes: FakeNodes) -> None:
    nodes.stop()
    Kubectl(nodes.cluster.kubeconfig)(
        "create", "-f", "-", stdin=pod("waits", {"waits": ""}, containers=containers(1))
    )
    nodes.restart()

    def phase() -> str:
        found = nodes.cluster.api.get(f"{PODS_PATH}/waits") or {"status": {}}
        return str(found["status"].get("phase"))

    poll_until(lambda: phase() == "Succeeded", 60, "the Pod has succeeded", state=phase)


def test_node_that_was_lost_is_ready_again_with_its_pods(nodes: FakeNodes) -> None:
    """A kubelet reports its Pods Ready again. The controller manager does not."""
    always = {"restartPolicy": "Always", "containers": containers(1)}
    api, path = nodes.cluster.api, f"{PODS_PATH}/stays"
    Kubectl(nodes.cluster.kubeconfig)(
        "create", "-f", "-", stdin=pod("stays", {"stays": ""}, **always)
    )

    def is_ready() -> bool:
        return ready(api.get(path) or {"status": {}})

    poll_until(is_ready, 60, "the Pod is Ready")
    nodes.stop()
    poll_until(lambda: not is_ready(), 120, "the controller manager reports the Pod as not Ready")
    nodes.restart()
    poll_until(is_ready, 60, "the Pod is Ready again")


def test_deleted_pods_are_removed_once(nodes: FakeNodes) -> None:
    """A second DELETE would remove the next Pod of the name, which is created at once."""
    pods = [pod(f"d-{number}", {"deleted": ""}, containers=containers(1)) for number in range(PODS)]
    for one in pods:
        one["spec"] |= {"restartPolicy": "Always"}
    Kubectl(nodes.cluster.kubeconfig)("create", "-f", "-", stdin=pods)
    running(nodes)
    created = asyncio.run(_replaced(nodes, pods))
    assert running(nodes) == created


def running(nodes: FakeNodes) -> dict[str, str]:
    """Wait until all Pods with the label "deleted" run, and return their UIDs by name."""

    def uids() -> dict[str, str]:
        listed = nodes.cluster.api.get(f"{PODS_PATH}?labelSelector=deleted") or {"items": []}
        phases = {one["status"]["phase"] for one in listed["items"]}
        metadata = [one["metadata"] for one in listed["items"]]
        reached = len(metadata) == PODS and phases == {"Running"}
        return {one["name"]: one["uid"] for one in metadata} if reached else {}

    return poll_until(uids, 60, "all Pods are Running")


async def _replaced(nodes: FakeNodes, pods: list[dict[str, Any]]) -> dict[str, str]:
    """Delete the Pods, create each as soon as its name is free, and return the UIDs by name."""
    async with connect(nodes.cluster.kubeconfig, PODS) as connection:
        return dict(await asyncio.gather(*(_replace(connection, one) for one in pods)))


async def _replace(connection: Connection, manifest: dict[str, Any]) -> tuple[str, str]:
    name = manifest["metadata"]["name"]
    await connection.delete(f"{PODS_PATH}/{name}", {})
    async with asyncio.timeout(60):
        while True:
            try:
                await connection.create(PODS_PATH, json.dumps(manifest).encode())
                return name, (await connection.get(f"{PODS_PATH}/{name}"))["metadata"]["uid"]
            except BenchError:  # 409: the name is taken until kwok has removed the Pod
                await asyncio.sleep(0.002)
