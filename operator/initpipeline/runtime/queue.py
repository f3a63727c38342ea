"""A work queue of keys, with the guarantees of client-go's workqueue and with fair groups.

- Deduplication: a key that is added several times before a worker gets it is processed once.
- No concurrency per key: at most one worker has a key at any time. If the key is added meanwhile,
  it is processed once more afterwards.
- Delays: a key can be added at a later time, and retried with exponential back-off. A delay ends
  when a worker gets the key, because the worker derives the next one from the current state.
- Order: groups are served in turn. The keys of one group are served by their urgency, and with the
  same urgency in the order in which they were added. Fewer workers serve the least urgent keys. So
  in a burst those wait longer, and several changes of one key are processed together. The most
  urgent keys cannot occupy all workers of a group. The
  operator's groups are namespaces. A namespace with a thousand keys, or with slow requests, does
  not delay the keys of others.

A key does not carry what has changed: a worker that gets one compares the whole current state.

The names of the methods in client-go: ``add`` is Add, ``add_at`` AddAfter, ``retry``
AddRateLimited, ``forget_failures`` Forget, ``get`` Get, ``done`` Done, ``close`` ShutDown. Unlike
Get, ``get`` ends the delay of its key. Unlike ShutDown, ``close`` discards the keys that wait, and
``get`` does not return after it, so the workers' tasks must be cancelled.

Why not a library: the official Python client has no work queue. Kopf has one queue per object, of
events instead of keys.
"""

import asyncio
import contextlib
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Generic, TypeVar

from initpipeline.runtime.meter import Meter
from initpipeline.runtime.retries import jittered

K = TypeVar("K")

FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 300.0
"""The longest delay before a retry, unless the caller gives another."""
OUTAGE_RETRY_SECONDS = 30.0
"""The longest delay before a retry if the API server is unavailable to the operator."""


class Urgency(IntEnum):
    """The order in which the keys of a group are served."""

    FIRST = 0
    NEXT = 1
    LAST = 2


class Outcome(StrEnum):
    """What a worker has requested for the key that it has. The values are those of the label
    ``result`` of controller-runtime's metrics."""

    SUCCESS = "success"
    """Nothing: it is processed when it is added again."""
    REQUEUE = "requeue"
    """To process it again, at once or with back-off."""
    REQUEUE_AFTER = "requeue_after"
    """To process it again at a certain time."""


@dataclass(slots=True)
class _Work:
    """A key that a worker has. The times are those of the event loop."""

    taken_at: float
    changed_at: float
    """When the oldest change that status does not reflect was added to the queue."""
    outcome: Outcome = Outcome.SUCCESS
    is_reflected: bool = False
    """Status reflects all changes up to ``changed_at``: ``WorkQueue.reflected`` was called."""


class _Group(Generic[K]):
    """The keys of one group. Those that wait are in the order in which they were added."""

    def __init__(self) -> None:
        self.waiting: dict[Urgency, dict[K, None]] = {urgency: {} for urgency in Urgency}
        self._urgent: set[K] = set()
        """The keys that the workers for the urgencies FIRST and NEXT have."""
        self._last: set[K] = set()
        """The keys that the workers for the urgencies NEXT and LAST have."""

    def __bool__(self) -> bool:
        return any((*self.waiting.values(), self._urgent, self._last))

    def next(self, max_urgent: float, max_last: float) -> K | None:
        """Remove the first key that a worker may get, and return it. None: no key waits, or the
        group has reached its limits."""
        first, following, last = self.waiting.values()
        if (urgent := first or following) and len(self._urgent) < max_urgent:
            return _moved(urgent, self._urgent)
        if following and not self._last:
            return _moved(following, self._last)
        if last and len(self._last) < (1 if first else max_last):
            return _moved(last, self._last)
        return None

    def add(self, key: K, urgency: Urgency) -> bool:
        """Add the key, or move it if it waits with less urgency. Returns False if the key waits
        with this urgency or a higher one."""
        for other in Urgency:
            if key in self.waiting[other]:
                if other <= urgency:
                    return False
                del self.waiting[other][key]
        self.waiting[urgency][key] = None
        return True

    def done(self, key: K) -> None:
        self._urgent.discard(key)
        self._last.discard(key)


def _moved(waiting: dict[K, None], active: set[K]) -> K:
    key = next(iter(waiting))
    del waiting[key]
    active.add(key)
    return key


class WorkQueue(Generic[K]):
    """A work queue for one event loop. It is not thread-safe.

    ``now`` returns the current time, to which the times passed to ``add_at`` are compared.
    ``group`` returns the group of a key, and ``urgency`` its place in the group. In one
    group, at most ``max_urgent`` workers have keys of the urgencies FIRST and NEXT. At most
    ``max_last`` others have keys of the urgency LAST, or only one while keys of the urgency FIRST
    wait. As an exception, if ``max_urgent`` workers have keys and no other worker has one, one more
    gets a key of the urgency NEXT, so that slow keys of the urgency FIRST do not delay it.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        group: Callable[[K], Hashable] = lambda _: None,
        max_urgent: float = math.inf,
        max_last: float = math.inf,
        urgency: Callable[[K], Urgency] = lambda _: Urgency.LAST,
        meter: Meter = Meter(),
    ) -> None:
        self._meter = meter
        self._now = now
        self._urgency = urgency
        self._group = group
        self._max_urgent = max_urgent
        self._max_last = max_last
        self._waiting: dict[K, float] = {}
        """Keys that were added and that no worker has got since, with the time at which they were
        added: client-go's set "dirty". A key can be here and in _active: it was added again while a
        worker processes it."""
        self._active: dict[K, _Work] = {}
        """Keys that a worker is processing, in the order in which workers got them: client-go's set
        "processing"."""
        self._unreflected: dict[K, float] = {}
        """For keys that were requeued before ``reflected`` was called for them: when the oldest
        change was added."""
        self._groups: OrderedDict[Hashable, _Group[K]] = OrderedDict()
        """The keys of _waiting that are not in _active, and those of _active, by group. The first
        group is served next. No group is empty."""
        self._getters: deque[asyncio.Future[None]] = deque()
        """One future for each worker that waits for a key."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        """For each delayed key, the timer that adds it. Of several times only the earliest is
        kept."""
        self._failures: dict[K, int] = {}
        """Retries of each key since its last success."""
        self._idle = asyncio.Event()
        """Set while no worker has a key."""
        self._idle.set()
        self._closed = False

    def add(self, key: K) -> None:
        """Add the key, to be processed as soon as possible. A key that is waiting already is moved
        if it has become more urgent. Does nothing after ``close``."""
        if self._closed:
            return
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().time()
            self._meter.queued()
        if key not in self._active:
            self._make_ready(key)

    def requeue(self, key: K) -> None:
        """Add a key that a worker has, because the worker has decided with an old state."""
        self._note(key, Outcome.REQUEUE)
        self.add(key)

    def add_at(self, key: K, when: datetime) -> None:
        """Add the key at that time, or now if it is past. If the key already has an earlier time,
        that one is kept."""
        self._note(key, Outcome.REQUEUE_AFTER)
        self._add_after(key, (when - self._now()).total_seconds())

    def retry(self, key: K, longest: float = LONGEST_RETRY_SECONDS, shortest: float = 0.0) -> float:
        """Add the key after a delay, which starts at FIRST_RETRY_SECONDS and doubles with each
        retry, up to ``longest`` seconds. It is at least ``shortest``, and ``jittered``. Returns
        the delay in seconds.

        The caller must call ``forget_failures`` when the key was processed successfully.
        """
        self._meter.retried()
        self._note(key, Outcome.REQUEUE)
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay: float = min(FIRST_RETRY_SECONDS * 2 ** min(failures, 16), longest)
        delay = jittered(max(delay, shortest))
        self._add_after(key, delay)
        return delay

    def forget_failures(self, key: K) -> None:
        """Reset the back-off of the key: its next retry has the shortest delay."""
        self._failures.pop(key, None)

    def _note(self, key: K, outcome: Outcome) -> None:
        work = self._active.get(key)
        if work is not None and work.outcome is not Outcome.REQUEUE:
            work.outcome = outcome

    def outcome(self, key: K) -> Outcome:
        """Returns what the worker that has the key has requested for it."""
        work = self._active.get(key)
        return Outcome.SUCCESS if work is None else work.outcome

    def reflected(self, key: K) -> None:
        """Record that status reflects all changes until now, for a key that a worker has. So
        ``age`` starts again, also if the key is requeued."""
        if key in self._active:
            work = self._active[key]
            work.changed_at, work.is_reflected = asyncio.get_running_loop().time(), True

    async def get(self) -> K:
        """Wait for the next key, and return it. The caller must call ``done`` with the key when it
        has finished processing it, successfully or not. After ``close``, waits until the task is
        cancelled."""
        while (key := self._next()) is None:
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                self._wake_one()  # This getter may have been woken for a key. Pass that on.
                raise
        now = asyncio.get_running_loop().time()
        added_at = self._waiting.pop(key, now)
        self._active[key] = _Work(now, self._unreflected.pop(key, added_at))
        self._meter.taken(now - added_at)
        self._idle.clear()
        if timer := self._timers.pop(key, None):
            timer.cancel()
        return key

    def _make_ready(self, key: K) -> None:
        group = self._groups.setdefault(self._group(key), _Group())
        if group.add(key, self._urgency(key)):
            self._wake_one()

    def _next(self) -> K | None:
        """Remove the first key of the next group, and return it. None: there is no key, or all
        groups with keys have reached their limit."""
        for name, group in self._groups.items():
            key = group.next(self._max_urgent, self._max_last)
            if key is not None:
                self._groups.move_to_end(name)
                return key
        return None

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def done(self, key: K) -> None:
        """Record that the worker has finished with the key. If the key was added meanwhile, it is
        ready to be processed again."""
        work = self._active.pop(key, None)
        if work is not None:
            self._meter.worked(asyncio.get_running_loop().time() - work.taken_at)
            if work.outcome is Outcome.REQUEUE and not work.is_reflected:
                self._unreflected[key] = work.changed_at
        name = self._group(key)
        group = self._groups[name]
        group.done(key)
        if not group:
            del self._groups[name]
        if not self._active:
            self._idle.set()
        if key in self._waiting:
            self._make_ready(key)
        else:
            self._wake_one()  # The group may have been at its limit.

    def __len__(self) -> int:
        """Returns the number of keys that wait."""
        return len(self._waiting)

    def working_seconds(self) -> list[float]:
        """Returns for how long each worker has had its key, for those that have one."""
        now = asyncio.get_running_loop().time()
        return [now - work.taken_at for work in self._active.values()]

    def age(self, key: K) -> float:
        """Returns the age in seconds of the oldest change that status does not reflect, for a key
        that a worker has. It includes the time of failed attempts. 0: no worker has the key."""
        work = self._active.get(key)
        return 0.0 if work is None else asyncio.get_running_loop().time() - work.changed_at

    def stuck(self, seconds: float) -> K | None:
        """Returns a key that a worker has had for longer than this. None: there is no such key."""
        if not self._active:
            return None
        key = next(iter(self._active))  # The first one was taken first.
        late = asyncio.get_running_loop().time() - self._active[key].taken_at > seconds
        return key if late else None

    async def drain(self, seconds: float) -> None:
        """Wait until no worker has a key, but not longer than ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    def close(self) -> None:
        """Discard all waiting keys and delays, and ignore keys that are added later. Keys that
        workers have are not affected. No work is lost: at its next start, the operator reconciles
        every pipeline."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        self._unreflected.clear()
        for group in self._groups.values():
            for keys in group.waiting.values():
                keys.clear()

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
        self._timers[key] = loop.call_at(when, self._add_due, key)

    def _add_due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)
