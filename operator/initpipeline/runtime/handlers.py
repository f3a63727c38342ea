"""Kopf's part: watching. A handler notes what it saw and names the key; it decides nothing.

Only ``on.event`` is used. Kopf's other handlers keep their state on the object: each would cost
writes per pipeline, a second copy of the spec in an annotation, and some a finalizer.
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import kopf

from initpipeline.api import names
from initpipeline.core.facts import Pod, UnreadableError
from initpipeline.core.unreadable import UnreadablePipeline, read_pipeline
from initpipeline.runtime.cache import Cache, Store, Versioned
from initpipeline.runtime.documents import LARGEST_PAGE
from initpipeline.runtime.gateway import Key, Kind, key_of
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.unreadable_objects import UnreadableObjects


def register(
    registry: kopf.OperatorRegistry,
    cache: Cache,
    queue: WorkQueue[Key],
    unreadable: UnreadableObjects,
) -> None:
    """Watch InitPipelines, and the Pods that carry our label."""
    pipelines = _Noter(Kind.PIPELINE, cache.pipelines, queue, read_pipeline, unreadable)
    pods = _Noter(Kind.POD, cache.pods, queue, Pod.from_api, unreadable)

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def pipeline_event(event: Mapping[str, Any], **_: object) -> None:
        pipelines.note(event)

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def pod_event(event: Mapping[str, Any], **_: object) -> None:
        pods.note(event)


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
    # Kopf has one worker per changed object. Most objects are at rest, so workers end soon.
    settings.queueing.idle_timeout = 0.1
    # Kopf retries requests during an outage. With a finite list of delays, the process would end.
    settings.networking.error_backoffs = _Backoffs(1, 1, 2, 3, 5, 8, 13, 21, 30)
    settings.networking.trust_env = True
    # If Kopf hangs at the end, it kills the process. Otherwise the process would seem to run.
    settings.process.ultimate_exiting_timeout = 30
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)


T = TypeVar("T", bound=Versioned)


@dataclass(frozen=True, slots=True)
class _Noter(Generic[T]):
    """Handles the watch events of one kind."""

    kind: Kind
    store: Store[T]
    queue: WorkQueue[Key]
    read: Callable[[Mapping[str, Any]], T]
    unreadable: UnreadableObjects

    def note(self, event: Mapping[str, Any]) -> None:
        """Store the object of a watch event, and queue its pipeline if the object is new. The echo
        of the operator's own write is not: the answer to the write is stored already."""
        raw = event["object"]
        key, metadata = key_of(raw), raw["metadata"]
        if event["type"] == "DELETED":
            if self.store.remove(key, metadata["uid"], self._read_or_none(key, raw)):
                self.queue.add(key)
            return
        if not self.store.is_news(key, metadata["resourceVersion"]):
            return
        thing = self._read_or_none(key, raw)
        if thing is None:
            # The stored object is out of date. The reconcile of the pipeline reads it again.
            self.store.remove(key, metadata["uid"])
        else:
            self.store.put(key, thing)
        self.queue.add(key)

    def _read_or_none(self, key: Key, raw: Mapping[str, Any]) -> T | None:
        """Returns the object. None: it cannot be read, which is logged."""
        try:
            thing = self.read(raw)
        except UnreadableError as error:
            self.unreadable.note(self.kind, key, str(error))
            return None
        if isinstance(thing, UnreadablePipeline):
            self.unreadable.note(self.kind, key, thing.problem)
        return thing


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
