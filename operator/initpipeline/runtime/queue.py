"""A queue of keys: each is worked on by one worker at a time, and however often it is added
meanwhile, once more afterwards.

The shape is that of client-go's workqueue: level-triggered, so a key stands for "look again", never
for an event.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

K = TypeVar("K")

FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 300.0


class WorkQueue(Generic[K]):
    """For one event loop. ``clock`` gives the present, in the terms of ``add_at``."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        """Added, and not given to a worker yet."""
        self._active: set[K] = set()
        """With a worker now."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        """At most one a key: the earliest."""
        self._failures: dict[K, int] = {}
        """Retries in a row."""
        self._idle = asyncio.Event()
        """No key is with a worker."""
        self._idle.set()
        self._closed = False

    def add(self, key: K) -> None:
        """Look at this key as soon as a worker is free."""
        if self._closed or key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._active:
            self._ready.put_nowait(key)

    def add_at(self, key: K, when: datetime) -> None:
        """Look at this key at that time, unless an earlier time was named before."""
        self._add_after(key, (when - self._clock()).total_seconds())

    def retry(self, key: K, longest: float = LONGEST_RETRY_SECONDS) -> float:
        """Look at this key after a delay that doubles each time in a row. Returns the delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay: float = min(FIRST_RETRY_SECONDS * 2 ** min(failures, 16), longest)
        self._add_after(key, delay)
        return delay

    def forget_failures(self, key: K) -> None:
        """The next retry of this key is the first again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key. Whoever takes it says ``done`` in the end."""
        key = await self._ready.get()
        self._waiting.discard(key)
        self._active.add(key)
        self._idle.clear()
        return key

    def done(self, key: K) -> None:
        """The work on this key has ended, well or not."""
        self._active.discard(key)
        if not self._active:
            self._idle.set()
        if key in self._waiting:
            self._ready.put_nowait(key)

    async def drain(self, seconds: float) -> None:
        """Wait until no key is with a worker, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    def close(self) -> None:
        """Give no key to a worker from now on: what waits can wait for the next start."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        while not self._ready.empty():
            self._ready.get_nowait()

    def _add_after(self, key: K, seconds: float) -> None:
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(seconds, 0.0)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._ring, key)

    def _ring(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)
