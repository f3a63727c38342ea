"""Several replicas divide the work: each one serves some of the shards, and holds their Leases.

Each replica computes the owners of all shards from the live replicas (runtime.buckets). The Lease
of a shard decides which replica serves it, because for some seconds two replicas may observe
different live replicas, and so compute different owners.

A shard moves in this order. The previous owner ends its reconciles, and releases the Lease. The new
owner takes the Lease, widens its watch of InitPipelines, lists those of the shard, and reconciles.
docs/decisions/0024-shards.md has the reasons.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any

from initpipeline.runtime.buckets import Shard, owners, selector, shard_of
from initpipeline.runtime.errors import LeaseLost
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.leader import LeaderElection
from initpipeline.runtime.members import Members
from initpipeline.runtime.selection import Selection
from initpipeline.runtime.share import DRAIN_SECONDS, Replica, Share, Tasks

logger = logging.getLogger(__name__)


def shard_lease(lease: Key, shard: int) -> Key:
    """Returns the key of the Lease of a shard. ``lease`` is that of all replicas."""
    return Key(lease.namespace, f"{lease.name}-{shard}")


class Sharing:
    """The shards that this replica serves. It is not thread-safe."""

    def __init__(self, replica: Replica, selection: Selection) -> None:
        self._replica = replica
        self._count = replica.settings.shards
        self._selection = selection
        self._members = Members(
            Gateway(replica.client),
            replica.lease,
            replica.identity,
            self._count,
            replica.periods,
            replica.now,
        )
        self._tasks = Tasks(replica.fail)
        self._serving: dict[int, asyncio.Task[None]] = {}
        """The tasks of the shards that this replica owns, and of those that it gives away."""
        self._elections: dict[int, LeaderElection] = {}
        self._shares: dict[int, Share] = {}
        """The shards whose Leases this replica holds."""
        self._select()

    def shares(self) -> Collection[Share]:
        """Returns the shares of the shards whose Leases this replica holds."""
        return self._shares.values()

    def share_of(self, raw: Mapping[str, Any]) -> Share | None:
        """Returns the share of an InitPipeline. None: another replica has it. Removes the
        InitPipeline from the shares that it does not belong to, because its label may have changed.
        """
        found = shard_of(raw, self._count)
        for number, share in self._shares.items():
            if number != found:
                share.forget(raw)
        return self._shares.get(found)

    def leases(self) -> Collection[tuple[str, bool]]:
        """Returns the name of each shard's Lease, and whether this replica holds it."""
        return [
            (
                shard_lease(self._replica.lease, shard).name,
                shard in self._shares and self._shares[shard].leads(),
            )
            for shard in range(self._count)
        ]

    def replicas(self) -> int:
        """Returns the number of live replicas that this one observes. 0: it is not one of them."""
        return len(self._members.live())

    def assigned(self) -> Mapping[int, bool]:
        """Returns whether each shard is assigned to this replica. While the replica lacks the Lease
        of an assigned shard, or holds that of another shard, the shard is moving."""
        of_shards = owners(self._members.live(), self._count)
        identity = self._replica.identity
        return {shard: of_shards.get(shard) == identity for shard in range(self._count)}

    def is_waiting(self) -> bool:
        """Returns whether this replica serves nothing yet, because replicas with another number of
        shards have the Lease."""
        return self._members.is_excluded()

    def idle_seconds(self) -> float:
        """Returns for how long the heartbeat or an election has done nothing."""
        elections = self._elections.values()
        return max([self._members.idle_seconds(), *(one.idle_seconds() for one in elections)])

    async def wait(self) -> None:
        """Does nothing: without a shard, a replica watches no object."""

    def start(self, tasks: Tasks) -> None:
        """Write heartbeats, and serve the shards that this replica owns."""
        tasks.run("heartbeat", self._members.run(self._assign, self._queue_all))

    async def drain(self) -> None:
        """Release all shards."""
        self._tasks.expect_end()
        for task in self._serving.values():
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*self._serving.values(), return_exceptions=True)

    async def release(self) -> None:
        """Let other replicas continue. All tasks must have ended."""
        await self._members.leave()

    def _select(self) -> None:
        self._selection.change(selector(self._shares.keys(), self._count))

    def _queue_all(self) -> None:
        for share in self.shares():
            share.listed.queue_all()

    def _assign(self) -> None:
        """Serve the shards that this replica owns, given the live replicas, and no others."""
        owned = {shard for shard, is_assigned in self.assigned().items() if is_assigned}
        for shard, task in tuple(self._serving.items()):
            if task.done():
                del self._serving[shard]
            elif shard not in owned and not task.cancelling():
                task.cancel()
        for shard in owned - self._serving.keys():
            self._serving[shard] = self._tasks.create(f"shard {shard}", self._serve(shard))

    async def _serve(self, shard: int) -> None:
        """Take the Lease of the shard, and serve it until the task is cancelled, or until another
        process has written to the Lease."""
        key = shard_lease(self._replica.lease, shard)
        election = self._elections[shard] = self._replica.election(key, self._members.is_gone)
        try:
            await election.acquire()
            await self._lead(shard, election)
        except LeaseLost as lost:
            logger.warning("shard lost", extra={"shard": shard, "error": str(lost)})
        finally:
            del self._elections[shard]
            await election.release()

    async def _lead(self, shard: int, election: LeaderElection) -> None:
        """Serve the shard until the task is cancelled, or until the Lease is lost."""
        share = self._shares[shard] = self._replica.share(
            Shard(shard, self._count),
            lambda: election.leads() and self._members.leads(),
            lambda: min(election.remaining(), self._members.remaining()),
        )
        filling = self._tasks.create(f"list of shard {shard}", self._fill(share))
        try:
            while True:
                await election.keep()
                await election.acquire()
                share.listed.queue_all()
        finally:
            filling.cancel()
            await share.drain(DRAIN_SECONDS)
            del self._shares[shard]
            self._select()
            await share.end()

    async def _fill(self, share: Share) -> None:
        """Watch the objects of the shard, then list them, and reconcile them."""
        self._select()
        await self._selection.wait()
        share.start()
        await share.list_pipelines()
