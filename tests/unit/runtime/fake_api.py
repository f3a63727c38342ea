"""A fake API server in memory, and an operator that uses it without Kopf."""

import asyncio
import copy
import itertools
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from initpipeline.api import names
from initpipeline.api.models import format_time
from initpipeline.api.raw import Raw
from initpipeline.api.times import parse_time
from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.client import JSON, MERGE_PATCH, STRATEGIC_PATCH
from initpipeline.runtime.errors import ConnectionFailed, api_error
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.queue import LONGEST_RETRY_SECONDS, WorkQueue
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.tracer import Tracer
from initpipeline.runtime.unlabelled_pods import UnlabelledPodWatcher
from tests.builders import NAME, NAMESPACE
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.stub_client import Request, StubClient

KEY = Key(NAMESPACE, NAME)
PIPELINES, PODS, EVENTS = names.PLURAL, "pods", "events"


class Died(BaseException):
    """Ends the operator's process."""


def grace_seconds(pod: Raw, requested: int | None = None) -> int:
    """Returns the grace period of a deletion, in seconds. 0: the API server removes the Pod at
    once, without its kubelet. This is the case for each Pod that has no node or has terminated.
    ``requested`` is the grace period of the request. None: the request has none."""
    spec = pod["spec"]
    if not spec.get("nodeName") or pod["status"].get("phase") in ("Succeeded", "Failed"):
        return 0
    default: int = spec.get("terminationGracePeriodSeconds", 30)
    return default if requested is None else requested


def with_deletion(pod: Raw, now: datetime, requested: int | None = None) -> Raw:
    """Returns the Pod as the API server stores it for a deletion. A further deletion can only
    shorten the grace period (BeforeDelete in k8s.io/apiserver). ``requested`` is the grace period
    of the request in seconds. None: the request has none."""
    metadata = pod["metadata"]
    recorded = metadata.get("deletionGracePeriodSeconds")
    if recorded is None:
        seconds, asked_at = grace_seconds(pod, requested), now
    elif requested is None or requested >= recorded:
        return pod
    else:
        ends = parse_time(metadata["deletionTimestamp"])
        assert ends is not None
        seconds, asked_at = requested, ends - timedelta(seconds=recorded)
    at = format_time(max(asked_at + timedelta(seconds=seconds), now))
    added = {"deletionTimestamp": at, "deletionGracePeriodSeconds": seconds}
    return {**pod, "metadata": {**metadata, **added}}


def is_removed(raw: Raw) -> bool:
    """Returns whether the API server removes this object, which is being deleted, at once."""
    metadata = raw["metadata"]
    return not metadata.get("deletionGracePeriodSeconds") and not metadata.get("finalizers")


class FakeApi(StubClient):
    """Stores objects with resource versions, preconditions and graceful deletion, like Kubernetes.

    ``calls`` lists the requests, such as "POST pods". A test injects faults by request:

    - ``before``, ``after``: called before the request is carried out, or before its response;
    - ``failing``: errors to return, one per request, instead of carrying it out;
    - ``unanswered``: the request is carried out, and its response is lost;
    - ``dies_after``: the process dies after so many requests.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._versions = itertools.count(100)
        self._pods_made = itertools.count(1)
        self.objects: dict[tuple[str, Key], Raw] = {}
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}
        self.failing: dict[str, list[Exception]] = {}
        self.unanswered: set[str] = set()
        self.dies_after: int | None = None
        self.strips_labels = False
        """A webhook removes the labels of each Pod that is created."""
        self.runs_of_pods: list[int] = []
        """The run of each Pod that was ever created."""

    def put(self, plural: str, raw: Raw) -> Raw:
        """Store an object that another client wrote."""
        metadata = raw["metadata"]
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects[plural, Key(metadata["namespace"], metadata["name"])] = raw
        return raw

    def edit(self, plural: str, change: Mapping[str, Any], key: Key = KEY) -> None:
        """Replace top-level fields of an object, as another client."""
        self.put(plural, {**copy.deepcopy(self.objects[plural, key]), **change})

    def gone(self, plural: str, key: Key = KEY) -> None:
        """Remove an object, as another client, the kubelet or the garbage collector."""
        self.objects.pop((plural, key), None)
        next(self._versions)

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline.from_api(self.objects[PIPELINES, KEY])

    @property
    def pod(self) -> Pod | None:
        raw = self.objects.get((PODS, KEY))
        return Pod.from_api(raw) if raw else None

    @property
    def posted_events(self) -> list[Raw]:
        """The events, sorted by name, as the API server lists them."""
        found = sorted(self.objects.items(), key=lambda item: item[0])
        return [raw for (plural, _), raw in found if plural == EVENTS]

    async def answer(self, request: Request) -> Raw:
        target = urlsplit(request.path)
        plural, key, subresource = _parse(target.path)
        name = f"{request.method} {subresource or plural}"
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise Died
        self.calls.append(name)
        if interference := self.before.pop(name, None):
            interference()
        if failures := self.failing.get(name):
            raise failures.pop(0)
        handle = getattr(self, f"_{request.method.lower()}")
        patches = STRATEGIC_PATCH if plural == PODS else MERGE_PATCH
        expected = patches if request.method == "PATCH" else JSON
        assert request.content_type == expected, request.content_type
        answer: Raw = copy.deepcopy(
            handle(plural, key, dict(request.body or {}), parse_qs(target.query))
        )
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise Died
        if interference := self.after.pop(name, None):
            interference()
        if name in self.unanswered:
            self.unanswered.remove(name)
            raise ConnectionFailed("timed out")
        return _metadata_only(answer) if "PartialObjectMetadata" in request.accept else answer

    async def page(self, path: str, accept: str = JSON) -> Raw:
        return await self.request("GET", path, accept=accept)

    def _get(self, plural: str, key: Key, _: Raw, query: dict[str, list[str]]) -> Raw:
        if key.name:
            return self._found(plural, key)
        selected = _selector(query.get("labelSelector", [""])[0])
        everything = [
            raw
            for (kind, at), raw in sorted(self.objects.items())
            if kind == plural and key.namespace in ("", at.namespace) and selected(raw)
        ]
        start, limit = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
        more = str(start + limit) if start + limit < len(everything) else ""
        metadata = {"resourceVersion": str(next(self._versions)), "continue": more}
        return {"metadata": metadata, "items": everything[start : start + limit]}

    def _patch(self, plural: str, key: Key, body: Raw, _: object) -> Raw:
        """Apply a merge patch to the status, if the resource version is current. Of an event, only
        the series may change."""
        raw = copy.deepcopy(self._found(plural, key))
        if plural == PODS:
            return self._ungate(raw, body)
        if plural == EVENTS:
            assert set(body) == {"series"}
            assert body["series"]["count"] >= 2
            return self.put(plural, {**raw, **body})
        if body["metadata"]["resourceVersion"] != raw["metadata"]["resourceVersion"]:
            raise api_error(409, {"reason": "Conflict", "message": "has been modified"})
        raw["status"] = merged(raw.get("status") or {}, body["status"])
        return self.put(plural, raw)

    def _ungate(self, pod: Raw, body: Raw) -> Raw:
        """Remove the operator's scheduling gate from a Pod."""
        if body["metadata"]["uid"] != pod["metadata"]["uid"]:
            raise api_error(409, {"reason": "Conflict", "message": "the uid differs"})
        assert body["spec"] == {"schedulingGates": [{"name": names.RUN_GATE, "$patch": "delete"}]}
        run = self.pipeline.status.run
        assert run is not None, "status records no run"
        assert run.pod_uid == pod["metadata"]["uid"], "status does not record the Pod"
        gates = [gate for gate in pod["spec"]["schedulingGates"] if gate["name"] != names.RUN_GATE]
        spec = {key: value for key, value in pod["spec"].items() if key != "schedulingGates"}
        return self.put(
            PODS, {**pod, "spec": {**spec, "schedulingGates": gates} if gates else spec}
        )

    def _post(self, plural: str, key: Key, body: Raw, _: object) -> Raw:
        at = Key(key.namespace, body["metadata"]["name"])
        if (plural, at) in self.objects:
            raise api_error(409, {"reason": "AlreadyExists", "message": "already exists"})
        raw = copy.deepcopy(body)
        if plural == EVENTS:
            return self.put(plural, raw)
        raw["metadata"] |= {
            "uid": f"made-{next(self._pods_made)}",
            "creationTimestamp": format_time(self._clock()),
        }
        raw["status"] = {"phase": "Pending"}
        if self.strips_labels:
            raw["metadata"]["labels"] = {}
        self.runs_of_pods.append(int(raw["metadata"]["annotations"][names.RUN_ANNOTATION]))
        return self.put(plural, raw)

    def _delete(self, plural: str, key: Key, body: Raw, _: object) -> Raw:
        metadata = self._found(plural, key)["metadata"]
        for field, value in body["preconditions"].items():
            if value != metadata[field]:
                raise api_error(409, {"reason": "Conflict", "message": f"the {field} differs"})
        return self.delete(plural, key)

    def delete(self, plural: str, key: Key = KEY) -> Raw:
        """Delete the object. A Pod with a grace period or a finalizer terminates."""
        raw = copy.deepcopy(self._found(plural, key))
        deleted = with_deletion(raw, self._clock()) if plural == PODS else raw
        if is_removed(deleted):
            self.gone(plural, key)
            del raw["metadata"]["resourceVersion"]  # The API server may leave it out in this case.
            return {"kind": "Pod", **raw}
        return raw if deleted is raw else self.put(plural, deleted)

    def _found(self, plural: str, key: Key) -> Raw:
        if (plural, key) not in self.objects:
            raise api_error(404, {"reason": "NotFound", "message": f"{plural} not found"})
        return self.objects[plural, key]


def _selector(text: str) -> Callable[[Raw], bool]:
    """Returns a filter for one of the operator's label selectors: with or without its label."""
    if not text:
        return lambda _: True
    assert text.lstrip("!") == names.NAME_LABEL
    return lambda raw: is_labelled(raw) is not text.startswith("!")


def is_labelled(raw: Raw) -> bool:
    """Returns whether the Pod has the operator's label, so that its watch reports the Pod."""
    return names.NAME_LABEL in (raw["metadata"].get("labels") or {})


def _metadata_only(page: Raw) -> Raw:
    return {**page, "items": [{"metadata": dict(raw["metadata"])} for raw in page["items"]]}


def _parse(path: str) -> tuple[str, Key, str]:
    """Returns plural, key and subresource of a path. A missing one is empty."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    namespace = ""
    if parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    plural, name, subresource, *_ = [*parts, "", ""]
    return plural, Key(namespace, name), subresource


def merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> Raw:
    """Applies a merge patch (RFC 7386)."""
    result = {key: value for key, value in old.items() if patch.get(key, "") is not None}
    for key, value in patch.items():
        if isinstance(value, dict):
            result[key] = merged(old.get(key) or {}, value)
        elif value is not None:
            result[key] = value
    return result


class RecordingQueue(WorkQueue[Key]):
    """A queue that records what a reconcile adds to it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._now = clock
        self.forget()

    def forget(self) -> None:
        self.requeued = False
        self.delays: list[float] = []

    def add(self, key: Key) -> None:
        self.requeued = True
        super().add(key)

    def add_at(self, key: Key, when: datetime) -> None:
        self.delays.append((when - self._now()).total_seconds())
        super().add_at(key, when)

    def retry(
        self, key: Key, longest: float = LONGEST_RETRY_SECONDS, shortest: float = 0.0
    ) -> float:
        self.delays.append(super().retry(key, longest, shortest))
        return self.delays[-1]


def start_task(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=name)


class ManualPodWatcher(UnlabelledPodWatcher):
    """Records the keys that are watched. The test requeues the pipelines itself."""

    def __init__(self, gateway: Gateway, queue: WorkQueue[Key]) -> None:
        super().__init__(gateway, queue, start_task)
        self.read: list[str] = []
        """The resource versions that the reconciler has read after it began to watch."""

    def was_read(self, key: Key, version: str) -> None:
        super().was_read(key, version)
        self.read.append(version)

    def _begin(self, namespace: str) -> None: ...
    def _end(self, namespace: str) -> None: ...


class Operator:
    """An operator's process. Its cache is empty until ``watch`` is called."""

    def __init__(self, api: FakeApi, clock: Clock, tracer: Tracer = Tracer()) -> None:
        self._api = api
        self.cache = Cache.empty()
        self.queue = RecordingQueue(clock)
        gateway = Gateway(api)
        self.events = EventRecorder(gateway, clock, "operator-0")
        """Its task is not started, so its events stay queued."""
        self.unlabelled_pods = ManualPodWatcher(gateway, self.queue)
        self.reconciler = Reconciler(
            gateway,
            self.cache,
            self.queue,
            clock,
            self.events,
            self.unlabelled_pods,
            tracer=tracer,
        )

    def watch(self, *plurals: str) -> None:
        """Deliver the current objects of these kinds to the cache, as the watches would. Without
        kinds: of both."""
        for plural in plurals or (PIPELINES, PODS):
            raw = self._api.objects.get((plural, KEY))
            if plural == PODS and raw is not None and not is_labelled(raw):
                raw = None
            if plural == PIPELINES:
                _deliver(self.cache.pipelines, Pipeline.from_api(raw) if raw else None)
            else:
                _deliver(self.cache.pods, Pod.from_api(raw) if raw else None)

    async def reconcile(self) -> list[str]:
        """Reconcile once. Returns the requests."""
        before = len(self._api.calls)
        self.queue.forget()
        await self.reconciler.reconcile(KEY)
        return self._api.calls[before:]

    async def settle(self) -> list[str]:
        """Deliver and reconcile until a reconcile makes no request. Returns all requests."""
        made: list[str] = []
        for _ in range(20):
            self.watch()
            calls = await self.reconcile()
            if not calls:
                return made
            made += calls
        raise AssertionError(f"requests without end: {made}")

    @property
    def requeued(self) -> bool:
        """The last reconcile has requeued the pipeline without a delay."""
        return self.queue.requeued

    @property
    def delay(self) -> float | None:
        """The shortest delay in seconds after which the last reconcile has requeued the pipeline.
        None: it has not."""
        return min(self.queue.delays, default=None)


def _deliver(store: Any, thing: Any) -> None:
    known = store.get(KEY)
    if thing is None:
        if known is not None:
            store.remove(KEY, known.uid)
    else:
        store.put(KEY, thing)
