"""A clock that moves only when a test says so: nothing waits for real."""

import asyncio
from datetime import datetime

from tests.builders import at


class Clock:
    """The loop's time and the wall's, in step. For the loop that runs now."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self.seconds = 0.0
        self._loop.time = lambda: self._start + self.seconds  # type: ignore[method-assign]

    def __call__(self) -> datetime:
        return at(self.seconds)

    async def advance(self, seconds: float = 0) -> None:
        """Let that much time pass, and then all that is due happen."""
        self.seconds += seconds
        for _ in range(20):
            await asyncio.sleep(0)
