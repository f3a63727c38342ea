"""The operator's permissions are withdrawn while it runs, and granted again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from initpipeline.api import names
from tests.cluster.cluster import Cluster
from tests.contract.conftest import allow
from tests.contract.contract_env import ContractEnv
from tests.operator_process import OperatorProcess
from tests.poll import poll_until

pytest_plugins = ["tests.contract.operator_fixtures"]

RECOVERY_SECONDS = 60
RULES = [
    {
        "apiGroups": ["", names.GROUP, "events.k8s.io", "coordination.k8s.io"],
        "resources": [
            "pods",
            names.PLURAL,
            f"{names.PLURAL}/status",
            f"{names.PLURAL}/finalizers",
            "events",
            "leases",
        ],
        "verbs": ["*"],
    }
]


@pytest.fixture
def limited(
    control_plane: Cluster, api: client.ApiClient, user: str, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """Starts an operator that has permissions only in the test's namespace."""
    allow(api, namespace, user, RULES)
    kubeconfig = control_plane.kubeconfig_for(user)
    with OperatorProcess(kubeconfig, tmp_path / "log", ["--namespace", namespace]) as process:
        yield process


def test_operator_continues_when_its_permissions_are_granted_again(
    limited: OperatorProcess, api: client.ApiClient, env: ContractEnv, user: str
) -> None:
    rbac = client.RbacAuthorizationV1Api(api)
    binding = rbac.read_namespaced_role_binding(user, env.namespace)
    rbac.delete_namespaced_role_binding(user, env.namespace)
    env.create()
    poll_until(
        lambda: "forbidden" in limited.log.read_text(),
        RECOVERY_SECONDS,
        "a request is refused",
        state=limited.tail,
    )
    assert env.pod() is None
    binding.metadata = client.V1ObjectMeta(name=user)
    rbac.create_namespaced_role_binding(env.namespace, binding)
    poll_until(env.pod, RECOVERY_SECONDS, "the Pod", state=limited.tail)
    assert limited.running
