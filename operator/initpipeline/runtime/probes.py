"""Answers the kubelet's probes.

- ``/healthz`` fails if only a restart of the process helps: a worker, a watch or the leader
  election is stuck. If the event loop is blocked, nothing answers. It does not fail in an outage of
  the API server. No probe reports a task that has ended, because the process ends with it.
- ``/readyz`` fails while the cache is not up to date: the objects are not listed yet, or a watch is
  refused or silent. It does not fail while the replica watches no objects yet: a cold standby, or a
  replica that waits because others have another number of shards.

If a probe fails, the response lists the reasons, one per line.
"""

import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from enum import StrEnum

from aiohttp import web

from initpipeline.runtime import http_server

Check = Callable[[], str | None]
"""Returns the problem. None: there is no problem."""

REFUSED_SECONDS = 30.0
"""A watch that fails for longer makes the process unready."""
STABLE_SECONDS = 1.0
"""A watch that stays open for longer works again, although no event has arrived yet."""
SILENT_SECONDS = 150.0
"""A watch without an event for longer makes the process unready. The API server sends a bookmark
every minute."""
HUNG_SECONDS = 900.0
"""A watch for which no request was sent for longer is stuck. The API server ends each watch after
five minutes, and a failed one is opened again after 36 seconds at most."""


class End(StrEnum):
    """Why a watch must be opened again."""

    ENDED = "ended"
    """The API server has ended it, as it does every few minutes, or the connection was cut or
    silent."""
    GONE = "gone"
    """410: its resource version is too old, so the objects are listed again."""
    REFUSED = "refused"
    """The API server has answered it, or its list, with another error."""
    UNANSWERED = "unanswered"
    """There was no response, or one that is not of an API server."""
    UNREADABLE = "unreadable"
    """The API server, or a proxy, has sent data that is not an event."""
    RESHARDED = "resharded"
    """The replica has got or lost a shard."""


class Freshness:
    """Whether the objects of one watch are up to date."""

    def __init__(
        self,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        ended: Callable[[End], None] = lambda _: None,
    ) -> None:
        """``clock`` returns seconds. ``ended`` is called whenever the watch must be opened
        again."""
        self._name = name
        self._clock = clock
        self._ended = ended
        self._seen_at = -math.inf
        """When the API server last sent an event, or the end of a list."""
        self._opened_at: float | None = None
        """When the watch was opened. None: it has ended or failed since."""
        self._failing_since: float | None = None
        """When a request first failed after the watch last worked."""
        self._active_at: float | None = None
        """When anything was last recorded. None: nothing was."""

    def listed(self) -> None:
        """Record that the objects were listed. A list does not end a failure of the watch."""
        self._seen_at = self._active_at = self._clock()

    def opened(self) -> None:
        """Record that the watch was opened. It ends a failure if the watch stays open."""
        self._opened_at = self._active_at = self._clock()

    def seen(self) -> None:
        """Record an event of the watch."""
        self._seen_at = self._active_at = self._clock()
        self._failing_since = None

    def ended(self, why: End = End.ENDED) -> None:
        """Record that the watch has ended, which is not a failure. Does nothing if that is already
        recorded."""
        if self._opened_at is None:
            return
        if self._works():
            self._failing_since = None
        self._opened_at, self._active_at = None, self._clock()
        self._ended(why)

    def failed(self, why: End) -> None:
        """Record that a list or a watch has failed."""
        self._active_at = self._clock()
        if self._failing_since is None or self._works():
            self._failing_since = self._clock()
        self._opened_at = None
        self._ended(why)

    def is_open(self) -> bool:
        """Returns whether the watch is open."""
        return self._opened_at is not None

    def _works(self) -> bool:
        return self._opened_at is not None and self._clock() - self._opened_at > STABLE_SECONDS

    def age(self) -> float:
        """Returns the seconds since the last event, bookmark or list. Infinite: there was none."""
        return self._clock() - self._seen_at

    def stuck(self) -> str | None:
        """Returns that the watch is stuck: for HUNG_SECONDS no request was sent and no event was
        received. None: the watch is not stuck, or has not begun."""
        if self._active_at is None or self._clock() - self._active_at <= HUNG_SECONDS:
            return None
        idle = self._clock() - self._active_at
        return f"the watch of {self._name} has been stuck for {idle:.0f} seconds"

    def problem(self) -> str | None:
        """Returns why the objects are not up to date. None: they are."""
        if self._seen_at == -math.inf:
            return f"{self._name} are not listed yet"
        now = self._clock()
        since = None if self._works() else self._failing_since
        if since is not None and now - since > REFUSED_SECONDS:
            return f"the watch of {self._name} has been failing for {now - since:.0f} seconds"
        if now - self._seen_at > SILENT_SECONDS:
            silent = now - self._seen_at
            return f"the watch of {self._name} has been silent for {silent:.0f} seconds"
        return None


class Probes:
    """The checks of the probes. They change while the process runs, and the listener stays open:
    if it was closed and opened again, a probe that is under way would fail."""

    def __init__(self) -> None:
        self.live: Iterable[Check] = ()
        self.ready: Iterable[Check] = (lambda: "the operator has not started yet",)

    async def healthz(self, _: web.Request) -> web.Response:
        """Returns 200, or 503 with the problems of the process."""
        return _response(self.live)

    async def readyz(self, _: web.Request) -> web.Response:
        """Returns 200, or 503 with what is not up to date."""
        return _response(self.ready)


def _response(checks: Iterable[Check]) -> web.Response:
    problems = [problem for check in checks if (problem := check())]
    return web.Response(status=503 if problems else 200, text="\n".join(problems or ["ok"]))


@contextlib.asynccontextmanager
async def served(address: str) -> AsyncIterator[Probes]:
    """Answer probes on this address, HOST:PORT, within the context. An empty address serves
    nothing. Raises OperatorError if the address cannot be used."""
    probes = Probes()
    if not address:
        yield probes
        return
    handlers = {"/healthz": probes.healthz, "/readyz": probes.readyz}
    async with http_server.served("probes", "--probe-address", address, handlers):
        yield probes
