"""Fixtures of the end-to-end tests: a cluster for all, a namespace and an operator for each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests import watching
from tests.api_client import Pipelines, connected, manifest
from tests.cluster.cluster import Cluster
from tests.e2e import target
from tests.installation import allow_in, allow_leases, kubeconfig_of_the_operator
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.plugin import Call, PluginResult, run_plugin
from tests.statuses import reason_of, run_number, status_of
from tests.watching import WatchLog


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
def operator(
    cluster: target.Target, operators_kubeconfig: Path, kube: Any, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """Run an operator for the test's namespace. If the test fails, pytest prints its last log."""
    arguments = ["--namespace", kube.namespace, "--log-format", "json"]
    allow_leases(Kubectl(cluster.kubeconfig), kube.namespace)
    if target.namespaced():
        allow_in(Kubectl(cluster.kubeconfig), kube.namespace)
    with OperatorProcess(operators_kubeconfig, tmp_path / "operator.log", arguments) as operator:
        yield operator
        print(operator.tail())


@pytest.fixture
def kubectl(cluster: target.Target, kube: Any) -> Kubectl:
    """Return an administrator's kubectl in the test's namespace."""
    return Kubectl(cluster.kubeconfig, kube.namespace)


@dataclass(frozen=True)
class E2EEnv:
    """A namespace, with the recorded states of its pipelines and Pods."""

    namespace: str
    api: client.ApiClient
    pipelines: WatchLog
    pods: WatchLog

    def create(self, name: str, template: dict[str, Any], **policies: Any) -> None:
        """Create an InitPipeline with this Pod template and these other fields of the spec."""
        self._client.create(manifest(name, {"template": template, **policies}))

    def create_ready(self, name: str, template: dict[str, Any], **policies: Any) -> Raw:
        """Create an InitPipeline, and return its first state in which it is Ready."""
        self.create(name, template, **policies)
        return self.wait_ready(name, run=1)

    def create_pod(self, name: str, template: dict[str, Any]) -> None:
        """Create a Pod from this template, without an InitPipeline."""
        pod = {"metadata": {**template.get("metadata", {}), "name": name}, "spec": template["spec"]}
        self._core.create_namespaced_pod(self.namespace, pod)

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        """Apply a merge patch to an InitPipeline."""
        self._client.patch(name, patch)

    def delete(self, name: str, policy: str) -> None:
        """Delete an InitPipeline with this propagation policy."""
        self._client.delete(name, policy)

    def set(self, name: str, **fields: Any) -> None:
        """Change fields of an InitPipeline's spec."""
        self.patch(name, {"spec": fields})

    def request_run(self, name: str, token: str) -> None:
        """Request a run by the annotation, as a user does."""
        self.patch(name, {"metadata": {"annotations": {names.RERUN_ANNOTATION: token}}})

    def delete_pod(self, name: str, **options: Any) -> None:
        self._core.delete_namespaced_pod(name, self.namespace, **options)

    def pipeline(self, name: str) -> Raw:
        """Return the present state of the InitPipeline."""
        return self._client.get(name)

    def pod(self, name: str) -> Raw:
        """Return the present state of the Pod."""
        pod = self._core.read_namespaced_pod(name, self.namespace)
        raw: Raw = self.api.sanitize_for_serialization(pod)
        return raw

    def wait_ready(self, name: str, run: int) -> Raw:
        """Return the first state in which this run, or a later one, is Ready."""
        return self.pipelines.wait(
            name,
            f"run {run} is Ready",
            lambda state: run_number(state) >= run and status_of(state, "Ready") == "True",
        )

    def wait_reason(self, name: str, reason: str, run: int = 1) -> Raw:
        """Return the first state of this run in which the condition Ready has that reason."""
        return self.pipelines.wait(
            name,
            f"{reason} in run {run}",
            lambda state: run_number(state) == run and reason_of(state, "Ready") == reason,
        )

    def wait_gone(self, pod: str, uid: str) -> None:
        """Wait until the Pod with this UID is gone."""
        self.pods.wait(
            pod,
            "the Pod is gone",
            lambda state: state["event"] == "DELETED" and state["metadata"]["uid"] == uid,
        )

    @property
    def _client(self) -> Pipelines:
        return Pipelines(self.api, self.namespace)

    @property
    def _core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)


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
