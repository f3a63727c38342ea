"""The operator's clock. A jump of a single wall clock does not change it.

Deadlines, back-off and ``ttlSecondsAfterFinished`` compare times in objects, which the API server,
the kubelets and the operator have written, with the present time. If the wall clock of the
operator's node jumps, no run may fail and no object may be deleted because of that. So the clock
runs with the machine's uptime, and follows two others:

- The wall clock, unless it has moved against the uptime by a second or more since it was last read.
  NTP adjusts it in small steps.
- The Date header of the API server's responses. At the first response, the clock is set to it if
  the wall clock differs. Later it is followed only if it has differed for long, because the API
  server's clock may jump as well.
"""

import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

logger = logging.getLogger(__name__)

STEP_SECONDS: Final = 1.0
"""The wall clock is followed if it has moved by less since it was last read."""

TOLERANCE_SECONDS: Final = 5.0
"""The API server's clock and this one agree if they differ by less."""

PATIENCE_SECONDS: Final = 600.0
"""If the API server's clock has differed for longer, it is followed."""

OBSERVE_SECONDS: Final = 1.0
"""The shortest time between two observations of the API server's clock, which has whole seconds."""


def uptime() -> float:
    """Returns the seconds since the machine started, including those in which it slept. On systems
    other than Linux, the seconds in which it slept may be missing."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """A clock that returns the present time when it is called."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        uptime: Callable[[], float] = uptime,
    ) -> None:
        """``wall`` returns the seconds since 1970."""
        self._wall = wall
        self._uptime = uptime
        self._started = wall() - uptime()
        """When the machine started, in seconds since 1970. It changes only if a clock moves."""
        self._observed_at = -math.inf
        """When the API server's clock was last observed."""
        self._differs_since: float | None = None
        """When the API server's clock first differed from this one. None: they agree."""

    def __call__(self) -> datetime:
        """Returns the present time."""
        passed = self._uptime()
        started = self._wall() - passed
        if abs(started - self._started) < STEP_SECONDS:
            self._started = started
        return datetime.fromtimestamp(passed + self._started, UTC)

    def observe(self, date: str) -> None:
        """Observe the Date header of a response that has just arrived. An invalid one is ignored,
        because a proxy may have set it."""
        passed = self._uptime()
        if passed - self._observed_at < OBSERVE_SECONDS:
            return
        try:
            started = parsedate_to_datetime(date).timestamp() - passed
        except (ValueError, OverflowError):
            return
        is_first = self._observed_at == -math.inf
        self._observed_at = passed
        difference = started - self._started
        if abs(difference) < TOLERANCE_SECONDS:
            self._differs_since = None
        elif is_first or self._differs_for(passed) > PATIENCE_SECONDS:
            logger.warning("clock set to the API server's", extra={"seconds": round(difference)})
            self._started = started
            self._differs_since = None

    def _differs_for(self, passed: float) -> float:
        """Returns for how long the API server's clock has differed."""
        if self._differs_since is None:
            self._differs_since = passed
        return passed - self._differs_since
