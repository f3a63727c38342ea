"""Reads logs in threads, and prepares their lines for the page."""

import asyncio
import codecs
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from initpipeline.core.text import plain
from initpipeline.plugin.cluster.client import ClusterClient

MAX_LINE: Final = 4096
"""Characters of a line of a log that the page shows. The download has all of them."""

T = TypeVar("T")


class EndedError(Exception):
    """The browser has gone."""


@dataclass(frozen=True)
class Reading:
    """What a LogReader needs, and the way to end it from another thread."""

    cluster: ClusterClient
    _ended: threading.Event = field(default_factory=threading.Event)

    def pause(self, seconds: float) -> None:
        """Waits before a retry. Raises EndedError."""
        if self._ended.wait(seconds):
            raise EndedError

    def note(self, line: str) -> None:
        """Ignores an interruption: the reader continues."""

    def end(self) -> None:
        """Ends the reader, even if its container is silent."""
        self._ended.set()
        self.cluster.interrupt_log()


def cut_lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Yields the text of a log for the page, without control characters, as it arrives.

    A line longer than MAX_LINE is cut. A note at its end has the number of bytes that are not
    shown.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    room, hidden = MAX_LINE, 0
    for chunk in chunks:
        out: list[str] = []
        for position, piece in enumerate(decoder.decode(chunk).split("\n")):
            if position:
                out.append(_hidden(hidden) + "\n")
                room, hidden = MAX_LINE, 0
            out.append(plain(piece[:room]).replace("\n", " "))
            hidden += len(piece[room:].encode())
            room -= len(piece[:room])
        yield "".join(out)
    yield decoder.decode(b"", final=True) + _hidden(hidden)


def _hidden(count: int) -> str:
    return f" [{count} more bytes: use Download]" if count else ""


async def in_thread(function: Callable[[], T]) -> T:
    """Returns what a blocking function returns, or raises what it raises. The program does not wait
    for it when it ends, unlike ``asyncio.to_thread``."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(set_outcome: Callable[[Any], None], outcome: T | Exception) -> None:
        if not future.done():
            set_outcome(outcome)

    def run() -> None:
        outcome: tuple[Callable[[Any], None], Any]
        try:
            outcome = future.set_result, function()
        except Exception as error:
            outcome = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # The event loop is closed.
            loop.call_soon_threadsafe(finish, *outcome)

    threading.Thread(target=run, name="request", daemon=True).start()
    return await future


async def from_thread(
    chunks: Iterator[T], interrupt: Callable[[], None] = lambda: None
) -> AsyncGenerator[T]:
    """Yields the items of a blocking iterator. Raises what it raises. ``interrupt`` ends the
    iterator if the consumer ends first."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[T | Exception | None](16)
    ended = threading.Event()

    def put(item: T | Exception | None) -> bool:
        if ended.is_set():
            return False
        future = asyncio.run_coroutine_threadsafe(queue.put(item), loop)
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                future.result(0.5)
                return True
        future.cancel()
        return False

    def read() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
            put(None)
        except Exception as error:
            put(error)

    threading.Thread(target=read, name="log", daemon=True).start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        ended.set()
        interrupt()
