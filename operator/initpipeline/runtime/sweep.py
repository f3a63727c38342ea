"""Compares lists with the cache: finds deletions that no watch reported, and a restore of etcd.

After a watch that is too far behind (410 Gone), the objects are listed again, and no event reports
what was deleted in between. So each list of a watch is compared with the cache. In addition, the
operator periodically lists the metadata of all objects, and compares that.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from initpipeline.runtime.cache import Cache, Store
from initpipeline.runtime.errors import ApiError, ConnectionFailed, HistoryLost
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key, Kind, ObjectUIDs
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.queue import WorkQueue

logger = logging.getLogger(__name__)


def compare(
    kind: Kind,
    store: Store[Any],
    newest: int,
    existing: ObjectUIDs,
    namespace: str | None,
    removed: Callable[[Key], None],
) -> None:
    """Remove the objects from the store that the list does not have, and call ``removed`` for each.
    ``newest`` is the store's highest resource version before the list was requested.

    Raises HistoryLost if the cache holds versions that the API server should have and does not. The
    cache would otherwise ignore the restored versions, because they are older than its own, and a
    watch would report none of their changes.
    """
    if existing.version < newest:
        raise HistoryLost(f"all {kind.value}s", newest, existing.version)
    if older := store.older_in(existing):
        key, before, now = older
        raise HistoryLost(f"{kind.value} {key}", before, now)
    for key in store.remove_missing(existing, namespace):
        removed(key)
        logger.info("deletion found by list", extra={"pipeline": str(key), "kind": kind.value})


async def check_current(gateway: Gateway, kind: Kind, namespace: str | None, version: str) -> None:
    """Raise HistoryLost if the present resource version is lower than this one, from which a watch
    is to continue. The API server would accept the watch, and send no event until its resource
    versions are higher. May raise ApiError or ConnectionFailed."""
    present = await gateway.current_version(kind, namespace)
    if present < int(version):
        raise HistoryLost(f"all {kind.value}s", version, present)


class Sweeper:
    """Periodically removes deleted objects of these namespaces from the cache. The namespace None
    stands for all."""

    def __init__(
        self,
        gateway: Gateway,
        cache: Cache,
        queue: WorkQueue[Key],
        namespaces: Sequence[str | None],
        meter: Meter = Meter(),
    ) -> None:
        self._meter = meter
        self._gateway = gateway
        self._cache = cache
        self._queue = queue
        self._namespaces = namespaces

    async def run(self, period_seconds: float) -> None:
        """Sweep once in each period, until the task is cancelled. If a sweep fails, the next one
        finds the deletions that it missed."""
        while True:
            await asyncio.sleep(period_seconds)
            try:
                await self.sweep()
            except (ApiError, ConnectionFailed) as error:
                logger.warning("sweep failed", extra={"error": str(error)})

    async def sweep(self) -> None:
        """Remove deleted objects from the cache, and queue their pipelines. Raises HistoryLost if
        the API server has older versions than before."""
        for kind, store in (
            (Kind.PIPELINE, self._cache.pipelines),
            (Kind.POD, self._cache.pods),
        ):
            for namespace in self._namespaces:
                await self._compare(kind, store, namespace)
            self._meter.swept(_resource(kind))

    async def _compare(self, kind: Kind, store: Store[Any], namespace: str | None) -> None:
        newest = store.newest()
        existing = await self._gateway.list_uids(kind, namespace)
        found: list[Key] = []
        compare(kind, store, newest, existing, namespace, found.append)
        for key in found:
            self._queue.add(key)
        self._meter.missed_deletions(_resource(kind), len(found))


def _resource(kind: Kind) -> str:
    """Returns the value of the label of metrics."""
    return "pods" if kind is Kind.POD else "initpipelines"
