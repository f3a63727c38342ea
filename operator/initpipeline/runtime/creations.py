"""Delays repeated creations of a run's Pod."""

from datetime import datetime, timedelta
from typing import Final

from initpipeline.runtime.keys import Key

AT_ONCE: Final = 2
"""The number of Pods of one run that are created without a delay."""

FIRST_WAIT: Final = timedelta(seconds=0.25)
"""The delay before the next Pod of the run. It doubles each time, up to LONGEST_WAIT."""

LONGEST_WAIT: Final = timedelta(minutes=5)


class Creations:
    """The creations of Pods that this process has requested, by pipeline.

    A run normally needs one Pod. It needs a second one if the first was deleted before the operator
    observed it. If a controller or a user deletes each Pod at once, the operator creates the next
    ones after growing delays.
    """

    def __init__(self) -> None:
        self._made: dict[Key, tuple[str, int, datetime]] = {}
        """For each pipeline: the run, the number of Pods created for it, and the time of the last
        creation."""
        self._requested: set[Key] = set()

    def requested(self, key: Key) -> bool:
        """Returns whether the creation of a Pod was requested before, with any result."""
        return key in self._requested

    def request(self, key: Key) -> None:
        """Record that the creation of a Pod is requested."""
        self._requested.add(key)

    def next_at(self, key: Key, run: str) -> datetime | None:
        """Returns the earliest time of the run's next Pod. None: at once."""
        number, times, last = self._made.get(key, ("", 0, None))
        if number != run or last is None or times < AT_ONCE:
            return None
        wait: timedelta = FIRST_WAIT * 2 ** min(times - AT_ONCE, 16)
        return last + min(wait, LONGEST_WAIT)

    def created(self, key: Key, run: str, now: datetime) -> None:
        """Record that a Pod was created for the run."""
        number, times, _ = self._made.get(key, ("", 0, None))
        self._made[key] = (run, times + 1 if number == run else 1, now)

    def forget(self, key: Key) -> None:
        self._made.pop(key, None)
        self._requested.discard(key)
