"""Parses responses of the API server with bounded depth and memory, so that a hostile object cannot
prevent the operator from reading the others.

- Depth: the API server stores JSON of ten thousand levels, for instance in managedFields, which
  users can write. Python's JSON parser fails at fewer levels.
- Memory: the API server limits a page of a list by the number of objects, not by their size.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, cast

import aiohttp

from initpipeline.core.compact import compact
from initpipeline.core.encoding import decode, encode, without_depths
from initpipeline.runtime.errors import one_line

LARGE: Final = 128 * 1024
"""In bytes. A larger object, or a larger page of objects, is parsed in a thread and compacted. The
decision for a larger InitPipeline is computed in a thread."""

_SHALLOW: Final = 500
"""A line with fewer opening brackets than this cannot be too deep to parse."""

FIRST_PAGE: Final = 50
"""Objects in the first page of the first list."""
NO_PAGE: Final = 1
"""The limit of a request that needs only the resource version of a list."""
LARGEST_PAGE: Final = 500
"""Maximum number of objects in a page."""
PAGE_BYTES: Final = 4 * 2**20
"""Maximum number of bytes of a page with more than one object. Parsed, it takes about ten times as
much."""


async def readable_line(line: bytes) -> bytes:
    """Returns the line of a watch so that json.loads can parse it. A large line is compacted.
    A line that is not JSON is returned unchanged."""
    try:
        if len(line) > LARGE:
            # In a thread, so that the event loop is not blocked.
            return await asyncio.to_thread(compact_line, line)
        if line.count(b"{") + line.count(b"[") >= _SHALLOW:
            json.loads(line)
    except RecursionError:
        return without_depths(line)
    except ValueError:
        pass  # It is not JSON.
    return line


def event_of(line: bytes) -> dict[str, Any]:
    """Returns the parsed event of a watch. Raises ValueError if the line has no type or no object.
    An object needs a resource version, unless the event reports an error."""
    event = decode(line)
    try:
        if event["type"] == "ERROR":
            event["object"].get("code")
        else:
            int(event["object"]["metadata"]["resourceVersion"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = one_line(line[:200].decode(errors="replace"))
        raise ValueError(f"no event of a watch: {text}") from error
    return dict(event)


def page_of(document: Any) -> dict[str, Any]:
    """Returns the page of a list. Raises ValueError if the document has no resource version."""
    try:
        int(document["metadata"]["resourceVersion"])
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"no list of objects: {one_line(str(document))[:200]}") from error
    return dict(document)


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
        self.accepted: Callable[[bytes], bytes | None] = lambda line: line
        """Returns what ``iter_chunked`` yields for a line. None: nothing. May raise an exception,
        which ends the watch."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yields lines that json.loads can parse. Kopf calls this method."""
        async for line in self.raw(size):
            if not line.strip():
                continue
            accepted = self.accepted(await readable_line(line))
            if accepted is not None:
                yield accepted + b"\n"

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

    _page: bytes | None = None
    _document: Any = None

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

    async def parse(
        self, handle: Callable[[dict[str, Any]], None], end: Callable[[str], None]
    ) -> None:
        """Parse a page of a list, and call ``handle`` with each object. ``json`` then returns none
        of them. After the last page, call ``end`` with the resource version of the list. Raises
        ValueError if the body is not a page."""
        document = page_of(await self.json())
        metadata = document["metadata"]
        for item in document.get("items") or ():
            handle(item)
            await asyncio.sleep(0)  # Other tasks need not wait for the whole page.
        document["items"] = []
        self._document = document
        if not metadata.get("continue"):
            end(metadata["resourceVersion"])

    async def json(self, **_: Any) -> Any:
        """Returns the parsed body. Raises ValueError if it is not JSON."""
        if self._document is not None:
            return self._document
        data = await self.read()
        large = len(data) > LARGE
        return await asyncio.to_thread(compact_list, data) if large else decode(data)


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
