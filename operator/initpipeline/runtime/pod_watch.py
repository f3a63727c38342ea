"""Watches the Pods with the operator's label: stores them, and queues the keys of their pipelines.

Most events are about Pods, and each costs less CPU than with Kopf
(docs/decisions/0018-watch-pods-without-kopf.md). The cases are those of client-go's Reflector:

- A list, then a watch from the list's resource version. Between the two, nothing is missed.
- A watch that ends, or is cut, continues from the last event or bookmark.
- If that version is too old (410 Gone), the Pods are listed again. Pods in the cache that the list
  does not have were deleted.
- An error is retried without end (runtime.retries).
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from initpipeline.core.errors import UnreadableError
from initpipeline.core.pod import Pod
from initpipeline.runtime import sweep
from initpipeline.runtime.cache import Store
from initpipeline.runtime.client import WATCH_SECONDS
from initpipeline.runtime.errors import UNAVAILABLE, ApiError
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key, Kind, ListedObjects, key_of
from initpipeline.runtime.probes import End, Freshness
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.retries import repeat
from initpipeline.runtime.unreadable_objects import UnreadableObjects

logger = logging.getLogger(__name__)


class PodWatcher:
    """Keeps a store of Pods up to date. The namespace None stands for all namespaces."""

    def __init__(
        self,
        gateway: Gateway,
        store: Store[Pod],
        queue: WorkQueue[Key],
        unreadable: UnreadableObjects,
        freshness: Mapping[str | None, Freshness],
        filled: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        """``freshness`` records the events and failures of each namespace's watch. ``filled`` is
        called with each namespace when all its Pods are stored for the first time."""
        self._freshness = freshness
        self._filled = filled
        self._gateway = gateway
        self._store = store
        self._queue = queue
        self._unreadable = unreadable
        self.not_understood: set[Key] = set()
        """The keys of the Pods that cannot be read."""
        self._known: set[str | None] = set()
        """The namespaces that were listed at least once."""
        self._just_listed: set[str | None] = set()
        """The namespaces that were listed, and whose watch was not opened since."""
        self._versions: dict[str | None, str] = {}
        """The resource version from which the watch of each namespace continues. A namespace that
        is missing must be listed."""

    async def fill(self, namespace: str | None) -> None:
        """Store all Pods for the first time. Queues a pipeline only if its Pod was stored before
        and has changed or is gone. The callback ``filled`` queues the others."""
        await self._list(namespace, first=True)
        self._known.add(namespace)
        self._filled(namespace)

    async def relist(self, namespace: str | None) -> None:
        """Store all Pods, and remove those that do not exist any more. Queues the pipeline of each
        Pod that has changed. Raises HistoryLost if the API server has older versions than
        before."""
        await self._list(namespace)

    async def run(self, namespace: str | None) -> None:
        """Watch the Pods, until the task is cancelled. Raises HistoryLost if the API server has
        older versions than before."""
        fields = {"namespace": namespace or "all"}
        await repeat("watch of Pods failed", fields, lambda opened: self._watch(namespace, opened))

    async def _watch(self, namespace: str | None, opened: Callable[[], None]) -> None:
        """List the Pods if needed, and watch them until the watch ends."""
        expired = namespace not in self._versions
        freshness = self._freshness[namespace]
        try:
            if namespace not in self._known:
                await self.fill(namespace)
            elif expired:
                await self.relist(namespace)
            version = self._versions[namespace]
            if namespace in self._just_listed:
                self._just_listed.discard(namespace)
            else:
                await sweep.check_current(self._gateway, Kind.POD, namespace, version)

            def accepted() -> None:
                freshness.opened()
                opened()

            watch = self._gateway.watch_pods(namespace, version, WATCH_SECONDS, accepted)
            async with contextlib.aclosing(watch) as events:
                async for event in events:
                    self._versions[namespace] = event["object"]["metadata"]["resourceVersion"]
                    freshness.seen()
                    self.handle(event)
            freshness.ended()
        except ApiError as error:
            freshness.failed(End.GONE if error.code == 410 else End.REFUSED)
            if error.code not in UNAVAILABLE:
                self._versions.pop(namespace, None)
            if error.code != 410 or expired:
                raise
        except Exception:
            freshness.failed(End.UNREADABLE if freshness.is_open() else End.UNANSWERED)
            raise

    async def _list(self, namespace: str | None, first: bool = False) -> None:
        """Store all Pods, and queue the pipeline of each one that has changed or is gone. With
        ``first``, a Pod that was not stored queues nothing."""
        newest = self._store.newest()
        listed = ListedObjects()
        version = ""
        async for page in self._gateway.list_pods(namespace):
            version = page["metadata"]["resourceVersion"]
            for raw in page["items"] or ():
                key = key_of(raw)
                listed.add(key, raw)
                is_first = first and key not in self._store
                self._keep("LISTED", raw, _ignore if is_first else self._queue.add)
        existing = listed.at(version)
        self.not_understood -= {
            key
            for key in self.not_understood
            if namespace in (None, key.namespace) and key not in existing.uids
        }
        sweep.compare(Kind.POD, self._store, newest, existing, namespace, self._queue.add)
        self._versions[namespace] = version
        self._just_listed.add(namespace)
        self._freshness[namespace].listed()

    def handle(self, event: Mapping[str, Any]) -> None:
        """Store the Pod of a watch event, and queue its pipeline. An event about the operator's own
        write queues nothing, because the response to the write was stored."""
        if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
            self._keep(event["type"], event["object"], self._queue.add)

    def _keep(self, type_: str, raw: Mapping[str, Any], changed: Callable[[Key], None]) -> None:
        try:
            key = key_of(raw)
            if type_ == "DELETED":
                has_changed = self._removed(key, raw)
            else:
                has_changed = self._stored(key, raw, listed=type_ == "LISTED")
            if has_changed:
                changed(key)
        except Exception:  # One Pod must not stop the watch of all others.
            logger.exception("Pod cannot be stored")

    def _removed(self, key: Key, raw: Mapping[str, Any]) -> bool:
        last = self._read_or_none(key, raw)
        self.not_understood.discard(key)
        return self._store.remove(key, raw["metadata"]["uid"], last)

    def _stored(self, key: Key, raw: Mapping[str, Any], listed: bool) -> bool:
        """Returns whether the Pod has changed. Other controllers change fields that no decision
        needs, such as annotations."""
        metadata = raw["metadata"]
        if not self._store.is_newer(key, metadata["resourceVersion"]):
            return False
        known, pod = self._store.get(key), self._read_or_none(key, raw)
        if pod is None:
            # The stored Pod is out of date. The reconcile of the pipeline reads it again.
            self._store.remove(key, metadata["uid"])
        else:
            self._store.put(key, pod, listed=listed)
        return pod is None or pod != known

    def _read_or_none(self, key: Key, raw: Mapping[str, Any]) -> Pod | None:
        """Returns the Pod. None: the Pod cannot be read. The problem was logged."""
        try:
            pod = Pod.from_api(raw)
        except UnreadableError as error:
            self._unreadable.note(Kind.POD, key, str(error))
            self.not_understood.add(key)
            return None
        self.not_understood.discard(key)
        return pod


def _ignore(_key: Key) -> None: ...
