"""The handler of Kopf's watch events of InitPipelines, and Kopf's settings. The handler takes no
decisions: it updates the cache, and queues the key of the pipeline.

Only ``on.event`` is used. Kopf's other handlers keep their state on the object. Each would cost
writes per pipeline and a copy of the spec in an annotation, and some need a finalizer.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from initpipeline.api import names
from initpipeline.core.facts import Pipeline
from initpipeline.core.unreadable import UnreadablePipeline, read_pipeline
from initpipeline.runtime import sweep
from initpipeline.runtime.cache import Store
from initpipeline.runtime.client import SILENT_SECONDS, WATCH_SECONDS
from initpipeline.runtime.errors import OperatorError
from initpipeline.runtime.keys import Key, Kind, ListedObjects, ObjectUIDs, key_of
from initpipeline.runtime.lean_imports import kopf
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.responses import LARGEST_PAGE
from initpipeline.runtime.retries import retry_delay
from initpipeline.runtime.unreadable_objects import UnreadableObjects

logger = logging.getLogger(__name__)


def register(registry: kopf.OperatorRegistry, handle: Callable[[Mapping[str, Any]], None]) -> None:
    """Register the handler for the events of InitPipelines."""

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def pipeline_event(event: Mapping[str, Any], **_: object) -> None:
        handle(event)


def configure(settings: kopf.OperatorSettings) -> None:
    """Configure Kopf so that it never writes to the API, never pauses and never hangs."""
    settings.posting.enabled = False
    # Without this, another operator's peering object named "default" would pause this one.
    settings.peering.standalone = True
    # Kopf keeps no state on objects here. A name of our own keeps Kopf from changing the finalizer
    # of another operator that uses Kopf.
    settings.persistence.finalizer = f"{names.GROUP}/unused"
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.diffbase_storage = _NoDiffbase()
    # The operator's kinds are fixed, so it needs no watch of CRDs and no permission for it.
    settings.scanning.disabled = True
    settings.watching.chunk_size = LARGEST_PAGE
    # The API server ends a watch after five minutes. If the connection is dead, the client ends it
    # 30 seconds later, or after SILENT_SECONDS without an event: Kopf's ``inactivity_timeout``.
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.client_timeout = WATCH_SECONDS + 30
    settings.watching.inactivity_timeout = SILENT_SECONDS
    # Kopf has one worker per changed object. Most objects are at rest, so workers stop soon.
    settings.queueing.idle_timeout = 0.1
    # Kopf retries requests during an outage. With a finite list of delays, the process would exit.
    settings.networking.error_backoffs = _Backoffs()
    settings.networking.trust_env = True
    # If shutdown takes longer than this, Kopf kills the process, so that the kubelet restarts it.
    settings.process.ultimate_exiting_timeout = 30
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)


def is_known(store: Store[Pipeline | UnreadablePipeline], event: Mapping[str, Any]) -> bool:
    """Returns whether ``handle_pipeline`` ignores this event: the store has that version already.
    Most events repeat the operator's own writes. Kopf needs 1 ms for each."""
    if event.get("type") not in {"ADDED", "MODIFIED"}:
        return False
    raw = event["object"]
    return not store.is_newer(key_of(raw), raw["metadata"]["resourceVersion"])


def handle_pipeline(
    store: Store[Pipeline | UnreadablePipeline],
    queue: WorkQueue[Key],
    unreadable: UnreadableObjects,
    event: Mapping[str, Any],
) -> None:
    """Store the pipeline of a watch event, and queue it. An event about the operator's own write
    queues nothing, because the response to the write was stored."""
    raw = event["object"]
    key, metadata = key_of(raw), raw["metadata"]
    if event["type"] == "DELETED":
        if store.remove(key, metadata["uid"]):
            queue.add(key)
    elif _stored(store, unreadable, key, raw):
        queue.add(key)


def _stored(
    store: Store[Pipeline | UnreadablePipeline],
    unreadable: UnreadableObjects,
    key: Key,
    raw: Mapping[str, Any],
    listed: bool = False,
) -> Pipeline | UnreadablePipeline | None:
    """Store the pipeline, and return it. None: the store has this version already."""
    if not store.is_newer(key, raw["metadata"]["resourceVersion"]):
        return None
    pipeline = read_pipeline(raw)
    if isinstance(pipeline, UnreadablePipeline):
        unreadable.note(Kind.PIPELINE, key, pipeline.problem)
    store.put(key, pipeline, listed=listed)
    return pipeline


class ListedPipelines:
    """Stores and queues the pipelines of Kopf's lists, one by one. Kopf gets empty lists.

    A pipeline without a run is queued at once. The others wait until all Pods are known. Without
    that, the operator would have to request the Pod of each.
    """

    def __init__(
        self,
        store: Store[Pipeline | UnreadablePipeline],
        queue: WorkQueue[Key],
        unreadable: UnreadableObjects,
        namespaces: Iterable[str | None],
        fail: Callable[[OperatorError], None],
    ) -> None:
        """``fail`` ends the operator with an error."""
        self._store = store
        self._queue = queue
        self._unreadable = unreadable
        self._without_pods = set(namespaces)
        """The namespaces whose Pods are not listed yet."""
        self._waiting: list[Key] = []
        self._fail = fail

    def handle(self, raw: Mapping[str, Any]) -> Key | None:
        """Store and queue a pipeline, and return its key. An exception is only logged, because one
        pipeline must not stop the list of all others. None is returned then."""
        try:
            key = key_of(raw)
            pipeline = _stored(self._store, self._unreadable, key, raw, listed=True)
        except Exception:
            logger.exception("pipeline cannot be stored")
            return None
        if self._without_pods and isinstance(pipeline, Pipeline) and pipeline.status.run:
            self._waiting.append(key)
        elif pipeline is not None:
            self._queue.add(key)
        return key

    def newest(self) -> int:
        """Returns the highest resource version of all stored pipelines."""
        return self._store.newest()

    def compare(self, newest: int, existing: ObjectUIDs, namespace: str | None) -> None:
        """Remove and queue the stored pipelines of the namespace that the list does not have."""
        try:
            sweep.compare(Kind.PIPELINE, self._store, newest, existing, namespace, self._queue.add)
        except OperatorError as error:
            self._fail(error)

    def queue_all(self) -> None:
        """Queue all stored pipelines, except those that wait for the Pods."""
        waiting = set(self._waiting)
        for key in self._store.all_keys():
            if key not in waiting:
                self._queue.add(key)

    def pods_listed(self, namespace: str | None) -> None:
        """Record that the Pods of the namespace are known. Queues the waiting pipelines when the
        Pods of all namespaces are known."""
        self._without_pods.discard(namespace)
        if not self._without_pods:
            for key in self._waiting:
                self._queue.add(key)
            self._waiting = []


class PipelineList:
    """One list of a namespace's InitPipelines. With the namespace None: of all namespaces."""

    def __init__(self, namespace: str | None, pipelines: ListedPipelines) -> None:
        """Create it when the list is requested."""
        self._namespace = namespace
        self._pipelines = pipelines
        self._newest = self._pipelines.newest()
        self._listed = ListedObjects()

    def handle(self, raw: Mapping[str, Any]) -> None:
        """Store and queue a pipeline of the list."""
        key = self._pipelines.handle(raw)
        if key is not None:
            self._listed.add(key, raw)

    def end(self, version: str) -> None:
        """Record that the list is complete. Removes the stored pipelines that it does not have."""
        self._pipelines.compare(self._newest, self._listed.at(version), self._namespace)


class _Backoffs:
    """The delays between Kopf's retries of a request. They have no end, so that the process
    survives an outage of the API server. Each request iterates over them."""

    def __iter__(self) -> Iterator[float]:
        return map(retry_delay, itertools.count())


class _NoProgress(kopf.ProgressStorage):
    """Stores no progress. Only Kopf's other handlers need it, and the default storage would copy
    each object several times."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None: ...
    def purge(self, **_: Any) -> None: ...
    def touch(self, **_: Any) -> None: ...
    def clear(self, *, essence: Any) -> Any:
        return essence


class _NoDiffbase(kopf.DiffBaseStorage):
    """Stores no last handled state. Only Kopf's other handlers need it."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None: ...
