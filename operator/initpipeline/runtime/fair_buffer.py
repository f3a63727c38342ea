"""A bounded buffer that serves namespaces in turn."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairBuffer(Generic[T]):
    """Items by namespace, for one event loop. Not thread-safe.

    The items of a namespace are in order, and at most one consumer has an item of it at any time.
    So a namespace with many items, or with slow ones, does not delay those of others.
    """

    def __init__(self, limit: int) -> None:
        """``limit`` is the maximum number of waiting items."""
        self._limit = limit
        self._count = 0
        self._waiting: dict[str, deque[T]] = {}
        """The items that wait, by namespace. A namespace stays here until its consumer is done."""
        self._turns: asyncio.Queue[str] = asyncio.Queue()
        """The namespaces to serve next: each has waiting items, and no consumer has an item of
        it."""

    def put(self, namespace: str, item: T) -> T | None:
        """Add an item. Returns the item that is dropped if the buffer is full: the newest one of
        the namespace with the most items, which may be this item. None: no item is dropped."""
        dropped = None
        if self._count >= self._limit:
            own = len(self._waiting.get(namespace, ()))
            most = max(self._waiting.values(), key=len, default=deque())
            if len(most) <= own + 1:
                return item  # With this item, its namespace would have the most.
            dropped = most.pop()
            self._count -= 1
        if namespace not in self._waiting:
            self._waiting[namespace] = deque()
            self._turns.put_nowait(namespace)
        self._waiting[namespace].append(item)
        self._count += 1
        return dropped

    async def get(self) -> T:
        """Wait for the next item, and return it. The caller must call ``done`` with its namespace
        when it has finished with it."""
        namespace = await self._turns.get()
        self._count -= 1
        return self._waiting[namespace].popleft()

    def done(self, namespace: str) -> None:
        """Record that the consumer has finished with the item of this namespace."""
        if self._waiting[namespace]:
            self._turns.put_nowait(namespace)
        else:
            del self._waiting[namespace]
        self._turns.task_done()

    async def join(self) -> None:
        """Wait until no item waits, and no consumer has one."""
        await self._turns.join()
