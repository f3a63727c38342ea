"""The operator's requests to the API server: one method per request.

The exceptions are Kopf's watch, the checks at start-up (runtime.preflight, ``ApiClient.is_ready``)
and the comparison of the CRD (runtime.crd_check). No other module of runtime builds a path.

Objects are parsed into the types of core. Those of lists and watches are returned as dictionaries:
the cache has the version of most of them, so they need no conversion.
"""

import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Self
from urllib.parse import quote

from initpipeline.api import names
from initpipeline.api.models import format_micro_time
from initpipeline.api.reasons import Reason
from initpipeline.core import admission
from initpipeline.core.encoding import decode, encode
from initpipeline.core.facts import Pipeline, PipelineMetadata, Refusal
from initpipeline.core.pod import Pod
from initpipeline.core.unreadable import UnreadablePipeline, read_pipeline
from initpipeline.runtime.buckets import Shard
from initpipeline.runtime.client import (
    JSON,
    MERGE_PATCH,
    METADATA_EVENTS,
    METADATA_LIST,
    STRATEGIC_PATCH,
    ApiClient,
    with_query,
)
from initpipeline.runtime.errors import (
    ApiError,
    ConnectionFailed,
    LeaseExpiring,
    NotFoundError,
    TooLargeError,
)
from initpipeline.runtime.keys import Key, Kind, ListedObjects, ObjectUIDs, key_of
from initpipeline.runtime.responses import LARGEST_PAGE, NO_PAGE


@dataclass(frozen=True, slots=True)
class Lease:
    """A version of a Lease of coordination.k8s.io/v1."""

    resource_version: str
    holder: str
    """Empty: the Lease is free."""
    seconds: int
    """The time without a change after which it expires."""
    renewed: str
    transitions: int
    """How often the holder has changed."""
    members: Mapping[str, str] = field(default_factory=dict)
    """The time of the last heartbeat of each replica. Only runtime.members writes it."""

    @classmethod
    def from_api(cls, raw: Mapping[str, Any]) -> Self:
        spec = raw.get("spec") or {}
        return cls(
            raw["metadata"]["resourceVersion"],
            spec.get("holderIdentity") or "",
            spec.get("leaseDurationSeconds") or 0,
            spec.get("renewTime") or "",
            spec.get("leaseTransitions") or 0,
            _members((raw["metadata"].get("annotations") or {}).get(names.MEMBERS_ANNOTATION)),
        )


def _members(annotation: str | None) -> dict[str, str]:
    """Returns the members in the annotation of a Lease, as far as they can be read."""
    try:
        members = decode((annotation or "{}").encode())
    except ValueError:
        return {}
    if not isinstance(members, dict):
        return {}
    return {name: time for name, time in members.items() if isinstance(time, str)}


MARGIN_SECONDS: Final = 1.0
"""The time between the end of a write and the expiry of the Lease. It covers a time-out that the
API server notices late."""
LEAST_SECONDS: Final = 1.0
"""If less time is left for a write, it is not sent."""


class Gateway:
    """Reads and writes API objects. Each method may raise ApiError or ConnectionFailed.

    The API server and this process end each write, except those of the Lease itself, before the
    Lease expires. So no late write of this process changes what the next holder has read. A pause
    between the check of the time and the request is the exception
    (docs/decisions/0021-lease-and-deadlines.md).
    """

    def __init__(
        self,
        client: ApiClient,
        remaining: Callable[[], float] = lambda: math.inf,
        shard: Shard = Shard(),
    ) -> None:
        """``remaining`` returns the seconds until the Lease expires. With ``--shards``, it returns
        those until the heartbeat of this replica expires, if that is earlier. Lists and watches
        have only the objects of the shard."""
        self._client = client
        self._remaining = remaining
        self._shard = shard

    async def get_pipeline(self, key: Key) -> Pipeline | UnreadablePipeline | None:
        """Returns the InitPipeline. None: it does not exist, or belongs to another shard."""
        raw = await self._get(_pipeline_path(key), key)
        return None if raw is None or not self._shard.selects(raw) else read_pipeline(raw)

    async def get_pod(self, key: Key) -> Pod | None:
        """Returns the Pod. None: it does not exist. Raises UnreadableError if it cannot be read."""
        raw = await self._get(_pod_path(key), key)
        return None if raw is None else self._read_pod(raw)

    def _read_pod(self, raw: Mapping[str, Any]) -> Pod:
        pod = Pod.from_api(raw)
        return pod if self._shard.selects(raw) else replace(pod, labelled=False)

    async def patch_status(
        self, pipeline: PipelineMetadata, patch: dict[str, Any]
    ) -> Pipeline | UnreadablePipeline:
        """Apply a merge patch to the status, and return the stored pipeline.

        Raises ConflictError if the pipeline has changed since it was read, NotFoundError if it does
        not exist.
        """
        path = f"{_pipeline_path(Key.of(pipeline))}/status"
        body = {"metadata": {"resourceVersion": pipeline.resource_version}, "status": patch}
        return read_pipeline(await self._write("PATCH", path, body, MERGE_PATCH), before=pipeline)

    async def create_pod(self, manifest: dict[str, Any]) -> Pod | Refusal:
        """Create the Pod. Returns the Pod, or the refusal if the API server rejects it.

        Validation is strict: the API server refuses an unknown field instead of dropping it.
        Raises AlreadyExistsError if a Pod of that name exists.
        """
        namespace = manifest["metadata"]["namespace"]
        path = f"/api/v1/namespaces/{quote(namespace)}/pods?fieldValidation=Strict"
        try:
            return self._read_pod(await self._write("POST", path, manifest))
        except ApiError as error:
            if isinstance(error, TooLargeError):
                details = error.status.get("message")
                message = f"the Pod is larger than the cluster can store: {details}"
                return Refusal(Reason.INVALID_TEMPLATE, message)
            refused = admission.classify(error.code, error.status)
            if refused is None:
                raise
            return refused

    async def delete_pod(self, key: Key, uid: str) -> Pod | None:
        """Delete the Pod with this UID, with the grace period of its spec.

        Returns the Pod of the response. None: it has none with a resource version. Raises
        NotFoundError if no Pod has this name, ConflictError if another Pod has it.
        """
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        answer = await self._write("DELETE", _pod_path(key), options)
        # A Pod that has no grace period or no node, or has terminated, is deleted at once. The API
        # server may then return it without a resource version.
        there = answer.get("kind") == Kind.POD.value and answer["metadata"].get("resourceVersion")
        return self._read_pod(answer) if there else None

    async def ungate_pod(self, key: Key, uid: str) -> Pod:
        """Remove the operator's scheduling gate from the Pod with this UID, and return the Pod.

        Raises NotFoundError if no Pod has this name, ConflictError if another Pod has it.
        """
        gate = {"name": names.RUN_GATE, "$patch": "delete"}
        body = {"metadata": {"uid": uid}, "spec": {"schedulingGates": [gate]}}
        return self._read_pod(await self._write("PATCH", _pod_path(key), body, STRATEGIC_PATCH))

    async def delete_pipeline(self, pipeline: Pipeline) -> None:
        """Delete the pipeline. Raises ConflictError if it has changed since it was read,
        NotFoundError if it does not exist."""
        known = {"uid": pipeline.uid, "resourceVersion": pipeline.resource_version}
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": known}
        path = _pipeline_path(Key.of(pipeline))
        await self._write("DELETE", path, options)

    async def create_event(self, event: dict[str, Any]) -> None:
        """Create the event. Raises NotFoundError if its namespace does not exist."""
        await self._write("POST", _events_path(event["metadata"]["namespace"]), event)

    async def patch_event_series(
        self, namespace: str, name: str, count: int, last: datetime
    ) -> None:
        """Set how often the event has occurred, and when it occurred last.

        Raises NotFoundError if the event does not exist. The API server deletes old events.
        """
        path = f"{_events_path(namespace)}/{quote(name)}"
        series = {"count": count, "lastObservedTime": format_micro_time(last)}
        await self._write("PATCH", path, {"series": series}, MERGE_PATCH)

    async def get_lease(self, key: Key) -> Lease | None:
        """Returns the Lease. None: it does not exist."""
        raw = await self._get(_lease_path(key), key)
        return None if raw is None else Lease.from_api(raw)

    async def create_lease(
        self, key: Key, spec: Mapping[str, Any], members: Mapping[str, str] | None = None
    ) -> Lease:
        """Create the Lease. Raises AlreadyExistsError if it exists, NotFoundError if the namespace
        does not."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": key.name, "namespace": key.namespace, **_annotated(members)},
            "spec": spec,
        }
        return Lease.from_api(await self._client.request("POST", _leases_path(key), body))

    async def patch_lease(
        self,
        key: Key,
        version: str,
        spec: Mapping[str, Any],
        members: Mapping[str, str] | None = None,
    ) -> Lease:
        """Set these fields of the Lease, and its members unless they are None. Raises ConflictError
        if it has changed since it had this resource version, NotFoundError if it does not exist."""
        body = {"metadata": {"resourceVersion": version, **_annotated(members)}, "spec": spec}
        path = _lease_path(key)
        return Lease.from_api(await self._client.request("PATCH", path, body, MERGE_PATCH))

    async def watch_lease(
        self, key: Key, version: str, seconds: int
    ) -> AsyncGenerator[Lease | None]:
        """Yields the versions of the Lease after this one, for at most ``seconds``. None: it was
        deleted."""
        path = f"{_leases_path(key)}?fieldSelector={quote(f'metadata.name={key.name}')}"
        async with contextlib.aclosing(self._watch(path, JSON, version, seconds)) as events:
            async for event in events:
                if event["type"] == "DELETED":
                    yield None
                elif event["type"] != "BOOKMARK":
                    yield Lease.from_api(event["object"])

    def list_pipelines(self, namespace: str | None) -> AsyncIterator[dict[str, Any]]:
        """Yields the pages of the list of the InitPipelines of the shard. With the namespace None:
        in all namespaces."""
        return self._pages(self._list_path(Kind.PIPELINE, namespace))

    def list_pods(self, namespace: str | None) -> AsyncIterator[dict[str, Any]]:
        """Yields the pages of the list of the shard's Pods that have the operator's label. With the
        namespace None: in all namespaces."""
        return self._pages(self._list_path(Kind.POD, namespace))

    def watch_pods(
        self,
        namespace: str | None,
        version: str,
        seconds: int,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[dict[str, Any]]:
        """Yields the events of the shard's Pods that have the operator's label, after this resource
        version and for at most ``seconds``. With the namespace None: in all namespaces. ``opened``
        is called when the API server has accepted the watch."""
        path = self._list_path(Kind.POD, namespace)
        return self._watch(path, JSON, version, seconds, opened)

    async def list_uids(self, kind: Kind, namespace: str | None) -> ObjectUIDs:
        """Returns the UIDs of the InitPipelines or Pods that ``list_pipelines`` or ``list_pods``
        yields. Requests only their metadata. With the namespace None: in all namespaces."""
        listed = ListedObjects()
        version = ""
        async for page in self._pages(self._list_path(kind, namespace), accept=METADATA_LIST):
            version = page["metadata"]["resourceVersion"]
            # The items are null while the CRD is being deleted.
            for raw in page["items"] or ():
                listed.add(key_of(raw), raw)
        return listed.at(version)

    async def current_version(self, kind: Kind, namespace: str | None) -> int:
        """Returns the present resource version of a kind. With the namespace None: in all
        namespaces."""
        path = _list_path(kind, namespace)
        page = await self._client.page(with_query(path, f"limit={NO_PAGE}"), METADATA_LIST)
        return int(page["metadata"]["resourceVersion"])

    async def find_unlabelled_pods(
        self, namespace: str, keys: Collection[Key]
    ) -> tuple[dict[Key, str], str]:
        """Lists the Pods that lack the operator's label, or have the bucket of another shard.
        Returns the resource version of each of them that is in ``keys``, and that of the list."""
        found: dict[Key, str] = {}
        version = ""
        async for page in self._pages(self._unlabelled_path(namespace), accept=METADATA_LIST):
            version = page["metadata"]["resourceVersion"]
            for raw in page["items"] or ():
                if (key := key_of(raw)) in keys and not self._is_watched(raw):
                    found[key] = raw["metadata"]["resourceVersion"]
        return found, version

    def _is_watched(self, pod: Mapping[str, Any]) -> bool:
        labels = pod["metadata"].get("labels") or {}
        return names.NAME_LABEL in labels and self._shard.selects(pod)

    async def watch_unlabelled_pods(
        self,
        namespace: str,
        version: str,
        seconds: int,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[Key]:
        """Yields the key of each Pod without the operator's label that changes or is deleted after
        this resource version, for at most ``seconds``. If there are shards, yields the key of each
        Pod of the namespace. ``opened`` is called when the API server has accepted the watch."""
        path = self._unlabelled_path(namespace)
        watch = self._watch(path, METADATA_EVENTS, version, seconds, opened)
        async with contextlib.aclosing(watch) as events:
            async for event in events:
                if event["type"] != "BOOKMARK":
                    yield key_of(event["object"])

    def _list_path(self, kind: Kind, namespace: str | None) -> str:
        path = _list_path(kind, namespace)
        labels = [names.NAME_LABEL] if kind is Kind.POD else []
        return _selected(path, *labels, self._shard.selector)

    def _unlabelled_path(self, namespace: str) -> str:
        # No label selector selects the Pods that lack one label, the other, or both.
        labels = [f"!{names.NAME_LABEL}"] if not self._shard.selector else []
        return _selected(_list_path(Kind.POD, namespace), *labels)

    def _watch(
        self,
        path: str,
        accept: str,
        version: str,
        seconds: int,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[dict[str, Any]]:
        query = f"resourceVersion={quote(version)}&timeoutSeconds={seconds}"
        url = with_query(path, f"watch=true&allowWatchBookmarks=true&{query}")
        return self._client.watch(url, accept, seconds, opened)

    async def _write(
        self, method: str, path: str, body: Mapping[str, Any], content_type: str = JSON
    ) -> dict[str, Any]:
        """Send a write that ends before the Lease expires. Raises LeaseExpiring if there is not
        enough time."""
        if self._seconds_left() < LEAST_SECONDS:
            raise LeaseExpiring("not sent, because the Lease is about to expire")
        return await self._client.request(method, path, body, content_type, left=self._seconds_left)

    def _seconds_left(self) -> float:
        """Returns the seconds after which a write must have ended."""
        return self._remaining() - MARGIN_SECONDS

    async def _get(self, path: str, key: Key) -> dict[str, Any] | None:
        """Returns the object. None: it does not exist. Raises ConnectionFailed if the response has
        another object: the operator would take that for the end of this one."""
        try:
            raw = await self._client.request("GET", path)
        except NotFoundError:
            return None
        metadata = raw.get("metadata") or {}
        if Key(metadata.get("namespace", ""), metadata.get("name", "")) != key:
            raise ConnectionFailed(f"the response to GET {path} has another object")
        return raw

    async def _pages(self, path: str, accept: str = JSON) -> AsyncIterator[dict[str, Any]]:
        """Yields the pages of a list. All are of the same resource version."""
        url = with_query(path, f"limit={LARGEST_PAGE}")
        token = ""
        while True:
            page = await self._client.page(
                f"{url}&continue={quote(token)}" if token else url, accept
            )
            yield page
            token = page["metadata"].get("continue") or ""
            if not token:
                return


def _annotated(members: Mapping[str, str] | None) -> dict[str, Any]:
    if members is None:
        return {}
    return {"annotations": {names.MEMBERS_ANNOTATION: encode(members).decode()}}


def _list_path(kind: Kind, namespace: str | None) -> str:
    scope = f"/namespaces/{quote(namespace)}" if namespace else ""
    if kind is Kind.PIPELINE:
        return f"/apis/{names.API_VERSION}{scope}/{names.PLURAL}"
    return f"/api/v1{scope}/pods"


def _selected(path: str, *selectors: str) -> str:
    """Returns the path of a list or a watch of the objects that match all these label selectors."""
    selector = ",".join(filter(None, selectors))
    return with_query(path, f"labelSelector={quote(selector)}") if selector else path


def pipelines_path(namespace: str | None) -> str:
    """Returns the path with which Kopf lists and watches InitPipelines. With the namespace None: in
    all namespaces."""
    return _list_path(Kind.PIPELINE, namespace)


def _pipeline_path(key: Key) -> str:
    return f"{_list_path(Kind.PIPELINE, key.namespace)}/{quote(key.name)}"


def _pod_path(key: Key) -> str:
    return f"/api/v1/namespaces/{quote(key.namespace)}/pods/{quote(key.name)}"


def _leases_path(key: Key) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{quote(key.namespace)}/leases"


def _lease_path(key: Key) -> str:
    return f"{_leases_path(key)}/{quote(key.name)}"


def _events_path(namespace: str) -> str:
    return f"/apis/events.k8s.io/v1/namespaces/{quote(namespace)}/events"
