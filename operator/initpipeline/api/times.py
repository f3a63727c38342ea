"""Times as the API server stores them, which is not only what a calendar has.

A grace period or an offset makes years of five digits, or the year 0, out of a time.
"""

from datetime import UTC, datetime
from typing import Final

EARLIEST: Final = datetime(1000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""Times beyond these count as these: a span can be added, and the year has four digits."""

_LONGEST: Final = 64
"""Characters that a time may have. RFC 3339 needs 35, with nanoseconds and an offset."""


def parse_time(value: object) -> datetime | None:
    """The time that RFC 3339 text gives, in UTC, within EARLIEST and LATEST.

    None: it gives none.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        return None
    try:
        return within_calendar(datetime.fromisoformat(value))
    except ValueError:
        return _out_of_calendar(value)


def within_calendar(value: datetime) -> datetime:
    """The time in UTC, within EARLIEST and LATEST. One without an offset is in UTC."""
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
