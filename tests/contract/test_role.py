"""At its start, the operator names a permission that its role lacks.

The API server has the admission plugin OwnerReferencesPermissionEnforcement.
"""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api import names
from initpipeline.runtime import preflight
from initpipeline.runtime.client import ApiClient, load_configuration
from initpipeline.runtime.errors import OperatorError
from initpipeline.runtime.keys import Key
from tests.api_client import allow, connected
from tests.cluster.cluster import Cluster
from tests.contract.admission_client import minimal_template
from tests.installation import rules
from tests.poll import poll_until

TAKES_EFFECT_SECONDS: Final = 30
LEASE: Final = "initpipeline"

Rules = list[dict[str, Any]]


def all_rules() -> Rules:
    return [*rules("ClusterRole"), *rules("Role")]


def permissions() -> Iterator[tuple[int, str]]:
    """Yields each permission of the role, as the index of its rule and its verb."""
    for index, rule in enumerate(all_rules()):
        for verb in rule["verbs"]:
            yield index, verb


def without(index: int, verb: str) -> Rules:
    remaining = copy.deepcopy(all_rules())
    remaining[index]["verbs"].remove(verb)
    return [rule for rule in remaining if rule["verbs"]]


def missing(namespace: str) -> str:
    """Returns the error of the checks at start-up with the credentials of $KUBECONFIG. "": all
    permissions are granted."""

    async def check() -> None:
        configuration = await load_configuration()
        async with ApiClient(configuration, 30.0) as api:
            await preflight.check(api, (namespace,), Key(namespace, LEASE))

    try:
        asyncio.run(check())
    except OperatorError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("index", "verb"), list(permissions()))
def test_missing_permission_is_named_at_the_start(
    control_plane: Cluster,
    api: client.ApiClient,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    index: int,
    verb: str,
) -> None:
    user = f"operator-{namespace}"
    (resource,) = all_rules()[index]["resources"]
    allow(api, namespace, user, without(index, verb))
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig_for(user)))
    expected = f'not permitted to {verb} {resource} in namespace "{namespace}": bind a role'
    poll_until(
        lambda: expected in missing(namespace),
        TAKES_EFFECT_SECONDS,
        expected,
        state=lambda: missing(namespace),
    )


def test_complete_role_is_accepted(
    control_plane: Cluster,
    api: client.ApiClient,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = f"operator-{namespace}"
    allow(api, namespace, user, all_rules())
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig_for(user)))
    poll_until(lambda: missing(namespace) == "", TAKES_EFFECT_SECONDS, "nothing is missing")


def test_api_server_enforces_the_permission_for_owner_references(
    control_plane: Cluster, api: client.ApiClient, namespace: str
) -> None:
    """Otherwise the tests would not show that initpipelines/finalizers is needed."""
    user = f"operator-{namespace}"
    (index,) = (
        i for i, rule in enumerate(all_rules()) if "initpipelines/finalizers" in rule["resources"]
    )
    allow(api, namespace, user, without(index, "update"))
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": "a",
        "uid": "a",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    body = {"metadata": {"name": "a", "ownerReferences": [owner]}, **minimal_template()}

    def answer() -> str:
        try:
            client.CoreV1Api(limited).create_namespaced_pod(namespace, body)
        except client.ApiException as error:
            return str(error.body)
        return ""

    with connected(control_plane.kubeconfig_for(user)) as limited:
        poll_until(
            lambda: "cannot set blockOwnerDeletion" in answer(),
            TAKES_EFFECT_SECONDS,
            "the Pod is refused because of its owner",
            state=answer,
        )
