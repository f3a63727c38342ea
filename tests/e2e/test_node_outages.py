"""The kubelet or the container runtime stops and comes back.

No run is lost or repeated. Containers end during the outage: a file in their volume, written from
outside the node, ends them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import pytest
from kubernetes import client

from initpipeline.api.raw import Raw
from tests.cluster.cluster import Cluster
from tests.e2e import node_faults
from tests.e2e.conftest import E2EEnv
from tests.e2e.templates import SHARED, WORK, container, template
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import has_ready, reason_of, runs, status_of

pytestmark = pytest.mark.long

BACK_SECONDS: Final = 120.0

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
