"""Reads the times that the API server stores, valid or not.

A grace period or an offset can result in a year of five digits, or in the year 0.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

EARLIEST: Final = datetime(1000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""Times before EARLIEST or after LATEST count as these. Durations can be added without overflow,
and the year has four digits."""

_LONGEST: Final = 64
"""Maximum length of a time. RFC 3339 needs 35 characters, with nanoseconds and an offset."""


def parse_time(value: object) -> datetime | None:
    """Returns the time of an RFC 3339 text, in UTC, within EARLIEST and LATEST.

    None: the value is not a time.
    """
    return _parsed(value) if isinstance(value, str) and len(value) <= _LONGEST else None


@lru_cache(maxsize=256)  # Each report on an object repeats its times.
def _parsed(value: str) -> datetime | None:
    try:
        return within_calendar(datetime.fromisoformat(value))
    except ValueError:
        return _out_of_calendar(value)


def within_calendar(value: datetime) -> datetime:
    """Returns the time in UTC, within EARLIEST and LATEST. A time without an offset counts as
    UTC."""
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return min(max(value, EARLIEST), LATEST).astimezone(UTC)


def _out_of_calendar(value: str) -> datetime | None:
    year, _, rest = value.removeprefix("-").partition("-")
    if not (year.isascii() and year.isdigit() and rest):
        return None
    if value.startswith("-") or year == "0000":
        return EARLIEST
    return LATEST if len(year) > 4 else None
