"""How busy other processes keep this machine, from /proc."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.cluster.processes import TICKS_PER_SECOND, Usage


@dataclass(frozen=True)
class Neighbours:
    """The processes that do not belong to the benchmark.

    They distort all figures, including CPU time, because cores share caches and clocks.
    """

    own: Sequence[Usage]
    began: float
    machine_ms: float
    own_ms: float

    @classmethod
    def begin(cls, own: Sequence[Usage]) -> Self:
        """Start to measure all processes except `own`."""
        return cls(own, time.monotonic(), _machine_ms(), _total_ms(own))

    def cores(self) -> float:
        """Return how many cores the neighbours have kept busy since begin(), on average."""
        theirs = _machine_ms() - self.machine_ms - (_total_ms(self.own) - self.own_ms)
        return max(theirs / 1000 / (time.monotonic() - self.began), 0.0)


def _total_ms(processes: Sequence[Usage]) -> float:
    return sum(process.cpu_ms() for process in processes)


def _machine_ms() -> float:
    """Return the busy time of all cores: all but idle and I/O wait, including stolen time."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, _idle, _wait, *rest = map(int, line.split()[1:9])
    return (user + nice + system + sum(rest)) * 1000 / TICKS_PER_SECOND
