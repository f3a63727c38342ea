"""The replica that holds the Lease does all the work, and the others stand by."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from initpipeline.runtime.buckets import Shard
from initpipeline.runtime.share import DRAIN_SECONDS, Replica, Share, Tasks


class Leading:
    """The share of all objects, and the election of the replica that reconciles them."""

    def __init__(self, replica: Replica) -> None:
        self._name = replica.lease.name
        self._leader = replica.election(replica.lease)
        self._share = replica.share(Shard(), self._leader.leads, self._leader.remaining)
        self._is_cold_standby = replica.settings.standby == "cold"
        self._waits = False

    def shares(self) -> Collection[Share]:
        """Returns the shares that this replica caches."""
        return (self._share,)

    def share_of(self, _raw: Mapping[str, Any]) -> Share | None:
        """Returns the share of an InitPipeline."""
        return self._share

    def leases(self) -> Collection[tuple[str, bool]]:
        """Returns the name of the Lease, and whether this replica holds it."""
        return ((self._name, self._leader.leads()),)

    def replicas(self) -> int | None:
        """Returns the number of live replicas. None: replicas without --shards do not count each
        other."""
        return None

    def assigned(self) -> Mapping[int, bool]:
        """Returns whether each shard is assigned to this replica. There are no shards."""
        return {}

    def is_waiting(self) -> bool:
        """Returns whether this replica, a cold standby, waits for the Lease before it watches."""
        return self._waits

    def idle_seconds(self) -> float:
        """Returns for how long the election has done nothing."""
        return self._leader.idle_seconds()

    async def wait(self) -> None:
        """Wait for the Lease, if this is a cold standby. If SIGTERM interrupts that, the Lease may
        just have been taken."""
        if not self._is_cold_standby:
            return
        self._waits = True
        try:
            await self._leader.acquire()
        except asyncio.CancelledError:
            await self._leader.release()
            raise
        self._waits = False

    def start(self, tasks: Tasks) -> None:
        """Start to watch and to reconcile."""
        self._share.start()
        tasks.run("leader election", self._lead())

    async def _lead(self) -> None:
        """Take the Lease, queue all pipelines, and renew the Lease, until the task is cancelled.
        Without the Lease, the watches keep the cache up to date, and no worker reconciles. Raises
        LeaseLost if another process has taken the Lease from this one, HistoryLost if the Lease
        has an older version than before."""
        while True:
            if not self._leader.leads():  # A cold standby holds the Lease before it starts.
                await self._leader.acquire()
            self._share.listed.queue_all()
            await self._leader.keep()

    async def drain(self) -> None:
        """End the reconciles."""
        await self._share.drain(DRAIN_SECONDS)

    async def release(self) -> None:
        """Let another replica continue. All tasks must have ended."""
        await self._leader.release()
