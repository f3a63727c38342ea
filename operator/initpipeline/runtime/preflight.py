"""Checks at start-up that the CRD is installed and that the operator has its permissions.

If one is missing, the process exits, and its error has one line: what is missing, and the remedy.
"""

from initpipeline.api import names
from initpipeline.runtime.client import ApiClient
from initpipeline.runtime.errors import ApiError, ConnectionFailed, NotFoundError, OperatorError
from initpipeline.runtime.gateway import Key

_NEEDED = (
    (names.GROUP, names.PLURAL, "", ("list", "watch", "get", "delete")),
    (names.GROUP, names.PLURAL, "status", ("patch",)),
    # For the Pod's ownerReference, if the API server has the admission plugin
    # OwnerReferencesPermissionEnforcement. Nothing reports whether it has.
    (names.GROUP, names.PLURAL, "finalizers", ("update",)),
    ("", "pods", "", ("list", "watch", "get", "create", "delete")),
    ("events.k8s.io", "events", "", ("create", "patch")),
)


_LEASE_VERBS = ("get", "watch", "create", "patch")


_TO_UNGATE = ("", "pods", "", ("patch",))


async def check(
    client: ApiClient, namespaces: tuple[str, ...], *leases: Key, gated: bool = False
) -> None:
    """Check the CRD, the permissions in each namespace, and those for the Leases. Without
    namespaces: cluster-wide. With ``gated``: also the permission to remove scheduling gates.

    Raises OperatorError for the first one that is missing, or if the API server does not answer.
    """
    try:
        await _check_crd(client)
        for namespace in namespaces or (None,):
            for group, resource, subresource, verbs in (*_NEEDED, *([_TO_UNGATE] if gated else ())):
                for verb in verbs:
                    await _check_permission(client, namespace, group, resource, subresource, verb)
        for lease in leases:
            for verb in _LEASE_VERBS:
                # A role cannot limit the creation of objects to a name.
                name = "" if verb == "create" else lease.name
                await _check_permission(
                    client, lease.namespace, "coordination.k8s.io", "leases", "", verb, name
                )
    except ConnectionFailed as error:
        raise OperatorError(
            f"no answer from the API server at {client.server} ({error}): check that the cluster "
            "runs and that the address is correct"
        ) from error
    except ApiError as error:
        hint = _HINTS.get(error.code, "try again")
        raise OperatorError(f"{client.server} answered {error}: {hint}") from error


_HINTS = {
    401: "renew the credentials of the current context, or check the ServiceAccount of the "
    "operator's Pod",
    403: "bind a role with that permission to these credentials",
}


async def _check_crd(client: ApiClient) -> None:
    try:
        await client.request("GET", f"/apis/{names.API_VERSION}")
    except NotFoundError as error:
        raise OperatorError(
            f"{client.server} does not know the kind {names.KIND}: install it with "
            "'kubectl apply -f crds/'"
        ) from error


async def _check_permission(
    client: ApiClient,
    namespace: str | None,
    group: str,
    resource: str,
    subresource: str,
    verb: str,
    name: str = "",
) -> None:
    attributes = {"group": group, "resource": resource, "subresource": subresource, "verb": verb}
    if namespace:
        attributes["namespace"] = namespace
    if name:
        attributes["name"] = name
    review = await client.request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
    )
    if review.get("status", {}).get("allowed"):
        return
    target = "/".join(part for part in (resource, subresource) if part)
    scope = f'in namespace "{namespace}"' if namespace else "in all namespaces"
    raise OperatorError(
        f"not permitted to {verb} {target} {scope}: bind a role with that permission to these "
        "credentials"
    )
