"""JSON from the API server, bounded: what one object holds must not keep others from being read.

The API server stores documents that are nested ten thousand levels deep, in managedFields for one,
which everybody may write. Python's reader gives up far above that. And it sends lists in pages of a
number of objects, whatever their size.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final, cast

import aiohttp

from initpipeline.core.compact import compact

DEEPEST: Final = 100
"""Levels that are kept of a document that is nested too deeply. Kubernetes' own have twenty."""

LARGE: Final = 128 * 1024
"""Bytes of an object, or of a page of them, that is compacted before it is queued."""

_SHALLOW: Final = 500
"""So many brackets cannot be nested too deeply."""

_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{]|[\]}]')

FIRST_PAGE: Final = 50
LARGEST_PAGE: Final = 500
"""Objects."""
PAGE_BYTES: Final = 4 * 2**20
"""Of a page's text, except of one with a single object. Read, it takes about ten times as much."""


def decode(data: bytes) -> Any:
    """The document; what is nested more deeply than DEEPEST is null, if that is too deep for the
    reader. Raises ValueError for what is no JSON."""
    try:
        return json.loads(data)
    except RecursionError:
        return json.loads(without_depths(data))


def without_depths(data: bytes) -> bytes:
    """The document, in which each value below DEEPEST is null. One pass, without recursion."""
    kept: list[bytes] = []
    depth, start = 0, 0
    for token in _TOKEN.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            if depth == DEEPEST + 1:
                kept += [data[start : token.start()], b"null"]
        elif first in b"]}":
            if depth == DEEPEST + 1:
                start = token.end()
            depth -= 1
    kept.append(data[start:] if depth <= DEEPEST else b"")
    return b"".join(kept)


async def readable_line(line: bytes) -> bytes:
    """The line of a watch, such that json.loads can read it and takes up little memory."""
    if len(line) > LARGE:
        # Apart from the event loop, which goes on meanwhile.
        return await asyncio.to_thread(compact_line, line)
    if line.count(b"{") + line.count(b"[") < _SHALLOW:
        return line
    try:
        json.loads(line)
    except RecursionError:
        return without_depths(line)
    return line


def compact_line(line: bytes) -> bytes:
    """The line of a watch, its object compacted."""
    event = decode(line)
    if isinstance(event, dict) and isinstance(event.get("object"), dict):
        event["object"] = compact(event["object"])
    return json.dumps(event).encode()


def compact_list(data: bytes) -> Any:
    """The document; of a list, with its objects compacted."""
    document = decode(data)
    if isinstance(document, dict) and isinstance(document.get("items"), list):
        document["items"] = [compact(item) for item in document["items"]]
    return document


class PageSize:
    """How many objects to ask for at a time: many small ones, and few large ones."""

    def __init__(self) -> None:
        self.limit = FIRST_PAGE

    def fits(self, page_bytes: int) -> bool:
        """Whether the page of this size is taken; else it is asked for again, with fewer objects.
        Also chooses the size of the next."""
        if page_bytes > PAGE_BYTES and self.limit > 1:
            self.limit = max(1, self.limit // 4)
            return False
        if page_bytes < PAGE_BYTES // 4:
            self.limit = min(2 * self.limit, LARGEST_PAGE)
        return True


class _Lines:
    """The body of a watch: whole lines, each readable. Everything else is the stream's."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        begun: list[bytes] = []
        async for chunk in self._stream.iter_chunked(size):
            first, *others = chunk.split(b"\n")
            begun.append(first)
            for following in others:
                yield await readable_line(b"".join(begun)) + b"\n"
                begun = [following]
        if any(begun):
            yield await readable_line(b"".join(begun))


class Response(aiohttp.ClientResponse):
    """An answer of the API server's, whose documents can be read whatever they hold."""

    _page: bytes | None = None

    async def start(self, connection: Any) -> "Response":
        await super().start(connection)
        if self.url.query.get("watch"):
            self.content = cast(aiohttp.StreamReader, _Lines(self.content))
        return self

    async def read(self) -> bytes:
        return await super().read() if self._page is None else self._page

    async def read_at_most(self, most: int | None) -> int:
        """Read the body. Returns its size, or, if it is larger than ``most``, what was read until
        that was clear; then there is no body."""
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
        """The document. Raises ValueError for what is none."""
        data = await self.read()
        return decode(data) if len(data) <= LARGE else await asyncio.to_thread(compact_list, data)


async def in_pages(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, size: PageSize
) -> aiohttp.ClientResponse:
    """The answer to a request for a page of a list, whatever number of objects it asks for: so many
    that their text is no more than PAGE_BYTES. The next page goes on where this one ends."""
    while True:
        request.url = request.url.update_query(limit=size.limit)
        response = await handler(request)
        if response.status != 200 or not isinstance(response, Response):
            return response
        if size.fits(await response.read_at_most(PAGE_BYTES if size.limit > 1 else None)):
            return response
        response.close()
