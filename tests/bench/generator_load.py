"""Measure the load generator itself: its lack of CPU would look like a slow API server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.bench.stats import percentile

TICK_SECONDS: Final = 0.005
SATURATED: Final = 0.8


@dataclass
class GeneratorLoad:
    """The load of the generator during a burst, from the first request to the last Pod."""

    cpu_share: float = 0.0
    """CPU usage of this process, as a share of one core, which is its maximum."""
    late_ms: list[float] = field(default_factory=list)
    """Samples of the event loop's delay. Recorded times may be wrong by that amount."""

    @property
    def late_p99_ms(self) -> float:
        """The 99th percentile of the event loop's delay."""
        return percentile(self.late_ms, 99) if self.late_ms else 0.0

    @property
    def saturated(self) -> bool:
        """Whether the load generator may have limited the figures."""
        return self.cpu_share > SATURATED


@asynccontextmanager
async def measured() -> AsyncIterator[GeneratorLoad]:
    """Measure during the context. The result is complete at its end."""
    load = GeneratorLoad()
    began, cpu = time.monotonic(), time.process_time()
    ticking = asyncio.create_task(_tick(load))
    try:
        yield load
    finally:
        ticking.cancel()
        load.cpu_share = (time.process_time() - cpu) / max(time.monotonic() - began, 1e-6)


async def _tick(load: GeneratorLoad) -> None:
    while True:
        due = time.monotonic() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        load.late_ms.append((time.monotonic() - due) * 1000)
