"""The plugin's API client, on top of pykube-ng. It raises each failure as a PluginError: one line
that names the remedy."""

import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

import pykube
from requests import RequestException, Response

from initpipeline import __version__
from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.core.admission import classify, is_by_admission
from initpipeline.plugin.cluster.kubeconfig import Access
from initpipeline.plugin.errors import (
    NoAnswerError,
    NotFoundError,
    NotUsableError,
    PluginError,
    RefusedError,
)

REQUEST_SECONDS: Final = 15.0
"""Timeout of a request, and of a pause in a response that is not a stream."""
WATCH_SECONDS: Final = 30
"""Duration of one watch. The client reads the object again after it, so a broken connection delays
a change by this time at most."""
RETRY_SECONDS: Final = 1.0
MAX_RETRIES: Final = 30
"""Consecutive failures after which waiting for a state ends with an error."""

_CHUNK_BYTES: Final = 1 << 16
"""The maximum size of one chunk of a log. A smaller chunk is returned as soon as it arrives."""
_KEEP_ALIVE: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, option), seconds)
        for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 3))
        if hasattr(socket, option)
    ),
]
"""Socket options that keep an idle stream open and detect a lost connection, as in kubectl."""
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON: Final = "application/json"
_REFUSALS: Final = frozenset({400, 403, 404, 409, 413, 422})
"""HTTP codes of a dry run by which the API server refuses the object itself."""
_FIELD_MANAGER: Final = "kubectl-initpipeline"
_APPLY: Final = "application/apply-patch+yaml"
_CLIENT_SIDE: Final = {"fieldManager": "kubectl-client-side-apply"}


class Kind(Enum):
    """A kind of objects that can be listed and watched as a whole. The value is for messages."""

    PIPELINES = "InitPipelines"
    PODS = "Pods"
    """Those that the operator has created."""
    EVENTS = "events"


class ClusterClient:
    """Requests to one cluster with the credentials of one user. All methods raise PluginError."""

    def __init__(self, access: Access, keys: Path) -> None:
        """``keys`` is a directory for private keys, which only the user may read."""
        self._access = access
        self._keys = keys
        self._ahead = timedelta()
        self._client = self._connected()
        self._log: Response | None = None
        """The log that is being read."""
        self._interrupted = False

    @property
    def namespace(self) -> str:
        """The namespace of the kubeconfig context."""
        return self._access.namespace

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self._access.cluster["server"])

    def now(self) -> datetime:
        """Returns the time of the API server's clock, estimated from its last response. Times in
        objects come from the clocks of the cluster, and the local clock may differ by minutes."""
        return datetime.now(UTC) + self._ahead

    def list_pipelines(self, namespace: str | None) -> list[Raw]:
        """List the InitPipelines of a namespace. None: list those of all namespaces."""
        response = self._request("get", "list", namespace, **_OURS)
        items: list[Raw] = response.json()["items"]
        return items

    def get_pipeline(self, namespace: str, name: str) -> Raw:
        """Get an InitPipeline. Raises NotFoundError, with similar names in its message."""
        self._check_name(namespace, name)
        response = self._request("get", "get", namespace, name, **_OURS)
        return self._existing(response, namespace, name)

    def patch_pipeline(self, namespace: str, name: str, change: Mapping[str, Any]) -> Raw:
        """Patch an InitPipeline with a JSON merge patch. Returns the new state."""
        self._check_name(namespace, name)
        response = self._request(
            "patch",
            "patch",
            namespace,
            name,
            data=json.dumps(change),
            headers={"Content-Type": _MERGE_PATCH},
            params={"fieldManager": _FIELD_MANAGER},
            **_OURS,
        )
        return self._existing(response, namespace, name)

    def find_pipeline(self, namespace: str, name: str) -> Raw | None:
        """Get an InitPipeline. None: it does not exist."""
        response = self._request("get", "get", namespace, name, **_OURS)
        return None if response.status_code == 404 else dict(response.json())

    def dry_run_create(self, namespace: str, manifest: Mapping[str, Any]) -> Raw:
        """Create an InitPipeline as a dry run. Returns it as the API server would store it. Raises
        RefusedError."""
        return self._dry_run("post", "create", namespace, "", manifest, _JSON, _OURS)

    def dry_run_patch(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Raw:
        """Patch an InitPipeline with a JSON merge patch as a dry run. Returns it as the API server
        would store it. Raises RefusedError."""
        return self._dry_run("patch", "patch", namespace, name, patch, _MERGE_PATCH, _OURS)

    def dry_run_apply(
        self, namespace: str, name: str, manifest: Mapping[str, Any], manager: str, *, force: bool
    ) -> Raw:
        """Apply an InitPipeline server-side as a dry run. Returns it as the API server would store
        it. Raises RefusedError, for instance if another manager conflicts, without ``force``."""
        flags = {"fieldManager": manager, "force": "true" if force else "false"}
        return self._dry_run("patch", "patch", namespace, name, manifest, _APPLY, _OURS, flags)

    def dry_run_create_pod(self, namespace: str, manifest: Mapping[str, Any]) -> Raw:
        """Create a Pod as a dry run. Returns it as the API server would store it. Raises
        RefusedError."""
        return self._dry_run("post", "create", namespace, "", manifest, _JSON, _PODS)

    def list_kind(self, kind: Kind, namespace: str | None) -> Raw:
        """List all objects of a kind in a namespace. None: in all namespaces. The result has the
        items and the resourceVersion from which ``watch_kind`` continues."""
        resource, selector = _KINDS[kind]
        return dict(self._request("get", "list", namespace, params=selector, **resource).json())

    def watch_kind(
        self, kind: Kind, namespace: str | None, version: str, seconds: float
    ) -> Iterator[Raw]:
        """Watch all objects of a kind after a resourceVersion, for at most ``seconds``. Yields the
        watch events, among them bookmarks, and an ERROR if the version is too old."""
        resource, selector = _KINDS[kind]
        params = {**selector, "resourceVersion": version, "allowWatchBookmarks": "true"}
        return self._stream(namespace, params, seconds, resource)

    def is_allowed(self, verb: str, resource: str, namespace: str, group: str = "") -> bool:
        """Returns whether RBAC allows the user a verb on a resource in a namespace. ``group`` is
        the API group, by default that of core/v1. The resource may have a subresource."""
        resource, _, subresource = resource.partition("/")
        attributes = {"namespace": namespace, "verb": verb, "resource": resource, "group": group}
        attributes |= {"subresource": subresource} if subresource else {}
        review = {
            "apiVersion": _REVIEWS["version"],
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        response = self._request("post", "create", None, data=json.dumps(review), **_REVIEWS)
        return bool(response.json()["status"].get("allowed"))

    def _dry_run(
        self,
        method: str,
        verb: str,
        namespace: str,
        path: str,
        body: Mapping[str, Any],
        content_type: str,
        kind: Mapping[str, str],
        flags: Mapping[str, str] = _CLIENT_SIDE,
    ) -> Raw:
        """Send a write as a dry run, in the way of kubectl apply. Returns the object that would be
        stored. Raises RefusedError."""
        response = self._send(
            method,
            version=kind["version"],
            namespace=namespace,
            url="/".join(filter(None, [kind["resource"], path])),
            data=json.dumps(body),
            headers={"Content-Type": content_type},
            params={"dryRun": "All", "fieldValidation": "Strict", **flags},
        )
        if response.ok:
            return dict(response.json())
        status = _status(response)
        message = _message(response)
        if response.status_code == 403 and f'cannot {verb} resource "' in message:
            raise self._problem(response, verb, kind["resource"], namespace)
        if classify(response.status_code, status) is not None:
            raise RefusedError(message)
        unknown = response.status_code == 404 and not _names_missing_object(response)
        if response.status_code in _REFUSALS and not unknown:
            raise RefusedError(message)
        raise self._problem(response, verb, kind["resource"], namespace)

    def find_pod(self, namespace: str, name: str) -> Raw | None:
        """Get a Pod. None: it does not exist."""
        response = self._request("get", "get", namespace, name, **_PODS)
        return None if response.status_code == 404 else dict(response.json())

    def list_events(self, namespace: str, uid: str) -> list[Raw]:
        """List the events about the object with this UID. Empty if they cannot be read, for
        instance because the user may not list events."""
        params = {"fieldSelector": f"involvedObject.uid={uid}"}
        try:
            response = self._request("get", "list", namespace, params=params, **_EVENTS)
        except NotUsableError:
            return []
        items: list[Raw] = response.json()["items"]
        return items

    def list_namespaces(self) -> list[str]:
        """List the names of all namespaces."""
        response = self._request("get", "list", None, version="v1", resource="namespaces")
        return [item["metadata"]["name"] for item in response.json()["items"]]

    def read_log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        previous: bool = False,
        timestamps: bool = False,
    ) -> Iterator[bytes]:
        """Yields the bytes of a container's log as they arrive. With ``follow``, continues until
        the container ends. Raises NotFoundError if the node does not have the log, NoAnswerError if
        the stream is interrupted."""
        flags = {"follow": follow, "previous": previous, "timestamps": timestamps}
        params = {"container": container} | {flag: "true" for flag, on in flags.items() if on}
        response = self._request(
            "get",
            "get",
            namespace,
            f"{pod}/log",
            params=params,
            stream=True,
            timeout=(REQUEST_SECONDS, None if follow else REQUEST_SECONDS),
            headers={"Accept-Encoding": "identity"},
            **_PODS,
        )
        if response.status_code in (400, 404):
            raise NotFoundError(_message(response))
        self._log = response
        with response:
            try:
                if self._interrupted:
                    return
                yield from response.iter_content(_CHUNK_BYTES)
            except (RequestException, OSError) as error:
                raise NoAnswerError(
                    f"{self.server} closed the log stream: {_cause(error)}"
                ) from error
            finally:
                self._log = None

    def interrupt_log(self) -> None:
        """Ends the log that another thread reads from this client, even if its container is
        silent. No log can be read from this client afterwards."""
        self._interrupted = True
        reading = self._log
        if reading is not None:
            reading.raw.shutdown()

    def watch_pipeline(
        self, namespace: str, name: str, since: Raw, seconds: float
    ) -> Iterator[Raw]:
        """Watch an InitPipeline. Yields each state after ``since``, for at most ``seconds``. Ends
        early if the API server closes the watch. Raises NotFoundError if the InitPipeline is
        deleted."""
        for event in self._watched(namespace, name, since, seconds, _OURS):
            if event["type"] == "DELETED":
                raise NotFoundError(f'the InitPipeline "{name}" was deleted')
            yield event["object"]

    def wait_for_pod_change(
        self, namespace: str, name: str, since: Raw | None, seconds: float
    ) -> bool:
        """Wait at most ``seconds`` for a change of a Pod after ``since``, or, without
        ``since``, for its creation. Returns whether it happened."""
        return any(True for _ in self._watched(namespace, name, since, seconds, _PODS))

    def follow_pipeline(
        self, namespace: str, name: str, seconds: float | None = None
    ) -> Iterator[Raw]:
        """Yields the current state of an InitPipeline and each later one, for ``seconds``. None:
        without a limit. Retries if the API server does not answer for a while."""
        deadline = None if seconds is None else time.monotonic() + seconds
        failures = 0
        while True:
            left = WATCH_SECONDS if deadline is None else deadline - time.monotonic()
            try:
                state = self.get_pipeline(namespace, name)
                yield state
                if left <= 0:
                    return
                yield from self.watch_pipeline(namespace, name, state, min(left, WATCH_SECONDS))
                failures = 0
            except NoAnswerError:
                failures += 1
                if failures > MAX_RETRIES or left <= 0:
                    raise
                time.sleep(RETRY_SECONDS)

    def _watched(
        self, namespace: str, name: str, since: Raw | None, seconds: float, kind: Mapping[str, str]
    ) -> Iterator[Raw]:
        """Yields the events of one watch."""
        params = {"fieldSelector": f"metadata.name={name}"}
        if since is not None:
            params["resourceVersion"] = since["metadata"]["resourceVersion"]
        for event in self._stream(namespace, params, seconds, kind):
            if event["type"] == "ERROR":
                return  # Mostly because `since` is too old. The caller reads the object again.
            yield event

    def _stream(
        self,
        namespace: str | None,
        params: Mapping[str, str],
        seconds: float,
        kind: Mapping[str, str],
    ) -> Iterator[Raw]:
        """Yields the events of one watch with these parameters."""
        timeout = max(1, round(seconds))
        response = self._request(
            "get",
            "watch",
            namespace,
            params={**params, "watch": "true", "timeoutSeconds": str(timeout)},
            stream=True,
            timeout=(REQUEST_SECONDS, timeout + REQUEST_SECONDS),
            **kind,
        )
        with _connection_errors(self.server), response:
            yield from map(json.loads, response.iter_lines())

    def _existing(self, response: Response, namespace: str, name: str) -> Raw:
        """Returns the InitPipeline in a response. Raises NotFoundError."""
        if response.status_code != 404:
            return dict(response.json())
        raise self._missing(namespace, name)

    def _check_name(self, namespace: str, name: str) -> None:
        """Raises NotFoundError for a name that is not valid: in the URL it could be another path or
        a query."""
        if not NAME.fullmatch(name):
            raise self._missing(namespace, name)

    def _missing(self, namespace: str, name: str) -> NotFoundError:
        return NotFoundError(
            f'no InitPipeline "{name}" in namespace "{namespace}"{self._hint(namespace, name)}'
        )

    def _hint(self, namespace: str, name: str) -> str:
        """Returns a hint on similar names, or on other namespaces that have the name."""
        here = [item["metadata"]["name"] for item in self.list_pipelines(namespace)]
        similar = get_close_matches(name, here, 3)
        if similar:
            return f": did you mean {', '.join(similar)}?"
        try:
            metadata = [item["metadata"] for item in self.list_pipelines(None)]
        except PluginError:
            metadata = []
        namespaces = [one["namespace"] for one in metadata if one["name"] == name]
        if namespaces:
            return f": it exists in {', '.join(namespaces)}; choose the namespace with -n"
        if here:
            more = ", ..." if len(here) > 5 else ""
            return f": the namespace has {', '.join(here[:5])}{more}"
        return ": the namespace has no InitPipelines; choose another with -n, or all with -A"

    def _connected(self) -> Any:
        """Returns a new pykube-ng client with fresh credentials."""
        with _connection_errors(self.server):
            try:
                client = pykube.HTTPClient(self._access.config(self._keys), timeout=REQUEST_SECONDS)
            except pykube.exceptions.PyKubeError as error:
                raise NotUsableError(f"the kubeconfig cannot be used: {error}") from error
        session = client.session
        for adapter in session.adapters.values():
            adapter.poolmanager.connection_pool_kw["socket_options"] = _KEEP_ALIVE
        session.headers["User-Agent"] = f"kubectl-initpipeline/{__version__}"
        proxy = self._access.cluster.get("proxy-url")
        if proxy:
            session.proxies = {"http": proxy, "https": proxy}
        if self._access.user.get("as"):
            session.headers["Impersonate-User"] = self._access.user["as"]
        return client

    def _request(
        self,
        method: str,
        verb: str,
        namespace: str | None,
        path: str = "",
        *,
        version: str,
        resource: str,
        **options: Any,
    ) -> Response:
        """Send a request. Returns the response if it succeeded, or if an object does not exist
        (404), which the caller reports."""
        if namespace is not None and not NAME.fullmatch(namespace):
            raise NotFoundError(f'"{namespace}" is not a valid namespace name')
        url = "/".join(filter(None, [resource, path]))
        response = self._send(method, version=version, namespace=namespace, url=url, **options)
        if response.ok:
            return response
        if response.status_code == 404 and _names_missing_object(response):
            return response
        if response.status_code in (400, 404) and path.endswith("/log"):
            return response
        _, _, subresource = path.partition("/")
        refused = "/".join(filter(None, [resource, subresource]))
        raise self._problem(response, verb, refused, namespace)

    def _send(self, method: str, **arguments: Any) -> Response:
        """Send a request. If the credentials have expired, get new ones and send it again."""
        response = self._send_once(method, arguments)
        if response.status_code == 401 and self._access.renewable:
            self._client = self._connected()
            response = self._send_once(method, arguments)
        self._note_time(response)
        return response

    def _send_once(self, method: str, arguments: Mapping[str, Any]) -> Response:
        with _connection_errors(self.server):
            response: Response = getattr(self._client, method)(**arguments)
        return response

    def _note_time(self, response: Response) -> None:
        """Record the difference to the API server's clock. The Date header has whole seconds, so a
        smaller difference counts as zero."""
        if "Date" not in response.headers:
            return
        try:
            ahead = parsedate_to_datetime(response.headers["Date"]) - datetime.now(UTC)
        except (TypeError, ValueError):
            return  # A proxy has changed the header.
        self._ahead = ahead if abs(ahead) > timedelta(seconds=2) else timedelta()

    def _problem(
        self, response: Response, verb: str, resource: str, namespace: str | None
    ) -> PluginError:
        """Returns the error for a response that the caller does not expect."""
        message = _message(response)
        if is_by_admission(message):
            code = response.status_code
            return PluginError(f"{self.server} refused the request ({code}): {message}")
        if response.status_code == 401:
            return NotUsableError(
                f'{self.server} does not accept the credentials of context "{self._access.context}"'
                ": log in again, or choose another context with --context"
            )
        if response.status_code == 403:
            scope = f"-n {namespace}" if namespace else "-A"
            return NotUsableError(f"{message}: see kubectl auth can-i {verb} {resource} {scope}")
        if response.status_code == 404 and resource == names.PLURAL:
            return NotUsableError(
                f"{self.server} does not serve InitPipelines: install the CRD (kubectl apply -f "
                "crds/), or choose another cluster with --context"
            )
        if response.status_code >= 500 or response.status_code == 429:
            return NoAnswerError(f"{self.server} returned {response.status_code}: {message}")
        return PluginError(f"{self.server} refused the request ({response.status_code}): {message}")


_CONNECTION: Final = re.compile(r"^.*(Connection|Pool)\(.*?\): (Failed to establish .*?: )?")
"""The text that urllib3 puts before the message of the operating system."""
NAME: Final = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")
"""A valid name of an object: a DNS subdomain."""
_PATCHED: Final = re.compile(
    r'^\s*"" is invalid: patch: Invalid value: "(?:[^"\\]|\\.)*": ', re.DOTALL
)
"""The start of the API server's message about an unknown field in a patch: the whole object."""
_OURS: Final = {"version": names.API_VERSION, "resource": names.PLURAL}
_PODS: Final = {"version": "v1", "resource": "pods"}
_EVENTS: Final = {"version": "v1", "resource": "events"}
_KINDS: Final[Mapping[Kind, tuple[Mapping[str, str], Mapping[str, str]]]] = {
    Kind.PIPELINES: (_OURS, {}),
    Kind.PODS: (_PODS, {"labelSelector": names.NAME_LABEL}),
    Kind.EVENTS: (_EVENTS, {}),
}
"""Resource and selector of each kind."""
_REVIEWS: Final = {"version": "authorization.k8s.io/v1", "resource": "selfsubjectaccessreviews"}


def _names_missing_object(response: Response) -> bool:
    """Returns whether a 404 is about one object, whose name it has then, and not about an unknown
    resource. An admission webhook may forward a 404 about an object of its own."""
    details = _status(response).get("details") or {}
    return bool(details.get("name")) and not is_by_admission(_message(response))


def _message(response: Response) -> str:
    """Returns the API server's message in one line."""
    message = _PATCHED.sub("", _status(response).get("message") or response.text)
    return " ".join(message.split()) or str(response.reason)


def _status(response: Response) -> Raw:
    """Returns the metav1.Status of a failed request. Empty if the response is not one."""
    try:
        status = response.json()
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


@contextmanager
def _connection_errors(server: str) -> Iterator[None]:
    """Converts exceptions of the network and of TLS to a NoAnswerError of one line."""
    try:
        yield
    except (RequestException, OSError) as error:
        raise NoAnswerError(
            f"no answer from {server}: {_cause(error)}; check that the cluster is running and the "
            "context is the right one: kubectl config get-contexts"
        ) from error


def _cause(error: BaseException) -> str:
    """Returns the message of the innermost exception, which is more specific than those of the
    libraries around it."""
    for argument in error.args:
        reason = getattr(argument, "reason", None) or argument
        if isinstance(reason, BaseException):
            return _cause(reason)
    return _CONNECTION.sub("", " ".join(str(error).split()))
