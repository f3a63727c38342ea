"""The operator is killed again and again while things happen: the end is the same as if not."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.conftest import World, runs
from tests.e2e.templates import two_steps
from tests.operator_process import OperatorProcess


@contextmanager
def dying(operator: OperatorProcess, seed: int) -> Iterator[None]:
    """Kill and start the operator, at moments drawn by chance, until the block has ended."""
    chance = random.Random(seed)
    over = threading.Event()

    def kill_and_start() -> None:
        while not over.wait(chance.uniform(0.0, 1.5)):
            operator.kill()
            operator.start()

    killer = threading.Thread(target=kill_and_start)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_run_is_lost_or_doubled(
    world: World, node: Cluster, operator: OperatorProcess, seed: int
) -> None:
    with dying(operator, seed):
        world.create("demo", two_steps())
        world.wait_ready("demo", run=1)
        node.kill_sandbox(world.namespace, "demo")
        world.wait_ready("demo", run=2)
        world.delete_pod("demo")
        world.wait_ready("demo", run=3)
        world.patch("demo", {"metadata": {"annotations": {"initpipeline.dev/rerun": "again"}}})
        state = world.wait_ready("demo", run=4)

    assert runs(state) == [
        (1, "Created", "Initialized"),
        (2, "PodRestarted", "Lost"),
        (3, "PodLost", "Initialized"),
        (4, "Requested", ""),
    ]
    pods = {pod["metadata"]["uid"] for pod in world.pods.of("demo")}
    assert len(pods) == 3, "one Pod for each run that the operator made, and no other"
