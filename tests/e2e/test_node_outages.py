"""The kubelet, the container runtime or the whole node stops and comes back.

No run is lost or repeated. Containers end during the outage: a file in their volume, written from
outside the node, ends them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Final

import pytest
from kubernetes import client

from initpipeline.api.raw import Raw
from tests.builders import outage_tolerations
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import NODE_NAME
from tests.cluster.kwok import MARK
from tests.e2e import node_faults
from tests.e2e.e2e_env import E2EEnv
from tests.operator_process import OperatorProcess
from tests.plugin import Call
from tests.poll import poll_until
from tests.statuses import has_ready, reason_of, run_number, runs, status_of
from tests.templates import SHARED, WORK, container, template

pytestmark = pytest.mark.long

BACK_SECONDS: Final = 120.0
GONE_SECONDS: Final = 180.0
"""The garbage collector removes the Pods of a deleted Node after 40 to 60 s."""
OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service"

Outage = Callable[[client.ApiClient, Cluster], AbstractContextManager[None]]


def until(file: str, code: int = 0) -> str:
    """Return a script that ends when /data/FILE exists, and then creates /data/FILE-ended."""
    waits = f"until [ -e /data/{file} ]; do sleep 0.2; done"
    return f"{waits}; touch /data/{file}-ended; exit {code}"


STEADY: Final = template(container("one", "true"))
STEPS: Final = template(
    container("one", until("one"), **SHARED), container("two", until("two"), **SHARED), **WORK
)
ENDS: Final[Raw] = {
    **STEADY,
    "spec": {
        **STEADY["spec"],
        **WORK,
        "containers": [container("app", until("end", code=7), **SHARED)],
    },
}


@pytest.mark.parametrize(
    ("outage", "reason"),
    [
        pytest.param(node_faults.kubelet_stopped, "NodeNotReady", id="kubelet"),
        # The kubelet continues to report the Pod Ready, and no controller changes that.
        pytest.param(node_faults.runtime_stopped, "PodReady", id="containerd"),
    ],
)
def test_containers_that_end_while_the_node_is_not_ready_count_once(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
    outage: Outage,
    reason: str,
) -> None:
    env.create_ready("steady", STEADY)
    env.create_ready("ends", ENDS)
    env.create("steps", STEPS)
    env.wait_reason("steps", "StepRunning")

    with outage(env.api, node):
        node_faults.wait_until_not_ready(env.api)
        end(env, node, "steps", "one")
        end(env, node, "ends", "end")
        seen = env.wait_reason("steady", reason)
        assert status_of(seen, "Initialized") == "True"
        assert reason_of(env.pipeline("steady"), "Ready") == reason
        assert reason_of(env.pipeline("steps"), "Initialized") == "StepRunning"

    env.pipelines.wait("steps", "step one is done", lambda state: progress(state) == "1/2")
    assert status_of(env.pipeline("steps"), "Initialized") == "False"
    end(env, node, "steps", "two")
    env.wait_ready("steps", run=1)
    env.wait_ready("ends", run=2)
    poll_until(lambda: has_ready(env.pipeline("steady")), BACK_SECONDS, "Ready again")

    created = (1, "Created", "")
    assert runs(env.pipeline("steady")) == runs(env.pipeline("steps")) == [created]
    restarted = [(1, "Created", "Initialized"), (2, "ContainerRestarted", "")]
    assert runs(env.pipeline("ends")) == restarted
    assert [pods(env, name) for name in ("steady", "steps", "ends")] == [1, 1, 2]


SURVIVOR: Final = "fake-0"
"""The node that `node_faults.another_node` adds. Its Pods are simulated."""


def movable() -> Raw:
    """Return a template whose Pod prefers the real node, may run on the other one, and is evicted
    a second after its node has become unreachable."""
    real = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    preferred = {"weight": 1, "preference": {"matchExpressions": [real]}}
    node = {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}
    return template(
        container("one", "true"),
        terminationGracePeriodSeconds=1,
        tolerations=[{"key": MARK, "operator": "Exists"}, *outage_tolerations(1)],
        affinity={"nodeAffinity": node},
    )


def force_delete(env: E2EEnv) -> None:
    """Delete the Pod as `kubectl delete --force` does."""
    env.delete_pod("demo", grace_period_seconds=0)


def delete_node(env: E2EEnv) -> None:
    """Delete the Node object, as a cloud does when the machine does not exist any more."""
    client.CoreV1Api(env.api).delete_node(NODE_NAME)


def put_out_of_service(env: E2EEnv) -> None:
    """Add the taint that `kubectl initpipeline explain` proposes."""
    taint = {"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}
    core = client.CoreV1Api(env.api)
    taints = env.api.sanitize_for_serialization(core.read_node(NODE_NAME).spec.taints)
    core.patch_node(NODE_NAME, {"spec": {"taints": [*taints, taint]}})


@pytest.mark.parametrize("remedy", [force_delete, delete_node, put_out_of_service])
def test_pod_of_a_vanished_node_is_replaced_when_its_object_is_gone(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
    call: Call,
    remedy: Callable[[E2EEnv], None],
) -> None:
    """Until then its containers may run, so no other Pod is created."""
    with node_faults.another_node(env.api, node), ExitStack() as restored:
        env.create_ready("demo", movable())
        assert env.pod("demo")["spec"]["nodeName"] == NODE_NAME
        restored.enter_context(node_faults.powered_off(env.api, node))
        if remedy is put_out_of_service:
            restored.callback(remove_taint, env)
        env.wait_reason("demo", "NodeNotReady")
        waits = env.wait_reason("demo", "PodTerminating")
        assert reason_of(waits, "Reconciling") == "PodTerminating"
        assert status_of(waits, "Initialized") == "True"
        explained = call("explain", "demo").out
        assert "the Pod is being deleted: Taint manager" in explained
        assert "run 1 ends when its Pod is gone" in explained
        assert pods(env, "demo") == 1
        remedy(env)
        env.pipelines.wait("demo", "run 2", lambda state: run_number(state) == 2, GONE_SECONDS)
        ready = env.wait_ready("demo", run=2)
        assert ready["status"]["nodeName"] == SURVIVOR

    assert runs(env.pipeline("demo")) == [(1, "Created", "Lost"), (2, "PodLost", "")]
    assert pods(env, "demo") == 2


def remove_taint(env: E2EEnv) -> None:
    core = client.CoreV1Api(env.api)
    taints = env.api.sanitize_for_serialization(core.read_node(NODE_NAME).spec.taints or [])
    kept = [taint for taint in taints if taint["key"] != OUT_OF_SERVICE]
    core.patch_node(NODE_NAME, {"spec": {"taints": kept}})


def end(env: E2EEnv, node: Cluster, name: str, file: str) -> None:
    """Let the container that waits for this file end, and return when it has."""
    folder = node.volume(env.pipeline(name)["status"]["podUID"], "work")
    (folder / file).touch()
    poll_until((folder / f"{file}-ended").exists, BACK_SECONDS, f"{file} has ended")


def progress(state: Raw) -> str:
    return str(state.get("status", {}).get("initProgress"))


def pods(env: E2EEnv, name: str) -> int:
    """Return how many Pods the pipeline has had."""
    return len({pod["metadata"]["uid"] for pod in env.pods.of(name)})
