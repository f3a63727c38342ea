"""The API server of tests/unit/model deletes Pods like a real one."""

from itertools import product
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api.names import NAME_LABEL
from initpipeline.api.raw import Raw
from tests.builders import NAME, NAMESPACE
from tests.unit.model.cluster import Cluster
from tests.unit.runtime.fake_api import KEY, PODS

NODES: Final = (None, "node-1")
PHASES: Final = ("Pending", "Running", "Succeeded", "Failed")
OWN: Final = (30, 0)
"""Values of terminationGracePeriodSeconds."""
REQUESTED: Final = (None, 5, 0)
"""Grace periods of requests. None: the request has none."""
FINALIZERS: Final[tuple[list[str], ...]] = ([], ["example.com/protected"])


@pytest.mark.parametrize("finalizers", FINALIZERS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("node", NODES)
def test_pod_is_deleted_as_in_the_model(
    api: client.ApiClient, namespace: str, node: str | None, phase: str, finalizers: list[str]
) -> None:
    core = client.CoreV1Api(api)
    for own, requested in product(OWN, REQUESTED):
        raw = pod(node, phase, finalizers, own)
        found = deletion(core, namespace, raw, requested)
        assert found == deletion_in_the_model(raw, requested), (own, requested)


def pod(node: str | None, phase: str, finalizers: list[str], grace: int) -> Raw:
    return {
        "metadata": {"name": NAME, "finalizers": finalizers},
        "spec": {
            **({"nodeName": node} if node else {}),
            "terminationGracePeriodSeconds": grace,
            "containers": [{"name": "app", "image": "busybox"}],
        },
        "status": {"phase": phase},
    }


def deletion(core: client.CoreV1Api, namespace: str, raw: Raw, requested: int | None) -> int | None:
    """Create and delete the Pod. Returns the grace period that the API server records in it. None:
    the Pod is gone. Removes a Pod that is left."""
    core.create_namespaced_pod(namespace, raw)
    core.patch_namespaced_pod_status(NAME, namespace, {"status": raw["status"]})
    options: dict[str, Any] = {} if requested is None else {"grace_period_seconds": requested}
    core.delete_namespaced_pod(NAME, namespace, **options)
    left = core.list_namespaced_pod(namespace).items
    if not left:
        return None
    core.patch_namespaced_pod(NAME, namespace, {"metadata": {"finalizers": None}})
    if core.list_namespaced_pod(namespace).items:
        core.delete_namespaced_pod(NAME, namespace, grace_period_seconds=0)
    recorded: int = left[0].metadata.deletion_grace_period_seconds
    return recorded


def deletion_in_the_model(raw: Raw, requested: int | None) -> int | None:
    """Returns what ``deletion`` returns, for the API server of the model."""
    api = Cluster().api
    metadata = {"namespace": NAMESPACE, "uid": "1", "labels": {NAME_LABEL: NAME}}
    api.put(PODS, {**raw, "metadata": {**raw["metadata"], **metadata}})
    api.delete(PODS, grace=requested)
    left = api.objects.get((PODS, KEY))
    return None if left is None else left["metadata"]["deletionGracePeriodSeconds"]
