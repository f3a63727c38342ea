"""A clock that moves only when a test advances it, so that no test waits."""

import asyncio
from datetime import datetime

from tests.builders import at


class Clock:
    """The time of the running event loop and the wall clock, advanced together."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self.seconds = 0.0
        self._loop.time = lambda: self._start + self.seconds  # type: ignore[method-assign]

    def __call__(self) -> datetime:
        return at(self.seconds)

    async def advance(self, seconds: float = 0) -> None:
        """Advance the time, and run all callbacks that are due."""
        self.seconds += seconds
        for _ in range(20):
            await asyncio.sleep(0)
