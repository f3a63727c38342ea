"""A token bucket without a clock: the caller keeps one time, at which the bucket is full again
(generic cell rate algorithm, GCRA)."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``burst`` uses at once, and one more in each ``interval``."""

    burst: int
    interval: timedelta

    def used(self, full_at: datetime | None, time: datetime) -> datetime:
        """Returns when the bucket is full again after a use at ``time``. ``full_at`` is the result
        before that use, or None if the bucket was full. A use beyond the rate leaves the bucket
        empty, not in debt."""
        full: datetime = max(full_at or time, time) + self.interval
        return min(full, time + self.burst * self.interval)

    def free_at(self, full_at: datetime) -> datetime:
        """Returns the earliest time at which the rate allows the next use. ``full_at`` is the
        result of ``used``."""
        return full_at - (self.burst - 1) * self.interval
