"""Fixtures of the end-to-end tests: a cluster for all, a namespace and an operator for each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import watching
from tests.api_client import connected
from tests.cluster.cluster import Cluster
from tests.e2e import target
from tests.e2e.e2e_env import E2EEnv
from tests.installation import allow_in, allow_leases, kubeconfig_of_the_operator
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess, PreloadedOperator
from tests.plugin import Call, PluginResult, run_plugin


@pytest.fixture(scope="session")
def cluster() -> Iterator[target.Target]:
    """Start the cluster, and install what an operator needs."""
    with target.chosen() as chosen:
        yield target.installed(chosen)


@pytest.fixture
def node(cluster: target.Target) -> Cluster:
    """Return the cluster, for faults on its node. Skip the test if the node is unreachable."""
    return cluster.node_access


@pytest.fixture
def kubeconfig(cluster: target.Target) -> str:
    """Return the path of the kubeconfig, which kubetest's ``kube`` reads."""
    return str(cluster.kubeconfig)


@pytest.fixture(scope="module")
def operators_kubeconfig(cluster: target.Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a kubeconfig of the installed service account, so that each test checks its role."""
    file = tmp_path_factory.mktemp("operator") / "kubeconfig"
    return kubeconfig_of_the_operator(Kubectl(cluster.kubeconfig), file)


@pytest.fixture
def permitted_kubeconfig(cluster: target.Target, operators_kubeconfig: Path, kube: Any) -> Path:
    """Permit the installed service account the operator's requests in the test's namespace, and
    return its kubeconfig."""
    allow_leases(Kubectl(cluster.kubeconfig), kube.namespace)
    if target.namespaced():
        allow_in(Kubectl(cluster.kubeconfig), kube.namespace)
    return operators_kubeconfig


@pytest.fixture
def operator(permitted_kubeconfig: Path, kube: Any, tmp_path: Path) -> Iterator[OperatorProcess]:
    """Run an operator for the test's namespace. If the test fails, pytest prints its last log."""
    arguments = ["--namespace", kube.namespace, "--log-format", "json"]
    with PreloadedOperator(permitted_kubeconfig, tmp_path / "operator.log", arguments) as operator:
        yield operator
        print(operator.tail())


@pytest.fixture
def kubectl(cluster: target.Target, kube: Any) -> Kubectl:
    """Return an administrator's kubectl in the test's namespace."""
    return Kubectl(cluster.kubeconfig, kube.namespace)


@pytest.fixture
def env(cluster: target.Target, kube: Any) -> Iterator[E2EEnv]:
    """Return the test's namespace, which is watched from its beginning."""
    with connected(cluster.kubeconfig) as api:
        pipelines = watching.pipelines(api, kube.namespace)
        pods = watching.pods(api, kube.namespace)
        yield E2EEnv(kube.namespace, api, pipelines, pods)
        pipelines.end()
        pods.end()


@pytest.fixture
def call(
    cluster: target.Target,
    env: E2EEnv,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """Return a function that runs the plugin in the test's namespace, without a terminal."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))

    def call(*arguments: str) -> PluginResult:
        return run_plugin(capsys, *arguments, "-n", env.namespace)

    return call
