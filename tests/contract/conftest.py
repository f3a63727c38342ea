"""One real API server for all contract tests, with the CRD installed.

There is no controller manager: nothing happens to an object but what a test does to it. So no
namespace is ever deleted either; they end with the API server.
"""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from kubernetes import client, config

from initpipeline.api import names
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Mode
from tests.contract.door import Door
from tests.poll import poll_until

CRDS: Final = Path(__file__).parents[2] / "crds"
SERVED_SECONDS: Final = 30
MODE_VARIABLE: Final = "INITPIPELINE_CONTRACT_MODE"
"""Says "oldest" for the API server of the oldest Kubernetes: see make oldest."""


class Kubectl(Protocol):
    """Runs kubectl as the administrator and returns what it printed.

    `stdin` is an object for `-f -`. A failure is a CalledProcessError with kubectl's words in it.
    """

    def __call__(self, *arguments: str, stdin: object = None) -> str:
        """Run it."""


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """An API server that serves InitPipelines."""
    mode = Mode(os.environ.get(MODE_VARIABLE, Mode.CONTROL_PLANE))
    # Two test runs on one machine each have their own.
    with Cluster(f"contract-{os.getpid()}", mode) as cluster:
        install_crd(cluster)
        yield cluster


@pytest.fixture(scope="session")
def kubectl(control_plane: Cluster) -> Kubectl:
    """The kubectl of the API server's version."""
    return _kubectl(control_plane)


@pytest.fixture(scope="session")
def api(control_plane: Cluster) -> Iterator[client.ApiClient]:
    """The official client, as the administrator."""
    kubeconfig = str(control_plane.kubeconfig)
    with config.new_client_from_config(kubeconfig, persist_config=False) as api:
        yield api


@pytest.fixture
def namespace(api: client.ApiClient) -> str:
    """A namespace of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
    return name


def allow(
    api: client.ApiClient, namespace: str, user: str, rules: list[dict[str, list[str]]]
) -> None:
    """Let a user do this in a namespace."""
    rbac = client.RbacAuthorizationV1Api(api)
    rbac.create_namespaced_role(namespace, {"metadata": {"name": user}, "rules": rules})
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    binding = {"metadata": {"name": user}, "subjects": [subject], "roleRef": role}
    rbac.create_namespaced_role_binding(namespace, binding)


def install_crd(cluster: Cluster) -> None:
    """Have the API server serve InitPipelines."""
    run = _kubectl(cluster)
    run("apply", "-f", str(CRDS))
    poll_until(lambda: _served(run), SERVED_SECONDS, "the API server serves InitPipelines")


@pytest.fixture
def door(api: client.ApiClient, namespace: str) -> Door:
    """The door of a namespace of the test's own."""
    return Door(api, namespace)


def _served(run: Kubectl) -> bool:
    """Whether InitPipelines can be read, and, which comes a moment later, explained."""
    try:
        run("get", names.PLURAL)
        run("explain", names.PLURAL)
    except subprocess.CalledProcessError:
        return False
    return True


def _kubectl(cluster: Cluster) -> Kubectl:
    def run(*arguments: str, stdin: object = None) -> str:
        command: list[Any] = [cluster.kubectl, "--kubeconfig", cluster.kubeconfig, *arguments]
        given = None if stdin is None else json.dumps(stdin)
        answer = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        try:
            answer.check_returncode()
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise
        return answer.stdout

    return run
