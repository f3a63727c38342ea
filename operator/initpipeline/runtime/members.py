"""The replicas that divide the work. Each one writes its heartbeats to one Lease.

- A replica is live while its heartbeat changes. No replica trusts the clock of another.
- A replica writes to its shards only while its own heartbeat is recent (``remaining``). So if a
  heartbeat has not changed for the duration of the Lease, that replica cannot write any more
  (``is_gone``), and others may take over its shards.
- The holderIdentity of the Lease is the same for all replicas with the same number of shards:
  "replicas with 4 shards". So replicas with another number stand by. Those without ``--shards``
  stand by as well, because they compete for the same Lease (runtime.leader).
- During an outage of the API server, no replica observes the others, so none counts as gone.

docs/decisions/0024-shards.md has the reasons.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

from initpipeline.api.models import format_micro_time
from initpipeline.runtime.clock import uptime
from initpipeline.runtime.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    ConnectionFailed,
    NotFoundError,
    one_line,
)
from initpipeline.runtime.gateway import Gateway, Lease
from initpipeline.runtime.keys import Key
from initpipeline.runtime.leader import EARLY_SECONDS, RELEASE_SECONDS, Periods, transitions_after

logger = logging.getLogger(__name__)

_CHANGED = (AlreadyExistsError, ConflictError, NotFoundError)
"""The Lease has changed since it was observed."""
_FAILED = (ApiError, ConnectionFailed, TimeoutError)


class Members:
    """Keeps this replica a member, and observes the others. It is not thread-safe."""

    def __init__(
        self,
        gateway: Gateway,
        key: Key,
        identity: str,
        shards: int,
        periods: Periods,
        now: Callable[[], datetime],
        clock: Callable[[], float] = uptime,
    ) -> None:
        """``key`` is that of the Lease, ``identity`` the name of this replica. ``shards`` is their
        number. ``now`` returns the times that are written to the Lease."""
        self._gateway = gateway
        self._key = key
        self._identity = identity
        self._holder = f"replicas with {shards} shards"
        self._periods = periods
        self._now = now
        self._clock = clock
        self._lease: Lease | None = None
        """The last observed Lease. None: it does not exist, or was not read yet."""
        self._changed_at = clock()
        """When that Lease was observed first."""
        self._observed_at = clock()
        """When the Lease was last observed, changed or not."""
        self._confirmed_at = clock()
        """When the last request was sent whose response had the newest Lease. Events of a watch do
        not count: after a pause of this process, they are old."""
        self._tried_at = clock()
        """When a request was last sent, or a change was last observed."""
        self._beats: dict[str, tuple[str, float]] = {}
        """The last heartbeat of each replica, and when it was observed first."""
        self._beat_at: float | None = None
        """When the last successful heartbeat of this replica was sent. None: it is not a
        member."""

    def remaining(self) -> float:
        """Returns the seconds during which no other replica counts this one as gone. 0 or less:
        this replica must not write."""
        if self._beat_at is None:
            return 0.0
        return self._beat_at + self._valid_seconds() - self._clock()

    def leads(self) -> bool:
        """Returns whether this replica may reconcile: its last heartbeat is not too long ago."""
        beat_at = self._beat_at
        return beat_at is not None and self._clock() < beat_at + self._periods.renew

    def idle_seconds(self) -> float:
        """Returns the seconds since this replica has last read, watched or written the Lease."""
        return self._clock() - self._tried_at

    def live(self) -> frozenset[str]:
        """Returns the live replicas. Empty: this replica is not one of them."""
        if self._lease is None or self.remaining() <= 0:
            return frozenset()
        return frozenset(name for name in self._lease.members if not self.is_gone(name))

    def is_excluded(self) -> bool:
        """Returns whether replicas with another number of shards hold the Lease."""
        return self._lease is not None and not self._is_free(self._lease)

    def is_gone(self, name: str) -> bool:
        """Returns whether that replica certainly cannot write any more."""
        _, since = self._beats.setdefault(name, ("", self._clock()))
        return self._confirmed_at - since >= self._valid_seconds()

    async def run(self, changed: Callable[[], None], resumed: Callable[[], None]) -> None:
        """Write heartbeats and observe the others, until the task is cancelled. Calls ``changed``
        whenever ``live`` may have changed, but not during an outage of the API server, and
        ``resumed`` when ``leads`` returns True again."""
        while True:
            self._tried_at = self._clock()
            try:
                async with asyncio.timeout(self._periods.renew):
                    led = self.leads()
                    await self._beat()
                changed()
                if not led and self.leads():
                    resumed()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._watch(changed)
            except _FAILED as error:
                fields = {"lease": str(self._key), "error": one_line(error)}
                logger.warning("heartbeat failed", extra=fields)
                await asyncio.sleep(self._periods.retry * random.uniform(0.5, 1))

    async def leave(self) -> None:
        """End the membership. The caller must have ended all writes."""
        self._beat_at = None
        try:
            async with asyncio.timeout(self._periods.retry):
                while not await self._left():
                    pass
        except _FAILED as error:
            fields = {"lease": str(self._key), "error": one_line(error)}
            logger.warning("membership not ended", extra=fields)

    def _valid_seconds(self) -> float:
        """Returns for how long a heartbeat counts, from when it was sent or observed."""
        return self._periods.lease - EARLY_SECONDS

    def _pause(self) -> float:
        """Returns the seconds until the next heartbeat, or until another replica may be gone."""
        now = self._clock()
        ends = [since + self._valid_seconds() - now for _, since in self._beats.values()]
        return min([self._periods.retry, *(end for end in ends if end > 0)])

    async def _beat(self) -> None:
        """Write a heartbeat, unless the Lease is held by replicas with another number of shards."""
        if self._is_blind():
            await self._read()
        while True:
            known = self._lease
            try:
                return await self._write()
            except _CHANGED:
                await self._read()
                if self._lease == known:
                    raise  # No change explains the conflict. A webhook may have caused it.

    async def _read(self) -> None:
        sent_at = self._clock()
        self._observe(await self._gateway.get_lease(self._key))
        self._confirmed_at = sent_at

    async def _write(self) -> None:
        """Write a heartbeat, or only read the Lease if replicas with another number of shards hold
        it. Raises an exception of _CHANGED if the Lease has changed since it was observed: the
        caller must read it and repeat this."""
        lease, sent_at = self._lease, self._clock()
        if lease is not None and not self._is_free(lease):
            self._beat_at = None
            await self._read()
            return
        time = format_micro_time(self._now())
        members = {self._identity: time}
        spec: dict[str, Any] = {"leaseDurationSeconds": self._periods.lease, "renewTime": time}
        if lease is not None and lease.holder == self._holder:
            members = {**self._not_gone(lease), **members}
        else:
            spec |= {
                "holderIdentity": self._holder,
                "acquireTime": time,
                "leaseTransitions": transitions_after(lease),
            }
        if lease is None:
            written = await self._gateway.create_lease(self._key, spec, members)
        else:
            version = lease.resource_version
            written = await self._gateway.patch_lease(self._key, version, spec, members)
        self._observe(written)
        self._beat_at = self._confirmed_at = sent_at

    def _is_free(self, lease: Lease) -> bool:
        """Returns whether this replica may be a member now: the Lease has no holder, replicas with
        the same number of shards hold it, or it has expired."""
        if lease.holder in ("", self._holder):
            return True
        return self._clock() - self._changed_at >= lease.seconds - EARLY_SECONDS

    def _not_gone(self, lease: Lease) -> dict[str, str]:
        return {name: time for name, time in lease.members.items() if not self.is_gone(name)}

    async def _watch(self, changed: Callable[[], None]) -> None:
        if self._lease is not None:
            version, seconds = self._lease.resource_version, self._periods.lease
            watch = self._gateway.watch_lease(self._key, version, seconds)
            async with contextlib.aclosing(watch) as leases:
                async for lease in leases:
                    self._observe(lease)
                    if self._beat_at is None and not self.is_excluded():
                        return
                    changed()
        await asyncio.sleep(self._periods.retry)

    def _observe(self, lease: Lease | None) -> None:
        now = self._clock()
        if self._is_blind():
            # This replica does not know how long the others have been silent.
            self._beats = {name: (beat, now) for name, (beat, _) in self._beats.items()}
            self._changed_at = now
        self._observed_at = self._tried_at = now
        if lease is None or self._lease is None or lease != self._lease:
            self._changed_at = now
        self._lease = lease
        for name, beat in (lease.members if lease is not None else {}).items():
            if self._beats.get(name, ("", 0))[0] != beat:
                self._beats[name] = (beat, now)

    def _is_blind(self) -> bool:
        """Returns whether this replica was paused, or the API server has not answered."""
        return self._clock() - self._observed_at >= self._periods.renew

    async def _left(self) -> bool:
        """Returns False if the Lease has changed since it was read."""
        lease = await self._gateway.get_lease(self._key)
        if lease is None or self._identity not in lease.members or lease.holder != self._holder:
            return True
        members = {n: time for n, time in self._not_gone(lease).items() if n != self._identity}
        spec = {} if members else {"holderIdentity": ""}
        try:
            await self._gateway.patch_lease(self._key, lease.resource_version, spec, members)
        except _CHANGED:
            await asyncio.sleep(RELEASE_SECONDS)
            return False
        return True
