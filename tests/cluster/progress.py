"""Progress reports: one line per step, with the seconds since the start of the command."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TextIO

HEARTBEAT_SECONDS: Final = 15.0


class Progress(Protocol):
    """Receives a line for each step."""

    def __call__(self, line: str, /) -> None: ...


def silent(_line: str, /) -> None:
    """Discard the line. The default of the Python API."""


class Lines:
    """Prints each line, preceded by the elapsed time."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Start to measure the elapsed time."""
        self._stream = stream or sys.stderr
        self._began = time.monotonic()

    def __call__(self, line: str, /) -> None:
        """Print one line and flush the stream."""
        print(f"[{time.monotonic() - self._began:6.1f}s] {line}", file=self._stream, flush=True)


@contextmanager
def heartbeat(progress: Progress, doing: str) -> Iterator[None]:
    """Report what is being done now, and every HEARTBEAT_SECONDS until it is done."""
    done = threading.Event()

    def beat() -> None:
        began = time.monotonic()
        while not done.wait(HEARTBEAT_SECONDS):
            progress(f"{doing}: {time.monotonic() - began:.0f} s so far")

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    progress(doing)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
