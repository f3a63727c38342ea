"""Computes positions and marks on a time axis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from initpipeline.plugin.report.chart import Section, Segment

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * _HOUR for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 5, 10, 30, 100, 365, 1000, 3650)),
)
"""Usual intervals between two marks, in seconds."""

_LABEL_GAP: Final = 4
"""Minimum number of characters between two labels."""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Mark:
    """A time with a label on the axis."""

    at: float
    """Position on the axis: 0 is its start, 1 its end."""
    label: str


def share(time: datetime, section: Section) -> float:
    """Returns the position of the time on the axis, from 0 to 1. A time outside of the axis is at
    its nearer end."""
    return min(1.0, max(0.0, (time - section.start) / (section.end - section.start)))


def marks(section: Section, room: int) -> tuple[Mark, ...]:
    """Returns marks at round times, as many as fit. If there is no round time, returns the start.

    ``room`` is the length of the axis in characters.
    """
    span = (section.end - section.start).total_seconds()
    step = next((step for step in _STEPS if _fits(step, section, span, room)), _STEPS[-1])
    first = -(-section.start.timestamp() // step) * step
    times = [first + number * step for number in range(int(span // step) + 1)]
    round_times = [datetime.fromtimestamp(time, UTC) for time in times]
    shown = [time for time in round_times if time <= section.end] or [section.start]
    form = _format(step, section)
    return tuple(Mark(share(time, section), time.astimezone(UTC).strftime(form)) for time in shown)


def _fits(step: int, section: Section, span: float, room: int) -> bool:
    label = len(section.start.strftime(_format(step, section)))
    return span / step * (label + _LABEL_GAP) <= room


def _format(step: int, section: Section) -> str:
    if step >= 30 * _DAY:
        return "%d %b %Y"
    if step >= _DAY:
        return "%d %b"
    days = section.end - section.start > timedelta(days=1)
    clock = "%H:%M" if step >= _MINUTE else "%H:%M:%S"
    return f"%d %b {clock}" if days else clock


def extents(
    segments: Sequence[Segment], section: Section, length: Number, least: Number
) -> Iterator[tuple[Segment, Number, Number]]:
    """Yields each segment with its start and end on an axis of this length.

    A segment is at least ``least`` long, so that a short failure is visible next to a long run. The
    next segment starts later to make room. At the end of the axis, the segment covers the end of
    the one before.
    """
    position = least - least
    kind = type(length)
    for segment in segments:
        begin = max(position, kind(share(segment.start, section) * length))
        begin = min(begin, length - least)
        end = max(begin + least, kind(share(segment.end, section) * length))
        position = min(end, length)
        yield segment, begin, position
