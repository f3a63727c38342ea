"""Finds deletions that the watches did not report.

When a watch is too far behind (410 Gone), Kopf lists the objects again. It reports no deletion of
an object that was deleted in between. So the operator periodically lists the metadata of all
objects, and compares them with the cache.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from initpipeline.core.facts import Pod
from initpipeline.runtime.cache import Cache, Store
from initpipeline.runtime.errors import ApiError, ConnectionFailed, OperatorError
from initpipeline.runtime.gateway import Gateway, Key, Kind
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.unreadable_objects import UnreadableObjects

logger = logging.getLogger(__name__)


class Sweeper:
    """Fills the cache at the start, and removes deleted objects from it periodically."""

    def __init__(
        self,
        gateway: Gateway,
        cache: Cache,
        queue: WorkQueue[Key],
        namespaces: Sequence[str],
        unreadable: UnreadableObjects,
    ) -> None:
        self._gateway = gateway
        self._cache = cache
        self._queue = queue
        self._unreadable = unreadable
        self._namespaces: Sequence[str | None] = namespaces or (None,)

    async def fill(self) -> None:
        """Store all Pods in the cache. A Pod that cannot be read is logged.

        Without the Pods, the first reconcile of each pipeline would request its Pod, because the
        watch has not reported it yet. InitPipelines are not stored here, so that none is reconciled
        before Kopf's watches exist. Otherwise the operator could delete a Pod before the watch
        lists the Pods, and its deletion would not be reported.
        """
        for namespace in self._namespaces:
            async for key, pod in self._gateway.list_pods(namespace):
                if isinstance(pod, Pod):
                    self._cache.pods.put(key, pod)
                else:
                    self._unreadable.note(Kind.POD, key, str(pod))

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
        if existing.version < newest:
            # The cache and the watches ignore objects with lower resource versions than those they
            # have. After a restore of etcd they would ignore every change.
            raise OperatorError(
                f"the cluster's resource version went back from {newest} to {existing.version}, "
                "as after a restore of etcd: restart the operator"
            )
        for key, uid in store.missing_from(existing, namespace):
            store.remove(key, uid)
            self._queue.add(key)
            logger.info("deletion found by sweep", extra={"pipeline": str(key), "kind": kind.value})
