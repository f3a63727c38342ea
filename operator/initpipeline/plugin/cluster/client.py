"""What the plugin reads and writes in the cluster, through pykube-ng. Whatever goes wrong there is
told as a PluginError: one line, with what to do about it."""

import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import pykube
from requests import RequestException, Response

from initpipeline import __version__
from initpipeline.api import names
from initpipeline.core.admission import classify
from initpipeline.plugin.cluster.kubeconfig import Access
from initpipeline.plugin.errors import (
    NoAnswerError,
    NotFoundError,
    NotUsableError,
    PluginError,
    RefusedError,
)

Raw = dict[str, Any]

REQUEST_SECONDS: Final = 15.0
WATCH_SECONDS: Final = 30
"""How long one watch lasts. The object is read anew after it, so nothing can be missed for longer,
whatever became of the connection."""
RETRY_SECONDS: Final = 1.0
MAX_RETRIES: Final = 30
"""How often in a row a cluster that was there before may not answer while something is awaited."""

_CHUNK_BYTES: Final = 1 << 16
"""The most bytes of a log that are read at a time. What has arrived is returned at once."""
_KEEP_ALIVE: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, option), seconds)
        for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 3))
        if hasattr(socket, option)
    ),
]
"""Socket options that keep an idle stream open, and notice if it was dropped, as in kubectl."""
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON: Final = "application/json"
_REFUSALS: Final = frozenset({400, 403, 404, 409, 413, 422})
"""HTTP codes of a dry run that refuse the object itself."""
_FIELD_MANAGER: Final = "kubectl-initpipeline"


_APPLY: Final = "application/apply-patch+yaml"
_CLIENT_SIDE: Final = {"fieldManager": "kubectl-client-side-apply"}


class ClusterClient:
    """One cluster, as one user. Methods raise PluginError."""

    def __init__(self, access: Access, keys: Path) -> None:
        """``keys``: a directory that nobody else may read."""
        self._access = access
        self._keys = keys
        self._ahead = timedelta()
        self._client = self._connected()

    @property
    def namespace(self) -> str:
        """The namespace of the context."""
        return self._access.namespace

    @property
    def server(self) -> str:
        return str(self._access.cluster["server"])

    def now(self) -> datetime:
        """The API server's time, as of its last answer: all times in objects are by its clock or
        its nodes', and a laptop's may be off by minutes."""
        return datetime.now(UTC) + self._ahead

    def list_pipelines(self, namespace: str | None) -> list[Raw]:
        """The InitPipelines of a namespace; None: of all."""
        answer = self._ask("get", "list", namespace, **_OURS)
        items: list[Raw] = answer.json()["items"]
        return items

    def get_pipeline(self, namespace: str, name: str) -> Raw:
        """Raises NotFoundError, which names those that may have been meant."""
        self._check_name(namespace, name)
        answer = self._ask("get", "get", namespace, name, **_OURS)
        return self._found(answer, namespace, name)

    def patch_pipeline(self, namespace: str, name: str, change: Mapping[str, Any]) -> Raw:
        """Merge a change into an InitPipeline."""
        self._check_name(namespace, name)
        answer = self._ask(
            "patch",
            "patch",
            namespace,
            name,
            data=json.dumps(change),
            headers={"Content-Type": _MERGE_PATCH},
            params={"fieldManager": _FIELD_MANAGER},
            **_OURS,
        )
        return self._found(answer, namespace, name)

    def find_pipeline(self, namespace: str, name: str) -> Raw | None:
        """Returns the InitPipeline. None: there is none of this name."""
        answer = self._ask("get", "get", namespace, name, **_OURS)
        return None if answer.status_code == 404 else dict(answer.json())

    def dry_run_create(self, namespace: str, manifest: Mapping[str, Any]) -> Raw:
        """Returns the InitPipeline as the API server would store it. Raises RefusedError."""
        return self._dry_run("post", "create", namespace, "", manifest, _JSON, _OURS)

    def dry_run_patch(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Raw:
        """Returns the InitPipeline as the API server would store it after a JSON merge patch.
        Raises RefusedError."""
        return self._dry_run("patch", "patch", namespace, name, patch, _MERGE_PATCH, _OURS)

    def dry_run_apply(
        self, namespace: str, name: str, manifest: Mapping[str, Any], manager: str, *, force: bool
    ) -> Raw:
        """Returns the InitPipeline as the API server would store it after a server-side apply.
        Raises RefusedError, also for a conflict with another manager unless ``force``."""
        flags = {"fieldManager": manager, "force": "true" if force else "false"}
        return self._dry_run("patch", "patch", namespace, name, manifest, _APPLY, _OURS, flags)

    def dry_run_create_pod(self, namespace: str, manifest: Mapping[str, Any]) -> Raw:
        """Returns the Pod as the API server would store it. Raises RefusedError."""
        return self._dry_run("post", "create", namespace, "", manifest, _JSON, _PODS)

    def is_allowed(self, verb: str, resource: str, namespace: str) -> bool:
        """Returns whether the user may use a verb on a resource of core/v1 in a namespace."""
        attributes = {"namespace": namespace, "verb": verb, "resource": resource}
        review = {
            "apiVersion": _REVIEWS["version"],
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._ask("post", "create", None, data=json.dumps(review), **_REVIEWS)
        return bool(answer.json()["status"].get("allowed"))

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
        """Send a write as a dry run, as kubectl apply would. Returns the object that would be
        stored. Raises RefusedError."""
        answer = self._answer(
            method,
            version=kind["version"],
            namespace=namespace,
            url="/".join(filter(None, [kind["resource"], path])),
            data=json.dumps(body),
            headers={"Content-Type": content_type},
            params={"dryRun": "All", "fieldValidation": "Strict", **flags},
        )
        if answer.ok:
            return dict(answer.json())
        status = _status(answer)
        words = _words(answer)
        if answer.status_code == 403 and f'cannot {verb} resource "' in words:
            raise self._problem(answer, verb, kind["resource"], namespace)
        if answer.status_code == 404 and not _says_what_is_missing(answer):
            raise self._problem(answer, verb, kind["resource"], namespace)
        if answer.status_code in _REFUSALS or classify(answer.status_code, status) is not None:
            raise RefusedError(words)
        raise self._problem(answer, verb, kind["resource"], namespace)

    def find_pod(self, namespace: str, name: str) -> Raw | None:
        answer = self._ask("get", "get", namespace, name, **_PODS)
        return None if answer.status_code == 404 else dict(answer.json())

    def list_events(self, namespace: str, uid: str) -> list[Raw]:
        """Returns the events about the object of this UID. Empty if they cannot be read, for
        instance because the user may not list them."""
        params = {"fieldSelector": f"involvedObject.uid={uid}"}
        try:
            answer = self._ask("get", "list", namespace, params=params, **_EVENTS)
        except NotUsableError:
            return []
        items: list[Raw] = answer.json()["items"]
        return items

    def list_namespaces(self) -> list[str]:
        answer = self._ask("get", "list", None, version="v1", resource="namespaces")
        return [item["metadata"]["name"] for item in answer.json()["items"]]

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
        """Yields the bytes of a container's log as they arrive; with ``follow``, until it ends.
        Raises NotFoundError if the node does not have the log, NoAnswerError if it is cut off."""
        flags = {"follow": follow, "previous": previous, "timestamps": timestamps}
        params = {"container": container} | {flag: "true" for flag, on in flags.items() if on}
        answer = self._ask(
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
        if answer.status_code in (400, 404):
            raise NotFoundError(_words(answer))
        with answer:
            try:
                yield from answer.iter_content(_CHUNK_BYTES)
            except (RequestException, OSError) as error:
                raise NoAnswerError(f"{self.server} ended the stream: {_cause(error)}") from error

    def watch_pipeline(
        self, namespace: str, name: str, since: Raw, seconds: float
    ) -> Iterator[Raw]:
        """The states of an InitPipeline after ``since``, for so long. Ends early where the API
        server ends it; raises NotFoundError where the InitPipeline is deleted."""
        for event in self._watched(namespace, name, since, seconds, _OURS):
            if event["type"] == "DELETED":
                raise NotFoundError(f'the InitPipeline "{name}" was deleted')
            yield event["object"]

    def wait_for_pod_change(
        self, namespace: str, name: str, since: Raw | None, seconds: float
    ) -> bool:
        """Wait until something happens to the Pod of this name, for so long at most. Without
        ``since``, until there is one. Whether anything did."""
        return any(True for _ in self._watched(namespace, name, since, seconds, _PODS))

    def follow_pipeline(
        self, namespace: str, name: str, seconds: float | None = None
    ) -> Iterator[Raw]:
        """The InitPipeline as it is, and each state that it comes to, for so long; None: for ever.
        A cluster that does not answer for a while is asked again."""
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
        turn = max(1, round(seconds))
        params = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "timeoutSeconds": str(turn),
        }
        if since is not None:
            params["resourceVersion"] = since["metadata"]["resourceVersion"]
        wait = (REQUEST_SECONDS, turn + REQUEST_SECONDS)
        answer = self._ask(
            "get", "watch", namespace, params=params, stream=True, timeout=wait, **kind
        )
        with _told(self.server), answer:
            for line in answer.iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":  # Mostly that `since` is too old: it is read anew.
                    return
                yield event

    def _found(self, answer: Response, namespace: str, name: str) -> Raw:
        if answer.status_code != 404:
            return dict(answer.json())
        raise self._missing(namespace, name)

    def _check_name(self, namespace: str, name: str) -> None:
        """Raises NotFoundError for a name that no object can have: it would be another path or
        query in the URL."""
        if not _NAME.fullmatch(name):
            raise self._missing(namespace, name)

    def _missing(self, namespace: str, name: str) -> NotFoundError:
        return NotFoundError(
            f'no InitPipeline "{name}" in namespace "{namespace}"{self._hint(namespace, name)}'
        )

    def _hint(self, namespace: str, name: str) -> str:
        """Where it may be, or what else may have been meant."""
        here = [item["metadata"]["name"] for item in self.list_pipelines(namespace)]
        near = get_close_matches(name, here, 3)
        if near:
            return f": did you mean {', '.join(near)}?"
        try:
            found = [
                i["metadata"] for i in self.list_pipelines(None) if i["metadata"]["name"] == name
            ]
        except PluginError:
            found = []
        if found:
            return f": it is in {', '.join(m['namespace'] for m in found)}, which -n can name"
        if here:
            more = ", ..." if len(here) > 5 else ""
            return f": there is {', '.join(here[:5])}{more}"
        return ": there is none; -n names another namespace, -A lists all"

    def _connected(self) -> Any:
        with _told(self.server):
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

    def _ask(
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
        """Send a request. What is not there (404) is left to the caller to tell, unless it is the
        resource itself that the API server does not know."""
        if namespace is not None and not _NAME.fullmatch(namespace):
            raise NotFoundError(f'"{namespace}" cannot be the name of a namespace')
        url = "/".join(filter(None, [resource, path]))
        answer = self._answer(method, version=version, namespace=namespace, url=url, **options)
        if answer.ok:
            return answer
        if answer.status_code == 404 and _says_what_is_missing(answer):
            return answer
        if answer.status_code in (400, 404) and path.endswith("/log"):
            return answer
        raise self._problem(answer, verb, resource, namespace)

    def _answer(self, method: str, **asked: Any) -> Response:
        """Send a request, a second time if the credentials have changed meanwhile."""
        answer = self._send(method, asked)
        if answer.status_code == 401 and self._access.changing:
            self._client = self._connected()
            answer = self._send(method, asked)
        self._note_time(answer)
        return answer

    def _send(self, method: str, asked: Mapping[str, Any]) -> Response:
        with _told(self.server):
            answer: Response = getattr(self._client, method)(**asked)
        return answer

    def _note_time(self, answer: Response) -> None:
        """The header tells whole seconds, so a difference below that is none."""
        if "Date" not in answer.headers:
            return
        try:
            ahead = parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)
        except (TypeError, ValueError):
            return  # What a proxy on the way made of it.
        self._ahead = ahead if abs(ahead) > timedelta(seconds=2) else timedelta()

    def _problem(
        self, answer: Response, verb: str, resource: str, namespace: str | None
    ) -> PluginError:
        words = _words(answer)
        if answer.status_code == 401:
            return NotUsableError(
                f'{self.server} does not accept the credentials of context "{self._access.context}"'
                ": log in again, or choose another with --context"
            )
        if answer.status_code == 403:
            where = f"-n {namespace}" if namespace else "-A"
            return NotUsableError(f"{words}: see kubectl auth can-i {verb} {resource} {where}")
        if answer.status_code == 404 and resource == names.PLURAL:
            return NotUsableError(
                f"{self.server} does not know InitPipelines: install the CRD (kubectl apply -f "
                "crds/), or choose another cluster with --context"
            )
        if answer.status_code >= 500 or answer.status_code == 429:
            return NoAnswerError(f"{self.server} is in trouble ({answer.status_code}): {words}")
        return PluginError(f"{self.server} says no ({answer.status_code}): {words}")


_CONNECTION: Final = re.compile(r"^.*(Connection|Pool)\(.*?\): (Failed to establish .*?: )?")
"""What urllib3 puts before the words of the system."""
_NAME: Final = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")
"""A DNS subdomain, as names of objects are."""
_PATCHED: Final = re.compile(
    r'^\s*"" is invalid: patch: Invalid value: "(?:[^"\\]|\\.)*": ', re.DOTALL
)
"""The object as patched, status and managed fields included, with which the API server begins its
message about an unknown field in a patch."""
_OURS: Final = {"version": names.API_VERSION, "resource": names.PLURAL}
_PODS: Final = {"version": "v1", "resource": "pods"}
_EVENTS: Final = {"version": "v1", "resource": "events"}
_REVIEWS: Final = {"version": "authorization.k8s.io/v1", "resource": "selfsubjectaccessreviews"}


def _says_what_is_missing(answer: Response) -> bool:
    """Whether an object is missing, and not the whole resource: a 404 names the object then."""
    details = _status(answer).get("details") or {}
    return bool(details.get("name"))


def _words(answer: Response) -> str:
    said = _PATCHED.sub("", _status(answer).get("message") or answer.text)
    return " ".join(said.split()) or str(answer.reason)


def _status(answer: Response) -> Raw:
    """The metav1.Status of an answer that is no success."""
    try:
        status = answer.json()
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


@contextmanager
def _told(server: str) -> Iterator[None]:
    """What the network or the TLS library throws, in a line."""
    try:
        yield
    except (RequestException, OSError) as error:
        raise NoAnswerError(
            f"no answer from {server}: {_cause(error)}; is the cluster up, and the context the "
            "right one (kubectl config get-contexts)?"
        ) from error


def _cause(error: BaseException) -> str:
    """The innermost words, which tell more than those of the libraries around them."""
    for argument in error.args:
        reason = getattr(argument, "reason", None) or argument
        if isinstance(reason, BaseException):
            return _cause(reason)
    return _CONNECTION.sub("", " ".join(str(error).split()))
