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
    """What keeps Kopf from writing, from freezing, and from waiting for ever."""
    settings.posting.enabled = False
    # Peering is no leader election: a foreign object named "default" would pause this operator.
    settings.peering.standalone = True
    # No state is kept on objects; the names only keep another Kopf operator's from being touched.
    settings.persistence.finalizer = f"{names.GROUP}/unused"
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.diffbase_storage = _NoDiffbase()
    # The kinds are known and the CRD was looked for: no watch of CRDs, no permission for it.
    settings.scanning.disabled = True
    settings.watching.label_selectors[("", "v1", "pods")] = names.NAME_LABEL
    settings.watching.chunk_size = LARGEST_PAGE
    # A watch that has gone quiet is ended by the server first, and by us if that is not told.
    settings.watching.server_timeout = 5 * 60
    settings.watching.client_timeout = 5 * 60 + 30
    # Workers are one per object that moves: they go soon, since most objects are at rest.
    settings.queueing.idle_timeout = 0.1
    # An API server that is away is waited for; a finite list would end the process with it.
    settings.networking.error_backoffs = _Backoffs(1, 1, 2, 3, 5, 8, 13, 21, 30)
    settings.networking.trust_env = True
    # Should it hang while it ends, it is killed: a process that stays would only look alive.
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
    """Delays of Kopf's requests, the last one for ever: its own end, and the process with it,
    while an API server is upgraded. Iterated anew by each request."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = seconds

    def __iter__(self) -> Iterator[float]:
        return itertools.chain(self._seconds, itertools.repeat(self._seconds[-1]))


class _NoProgress(kopf.ProgressStorage):
    """Only handlers of causes keep progress, and there are none; the default would copy each body
    several times to find that out."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None: ...
    def purge(self, **_: Any) -> None: ...
    def touch(self, **_: Any) -> None: ...
    def clear(self, *, essence: Any) -> Any:
        return essence


class _NoDiffbase(kopf.DiffBaseStorage):
    """As with progress: nothing here looks at what was last handled."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None: ...
