"""Leader election: of all replicas, only the holder of a Lease writes what the Lease covers.

That is all InitPipelines, or with ``--shards`` those of one shard.

The protocol is that of client-go's leaderelection. The holder renews its Lease. If it stops doing
so, another replica takes the Lease over when it has expired.

- A replica does not trust the clock of another. A Lease expires if it has not changed for its
  duration, measured by the clock of the replica that observes it.
- The clock also runs while the machine sleeps. When a process continues after a pause of itself or
  of its machine, it observes at once that its Lease has expired.
- ``remaining`` is counted from before the request that renewed the Lease, so it ends before the
  Lease expires for any other replica. With ``--shards``, another replica may take the Lease over
  earlier, when the heartbeat of the holder has expired (runtime.members).

In these points it differs from client-go:

- A holder that cannot renew its Lease, as in an outage of the API server, stops reconciling, but
  does not end. It continues if no other replica has taken the Lease meanwhile. client-go's holder
  ends, and would be restarted again and again until the outage is over.
- A replica that stands by watches the Lease. client-go's reads it in each RetryPeriod.
- A holder recognizes its own writes by their renewTime as well, so two processes with the same
  identity do not both lead.

The Lease does not order the writes of two replicas. ``Gateway`` ends each write before the Lease
expires. docs/decisions/0021-lease-and-deadlines.md has the reasons.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from initpipeline.api.models import format_micro_time
from initpipeline.runtime.clock import uptime
from initpipeline.runtime.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    ConnectionFailed,
    HistoryLost,
    LeaseLost,
    NotFoundError,
    OperatorError,
    one_line,
)
from initpipeline.runtime.gateway import Gateway, Lease
from initpipeline.runtime.keys import Key
from initpipeline.runtime.retries import jittered

logger = logging.getLogger(__name__)

EARLY_SECONDS: Final = 0.5
"""A Lease expires this much earlier than its duration, for the holder and for the others. So the
next holder continues within the duration."""

LATE_SECONDS: Final = 120.0
"""The API server carries out no write that was sent longer ago. Its request timeout is a minute,
and the rest is a margin."""

RELEASE_SECONDS: Final = 0.1
"""The time between two attempts to release the Lease. A webhook may refuse each with a conflict."""

_FAILED: Final = (ApiError, ConnectionFailed)


WRITER: Final = "find the client that changes the Lease, or another process of this identity"
SLOW: Final = "check the CPU of this process and the latency of the API server"
"""What to do if a process loses its Lease again and again."""


def transitions_after(lease: Lease | None) -> int:
    """Returns the leaseTransitions to write when the holder of the Lease changes. It starts again
    after the largest number of 32 bits. ``lease`` None: it does not exist."""
    return 0 if lease is None else (lease.transitions + 1) % 2**31


@dataclass(frozen=True, slots=True)
class Periods:
    """The periods of the election, in seconds."""

    lease: int
    """After this time without a renewal, other replicas take the Lease over. client-go's
    LeaseDuration."""
    renew: float
    """After this time without a successful renewal, the holder stops reconciling. client-go's
    RenewDeadline."""
    retry: float
    """The time between two renewals, and before a failed request is repeated. client-go's
    RetryPeriod."""


class LeaderElection:
    """Takes, renews and releases one Lease. It is not thread-safe."""

    def __init__(
        self,
        gateway: Gateway,
        key: Key,
        identity: str,
        periods: Periods,
        now: Callable[[], datetime],
        clock: Callable[[], float] = uptime,
        is_gone: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """``key`` names the Lease, ``identity`` this process in it. ``now`` returns the times to
        write to the Lease. No replica compares them with its clock. ``is_gone`` returns whether a
        holder certainly cannot write any more, so that its Lease need not expire."""
        self._gateway = gateway
        self._key = key
        self._identity = identity
        self._periods = periods
        self._now = now
        self._clock = clock
        self._is_gone = is_gone
        self._lease: Lease | None = None
        """The last observed Lease. None: it does not exist."""
        self._changed_at = 0.0
        """When this version of the Lease was first observed."""
        self._renewed_at: float | None = None
        """When the request was sent that took or renewed the Lease. None: this process does not
        hold the Lease."""
        self._tried_at = clock()
        """When a request was last sent, or a change was last observed."""
        self._held = False
        """This process holds the Lease or has held it."""
        self._sent: dict[str, float] = {}
        """The renewTime of the last successful write and of each later attempt, with the time when
        it was sent. A write may succeed although its response is lost."""

    def remaining(self) -> float:
        """Returns the seconds during which no other replica can take the Lease over, unless
        ``is_gone`` of that replica returns True for this one. 0 or less: this process does not hold
        the Lease, or its Lease has expired."""
        if self._renewed_at is None:
            return 0.0
        return self._renewed_at + self._periods.lease - EARLY_SECONDS - self._clock()

    def leads(self) -> bool:
        """Returns whether this process may reconcile: it holds the Lease, and the last renewal is
        not too long ago."""
        return self._renewed_at is not None and self._clock() < self._late_at(self._renewed_at)

    def idle_seconds(self) -> float:
        """Returns the seconds since this process last read, watched or wrote the Lease, or observed
        a change of it. Unless the election is stuck, that is at most a few seconds more than the
        longer of ``Periods.lease`` and the timeout of a request."""
        return self._clock() - self._tried_at

    def _late_at(self, renewed_at: float) -> float:
        return renewed_at + self._periods.renew

    async def acquire(self) -> None:
        """Wait until this process holds the Lease.

        Raises LeaseLost if it has held the Lease before, and another process has written to it
        since. Raises HistoryLost if the Lease has an older version than before, OperatorError if
        the Lease cannot be created because its namespace does not exist.
        """
        await self._read()
        while self._expires_in() > 0 or not await self._taken():
            await self._changed()
        logger.info("Lease acquired", extra=self._fields())

    async def keep(self) -> None:
        """Renew the Lease. Returns when that has failed for too long, so that this process must
        not reconcile. Raises LeaseLost if another process has written to the Lease, HistoryLost
        if the Lease has an older version than before."""
        while self.leads():
            await asyncio.sleep(self._periods.retry)
            await self._renew()

    async def release(self) -> None:
        """Give the Lease up, so that another replica takes it over at once. The caller must have
        ended all writes. Does nothing if another process has written to the Lease since."""
        self._renewed_at = None
        if not self._sent:
            return
        try:
            async with asyncio.timeout(self._periods.retry):
                while not await self._released():
                    pass
        except (*_FAILED, TimeoutError) as error:
            logger.warning("Lease not released", extra={**self._fields(), "error": one_line(error)})

    async def _released(self) -> bool:
        """Release the Lease if this process holds it. Returns False if the Lease has changed since
        it was read, for example by an interrupted renewal that the API server carried out late.
        The caller must then repeat this."""
        lease = await self._gateway.get_lease(self._key)
        if lease is None or not self._is_own(lease):
            return True
        try:
            await self._gateway.patch_lease(
                self._key, lease.resource_version, {"holderIdentity": ""}
            )
        except ConflictError:
            await asyncio.sleep(RELEASE_SECONDS)
            return False
        logger.info("Lease released", extra=self._fields())
        return True

    def _fields(self) -> dict[str, str]:
        return {"lease": str(self._key), "identity": self._identity}

    def _observe(self, lease: Lease | None) -> None:
        """Record the Lease, and when it has changed. Raises LeaseLost if this process has held the
        Lease, and another one has written to it since. Raises HistoryLost if the Lease has an
        older version than before."""
        self._tried_at = self._clock()
        if lease is not None and self._lease is not None:
            before, now = self._lease.resource_version, lease.resource_version
            if int(now) < int(before):
                raise HistoryLost(f"the Lease {self._key}", before, now)
        if self._held and not self._is_own(lease):
            self._renewed_at = None
            if lease is None or not lease.holder:
                why, remedy = "it was deleted, or its holder was removed", WRITER
            elif lease.holder == self._identity:
                why, remedy = "another client has written to it", WRITER
            else:
                why, remedy = f'"{lease.holder}" holds it', SLOW
            raise LeaseLost(f"the Lease {self._key} is lost: {why}. If this repeats, {remedy}")
        if lease is None or lease != self._lease:
            self._changed_at = self._clock()
        known, self._lease = self._lease, lease
        holder = lease.holder if lease is not None else ""
        if holder not in ("", self._identity, known.holder if known is not None else ""):
            logger.info("standing by", extra={**self._fields(), "holder": holder})

    def _is_own(self, lease: Lease | None) -> bool:
        """Returns whether this process has written the holder and the time of the Lease. Two
        processes may have the same identity."""
        return lease is not None and lease.holder == self._identity and lease.renewed in self._sent

    async def _read(self) -> None:
        """Read the Lease, and repeat that until it succeeds."""
        while True:
            self._tried_at = self._clock()
            try:
                self._observe(await self._gateway.get_lease(self._key))
            except _FAILED as error:
                await self._pause(error)
            else:
                return

    async def _taken(self) -> bool:
        """Take the Lease. Returns whether that succeeded. If not, the Lease has been read again. If
        no change explains the failure, this pauses: a webhook may have caused it."""
        known = self._lease
        conflict: ApiError | None = None
        try:
            # After an outage, this process may still hold the Lease. It then only renews it.
            await self._write({} if self._held else self._taking())
        except NotFoundError as error:
            if self._lease is None:
                raise OperatorError(
                    f"the Lease {self._key} cannot be created ({error}): create the namespace, or "
                    "set --lease-namespace"
                ) from error
            conflict = error
        except (AlreadyExistsError, ConflictError) as error:
            conflict = error  # Usually another replica was faster.
        except _FAILED as error:
            await self._pause(error)
        else:
            return True
        await self._read()
        if conflict is not None and self._lease == known:
            await self._pause(conflict)
        return False

    def _expires_in(self) -> float:
        """Returns the seconds after which this process may take the Lease."""
        if self._lease is None or self._lease.holder in ("", self._identity):
            return 0.0
        if self._is_gone(self._lease.holder):
            return 0.0
        return self._changed_at + self._lease.seconds - EARLY_SECONDS - self._clock()

    def _taking(self) -> dict[str, Any]:
        """Returns the fields with which this process becomes the holder."""
        return {
            "holderIdentity": self._identity,
            "acquireTime": format_micro_time(self._now()),
            "leaseTransitions": transitions_after(self._lease),
        }

    async def _write(self, fields: Mapping[str, Any]) -> None:
        """Write the fields and the time as the holder. Raises ConflictError or AlreadyExistsError
        if the Lease has changed since it was observed."""
        sent_at, time = self._clock(), format_micro_time(self._now())
        self._forget_late_writes()
        self._tried_at = self._sent[time] = sent_at
        # The duration is written each time, because a user may have changed it.
        fields = {**fields, "leaseDurationSeconds": self._periods.lease, "renewTime": time}
        try:
            if self._lease is None:
                lease = await self._gateway.create_lease(self._key, fields)
            else:
                version = self._lease.resource_version
                lease = await self._gateway.patch_lease(self._key, version, fields)
        except ApiError as error:
            if error.code < 500:  # The write has certainly not succeeded.
                del self._sent[time]
            raise
        self._hold(lease, sent_at)

    def _forget_late_writes(self) -> None:
        """Forget writes that are too old to succeed. Otherwise ``_sent`` would grow during an
        outage."""
        current = "" if self._lease is None else self._lease.renewed
        since = self._clock() - LATE_SECONDS
        self._sent = {
            time: sent_at
            for time, sent_at in self._sent.items()
            if time == current or sent_at > since
        }

    def _hold(self, lease: Lease, sent_at: float) -> None:
        self._observe(lease)
        self._held, self._renewed_at = True, sent_at
        self._sent = {lease.renewed: sent_at}

    async def _changed(self) -> None:
        """Wait until the Lease has expired, or has no holder. Observes its changes meanwhile.
        Returns at the latest after this process's own ``Periods.lease`` without a change, so that
        ``idle_seconds`` does not grow. If the Lease has not expired then, the caller must wait
        again."""
        if self._lease is None or self._expires_in() <= 0:
            return
        self._tried_at = self._clock()
        version = self._lease.resource_version
        with contextlib.suppress(TimeoutError):
            try:
                async with asyncio.timeout(self._quiet_seconds()) as waiting:
                    await self._watch(version, waiting)
            except _FAILED as error:
                await self._pause(error)
                await self._read()

    def _quiet_seconds(self) -> float:
        """Returns for how long to wait for a change. The holder may have chosen a much longer
        duration than this process, and ``idle_seconds`` must not grow meanwhile."""
        return min(self._expires_in(), self._periods.lease)

    async def _watch(self, version: str, waiting: asyncio.Timeout) -> None:
        """Observe the Lease until this process may take it. Each change defers the end of
        ``waiting``."""
        loop = asyncio.get_running_loop()
        start, seconds = loop.time(), 10 * self._periods.lease
        watch = self._gateway.watch_lease(self._key, version, seconds)
        async with contextlib.aclosing(watch) as leases:
            async for lease in leases:
                self._observe(lease)
                if self._expires_in() <= 0:
                    return
                waiting.reschedule(loop.time() + self._quiet_seconds())
        # The API server has ended the watch, or the connection is cut. Without a delay, one that
        # ends at once would be opened again and again.
        await asyncio.sleep(max(0.0, start + self._periods.retry - loop.time()))
        await self._read()

    async def _renew(self) -> None:
        assert self._renewed_at is not None
        left = self._late_at(self._renewed_at) - self._clock()
        try:
            async with asyncio.timeout(min(left, self._periods.renew / 2)):
                try:
                    await self._write({})
                except (ConflictError, NotFoundError):
                    await self._check()
        except (*_FAILED, TimeoutError) as error:
            logger.warning("Lease not renewed", extra={**self._fields(), "error": one_line(error)})

    async def _check(self) -> None:
        """Read the Lease after a conflict. It may have been renewed by a request whose response was
        lost."""
        lease = await self._gateway.get_lease(self._key)
        self._observe(lease)
        if lease is not None:
            self._hold(lease, self._sent[lease.renewed])

    async def _pause(self, error: Exception) -> None:
        logger.warning("Lease request failed", extra={**self._fields(), "error": one_line(error)})
        await asyncio.sleep(jittered(self._periods.retry))
