"""The operator is killed repeatedly during a pipeline's life, and the result is the same."""

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.presence import dying
from tests.operator_process import OperatorProcess
from tests.statuses import runs
from tests.templates import two_steps


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)]
)
def test_killed_operator_neither_loses_nor_repeats_a_run(
    env: E2EEnv, node: Cluster, operator: OperatorProcess, seed: int
) -> None:
    with dying(operator, seed):
        env.create_ready("demo", two_steps())
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
    assert len(pods) == 3, "one Pod for each run that needs a new one"
