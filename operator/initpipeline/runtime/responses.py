"""Parses responses of the API server with bounded depth and memory, so that a hostile object cannot
prevent the operator from reading the others.

- Depth: the API server stores JSON of ten thousand levels, for instance in managedFields, which
  users can write. Python's JSON parser fails at fewer levels.
- Memory: the API server limits a page of a list by the number of objects, not by their size.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, cast

import aiohttp

from initpipeline.core.compact import compact
from initpipeline.core.encoding import decode, encode, without_depths

LARGE: Final = 128 * 1024
"""In bytes. A larger object, or a larger page of objects, is parsed in a thread and compacted. The
decision for a larger InitPipeline is computed in a thread."""

_SHALLOW: Final = 500
"""A line with fewer opening brackets than this cannot be too deep to parse."""

FIRST_PAGE: Final = 50
"""Objects in the first page of the first list."""
LARGEST_PAGE: Final = 500
"""Maximum number of objects in a page."""
PAGE_BYTES: Final = 4 * 2**20
"""Maximum number of bytes of a page with more than one object. Parsed, it takes about ten times as
much."""


async def readable_line(line: bytes) -> bytes:
    """Returns the line of a watch so that json.loads can parse it. A large line is compacted."""
    if len(line) > LARGE:
        # In a thread, so that the event loop is not blocked.
        return await asyncio.to_thread(compact_line, line)
    if line.count(b"{") + line.count(b"[") < _SHALLOW:
        return line
    try:
        json.loads(line)
    except RecursionError:
        return without_depths(line)
    return line


def compact_line(line: bytes) -> bytes:
    """Returns the line of a watch with its object compacted."""
    event = decode(line)
    if isinstance(event, dict) and isinstance(event.get("object"), dict):
        event["object"] = compact(event["object"])
    return encode(event)


def compact_list(data: bytes) -> Any:
    """Returns the parsed document. If it is a list, its objects are compacted."""
    document = decode(data)
    if isinstance(document, dict) and isinstance(document.get("items"), list):
        document["items"] = [compact(item) for item in document["items"]]
    return document


class PageSize:
    """The limit of objects per page, adapted to the size of the objects."""

    def __init__(self) -> None:
        self.limit = FIRST_PAGE

    def fits(self, page_bytes: int) -> bool:
        """Adapt the limit of the next request to the size of a page. Returns whether the page is
        small enough. If it is not, the caller must request it again."""
        if page_bytes > PAGE_BYTES and self.limit > 1:
            self.limit = max(1, self.limit // 4)
            return False
        if page_bytes < PAGE_BYTES // 4:
            self.limit = min(2 * self.limit, LARGEST_PAGE)
        return True


class Lines:
    """The body of a watch, as whole lines. All other attributes are those of the stream."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream
        self.is_known: Callable[[Mapping[str, Any]], bool] = lambda _: False
        """Returns whether ``iter_chunked`` leaves out an event."""
        self.seen: Callable[[], None] = lambda: None
        """Is called for each line of ``iter_chunked``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yields lines that json.loads can parse. Kopf calls this method."""
        async for line in self.raw(size):
            readable = await readable_line(line)
            self.seen()
            if not readable or not self.is_known(decode(readable)):
                yield readable + b"\n"

    async def raw(self, size: int) -> AsyncIterator[bytes]:
        """Yields the unchanged lines, without their ends. Reads ``size`` bytes at a time."""
        begun: list[bytes] = []
        async for chunk in self._stream.iter_chunked(size):
            first, *others = chunk.split(b"\n")
            begun.append(first)
            for following in others:
                yield b"".join(begun)
                begun = [following]
        if any(begun):
            yield b"".join(begun)


class Response(aiohttp.ClientResponse):
    """A response that can always be parsed, or a watch with lines that can always be parsed."""

    listed: Callable[[dict[str, Any]], None] | None = None
    """If it is set, it is called with each object of a list, and ``json`` returns none of them."""

    _page: bytes | None = None

    async def start(self, connection: Any) -> "Response":
        await super().start(connection)
        if self.url.query.get("watch"):
            self.content = cast(aiohttp.StreamReader, Lines(self.content))
        return self

    async def read(self) -> bytes:
        return await super().read() if self._page is None else self._page

    async def read_at_most(self, most: int | None) -> int:
        """Read the body, and return its size in bytes. If it exceeds ``most``, stop reading, and
        return the number of bytes read so far. The body is not available then."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if most is not None and size > most:
                return size
        self._page = b"".join(chunks)
        return size

    async def json(self, **_: Any) -> Any:
        """Returns the parsed body. Raises ValueError if it is not JSON."""
        data = await self.read()
        large = len(data) > LARGE
        document = await asyncio.to_thread(compact_list, data) if large else decode(data)
        if self.listed is not None and isinstance(document, dict):
            for item in document.get("items") or ():
                self.listed(item)
                await asyncio.sleep(0)  # Other tasks need not wait for the whole page.
            document["items"] = []
        return document


async def in_pages(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, size: PageSize
) -> aiohttp.ClientResponse:
    """Send a list request with a limit for which the page has at most PAGE_BYTES, or one object.
    Returns the response. Its continue token refers to the first object after this page."""
    while True:
        request.url = request.url.update_query(limit=size.limit)
        response = await handler(request)
        if response.status != 200 or not isinstance(response, Response):
            return response
        if size.fits(await response.read_at_most(PAGE_BYTES if size.limit > 1 else None)):
            return response
        response.close()
