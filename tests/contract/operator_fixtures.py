"""A pytest plugin with fixtures for tests of the operator."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from tests.adjusted_operator import ADJUST
from tests.builders import running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv, RequestCounter
from tests.contract.replicas import Replicas
from tests.operator_process import OperatorProcess, PreloadedOperator
from tests.statuses import is_ready


@pytest.fixture
def env(api: client.ApiClient, namespace: str) -> ContractEnv:
    """Returns the environment in the test's namespace."""
    return ContractEnv(api, namespace)


@pytest.fixture
def user(namespace: str) -> str:
    """Returns the operator's user name, which is unique to the test."""
    return f"operator-{namespace}"


@pytest.fixture
def stopped_operator(
    control_plane: Cluster, user: str, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """Returns an operator for the test's namespace that was not started yet. It does not sweep."""
    process = PreloadedOperator(
        control_plane.kubeconfig_for(user, ["system:masters"]),
        tmp_path / "operator.log",
        ["--namespace", namespace, "--sweep-seconds", "99999"],
    )
    yield process
    if process.running:
        process.kill()


@pytest.fixture
def operator(stopped_operator: OperatorProcess) -> OperatorProcess:
    """Starts the operator."""
    stopped_operator.start()
    return stopped_operator


@pytest.fixture
def request_counter(control_plane: Cluster, user: str) -> RequestCounter:
    """Returns a counter of the operator's requests."""
    return RequestCounter(control_plane.audit_log, user)


@pytest.fixture(scope="module")
def shared_user() -> str:
    """Returns the user name of the shared operator."""
    return f"operator-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def shared_constants() -> dict[str, float]:
    """Returns the constants of the shared operator that differ (tests/adjusted_operator.py)."""
    return {}


@pytest.fixture(scope="module")
def shared_operator(
    control_plane: Cluster,
    api: client.ApiClient,
    shared_user: str,
    shared_constants: dict[str, float],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OperatorProcess]:
    """Starts an operator of all namespaces for all tests of a module. Waits until a pipeline is
    Ready: right after its start the API server can need seconds for a request, and a report that
    comes so late costs a write of its own."""
    kubeconfig = control_plane.kubeconfig_for(shared_user, ["system:masters"])
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    arguments = ["--sweep-seconds", "99999", "--log-level", "debug"]
    adjusted = {ADJUST: json.dumps(shared_constants)}
    with (
        OperatorProcess(kubeconfig, log, arguments, adjusted, "tests.adjusted_operator")
        if shared_constants
        else PreloadedOperator(kubeconfig, log, arguments)
    ) as process:
        first = ContractEnv(api, f"first-{shared_user}")
        client.CoreV1Api(api).create_namespace({"metadata": {"name": first.namespace}})
        first.create()
        first.run_pod(running_pod())
        first.wait("Ready", is_ready)
        yield process


@pytest.fixture
def shared_request_counter(
    control_plane: Cluster, shared_user: str, namespace: str
) -> RequestCounter:
    """Returns a counter of the shared operator's requests in the test's namespace."""
    return RequestCounter(control_plane.audit_log, shared_user, namespace)


@pytest.fixture
def replicas(
    control_plane: Cluster, api: client.ApiClient, user: str, namespace: str, tmp_path: Path
) -> Iterator[Replicas]:
    kubeconfig = control_plane.kubeconfig_for(user, ["system:masters"])
    replicas = Replicas(kubeconfig, api, namespace, tmp_path)
    yield replicas
    replicas.stop()
