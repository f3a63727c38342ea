"""rerunStrategy InPlace on a cluster whose only node cannot restart all containers of a Pod.

Nodes of earlier Kubernetes versions cannot. The API server accepts the restart rules, but the
scheduler finds no node for the Pod.
"""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.target import Target, installed
from tests.operator_process import OperatorProcess
from tests.statuses import message_of, reason_of, runs
from tests.templates import two_steps

pytestmark = pytest.mark.cluster

OFF = "--feature-gates=RestartAllContainersOnContainerExits=false"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Target]:
    """Start a cluster for this module, in place of the one that the other tests share."""
    if os.environ.get("CLUSTER"):
        pytest.skip("needs a node of an earlier version, which CLUSTER=current does not give")
    with Cluster(f"e2e-old-node-{os.getpid()}", flags={Component.KUBELET: [OFF]}) as own:
        yield installed(Target(own.kubeconfig, own))


def test_pod_is_created_without_rules_and_replaced_after_a_crash(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    env.create("demo", two_steps(), rerunStrategy="InPlace")

    first = env.wait_ready("demo", run=1)
    assert runs(first) == [(1, "Created", "")], "the unschedulable Pod belonged to the same run"
    assert reason_of(first, "InPlaceUnavailable") == "InPlaceUnsupported"
    assert "didn't match Pod's required features" in message_of(first, "InPlaceUnavailable")

    node.kill_container(env.namespace, "demo", "app")

    second = env.wait_ready("demo", run=2)
    assert runs(second) == [(1, "Created", "Initialized"), (2, "ContainerRestarted", "")]
    assert reason_of(second, "InPlaceUnavailable") == "InPlaceUnsupported"
