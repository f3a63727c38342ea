"""Measure whether the memory and the file descriptors of the replicas stay flat."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.soak.facts import ProcessSeen, Role

WARM_SECONDS: Final = 60.0
"""A process is compared with itself only this long after it started or took the Lease: its caches
are filled, and its connections are open by then."""
SHORTEST_SECONDS: Final = 40.0
MEMORY_SHARE, MEMORY_BYTES = 0.10, 8 * 2**20
DESCRIPTORS: Final = 8


@dataclass(frozen=True, slots=True)
class Growth:
    """How much more a process used at the end of a window than at its beginning."""

    replica: str
    pid: int
    since: float
    until: float
    memory: int
    """Resident bytes at the beginning."""
    memory_growth: int
    descriptors: int
    descriptor_growth: int

    def __str__(self) -> str:
        """Return one line of the report."""
        return (
            f"replica {self.replica} (pid {self.pid}), {self.since:.0f} s to {self.until:.0f} s: "
            f"{self.memory / 2**20:.1f} MiB {self.memory_growth / 2**20:+.1f} MiB, "
            f"{self.descriptors} descriptors {self.descriptor_growth:+d}"
        )

    @property
    def flat(self) -> bool:
        """Whether the growth is within the limits."""
        allowed = max(MEMORY_BYTES, MEMORY_SHARE * self.memory)
        return self.memory_growth <= allowed and self.descriptor_growth <= DESCRIPTORS


def growths(samples: Iterable[ProcessSeen], since: float, until: float) -> Iterator[Growth]:
    """Yield the growth of each process in each role within the window, if it has had the role for
    long enough."""
    by_role: dict[tuple[int, Role], list[ProcessSeen]] = defaultdict(list)
    for sample in samples:
        if sample.role is not Role.STARTING:
            by_role[sample.pid, sample.role].append(sample)
    for (pid, _), own in by_role.items():
        begin = max(since, own[0].at + WARM_SECONDS)
        within = [sample for sample in own if begin <= sample.at <= until]
        if not within or within[-1].at - begin < SHORTEST_SECONDS:
            continue
        fifth = max(1, len(within) // 5)
        first, last = within[:fifth], within[-fifth:]
        memory, descriptors = _medians(first)
        memory_then, descriptors_then = _medians(last)
        yield Growth(
            own[0].replica,
            pid,
            begin,
            within[-1].at,
            memory,
            memory_then - memory,
            descriptors,
            descriptors_then - descriptors,
        )


def _medians(samples: Sequence[ProcessSeen]) -> tuple[int, int]:
    return (
        int(median(sample.memory for sample in samples)),
        int(median(sample.descriptors for sample in samples)),
    )
