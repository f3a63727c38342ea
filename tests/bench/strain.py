"""How busy the load generator itself is: its own want of CPU would look like the API server's."""

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
class Strain:
    """Of one burst, from its first request until its last Pod was seen."""

    cpu_share: float = 0.0
    """CPU that this process used, as a share of the one core that it can use."""
    late_ms: list[float] = field(default_factory=list)
    """How late its event loop came to each of many moments: any time noted may be off by that."""

    @property
    def late_p99_ms(self) -> float:
        """All but one in a hundred were at most so late."""
        return percentile(self.late_ms, 99) if self.late_ms else 0.0

    @property
    def saturated(self) -> bool:
        """Whether the load generator rather than the cluster may have been measured."""
        return self.cpu_share > SATURATED


@asynccontextmanager
async def measured() -> AsyncIterator[Strain]:
    """Filled in at the end of the context."""
    strain = Strain()
    began, cpu = time.monotonic(), time.process_time()
    ticking = asyncio.create_task(_tick(strain))
    try:
        yield strain
    finally:
        ticking.cancel()
        strain.cpu_share = (time.process_time() - cpu) / max(time.monotonic() - began, 1e-6)


async def _tick(strain: Strain) -> None:
    while True:
        due = time.monotonic() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        strain.late_ms.append((time.monotonic() - due) * 1000)
