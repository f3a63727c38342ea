"""Pods that an attacker with the token of the operator creates, and what becomes of them."""

from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api import names
from tests.api_client import connected
from tests.poll import poll_until
from tests.templates import container, template

GARBAGE_COLLECTOR_SECONDS: Final = 120


@pytest.fixture
def core(permitted_kubeconfig: Path) -> Any:
    """Return a client with the operator's account."""
    with connected(permitted_kubeconfig) as api:
        yield client.CoreV1Api(api)


def test_pod_with_an_invented_owner_is_deleted(core: client.CoreV1Api, kube: Any) -> None:
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": "invented",
        "uid": "11111111-1111-1111-1111-111111111111",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {"name": "invented", "ownerReferences": [owner]}
    pod = {"metadata": metadata, "spec": template(container("one"))["spec"]}
    core.create_namespaced_pod(kube.namespace, pod)

    def is_gone() -> bool:
        try:
            core.read_namespaced_pod("invented", kube.namespace)
        except client.ApiException as error:
            return bool(error.status == 404)
        return False

    poll_until(is_gone, GARBAGE_COLLECTOR_SECONDS, "the garbage collector deletes the Pod")


def test_pod_without_owner_is_refused(core: client.CoreV1Api, kube: Any) -> None:
    pod = {"metadata": {"name": "foreign"}, "spec": template(container("one"))["spec"]}
    with pytest.raises(client.ApiException, match=r"guard\.initpipelines"):
        core.create_namespaced_pod(kube.namespace, pod)
