"""Checks at start-up that the CRD is installed and that the operator has its permissions.

If one is missing, the process exits, and its error has one line: what is missing, and the remedy.
If the API server cannot answer, the process waits. The kubelet would restart it after delays that
grow to five minutes, so it would start long after the end of an outage.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import aiohttp

from initpipeline.api import names
from initpipeline.runtime.client import ApiClient
from initpipeline.runtime.errors import ApiError, ConnectionFailed, NotFoundError, OperatorError
from initpipeline.runtime.keys import Key
from initpipeline.runtime.retries import jittered, retry_delay

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 15 * 60.0
"""How long to wait for the API server. By then the kubelet has reset the back-off of the container,
so it restarts the container at once. If the API server has a new address, the new container gets
it."""


class Unavailable(OperatorError):  # noqa: N818 - not an error: the checks are repeated
    """The API server cannot answer now."""

    def __init__(self, message: str, retry_seconds: int = 0) -> None:
        """``retry_seconds`` is the delay that the API server requests. 0: it requests none."""
        super().__init__(message)
        self.retry_seconds = retry_seconds


_NEEDED = (
    (names.GROUP, names.PLURAL, "", ("list", "watch", "get", "delete")),
    (names.GROUP, names.PLURAL, "status", ("patch",)),
    # For the Pod's ownerReference, if the API server has the admission plugin
    # OwnerReferencesPermissionEnforcement. No API reports whether the plugin is enabled.
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

    Raises OperatorError for the first one that is missing, Unavailable if the API server cannot
    answer now.
    """
    try:
        await _check_all(client, namespaces, leases, gated)
    except ConnectionFailed as error:
        if isinstance(error.__cause__, aiohttp.ClientConnectorCertificateError):
            raise OperatorError(
                f"the certificate of {client.server} is not trusted ({error}): correct the address "
                "or the certificate authority in the kubeconfig"
            ) from error
        raise Unavailable(
            f"no answer from the API server at {client.server} ({error}): check that the cluster "
            "runs and that the address is correct"
        ) from error
    except ApiError as error:
        message = f"{client.server} answered {error}: {_HINTS.get(error.code, 'try again')}"
        if error.code == 429 or error.code >= 500 or await _is_starting(client):
            raise Unavailable(message, error.retry_seconds) from error
        raise OperatorError(message) from error
    except OperatorError as error:
        if await _is_starting(client):
            raise Unavailable(str(error)) from error
        raise


async def _is_starting(client: ApiClient) -> bool:
    """Returns whether the API server refuses for now: while it starts, it has not read all roles
    and kinds."""
    try:
        return not await client.is_ready()
    except ConnectionFailed:
        return True


async def repeat(
    check: Callable[[], Awaitable[None]], waits: Callable[[str], None] = lambda _: None
) -> None:
    """Repeat ``check`` while it raises Unavailable, for WAIT_SECONDS at most. ``waits`` is called
    with the reason of each delay. Raises OperatorError if ``check`` does."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT_SECONDS
    for failures in itertools.count():
        try:
            await check()
            return
        except Unavailable as error:
            delay = jittered(retry_delay(failures, error.retry_seconds))
            if loop.time() + delay > end:
                raise
            waits(str(error))
            fields = {"error": str(error), "retry_seconds": delay}
            logger.warning("waiting for the API server", extra=fields)
        await asyncio.sleep(delay)


_HINTS = {
    401: "renew the credentials of the current context, or check the ServiceAccount of the "
    "operator's Pod",
    403: "bind a role with that permission to these credentials",
}


async def _check_all(
    client: ApiClient, namespaces: tuple[str, ...], leases: Iterable[Key], gated: bool
) -> None:
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


async def _check_crd(client: ApiClient) -> None:
    try:
        kinds = await client.request("GET", f"/apis/{names.API_VERSION}")
    except NotFoundError:
        kinds = {"resources": []}
    if names.PLURAL not in (one["name"] for one in kinds["resources"]):
        raise OperatorError(
            f"{client.server} does not know the kind {names.KIND}: install it with "
            "'kubectl apply -f crds/'"
        )


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
