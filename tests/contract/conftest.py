"""A real API server for all contract tests, with the CRD installed.

No controller manager runs, so only the test and the operator change objects. The namespaces of the
tests stay, because without the controller manager their deletion would not finish.
"""

import os
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest
from kubernetes import client

from initpipeline.api import names
from tests.api_client import Pipelines, connected
from tests.cluster.cluster import Cluster
from tests.cluster.plan import OWNER_REFERENCES_ENFORCED, Component, Mode
from tests.contract.admission_client import AdmissionClient
from tests.contract.contract_env import create_namespace
from tests.installation import CRDS
from tests.kubectl import Kubectl
from tests.poll import poll_until

SERVED_SECONDS: Final = 30
COMMAND_SECONDS: Final = 600.0
"""The timeout of kubectl, which also changes 150 large objects with one command."""
MODE_VARIABLE: Final = "INITPIPELINE_CONTRACT_MODE"
"""The environment variable that selects the API server. "oldest": see `make oldest`."""


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """Starts an API server that serves InitPipelines."""
    mode = Mode(os.environ.get(MODE_VARIABLE, Mode.CONTROL_PLANE))
    # The name has the process ID, because several test runs may share a machine.
    flags = {Component.API_SERVER: (OWNER_REFERENCES_ENFORCED,)}
    with Cluster(f"contract-{os.getpid()}", mode, flags=flags) as cluster:
        install_crd(cluster)
        yield cluster


@pytest.fixture(scope="session")
def kubectl(control_plane: Cluster) -> Kubectl:
    """Returns kubectl in the version of the API server, with the rights of an administrator."""
    return _kubectl(control_plane)


@pytest.fixture(scope="session")
def api(control_plane: Cluster) -> Iterator[client.ApiClient]:
    """Returns the official client, with the rights of an administrator."""
    with connected(control_plane.kubeconfig) as api:
        yield api


@pytest.fixture
def namespace(api: client.ApiClient) -> Iterator[str]:
    """Creates a namespace for the test. Deletes its pipelines and Pods afterwards, because each
    later operator of all namespaces would serve them first."""
    name = create_namespace(api)
    yield name
    Pipelines(api, name).delete_all()
    # The response has the Pods, and some tests create Pods that cannot be parsed.
    delete_pods = client.CoreV1Api(api).delete_collection_namespaced_pod
    delete_pods(name, grace_period_seconds=0, _preload_content=False).drain_conn()


def allow(
    api: client.ApiClient, namespace: str, user: str, rules: list[dict[str, list[str]]]
) -> None:
    """Grant a user these rules in a namespace."""
    rbac = client.RbacAuthorizationV1Api(api)
    rbac.create_namespaced_role(namespace, {"metadata": {"name": user}, "rules": rules})
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    binding = {"metadata": {"name": user}, "subjects": [subject], "roleRef": role}
    rbac.create_namespaced_role_binding(namespace, binding)


def install_crd(cluster: Cluster) -> None:
    """Apply the CRD, and wait until the API server serves InitPipelines."""
    kubectl = _kubectl(cluster)
    kubectl("apply", "-f", str(CRDS))
    poll_until(lambda: _is_served(kubectl), SERVED_SECONDS, "the API server serves InitPipelines")


@pytest.fixture
def admission_client(api: client.ApiClient, namespace: str) -> AdmissionClient:
    """Returns a client for the test's namespace."""
    return AdmissionClient(api, namespace)


def _is_served(kubectl: Kubectl) -> bool:
    """Returns whether InitPipelines can be read and, a moment later, explained."""
    try:
        kubectl("get", names.PLURAL)
        kubectl("explain", names.PLURAL)
    except subprocess.CalledProcessError:
        return False
    return True


def _kubectl(cluster: Cluster) -> Kubectl:
    return Kubectl(cluster.kubeconfig, executable=cluster.kubectl, timeout=COMMAND_SECONDS)
