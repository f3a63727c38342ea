"""The handlers of Kopf's watch events, and Kopf's settings. Handlers do not decide: they update the
cache, and enqueue the key of the pipeline.

Only ``on.event`` is used. Kopf's other handlers keep their state on the object. Each would cost
writes per pipeline and a copy of the spec in an annotation, and some need a finalizer.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import kopf

from initpipeline.api import names
from initpipeline.core.facts import Pipeline, Pod, UnreadableError
from initpipeline.core.unreadable import UnreadablePipeline
from initpipeline.runtime.cache import Cache, Store
from initpipeline.runtime.gateway import Key, Kind, key_of
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.responses import LARGEST_PAGE
from initpipeline.runtime.unreadable_objects import UnreadableObjects


def register(
    registry: kopf.OperatorRegistry,
    cache: Cache,
    queue: WorkQueue[Key],
    unreadable: UnreadableObjects,
) -> None:
    """Register handlers for the events of InitPipelines, and of Pods with the operator's label."""
    pods = _PodHandler(cache.pods, queue, unreadable)

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def pipeline_event(event: Mapping[str, Any], **_: object) -> None:
        handle_pipeline(cache.pipelines, queue, event)

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def pod_event(event: Mapping[str, Any], **_: object) -> None:
        pods.handle(event)


def configure(settings: kopf.OperatorSettings) -> None:
    """Configure Kopf so that it never writes to the API, never pauses and never hangs."""
    settings.posting.enabled = False
    # Without this, a peering object of another operator named "default" would pause this one.
    settings.peering.standalone = True
    # Kopf keeps no state on objects here. A name of our own keeps Kopf from changing the finalizer
    # of another operator that uses Kopf.
    settings.persistence.finalizer = f"{names.GROUP}/unused"
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.diffbase_storage = _NoDiffbase()
    # The operator's kinds are fixed, so it needs no watch of CRDs and no permission for it.
    settings.scanning.disabled = True
    settings.watching.label_selectors[("", "v1", "pods")] = names.NAME_LABEL
    settings.watching.chunk_size = LARGEST_PAGE
    # The API server ends a watch after five minutes. If the connection is dead, the client does.
    settings.watching.server_timeout = 5 * 60
    settings.watching.client_timeout = 5 * 60 + 30
    # Kopf has one worker per changed object. Most objects are at rest, so workers stop soon.
    settings.queueing.idle_timeout = 0.1
    # Kopf retries requests during an outage. With a finite list of delays, the process would exit.
    settings.networking.error_backoffs = _Backoffs(1, 1, 2, 3, 5, 8, 13, 21, 30)
    settings.networking.trust_env = True
    # If shutdown takes longer than this, Kopf kills the process, so that the kubelet restarts it.
    settings.process.ultimate_exiting_timeout = 30
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)


def handle_pipeline(
    store: Store[Pipeline | UnreadablePipeline], queue: WorkQueue[Key], event: Mapping[str, Any]
) -> None:
    """Queue the pipeline of a watch event, which has only its metadata.

    The reconcile reads the pipeline. An event about the operator's own write queues nothing,
    because the response to the write was stored.
    """
    raw = event["object"]
    key, metadata = key_of(raw), raw["metadata"]
    if event["type"] == "DELETED":
        if store.remove(key, metadata["uid"]):
            queue.add(key)
        return
    uid, version = metadata["uid"], metadata["resourceVersion"]
    known = store.get(key)
    if metadata.get("deletionTimestamp") and known is not None and known.uid == uid:
        # The operator does nothing more for it, so it need not be read.
        if store.put(key, replace(known, deleting=True, resource_version=version)):
            queue.add(key)
    elif store.announce(key, uid, version):
        queue.add(key)


@dataclass(frozen=True, slots=True)
class _PodHandler:
    """Handles the watch events of Pods."""

    store: Store[Pod]
    queue: WorkQueue[Key]
    unreadable: UnreadableObjects

    def handle(self, event: Mapping[str, Any]) -> None:
        """Store the Pod of a watch event, and queue its pipeline. An event about the operator's own
        write queues nothing, because the response to the write was stored."""
        raw = event["object"]
        key, metadata = key_of(raw), raw["metadata"]
        if event["type"] == "DELETED":
            if self.store.remove(key, metadata["uid"], self._read_or_none(key, raw)):
                self.queue.add(key)
            return
        if not self.store.is_newer(key, metadata["resourceVersion"]):
            return
        pod = self._read_or_none(key, raw)
        if pod is None:
            # The stored Pod is out of date. The reconcile of the pipeline reads it again.
            self.store.remove(key, metadata["uid"])
        else:
            self.store.put(key, pod)
        self.queue.add(key)

    def _read_or_none(self, key: Key, raw: Mapping[str, Any]) -> Pod | None:
        """Returns the Pod. None: the Pod cannot be read. The problem was logged."""
        try:
            return Pod.from_api(raw)
        except UnreadableError as error:
            self.unreadable.note(Kind.POD, key, str(error))
            return None


class _Backoffs:
    """The delays between Kopf's retries of a request. The last one repeats without end, so that the
    process survives an outage of the API server. Each request iterates over them."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = seconds

    def __iter__(self) -> Iterator[float]:
        return itertools.chain(self._seconds, itertools.repeat(self._seconds[-1]))


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
