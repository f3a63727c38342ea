"""Kopf's part: watching. A handler notes what it saw and names the key; it decides nothing.

Only ``on.event`` is used. Kopf's other handlers keep their state on the object: each would cost
writes per pipeline, a second copy of the spec in an annotation, and some a finalizer.
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import kopf

from initpipeline.api import names
from initpipeline.core.facts import Pipeline, Pod
from initpipeline.runtime.cache import Cache, Store, Versioned
from initpipeline.runtime.errors import one_line
from initpipeline.runtime.gateway import Key, key_of
from initpipeline.runtime.queue import WorkQueue

logger = logging.getLogger(__name__)


def register(registry: kopf.OperatorRegistry, cache: Cache, queue: WorkQueue[Key]) -> None:
    """Watch InitPipelines, and the Pods that carry our label."""

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def pipeline_event(event: Mapping[str, Any], **_: object) -> None:
        _note(event, cache.pipelines, queue, Pipeline.from_api)

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def pod_event(event: Mapping[str, Any], **_: object) -> None:
        _note(event, cache.pods, queue, Pod.from_api)


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
    settings.watching.chunk_size = 500
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


def _note(
    event: Mapping[str, Any],
    store: Store[T],
    queue: WorkQueue[Key],
    read: Callable[[Mapping[str, Any]], T],
) -> None:
    """Keep what the event tells, and ask for a look at its pipeline if that was news. The echo of
    our own write is none: its answer was kept already."""
    raw = event["object"]
    key, metadata = key_of(raw), raw["metadata"]
    if event["type"] == "DELETED":
        if store.remove(key, metadata["uid"], _read_or_none(raw, read)):
            queue.add(key)
        return
    if not store.is_news(key, metadata["resourceVersion"]):
        return
    try:
        store.put(key, read(raw))
    except _NOT_UNDERSTOOD as error:
        # Not what the CRD allows: of another version of it, or stored before it.
        fields = {"pipeline": str(key), "error": one_line(repr(error))}
        logger.error("object not understood, left alone", extra=fields)
        return
    queue.add(key)


_NOT_UNDERSTOOD = (ValueError, LookupError, TypeError, AttributeError)


def _read_or_none(raw: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T | None:
    """What was never understood can be forgotten all the same."""
    try:
        return read(raw)
    except _NOT_UNDERSTOOD:
        return None


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
