"""What a process has used, from /proc."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Of one process, by its pid."""

    pid: int

    def cpu_ms(self) -> float:
        """Milliseconds of CPU since it started, user and system, of all its threads."""
        # The name, in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / TICKS_PER_SECOND

    def resident_mib(self) -> float:
        """MiB of memory that it holds now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


@dataclass(frozen=True)
class Neighbours:
    """What else keeps this machine busy: it makes all figures worse, CPU ones too, since cores
    share caches and clocks."""

    own: Sequence[Usage]
    began: float
    machine_ms: float
    own_ms: float

    @classmethod
    def begin(cls, own: Sequence[Usage]) -> Self:
        """From now on, everything but these processes."""
        return cls(own, time.monotonic(), _machine_ms(), _total_ms(own))

    def cores(self) -> float:
        """How many cores they have kept busy since, on average."""
        theirs = _machine_ms() - self.machine_ms - (_total_ms(self.own) - self.own_ms)
        return max(theirs / 1000 / (time.monotonic() - self.began), 0.0)


def _total_ms(processes: Sequence[Usage]) -> float:
    return sum(process.cpu_ms() for process in processes)


def _machine_ms() -> float:
    """All but idling and waiting for a disk; what a hypervisor withheld is neighbours' as well."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, _idle, _wait, *rest = map(int, line.split()[1:9])
    return (user + nice + system + sum(rest)) * 1000 / TICKS_PER_SECOND
