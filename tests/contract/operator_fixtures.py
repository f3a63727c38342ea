"""A pytest plugin for tests of the operator: a test's own world, and an operator that serves it."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from tests.cluster.cluster import Cluster
from tests.contract.operator_world import Ledger, World
from tests.operator_process import OperatorProcess


@pytest.fixture
def world(api: client.ApiClient, namespace: str) -> World:
    return World(api, namespace)


@pytest.fixture
def user(namespace: str) -> str:
    """Whom the operator is for the API server: somebody else in each test."""
    return f"operator-{namespace}"


@pytest.fixture
def stopped_operator(
    control_plane: Cluster, user: str, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """An operator for the test's namespace, that sweeps never, and was not started yet."""
    process = OperatorProcess(
        control_plane.kubeconfig_for(user, ["system:masters"]),
        tmp_path / "operator.log",
        ["--namespace", namespace, "--sweep-seconds", "99999"],
    )
    yield process
    if process.running:
        process.kill()


@pytest.fixture
def operator(stopped_operator: OperatorProcess) -> OperatorProcess:
    """The same, started."""
    stopped_operator.start()
    return stopped_operator


@pytest.fixture
def ledger(control_plane: Cluster, user: str) -> Ledger:
    return Ledger(control_plane.audit_log, user)


@pytest.fixture(scope="module")
def shared_user() -> str:
    return f"operator-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def shared_operator(
    control_plane: Cluster, shared_user: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """An operator for all namespaces, that all tests of a module use."""
    kubeconfig = control_plane.kubeconfig_for(shared_user, ["system:masters"])
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with OperatorProcess(kubeconfig, log, ["--sweep-seconds", "99999"]) as process:
        yield process


@pytest.fixture
def shared_ledger(control_plane: Cluster, shared_user: str, namespace: str) -> Ledger:
    """What that operator asked about the test's namespace."""
    return Ledger(control_plane.audit_log, shared_user, namespace)
