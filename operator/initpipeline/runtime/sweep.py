"""Deletions that no watch has told.

After a watch has fallen behind (410 Gone), Kopf lists anew, and what vanished in between is never
reported. So from time to time the metadata of what exists is compared with what is known.
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
    """Compares what is known with what exists."""

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
        """List all Pods before the first decision. Without that, each pipeline whose Pod the watch
        has not reported yet would request it. A Pod that cannot be read is logged."""
        for namespace in self._namespaces:
            async for key, pod in self._gateway.list_pods(namespace):
                if isinstance(pod, Pod):
                    self._cache.pods.put(key, pod)
                else:
                    self._unreadable.note(Kind.POD, key, str(pod))

    async def run(self, period_seconds: float) -> None:
        """Sweep for ever. A sweep that fails is made up for by the next."""
        while True:
            await asyncio.sleep(period_seconds)
            try:
                await self.sweep()
            except (ApiError, ConnectionFailed) as error:
                logger.warning("sweep failed", extra={"error": str(error)})

    async def sweep(self) -> None:
        """Forget what is gone, and look at the pipelines concerned. Raises OperatorError where
        nothing that is known can be trusted any more."""
        for namespace in self._namespaces:
            await self._compare(Kind.PIPELINE, self._cache.pipelines, namespace)
            await self._compare(Kind.POD, self._cache.pods, namespace)

    async def _compare(self, kind: Kind, store: Store[Any], namespace: str | None) -> None:
        newest = store.newest()
        existing = await self._gateway.list_uids(kind, namespace)
        if existing.version < newest:
            # Newest wins here, and the watches ask for what came after the newest: from a cluster
            # that was restored from a backup neither would ever learn anything.
            raise OperatorError(
                f"the cluster's history has gone back from version {newest} to {existing.version}, "
                "as after a restore from a backup: start anew"
            )
        for key, uid in store.missing_from(existing, namespace):
            store.remove(key, uid)
            self._queue.add(key)
            logger.info("deletion found by sweep", extra={"pipeline": str(key), "kind": kind.value})
