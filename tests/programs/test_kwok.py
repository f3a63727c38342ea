"""Fake nodes run the init containers of a Pod like a kubelet."""

import os
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.kwok import FakeNodes
from tests.cluster.plan import Component, Mode
from tests.kubectl import Kubectl
from tests.poll import poll_until

pytestmark = pytest.mark.cluster

PODS = 20
STEPS = 4


def pod(name: str) -> dict[str, Any]:
    steps = [{"name": f"step-{i}", "image": "none.test/none"} for i in range(STEPS)]
    main = {"name": "main", "image": "none.test/none"}
    spec = {"restartPolicy": "Never", "initContainers": steps, "containers": [main]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def states(status: dict[str, Any]) -> str:
    """Return the initial letters of the init containers' states: waiting, running, terminated."""
    return "".join(next(iter(one["state"]))[0] for one in status.get("initContainerStatuses", []))


def test_init_containers_run_one_after_the_other() -> None:
    components = {Component.CONTROLLER_MANAGER, Component.SCHEDULER}
    with (
        Cluster(f"test-kwok-{os.getpid()}", Mode.CONTROL_PLANE, components=components) as cluster,
        FakeNodes(cluster, 3) as nodes,
    ):
        pods = [pod(f"p-{number}") for number in range(PODS)]
        Kubectl(cluster.kubeconfig)("create", "-f", "-", stdin=pods)
        seen: set[str] = set()

        def all_succeeded() -> bool:
            listed = cluster.api.get("/api/v1/namespaces/default/pods") or {"items": []}
            statuses = [one["status"] for one in listed["items"]]
            seen.update(map(states, statuses))
            return [one["phase"] for one in statuses] == ["Succeeded"] * PODS

        poll_until(all_succeeded, 60, "all Pods have succeeded", state=lambda: seen)
        sequential = {f"{'t' * i}r{'w' * (STEPS - 1 - i)}" for i in range(STEPS)}
        assert seen <= sequential | {"", "t" * STEPS}
        assert len(seen & sequential) > 1
        assert "failed to apply stage" not in nodes.daemon.log.read_text()
