"""One cluster for all tests, a namespace and an operator for each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from initpipeline.api import names
from initpipeline.plugin import main
from tests import watching
from tests.cluster.cluster import Cluster
from tests.e2e import target
from tests.installation import kubeconfig_of_the_operator
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.watching import Object, WatchLog

Call = Callable[..., tuple[int, str, str]]
"""Calls the plugin."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[target.Target]:
    """The cluster, with all installed that an operator needs."""
    with target.chosen() as chosen:
        yield target.installed(chosen)


@pytest.fixture
def node(cluster: target.Target) -> Cluster:
    """Faults on the node. Skips where the node cannot be reached."""
    return cluster.node_access


@pytest.fixture
def kubeconfig(cluster: target.Target) -> str:
    """Read by kubetest's ``kube``."""
    return str(cluster.kubeconfig)


@pytest.fixture(scope="module")
def operators_kubeconfig(cluster: target.Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the service account that is installed: each test is one of its role, too."""
    file = tmp_path_factory.mktemp("operator") / "kubeconfig"
    return kubeconfig_of_the_operator(Kubectl(cluster.kubeconfig), file)


@pytest.fixture
def operator(operators_kubeconfig: Path, kube: Any, tmp_path: Path) -> Iterator[OperatorProcess]:
    """A running operator that serves the test's namespace and no other. Its last words are shown
    with a test that fails."""
    arguments = ["--namespace", kube.namespace, "--log-format", "json"]
    with OperatorProcess(operators_kubeconfig, tmp_path / "operator.log", arguments) as operator:
        yield operator
        print(operator.tail())


@pytest.fixture
def kubectl(cluster: target.Target, kube: Any) -> Kubectl:
    """A person's, in the test's namespace."""
    return Kubectl(cluster.kubeconfig, kube.namespace)


@dataclass(frozen=True)
class E2EEnv:
    """A namespace, and what happens in it."""

    namespace: str
    api: client.ApiClient
    pipelines: WatchLog
    pods: WatchLog

    def create(self, name: str, template: dict[str, Any], **policies: Any) -> None:
        """Create an InitPipeline of this Pod template, with these fields of the spec beside it."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": {"template": template, **policies},
        }
        self._custom.create_namespaced_custom_object(*self._where, body)

    def create_pod(self, name: str, template: dict[str, Any]) -> None:
        """Create a bare Pod of this template."""
        pod = {"metadata": {**template.get("metadata", {}), "name": name}, "spec": template["spec"]}
        self._core.create_namespaced_pod(self.namespace, pod)

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        """Merge a change into an InitPipeline."""
        self._custom.patch_namespaced_custom_object(*self._where, name, patch)

    def set(self, name: str, **fields: Any) -> None:
        """Change fields of an InitPipeline's spec."""
        self.patch(name, {"spec": fields})

    def request_run(self, name: str, token: str) -> None:
        """Ask for a run by hand, as a person would."""
        self.patch(name, {"metadata": {"annotations": {names.RERUN_ANNOTATION: token}}})

    def delete_pod(self, name: str, **options: Any) -> None:
        self._core.delete_namespaced_pod(name, self.namespace, **options)

    def pipeline(self, name: str) -> Object:
        """The InitPipeline as it is now."""
        found: Object = self._custom.get_namespaced_custom_object(*self._where, name)
        return found

    def pod(self, name: str) -> Object:
        """The Pod as it is now."""
        pod = self._core.read_namespaced_pod(name, self.namespace)
        raw: Object = self.api.sanitize_for_serialization(pod)
        return raw

    def wait_ready(self, name: str, run: int) -> Object:
        """The first state in which this run, or a later one, is Ready."""
        return self.pipelines.wait(
            name,
            f"run {run} is Ready",
            lambda state: run_number(state) >= run and status_of(state, "Ready") == "True",
        )

    def wait_reason(self, name: str, reason: str, run: int = 1) -> Object:
        """The first state of this run in which Ready gives that reason."""
        return self.pipelines.wait(
            name,
            f"{reason} in run {run}",
            lambda state: run_number(state) == run and reason_of(state, "Ready") == reason,
        )

    def wait_gone(self, pod: str, uid: str) -> None:
        """Until the Pod that has this UID is deleted."""
        self.pods.wait(
            pod,
            "the Pod is gone",
            lambda state: state["event"] == "DELETED" and state["metadata"]["uid"] == uid,
        )

    @property
    def _custom(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(self.api)

    @property
    def _core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    @property
    def _where(self) -> tuple[str, str, str, str]:
        return names.GROUP, names.VERSION, self.namespace, names.PLURAL


@pytest.fixture
def env(cluster: target.Target, kube: Any) -> Iterator[E2EEnv]:
    """The test's namespace, watched from its beginning."""
    with config.new_client_from_config(str(cluster.kubeconfig), persist_config=False) as api:
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
    """Run the plugin in the test's namespace: its exit code, and what it printed. Nobody looks at
    a terminal, as in a script."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.main([*arguments, "-n", env.namespace])
        return (code, *capsys.readouterr())

    return call


def status_of(state: Object, condition: str) -> str:
    """ "True", "False", or "" where the condition is absent."""
    for found in state.get("status", {}).get("conditions", ()):
        if found["type"] == condition:
            return str(found["status"])
    return ""


def reason_of(state: Object, condition: str) -> str:
    for found in state.get("status", {}).get("conditions", ()):
        if found["type"] == condition:
            return str(found["reason"])
    return ""


def message_of(state: Object, condition: str) -> str:
    for found in state.get("status", {}).get("conditions", ()):
        if found["type"] == condition:
            return str(found["message"])
    return ""


def run_number(state: Object) -> int:
    return int(state.get("status", {}).get("run", {}).get("number", 0))


def runs(state: Object) -> list[tuple[int, str, str]]:
    """Number, trigger and result of every run, oldest first; the current one's result is ""."""
    status = state.get("status", {})
    past = [(r["number"], r["trigger"], r["result"]) for r in reversed(status.get("history", []))]
    run = status["run"]
    current = [] if past and past[-1][0] == run["number"] else [(run["number"], run["trigger"], "")]
    return past + current
