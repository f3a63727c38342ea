"""An API server that goes away, comes back, and is not what it was: a cluster of its own.

The tests build on one another: one operator lives through all of them.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from kubernetes import config

from initpipeline.api import names
from tests.builders import running_pod
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component, Mode
from tests.contract.conftest import CRDS
from tests.contract.operator_world import World, ready, runs, until
from tests.operator_process import OperatorProcess

READY = running_pod()
LOST = [(1, "Created", "Lost"), (2, "PodLost", "")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """An API server that nobody else uses."""
    with Cluster(f"outage-{os.getpid()}", Mode.CONTROL_PLANE) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def process(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """An operator of all namespaces that sweeps often, not started yet."""
    log = tmp_path_factory.mktemp("outage") / "operator.log"
    process = OperatorProcess(cluster.kubeconfig, log, ["--sweep-seconds", "1"])
    yield process
    if process.running:
        process.kill()


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Callable[..., None]:
    def run(*arguments: str) -> None:
        command = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    return run


@pytest.fixture(scope="module")
def served(
    process: OperatorProcess, cluster: Cluster, kubectl: Callable[..., None]
) -> OperatorProcess:
    """The operator, started on a cluster that knows the kind."""
    kubectl("apply", "-f", str(CRDS))
    kind = f"/apis/{names.API_VERSION}/{names.PLURAL}"
    until(lambda: cluster.api.get(kind), "the kind", lambda: "not served")
    process.start()
    return process


@pytest.fixture
def world(cluster: Cluster, served: OperatorProcess) -> Iterator[World]:
    """A pipeline that is Ready."""
    with config.new_client_from_config(str(cluster.kubeconfig), persist_config=False) as api:
        world = World.new(api)
        world.create()
        world.live(READY)
        world.wait("Ready", ready)
        assert served.running
        yield world


def restart(cluster: Cluster) -> None:
    cluster.stop(Component.API_SERVER)
    cluster.start(Component.API_SERVER)


def test_without_the_crd_it_says_what_to_do(process: OperatorProcess) -> None:
    with pytest.raises(AssertionError, match="ended with 1"):
        process.start()
    [line] = process.log.read_text().splitlines()
    process.log.unlink()
    assert line.startswith("error: https://127.0.0.1:")
    assert line.endswith(
        "does not know the kind InitPipeline: install it with 'kubectl apply -f crds/'"
    )


def test_it_goes_on_after_a_restart_of_the_api_server(
    served: OperatorProcess, cluster: Cluster, world: World
) -> None:
    restart(cluster)
    world.report(READY.ready(False))
    world.wait("word of it", lambda status: not ready(status))
    assert served.running


def test_a_deletion_that_no_watch_told_is_found_by_sweep(
    served: OperatorProcess, cluster: Cluster, world: World
) -> None:
    """The operator is held until its place in the history is too old to go on from (410 Gone):
    then it lists anew, and what vanished in between is in no list."""
    os.kill(served.pid, signal.SIGSTOP)
    try:
        world.patch({"metadata": {"labels": {"history": "longer"}}})
        restart(cluster)
        world.delete_pod()
    finally:
        os.kill(served.pid, signal.SIGCONT)
    world.wait_for_pod(run=2)
    assert runs(world.status()) == LOST
    assert "deletion found by sweep" in [line["message"] for line in served.lines()]


def test_a_signal_in_an_outage_is_a_clean_end(served: OperatorProcess, cluster: Cluster) -> None:
    cluster.stop(Component.API_SERVER)
    until(lambda: served.lines()[-1]["level"] != "INFO", "notice of the outage", served.tail)
    assert served.stop() == 0
    assert served.lines()[-1]["message"] == "operator stopped"
    cluster.start(Component.API_SERVER)
    served.start()


def test_outages_are_told_without_tracebacks(served: OperatorProcess) -> None:
    assert "Traceback" not in served.log.read_text()


def test_it_ends_when_the_crd_is_deleted(
    served: OperatorProcess, kubectl: Callable[..., None], world: World
) -> None:
    """Nothing is left to be watched: a process that stayed would only look alive."""
    assert world.pod() is not None
    kubectl("delete", "-f", str(CRDS), "--wait=false")
    until(lambda: not served.running, "the end", served.tail)
    *_, line = served.log.read_text().splitlines()
    assert served.stop() == 1
    assert line.startswith("error: watching https://127.0.0.1:"), line
    assert "Traceback" not in served.log.read_text()
