"""The operator with --scheduling-gate, on a real API server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from kubernetes import client

from initpipeline.api import names
from tests.api_client import allow
from tests.builders import fresh_pod, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv, RequestCounter
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import condition, is_ready

pytest_plugins = ["tests.contract.operator_fixtures"]

WITHOUT_PATCH: Final = [
    {
        "apiGroups": [names.GROUP, "events.k8s.io", "coordination.k8s.io"],
        "resources": ["*"],
        "verbs": ["*"],
    },
    {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["get", "list", "watch", "create", "delete"],
    },
]


@pytest.fixture
def gated_operator(
    control_plane: Cluster, user: str, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    kubeconfig = control_plane.kubeconfig_for(user, ["system:masters"])
    arguments = ["--namespace", namespace, "--sweep-seconds", "99999", "--scheduling-gate"]
    with OperatorProcess(kubeconfig, tmp_path / "operator.log", arguments) as process:
        yield process


def is_ungated(env: ContractEnv) -> bool:
    pod = env.pod()
    return pod is not None and not pod["spec"].get("schedulingGates")


@pytest.mark.usefixtures("gated_operator")
def test_gate_is_removed_when_status_records_the_pod(
    env: ContractEnv, request_counter: RequestCounter
) -> None:
    env.create()
    poll_until(lambda: is_ungated(env), TIMEOUT_SECONDS, "the Pod has no gate", state=env.pod)
    pod = env.pod()
    assert pod is not None
    assert env.status()["run"]["podUID"] == pod["metadata"]["uid"]
    env.run_pod(running_pod())
    env.wait("Ready", is_ready)
    counts = request_counter.counts()
    assert counts["create pods 201"] == 1
    assert counts["patch pods 200"] == 1, "a gate was removed, so the Pod had one"


@pytest.mark.usefixtures("gated_operator")
def test_pod_that_a_paused_holder_creates_late_never_starts(
    api: client.ApiClient, env: ContractEnv, request_counter: RequestCounter
) -> None:
    """No scheduler binds a Pod with a gate. Here the run has ended, because the user has suspended
    the pipeline."""
    env.create()
    poll_until(lambda: is_ungated(env), TIMEOUT_SECONDS, "the Pod has no gate", state=env.pod)
    late = env.pod()
    assert late is not None
    env.patch({"spec": {"suspend": True}})
    poll_until(lambda: env.pod() is None, TIMEOUT_SECONDS, "the Pod is gone", state=env.pod)
    for name in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        late["metadata"].pop(name, None)
    late.pop("status")
    late["spec"]["schedulingGates"] = [{"name": names.RUN_GATE}]
    client.CoreV1Api(api).create_namespaced_pod(env.namespace, late)
    poll_until(lambda: env.pod() is None, TIMEOUT_SECONDS, "the late Pod is gone", state=env.pod)
    assert request_counter.counts()["patch pods 200"] == 1, "only the gate of the first Pod"


def test_forged_pod_with_the_gate_is_reported_once_and_retried(
    control_plane: Cluster,
    api: client.ApiClient,
    env: ContractEnv,
    user: str,
    request_counter: RequestCounter,
    tmp_path: Path,
) -> None:
    """A user creates the Pod of the first run before the operator does, which has only the
    permissions of manifests/base."""
    env.create()
    owner = env.pipeline()
    assert owner is not None
    forged = fresh_pod().raw()
    references = [{**forged["metadata"]["ownerReferences"][0], "uid": owner["metadata"]["uid"]}]
    kept = {name: forged["metadata"][name] for name in ("name", "labels", "annotations")}
    gates = [{"name": names.RUN_GATE}]
    containers = {name: forged["spec"][name] for name in ("initContainers", "containers")}
    body = {
        "metadata": {**kept, "ownerReferences": references},
        "spec": {**containers, "schedulingGates": gates},
    }
    client.CoreV1Api(api).create_namespaced_pod(env.namespace, body)
    allow(api, env.namespace, user, WITHOUT_PATCH)
    kubeconfig = control_plane.kubeconfig_for(user)
    with OperatorProcess(kubeconfig, tmp_path / "log", ["--namespace", env.namespace]) as process:
        poll_until(
            lambda: request_counter.counts()["patch pods 403"] >= 4,
            TIMEOUT_SECONDS,
            "the request is repeated",
            state=process.tail,
        )
        counts = request_counter.counts()
    reported = condition(env.status(), "Initialized")
    assert (reported["status"], reported["reason"]) == ("False", "PodPending")
    assert "gate" in reported["message"]
    assert counts["patch initpipelines/status 200"] == 1
    assert "API request failed" not in process.log.read_text()
