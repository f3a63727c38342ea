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
        found = deletions(core, namespace, raw, requested)
        assert found == deletions_in_the_model(raw, requested), (own, requested)


def test_terminating_pod_is_deleted_again_as_in_the_model(
    api: client.ApiClient, namespace: str
) -> None:
    core = client.CoreV1Api(api)
    for second in (None, 60, 30, 3, 0):
        raw = pod("node-1", "Running", [], 30)
        found = deletions(core, namespace, raw, None, second)
        assert found == deletions_in_the_model(raw, None, second), second


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


def deletions(
    core: client.CoreV1Api, namespace: str, raw: Raw, *requested: int | None
) -> int | None:
    """Create the Pod, and send these deletions. The Pod has failed before the second one. Returns
    the grace period that the API server records in the Pod. None: the Pod is gone. Removes a Pod
    that is left."""
    core.create_namespaced_pod(namespace, raw)
    for phase, seconds in zip((raw["status"]["phase"], "Failed"), requested, strict=False):
        core.patch_namespaced_pod_status(NAME, namespace, {"status": {"phase": phase}})
        options: dict[str, Any] = {} if seconds is None else {"grace_period_seconds": seconds}
        core.delete_namespaced_pod(NAME, namespace, **options)
    left = core.list_namespaced_pod(namespace).items
    if not left:
        return None
    core.patch_namespaced_pod(NAME, namespace, {"metadata": {"finalizers": None}})
    if core.list_namespaced_pod(namespace).items:
        core.delete_namespaced_pod(NAME, namespace, grace_period_seconds=0)
    recorded: int = left[0].metadata.deletion_grace_period_seconds
    return recorded


def deletions_in_the_model(raw: Raw, *requested: int | None) -> int | None:
    """Returns what ``deletions`` returns, for the API server of the model."""
    api = Cluster().api
    metadata = {"namespace": NAMESPACE, "uid": "1", "labels": {NAME_LABEL: NAME}}
    api.put(PODS, {**raw, "metadata": {**raw["metadata"], **metadata}})
    for phase, seconds in zip((raw["status"]["phase"], "Failed"), requested, strict=False):
        api.edit(PODS, {"status": {"phase": phase}})
        api.delete(PODS, grace=seconds)
    left = api.objects.get((PODS, KEY))
    return None if left is None else left["metadata"]["deletionGracePeriodSeconds"]
