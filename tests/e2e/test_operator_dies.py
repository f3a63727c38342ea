"""The operator is killed again and again while things happen: the end is the same as if not."""

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.conftest import E2EEnv, runs
from tests.e2e.presence import dying
from tests.e2e.templates import two_steps
from tests.operator_process import OperatorProcess


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_run_is_lost_or_doubled(
    env: E2EEnv, node: Cluster, operator: OperatorProcess, seed: int
) -> None:
    with dying(operator, seed):
        env.create("demo", two_steps())
        env.wait_ready("demo", run=1)
        node.kill_sandbox(env.namespace, "demo")
        env.wait_ready("demo", run=2)
        env.delete_pod("demo")
        env.wait_ready("demo", run=3)
        env.request_run("demo", "again")
        state = env.wait_ready("demo", run=4)

    assert runs(state) == [
        (1, "Created", "Initialized"),
        (2, "PodRestarted", "Lost"),
        (3, "PodLost", "Initialized"),
        (4, "Requested", ""),
    ]
    pods = {pod["metadata"]["uid"] for pod in env.pods.of("demo")}
    assert len(pods) == 3, "one Pod for each run that the operator made, and no other"
