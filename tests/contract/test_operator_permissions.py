"""The operator's permissions or credentials are withdrawn while it runs, and granted again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from initpipeline.api import names
from tests.api_client import allow
from tests.cluster.cluster import Cluster
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


class Account:
    """A ServiceAccount in the test's namespace, with a token in a file."""

    def __init__(self, api: client.ApiClient, namespace: str, file: Path) -> None:
        self._core, self._namespace, self.file = client.CoreV1Api(api), namespace, file

    def create(self) -> None:
        """Create the ServiceAccount, and write a token for it."""
        body = {"metadata": {"name": ACCOUNT}}
        self._core.create_namespaced_service_account(self._namespace, body)
        self.renew()

    def delete(self) -> None:
        """Delete the ServiceAccount. The API server refuses its token after at most 10 s."""
        self._core.delete_namespaced_service_account(ACCOUNT, self._namespace)

    def renew(self) -> None:
        """Replace the token, as the kubelet does."""
        create = self._core.create_namespaced_service_account_token
        answer = create(ACCOUNT, self._namespace, {"spec": {"audiences": []}})
        new = self.file.with_suffix(".new")
        new.write_text(answer.status.token)
        new.rename(self.file)


ACCOUNT = "operator"


@pytest.mark.long
def test_operator_continues_with_the_next_token(
    control_plane: Cluster, api: client.ApiClient, env: ContractEnv, tmp_path: Path
) -> None:
    """The ServiceAccount is deleted and created again, so the API server refuses its token."""
    account = Account(api, env.namespace, tmp_path / "token")
    account.create()
    allow(api, env.namespace, f"system:serviceaccount:{env.namespace}:{ACCOUNT}", RULES)
    content = yaml.safe_load(control_plane.kubeconfig.read_text())
    content["users"][0]["user"] = {"tokenFile": str(account.file)}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(content))
    with OperatorProcess(kubeconfig, tmp_path / "log", ["--namespace", env.namespace]) as process:
        pid = process.pid
        account.delete()
        poll_until(
            lambda: "401" in process.log.read_text(),
            RECOVERY_SECONDS,
            "the token is refused",
            state=process.tail,
        )
        account.create()
        env.create()
        poll_until(env.pod, RECOVERY_SECONDS, "the Pod", state=process.tail)
        assert (process.running, process.pid) == (True, pid)
