"""The permissions of users with the ClusterRoles view, edit and admin of Kubernetes."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api import names
from tests.api_client import connected
from tests.e2e import target
from tests.poll import poll_until

READ: Final = {"get", "list", "watch"}
WRITE: Final = {"create", "update", "patch", "delete", "deletecollection"}
TABLE: Final = {
    ("view", ""): READ,
    ("edit", ""): READ | WRITE,
    ("admin", ""): READ | WRITE,
    ("view", "status"): set(),
    ("edit", "status"): set(),
    ("admin", "status"): set(),
    ("edit", "finalizers"): set(),
    ("admin", "finalizers"): set(),
}
"""The verbs that each role permits on InitPipelines and their subresources."""
TAKES_EFFECT_SECONDS: Final = 30


@pytest.fixture
def permitted(cluster: target.Target, kube: Any) -> Any:
    """Return a function that returns the verbs which a role permits in the test's namespace."""
    with connected(cluster.kubeconfig) as api:
        rbac, reviews = client.RbacAuthorizationV1Api(api), client.AuthorizationV1Api(api)
        for role in sorted({role for role, _ in TABLE}):
            subject = {"kind": "User", "name": f"{role}-{kube.namespace}"}
            subject["apiGroup"] = reference = "rbac.authorization.k8s.io"
            binding = {
                "metadata": {"name": role},
                "subjects": [subject],
                "roleRef": {"apiGroup": reference, "kind": "ClusterRole", "name": role},
            }
            rbac.create_namespaced_role_binding(kube.namespace, binding)

        def may(role: str, subresource: str, verb: str) -> bool:
            attributes = {
                "group": names.GROUP,
                "resource": names.PLURAL,
                "subresource": subresource,
                "verb": verb,
                "namespace": kube.namespace,
            }
            review = {
                "spec": {"user": f"{role}-{kube.namespace}", "resourceAttributes": attributes}
            }
            return bool(reviews.create_subject_access_review(review).status.allowed)

        def verbs(role: str, subresource: str) -> set[str]:
            return {verb for verb in READ | WRITE if may(role, subresource, verb)}

        yield verbs


def test_role_permits_its_verbs_and_no_status(
    permitted: Callable[[str, str], set[str]],
) -> None:
    """The controller manager aggregates the roles some time after they are created."""

    def found() -> dict[tuple[str, str], set[str]]:
        return {(role, subresource): permitted(role, subresource) for role, subresource in TABLE}

    poll_until(lambda: found() == TABLE, TAKES_EFFECT_SECONDS, "the table", state=found)
