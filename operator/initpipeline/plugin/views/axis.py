"""Where on an axis of time something is, and which of its times are worth a mark."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from initpipeline.plugin.views.chart import Section, Segment

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * _HOUR for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 5, 10, 30, 100, 365, 1000, 3650)),
)
"""Seconds between two marks: what people count in."""

_APART: Final = 4
"""Characters between two labels."""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Mark:
    """A time with a label on the axis."""

    at: float
    """0: the axis' start, 1: its end."""
    label: str


def share(time: datetime, section: Section) -> float:
    """How far along the axis a time is, from 0 to 1; what lies outside is at the end of it."""
    return min(1.0, max(0.0, (time - section.start) / (section.end - section.start)))


def marks(section: Section, room: int) -> tuple[Mark, ...]:
    """Round times on the axis, as many as have room; ``room`` is the axis' length in characters.
    Where there is no round time, its start."""
    span = (section.end - section.start).total_seconds()
    step = next((step for step in _STEPS if _fits(step, section, span, room)), _STEPS[-1])
    first = -(-section.start.timestamp() // step) * step
    times = [first + number * step for number in range(int(span // step) + 1)]
    inside = [datetime.fromtimestamp(time, UTC) for time in times]
    shown = [time for time in inside if time <= section.end] or [section.start]
    form = _form(step, section)
    return tuple(Mark(share(time, section), time.astimezone(UTC).strftime(form)) for time in shown)


def _fits(step: int, section: Section, span: float, room: int) -> bool:
    label = len(section.start.strftime(_form(step, section)))
    return span / step * (label + _APART) <= room


def _form(step: int, section: Section) -> str:
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
    """From where to where on an axis of that length each segment goes, in order.

    Each is at least so long, or a second of failure would not be seen beside a day; what follows
    makes room, and at the end of the axis what comes before does.
    """
    position = least - least
    kind = type(length)
    for segment in segments:
        begin = max(position, kind(share(segment.start, section) * length))
        begin = min(begin, length - least)
        end = max(begin + least, kind(share(segment.end, section) * length))
        position = min(end, length)
        yield segment, begin, position
