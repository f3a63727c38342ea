"""Finds deletions that the watches did not report, by comparing a list with the cache.

When its watch of InitPipelines is too far behind (410 Gone), Kopf lists them again. It reports no
deletion of an object that was deleted in between. So the operator periodically lists the metadata
of all objects. The watch of Pods compares each of its own lists (runtime.pod_watch). The periodic
list of Pods finds out whether their resource versions went back.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from initpipeline.runtime.cache import Cache, Store
from initpipeline.runtime.errors import ApiError, ConnectionFailed, OperatorError
from initpipeline.runtime.gateway import Gateway, Key, Kind, ObjectUIDs
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

    Raises OperatorError if the cache holds objects newer than those of the API server.
    """
    if existing.version < newest:
        # The cache and the watches ignore objects with lower resource versions than those they
        # have. After a restore of etcd they would ignore every change.
        raise OperatorError(
            f"the cluster's resource version went back from {newest} to {existing.version}, "
            "as after a restore of etcd: restart the operator"
        )
    for key, uid in store.missing_from(existing, namespace):
        store.remove(key, uid)
        removed(key)
        logger.info("deletion found by list", extra={"pipeline": str(key), "kind": kind.value})


class Sweeper:
    """Periodically removes deleted objects of these namespaces from the cache. The namespace None
    stands for all."""

    def __init__(
        self,
        gateway: Gateway,
        cache: Cache,
        queue: WorkQueue[Key],
        namespaces: Sequence[str | None],
    ) -> None:
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
        """Remove deleted objects from the cache, and queue their pipelines. Raises OperatorError if
        the cache holds objects newer than those of the API server."""
        for namespace in self._namespaces:
            await self._compare(Kind.PIPELINE, self._cache.pipelines, namespace)
            await self._compare(Kind.POD, self._cache.pods, namespace)

    async def _compare(self, kind: Kind, store: Store[Any], namespace: str | None) -> None:
        newest = store.newest()
        existing = await self._gateway.list_uids(kind, namespace)
        compare(kind, store, newest, existing, namespace, self._queue.add)
