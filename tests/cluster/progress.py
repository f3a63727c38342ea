"""Progress: one line a step, with the seconds since the command began."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TextIO

HEARTBEAT_SECONDS: Final = 15.0


class Progress(Protocol):
    """Whatever can be told a line."""

    def __call__(self, line: str, /) -> None: ...


def silent(_line: str, /) -> None:
    """Say nothing: what the Python API does unless told otherwise."""


class Lines:
    """Writes each line with the elapsed time before it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Begin to count now."""
        self._stream = stream or sys.stderr
        self._began = time.monotonic()

    def __call__(self, line: str, /) -> None:
        """Write one line at once, whatever the stream buffers."""
        print(f"[{time.monotonic() - self._began:6.1f}s] {line}", file=self._stream, flush=True)


@contextmanager
def heartbeat(progress: Progress, doing: str) -> Iterator[None]:
    """Say what is being done at once, and again every so often until it is done."""
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
