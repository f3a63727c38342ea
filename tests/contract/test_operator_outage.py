"""The operator during outages and changes of its API server, on a cluster of its own.

The tests build on each other: one operator runs through all of them.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from initpipeline.api import names
from tests.api_client import connected
from tests.builders import running_pod
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component, Mode
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv
from tests.contract.etcd_backup import backup, restore
from tests.installation import CRDS, install_crd
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.ports import free_port
from tests.scraping import pipelines, scraped
from tests.statuses import is_ready, runs_in

RESTORED_SECONDS = 200
"""Longer than the time after which a silent watch is opened again."""
READY = running_pod()
LOST = [(1, "Created", "Lost"), (2, "PodLost", "")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Starts an API server for this module."""
    with Cluster(f"outage-{os.getpid()}", Mode.CONTROL_PLANE) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def metrics() -> str:
    """Returns the address of the operator's metrics."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def process(
    cluster: Cluster, metrics: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """Returns an operator of all namespaces that does not sweep and was not started yet."""
    log = tmp_path_factory.mktemp("outage") / "operator.log"
    arguments = ["--sweep-seconds", "99999", "--metrics-address", metrics]
    process = OperatorProcess(cluster.kubeconfig, log, arguments)
    yield process
    if process.running:
        process.kill()


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Kubectl:
    return Kubectl(cluster.kubeconfig, executable=cluster.kubectl)


@pytest.fixture(scope="module")
def served(process: OperatorProcess, cluster: Cluster, kubectl: Kubectl) -> OperatorProcess:
    """Starts the operator on a cluster that has the CRD."""
    kubectl("apply", "-f", str(CRDS))
    resource = f"/apis/{names.API_VERSION}/{names.PLURAL}"
    poll_until(lambda: cluster.api.get(resource), TIMEOUT_SECONDS, "the resource is served")
    process.start()
    return process


@pytest.fixture
def env(cluster: Cluster, served: OperatorProcess) -> Iterator[ContractEnv]:
    """Returns an environment with a pipeline that is Ready."""
    with connected(cluster.kubeconfig) as api:
        env = ContractEnv.new(api)
        env.create()
        env.run_pod(READY)
        env.wait("Ready", is_ready)
        assert served.running
        yield env


def restart(cluster: Cluster) -> None:
    cluster.stop(Component.API_SERVER)
    cluster.start(Component.API_SERVER)


def test_start_without_the_crd_is_an_error_with_a_remedy(process: OperatorProcess) -> None:
    with pytest.raises(AssertionError, match="ended with 1"):
        process.start()
    [line] = process.log.read_text().splitlines()
    process.log.unlink()
    assert line.startswith("error: https://127.0.0.1:")
    assert line.endswith(
        "does not know the kind InitPipeline: install it with 'kubectl apply -f crds/'"
    )


def test_operator_continues_after_a_restart_of_the_api_server(
    served: OperatorProcess, cluster: Cluster, env: ContractEnv
) -> None:
    restart(cluster)
    env.report(READY.ready(False))
    env.wait("Ready is False", lambda status: not is_ready(status))
    assert served.running


@contextlib.contextmanager
def expired_watches(process: OperatorProcess, cluster: Cluster, env: ContractEnv) -> Iterator[None]:
    """Stop the operator until the resource versions of its watches are too old (410 Gone)."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        env.patch({"metadata": {"labels": {"history": "longer"}}})
        restart(cluster)
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def deletions(process: OperatorProcess) -> list[str]:
    """Returns the kinds of the deleted objects that a list has found."""
    found = (line for line in process.lines() if line["message"] == "deletion found by list")
    return [line["kind"] for line in found]


def test_deleted_pod_that_the_watch_missed_is_found_by_the_next_list(
    served: OperatorProcess, cluster: Cluster, env: ContractEnv
) -> None:
    """The watch lists again, and the list does not have the deleted Pod."""
    with expired_watches(served, cluster, env):
        env.delete_pod()
    env.wait_for_pod(run=2)
    assert runs_in(env.status()) == LOST
    assert deletions(served) == ["Pod"]


def test_deleted_pipeline_that_the_watch_missed_is_found_by_the_next_list(
    served: OperatorProcess, cluster: Cluster, env: ContractEnv
) -> None:
    """Kopf lists again, and reports no deletion itself."""
    with expired_watches(served, cluster, env):
        env.delete("Background")
    poll_until(
        lambda: "InitPipeline" in deletions(served),
        TIMEOUT_SECONDS,
        "the deletion in the log",
        state=served.tail,
    )


def test_signal_during_an_outage_ends_the_operator_with_0(
    served: OperatorProcess, cluster: Cluster
) -> None:
    cluster.stop(Component.API_SERVER)
    poll_until(
        lambda: served.lines()[-1]["level"] != "INFO",
        TIMEOUT_SECONDS,
        "a log line about the outage",
        state=served.tail,
    )
    assert served.stop() == 0
    assert served.lines()[-1]["message"] == "operator stopped"
    cluster.start(Component.API_SERVER)
    served.start()


def test_outages_are_logged_without_tracebacks(served: OperatorProcess) -> None:
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize(
    "bump",
    [
        pytest.param(False, id="same-revisions"),
        pytest.param(True, id="bumped-revision", marks=pytest.mark.long),
    ],
)
def test_operator_starts_over_after_a_restore_of_etcd(
    served: OperatorProcess,
    cluster: Cluster,
    env: ContractEnv,
    metrics: str,
    tmp_path: Path,
    bump: bool,
) -> None:
    """The second run and another pipeline are lost. The operator serves what the cluster has, and
    its metrics count that."""
    pid = served.pid
    backup(cluster, tmp_path / "data")
    env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "lost"}}})
    env.wait("the second run", lambda status: runs_in(status)[1:])
    env.delete_pod()
    env.run_pod(running_pod(run=2), run=2)
    env.wait("Ready", is_ready)
    lost = ContractEnv.new(env.api)
    lost.create()
    lost.wait_for_pod(run=1)
    lost.wait("its first status", lambda status: status.get("conditions"))
    existing = pipelines(scraped(metrics)) - 1
    restore(cluster, tmp_path / "data", bump)
    assert runs_in(env.status()) == [(1, "Created", "")]
    env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "kept"}}})
    env.wait("the second run", lambda status: runs_in(status)[1:], RESTORED_SECONDS)
    env.delete_pod()
    env.run_pod(running_pod(run=2), run=2)
    env.wait("Ready", is_ready)
    assert runs_in(env.status()) == [(1, "Created", "Initialized"), (2, "Requested", "")]
    assert (served.running, served.pid) == (True, pid)
    samples = scraped(metrics)
    assert pipelines(samples) == existing
    assert samples["initpipeline_cache_objects", ("initpipelines",)] == existing


def test_operator_continues_when_the_crd_is_deleted_and_created_again(
    served: OperatorProcess, cluster: Cluster, kubectl: Kubectl, env: ContractEnv
) -> None:
    """The API server deletes all InitPipelines with the CRD. No garbage collector runs here."""
    pid = served.pid
    kubectl("delete", "-f", str(CRDS), "--timeout=60s")
    poll_until(
        lambda: "404" in served.log.read_text(),
        TIMEOUT_SECONDS,
        "the operator has noticed the deletion",
        state=served.tail,
    )
    install_crd(cluster)
    env.delete_pod()
    env.create()
    env.run_pod(READY)
    env.wait("Ready", is_ready)
    assert (served.running, served.pid) == (True, pid)
    assert "Traceback" not in served.log.read_text()
