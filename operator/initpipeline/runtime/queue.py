"""A queue of keys: each is worked on by one worker at a time, and however often it is added
meanwhile, once more afterwards.

The shape is that of client-go's workqueue: level-triggered, so a key stands for "look again", never
for an event. Keys are in groups, which are served in turn: a namespace with a thousand keys, or
with slow requests, does not delay the keys of others.
"""

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Generic, TypeVar

K = TypeVar("K")

FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 300.0


class WorkQueue(Generic[K]):
    """A queue for one event loop. ``clock`` returns the present time, in the terms of ``add_at``.
    At most ``at_a_time`` keys of one ``group`` are with workers at any time. None: any number."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        group: Callable[[K], Hashable] = lambda _: None,
        at_a_time: int | None = None,
    ) -> None:
        self._clock = clock
        self._group = group
        self._at_a_time = at_a_time
        self._ready: OrderedDict[Hashable, deque[K]] = OrderedDict()
        """By group. The next group is first."""
        self._at_work: Counter[Hashable] = Counter()
        """How many keys of each group are with a worker."""
        self._getters: deque[asyncio.Future[None]] = deque()
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
            self._make_ready(key)

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
        """Returns the next key, when there is one. The caller must call ``done`` with it when it
        has finished."""
        while (key := self._next()) is None:
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                self._wake_one()  # It may have been woken for a key.
                raise
        self._waiting.discard(key)
        self._active.add(key)
        self._at_work[self._group(key)] += 1
        self._idle.clear()
        return key

    def _make_ready(self, key: K) -> None:
        self._ready.setdefault(self._group(key), deque()).append(key)
        self._wake_one()

    def _next(self) -> K | None:
        """Removes and returns the oldest key of the next group. None: no key may be served now."""
        for group, keys in self._ready.items():
            if self._at_a_time is None or self._at_work[group] < self._at_a_time:
                key = keys.popleft()
                if keys:
                    self._ready.move_to_end(group)
                else:
                    del self._ready[group]
                return key
        return None

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def done(self, key: K) -> None:
        """The work on this key has ended, well or not."""
        self._active.discard(key)
        group = self._group(key)
        self._at_work[group] -= 1
        if self._at_work[group] <= 0:
            del self._at_work[group]
        if not self._active:
            self._idle.set()
        if key in self._waiting:
            self._make_ready(key)
        else:
            self._wake_one()  # Another key of the group may have waited for this one's end.

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
        self._ready.clear()

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
