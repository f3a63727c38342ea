"""Whether this cluster can be served at all, found out before anything is started: each thing that
is missing is one line that says what to do."""

from initpipeline.api import names
from initpipeline.runtime.client import ApiClient
from initpipeline.runtime.errors import ApiError, ConnectionFailed, NotFoundError, OperatorError

_NEEDED = (
    (names.GROUP, names.PLURAL, "", ("list", "watch", "get", "delete")),
    (names.GROUP, names.PLURAL, "status", ("patch",)),
    ("", "pods", "", ("list", "watch", "get", "create", "delete")),
    ("events.k8s.io", "events", "", ("create", "patch")),
)


async def check(client: ApiClient, namespaces: tuple[str, ...]) -> None:
    """Raises OperatorError for the first thing that is missing."""
    try:
        await _knows_the_kind(client)
        for namespace in namespaces or (None,):
            for group, resource, subresource, verbs in _NEEDED:
                for verb in verbs:
                    await _allowed(client, namespace, group, resource, subresource, verb)
    except ConnectionFailed as error:
        raise OperatorError(
            f"no answer from the API server at {client.server} ({error}): is the cluster up, and "
            "is it the right one?"
        ) from error
    except ApiError as error:
        hint = _HINTS.get(error.code, "try again")
        raise OperatorError(f"{client.server} answered {error}: {hint}") from error


_HINTS = {
    401: "renew the credentials of the current context",
    403: "bind a role with that permission to these credentials",
}


async def _knows_the_kind(client: ApiClient) -> None:
    try:
        await client.request("GET", f"/apis/{names.API_VERSION}")
    except NotFoundError as error:
        raise OperatorError(
            f"{client.server} does not know the kind {names.KIND}: install it with "
            "'kubectl apply -f crds/'"
        ) from error


async def _allowed(
    client: ApiClient, namespace: str | None, group: str, resource: str, subresource: str, verb: str
) -> None:
    attributes = {"group": group, "resource": resource, "subresource": subresource, "verb": verb}
    if namespace:
        attributes["namespace"] = namespace
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
    what = "/".join(part for part in (resource, subresource) if part)
    where = f'in namespace "{namespace}"' if namespace else "in all namespaces"
    raise OperatorError(
        f"not permitted to {verb} {what} {where}: bind a role with that permission to these "
        "credentials"
    )
