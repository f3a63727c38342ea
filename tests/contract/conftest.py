"""A real API server for all contract tests, with the CRD installed.

No controller manager runs, so only the test and the operator change objects. The namespaces of the
tests stay, because without the controller manager their deletion would not finish.
"""

import os
from collections.abc import Iterator
from typing import Final

import pytest
from kubernetes import client

from tests.api_client import Pipelines, connected
from tests.cluster.cluster import Cluster
from tests.cluster.plan import OWNER_REFERENCES_ENFORCED, Component, Mode
from tests.contract.admission_client import AdmissionClient
from tests.contract.contract_env import create_namespace
from tests.installation import admin_kubectl, install_crd
from tests.kubectl import Kubectl

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
    return admin_kubectl(control_plane)


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


@pytest.fixture
def admission_client(api: client.ApiClient, namespace: str) -> AdmissionClient:
    """Returns a client for the test's namespace."""
    return AdmissionClient(api, namespace)
