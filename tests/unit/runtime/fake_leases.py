"""An API server with one Lease, for the tests of its clients."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Final

from initpipeline.runtime.errors import (
    AlreadyExistsError,
    ConflictError,
    ConnectionFailed,
    NotFoundError,
)
from initpipeline.runtime.gateway import Gateway, Lease
from initpipeline.runtime.keys import Key
from initpipeline.runtime.leader import Periods
from tests.unit.runtime.clock import Clock

KEY: Final = Key("system", "operator")
PERIODS: Final = Periods(lease=15, renew=10, retry=2)


async def pass_time(clock: Clock, seconds: int) -> None:
    """Advance the time second by second."""
    for _ in range(seconds):
        await clock.advance(1)


class FakeLeases(Gateway):
    """Stores one Lease with a resource version, and feeds its watches."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.failing: list[Exception | None] = []
        """Errors of the next requests, instead of carrying them out. None: it is carried out."""
        self.unanswered = 0
        """Number of the next writes that are carried out, and whose response is lost."""
        self.refused: Exception | None = None
        """The error of each write, as from a webhook."""
        self.hanging = False
        """Requests are not answered."""
        self.mute = False
        """Writes are carried out, and not answered."""
        self.requests = 0
        self._versions = itertools.count(100)
        self._watches: list[asyncio.Queue[Lease | None]] = []
        self._ended: set[asyncio.Queue[Lease | None]] = set()

    async def _serve(self) -> None:
        self.requests += 1
        if self.failing and (error := self.failing.pop(0)):
            raise error
        if self.hanging:
            await asyncio.get_running_loop().create_future()

    async def get_lease(self, key: Key) -> Lease | None:
        assert key == KEY
        await self._serve()
        return self.lease

    async def create_lease(
        self, key: Key, spec: Mapping[str, Any], members: Mapping[str, str] | None = None
    ) -> Lease:
        assert key == KEY
        await self._serve()
        if self.refused:
            raise self.refused
        if self.lease is not None:
            raise AlreadyExistsError(409, {})
        return await self._store(spec, members or {})

    async def patch_lease(
        self,
        key: Key,
        version: str,
        spec: Mapping[str, Any],
        members: Mapping[str, str] | None = None,
    ) -> Lease:
        assert key == KEY
        await self._serve()
        if self.refused:
            raise self.refused
        if self.lease is None:
            raise NotFoundError(404, {})
        if self.lease.resource_version != version:
            raise ConflictError(409, {})
        kept = self.lease.members if members is None else members
        return await self._store({**_spec(self.lease), **spec}, kept)

    async def _store(self, spec: Mapping[str, Any], members: Mapping[str, str]) -> Lease:
        metadata = {"resourceVersion": str(next(self._versions))}
        lease = replace(Lease.from_api({"metadata": metadata, "spec": spec}), members=members)
        self.put(lease)
        if self.mute:
            await asyncio.get_running_loop().create_future()
        if self.unanswered:
            self.unanswered -= 1
            raise ConnectionFailed("reset")
        return lease

    def put(self, lease: Lease | None) -> None:
        """Store the Lease, or delete it, as another client."""
        self.lease = lease
        for watch in self._watches:
            watch.put_nowait(lease)

    def edit(self, **fields: Any) -> None:
        """Change the Lease, as another client."""
        assert self.lease is not None
        self.put(replace(self.lease, resource_version=str(next(self._versions)), **fields))

    def end_watches(self) -> None:
        """End all watches, as the API server does."""
        for watch in self._watches:
            self._ended.add(watch)
            watch.put_nowait(None)

    async def watch_lease(
        self,
        key: Key,
        version: str,  # noqa: ARG002
        seconds: int,  # noqa: ARG002
    ) -> AsyncGenerator[Lease | None]:
        assert key == KEY
        await self._serve()
        events: asyncio.Queue[Lease | None] = asyncio.Queue()
        self._watches.append(events)
        try:
            while True:
                lease = await events.get()
                if events in self._ended:
                    return
                yield lease
        finally:
            self._watches.remove(events)


def _spec(lease: Lease) -> dict[str, Any]:
    return {
        "holderIdentity": lease.holder,
        "leaseDurationSeconds": lease.seconds,
        "renewTime": lease.renewed,
        "leaseTransitions": lease.transitions,
    }
