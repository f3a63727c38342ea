"""Keeps Kopf's watch of InitPipelines running through faults of the API server.

For most of these faults Kopf would end the process, or repeat the request without a delay. So Kopf
gets other faults instead, for which it does the same as client-go's Reflector. Each fault, and what
Kopf gets for it:

- A request that fails, or whose response is not one of an API server: a failed connection. Kopf
  repeats the request, with growing delays. Kopf never learns that credentials are refused, because
  the session renews them itself.
- A watch that the API server refuses, or ends with an error event: 410 Gone, after which Kopf lists
  the objects again. If the API server is only unavailable, the watch continues from the last event.
- An event that cannot be parsed: the end of the watch, which continues from the last event.
- A list whose continue token has expired: a failed body, after which Kopf starts the list again.

Kopf does not get the objects of its lists, because it would queue all of them, each with a task and
with state of its own. Nor does it get the events that the cache has already.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NoReturn, Protocol, cast

import aiohttp

from initpipeline.runtime import responses
from initpipeline.runtime.client import NO_ANSWER, retry_seconds
from initpipeline.runtime.errors import UNAVAILABLE, ApiError, ConnectionFailed, one_line
from initpipeline.runtime.probes import End, Freshness
from initpipeline.runtime.retries import SHORT_SECONDS, jittered, limited, retry_delay
from initpipeline.runtime.selection import Selection

logger = logging.getLogger(__name__)

GONE: Final = b'{"type":"ERROR","object":{"kind":"Status","code":410}}'
"""The event after which Kopf lists the objects again."""

LOGGED: Final = 300
"""The most bytes of a response in a log line."""

_KINDS: Final = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})
_FAILED: Final = "watch of InitPipelines failed"


class Lists(Protocol):
    """Gets the objects of lists."""

    def begin(self) -> None:
        """Record that a list is requested. An earlier, incomplete list is discarded."""

    def handle(self, raw: dict[str, Any]) -> None:
        """Store an object of the list."""

    def end(self, version: str) -> None:
        """Record that the list is complete, and has this resource version."""

    async def resume(self, version: str) -> None:
        """Check whether a watch can continue from this version."""


class _Pace:
    """Delays a request that follows the previous one of its kind too soon."""

    def __init__(self) -> None:
        self._started_at = -SHORT_SECONDS
        self._early = 0

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._started_at >= SHORT_SECONDS:
            self._early = 0
        else:
            await asyncio.sleep(retry_delay(self._early))
            self._early += 1
        self._started_at = loop.time()


@dataclass(frozen=True, slots=True)
class Watched:
    """One list and its watch: what records their events and failures, and what gets the objects."""

    freshness: Freshness
    lists: Lists
    _list_pace: _Pace = field(default_factory=_Pace)
    _watch_pace: _Pace = field(default_factory=_Pace)

    async def paced(self, request: aiohttp.ClientRequest, selection: Selection) -> None:
        """Wait until the request may be sent. The pages of a list follow each other at once, and so
        does a watch that was cut."""
        if "watch" in request.url.query:
            was_cut = selection.was_cut(request.url.path)
            self.freshness.ended(End.RESHARDED if was_cut else End.ENDED)
            if not was_cut:
                await self._watch_pace.wait()
        elif "continue" not in request.url.query:
            await self._list_pace.wait()
            self.lists.begin()


class KopfGuard:
    """A middleware for the session of Kopf."""

    def __init__(
        self,
        watched: Mapping[str, Watched],
        is_known: Callable[[Mapping[str, Any]], bool],
        selection: Selection,
    ) -> None:
        """``watched`` has the Watched of each path of a list and its watch. ``is_known`` returns
        whether to leave an event out. ``selection`` selects the objects."""
        self._watched = watched
        self._is_known = is_known
        self._selection = selection

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        _end_if_cancelled()
        watched = self._watched.get(request.url.path)
        if watched is None:
            response = await handler(request)
            if response.status == 401:
                raise aiohttp.ClientConnectionError("401: the credentials are refused")
            return response
        await watched.paced(request, self._selection)
        try:
            if "watch" in request.url.query:
                await watched.lists.resume(request.url.query["resourceVersion"])
            self._selection.apply(request)
            response = await handler(request)
            await self._check(watched, request, response)
        except _Expired as error:
            watched.freshness.failed(End.GONE if error.code == 410 else End.REFUSED)
            if "watch" not in request.url.query:
                raise aiohttp.ClientPayloadError(one_line(error)) from error
            response.status = 200
            response.content = cast(aiohttp.StreamReader, _Gone(response.content))
        except aiohttp.ClientPayloadError:
            watched.freshness.failed(End.UNANSWERED)
            raise
        except (*NO_ANSWER, ApiError, ConnectionFailed, ValueError) as error:
            refused = isinstance(error, (ApiError, _Refused))
            watched.freshness.failed(End.REFUSED if refused else End.UNANSWERED)
            # Kopf would ask for a login after some failures of TLS, which it recognizes by "[SSL:".
            text = one_line(error).replace("[SSL:", "[TLS:")
            raise aiohttp.ClientConnectionError(text) from error
        return response

    async def _check(
        self,
        watched: Watched,
        request: aiohttp.ClientRequest,
        response: aiohttp.ClientResponse,
    ) -> None:
        """Pass the objects of a page to ``watched.lists``, and let ``_accepted`` check each event
        of a watch. Raises an exception if the response is neither."""
        if response.status >= 400:
            await self._refuse(request, response)
        if isinstance(response.content, responses.Lines):
            watched.freshness.opened()
            response.content.accepted = partial(self._accepted, watched.freshness)
            self._selection.opened(request, response)
        elif isinstance(response, responses.Response):
            await response.parse(watched.lists.handle, watched.lists.end)

    async def _refuse(
        self, request: aiohttp.ClientRequest, response: aiohttp.ClientResponse
    ) -> NoReturn:
        """Raise _Expired if the resource version or the continue token cannot be used any more,
        else an error after which Kopf repeats the request."""
        text = one_line(await response.text(errors="replace"))[:LOGGED]
        error = f"{response.status}: {text}"
        query = request.url.query
        if response.status not in UNAVAILABLE and ("watch" in query or "continue" in query):
            logger.warning(_FAILED, extra={"error": error})
            raise _Expired(error, response.status)
        # Kopf would wait for as long as the API server requests, even if that is a day.
        await asyncio.sleep(jittered(limited(retry_seconds(response))))
        raise _Refused(error)

    def _accepted(self, freshness: Freshness, line: bytes) -> bytes | None:
        """Returns the event for Kopf. None: Kopf does not need it. Raises ClientPayloadError to end
        the watch."""
        try:
            event = responses.event_of(line)
            known = event["type"] in _KINDS and self._is_known(event)
        except (ValueError, LookupError, TypeError) as error:
            freshness.failed(End.UNREADABLE)
            logger.warning(_FAILED, extra={"error": one_line(error)})
            raise aiohttp.ClientPayloadError(one_line(error)) from error
        if event["type"] == "ERROR":
            status = event["object"]
            code = int(status.get("code") or 0)
            freshness.failed(End.GONE if code == 410 else End.REFUSED)
            if code != 410:
                text = f"{code}: {one_line(status.get('message') or 'no message')}"
                logger.warning(_FAILED, extra={"error": text})
            if code in UNAVAILABLE:
                raise aiohttp.ClientPayloadError(text)
            return GONE
        freshness.seen()
        return None if known else line


def _end_if_cancelled() -> None:
    """Raise CancelledError if the current task was cancelled before. Kopf loses a cancellation that
    arrives while it closes a watch, would open the next one, and would never end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _Expired(Exception):  # noqa: N818 - not an error: the objects are listed again
    """The resource version of a watch, or the continue token of a list, cannot be used."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class _Refused(aiohttp.ClientConnectionError):
    """The API server has answered with an error, after which Kopf repeats the request."""


class _Gone(responses.Lines):
    """The body of a watch whose resource version is too old."""

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        yield GONE + b"\n"
