"""The API server in plain dicts: the few requests of the demo, and waiting by watching."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kubernetes.client import ApiClient, ApiException, CoreV1Api
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError

from tests.demo.errors import DemoError

Object = dict[str, Any]

REQUEST_SECONDS: Final = 15
FIELD_MANAGER: Final = "initpipeline-demo"
JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"

NAMESPACES: Final = "/api/v1/namespaces"
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CLUSTER_WIDE: Final = {"Namespace": NAMESPACES, "CustomResourceDefinition": CRDS}
PLURALS: Final = {
    "Pod": "pods",
    "Service": "services",
    "Secret": "secrets",
    "ServiceAccount": "serviceaccounts",
    "InitPipeline": "initpipelines",
}


class RefusedError(DemoError):
    """The API server's no."""

    def __init__(self, code: int, message: str) -> None:
        """Its HTTP status, and its own words."""
        super().__init__(f"the API server answered {code}: {message}")
        self.code = code


class UnreachableError(DemoError):
    """No answer."""


def collection(kind: str, namespace: str = "", version: str = "v1") -> str:
    """The path of all objects of a kind."""
    if kind in CLUSTER_WIDE:
        return CLUSTER_WIDE[kind]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{PLURALS[kind]}"


class Api:
    """One API server, as one user."""

    def __init__(self, configuration: Any) -> None:
        """From a configuration of the official client's."""
        self._configuration = configuration
        self._client = ApiClient(configuration)

    def get(self, path: str, **query: str) -> Object | None:
        """What is at that path; None when nothing is."""
        try:
            answer: Object = json.loads(self.text(path, **query))
        except RefusedError as error:
            if error.code == 404:
                return None
            raise
        return answer

    def text(self, path: str, **query: str) -> str:
        """The same as it was sent: also what a Pod answers, by way of the API server."""
        return str(self._open("GET", path, query).data.decode())

    def apply(self, manifest: Object, namespace: str = "") -> None:
        """Create it or bring it to this, on the server's side."""
        path = collection(manifest["kind"], namespace, manifest["apiVersion"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        name = manifest["metadata"]["name"]
        _ = self._open("PATCH", f"{path}/{name}", query, manifest, APPLY).data

    def delete(self, path: str) -> None:
        """Ask for its deletion; nothing happens where there is nothing."""
        try:
            _ = self._open("DELETE", path, {}).data
        except RefusedError as error:
            if error.code != 404:
                raise

    def watch(self, path: str, version: str, seconds: float, **query: str) -> Iterator[Object]:
        """What happens after that version, for so long at most."""
        limit = math.ceil(seconds)
        query |= {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(limit)}
        response = self._open("GET", path, query, patience=limit + REQUEST_SECONDS)
        try:
            for line in response:
                yield json.loads(line)
        except (HTTPError, OSError, ValueError) as error:
            raise UnreachableError(f"the watch of {path} broke off: {_one_line(error)}") from None
        finally:
            response.close()

    def until(
        self, path: str, name: str, holds: Callable[[Object | None], bool], seconds: float
    ) -> bool:
        """Return as soon as it holds for that object (None: there is none); False: too late."""
        end = time.monotonic() + seconds
        selector = f"metadata.name={name}"
        while (left := end - time.monotonic()) > 0:
            listed = self.get(path, fieldSelector=selector) or {"items": [], "metadata": {}}
            if holds(next(iter(listed["items"]), None)):
                return True
            version = listed["metadata"].get("resourceVersion", "")
            for event in self.watch(path, version, left, fieldSelector=selector):
                if event["type"] == "ERROR":
                    break
                if holds(None if event["type"] == "DELETED" else event["object"]):
                    return True
        return False

    def run(self, namespace: str, pod: str, container: str, script: str) -> str:
        """What a shell script prints in a container, as by kubectl exec."""
        # A client of its own: to upgrade the connection, the library changes the one it is given.
        connect = CoreV1Api(ApiClient(self._configuration)).connect_get_namespaced_pod_exec
        command, outputs = ["sh", "-c", script], {"stdout": True, "stderr": True}
        try:
            said = stream(
                connect,
                pod,
                namespace,
                container=container,
                command=command,
                stdin=False,
                tty=False,
                _request_timeout=REQUEST_SECONDS,
                **outputs,
            )
        except ApiException as error:
            raise DemoError(f"exec in container {container}: {_one_line(error)}") from None
        return str(said)

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        content_type: str = JSON,
        patience: float = REQUEST_SECONDS,
    ) -> Any:
        try:
            return self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "*/*", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=(REQUEST_SECONDS, patience),
            )
        except ApiException as error:
            raise RefusedError(error.status, _message(error)) from None
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"no answer from the API server: {_one_line(error)}") from None


def _message(error: Any) -> str:
    """The server's own words, where it sent a Status."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
