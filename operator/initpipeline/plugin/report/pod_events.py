"""Selects warnings that the scheduler and the kubelet report only in events of the Pod, such as a
missing volume or a failing probe. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from initpipeline.api.times import parse_time
from initpipeline.plugin.report.formatting import Line, Mode, Moment, one_line

MAX_WARNINGS: Final = 4
"""More would hide the important ones."""


@dataclass(frozen=True, slots=True)
class PodWarning:
    """The last warning with a reason."""

    reason: str
    message: str
    count: int
    """How often the event occurred."""
    last: datetime

    def times(self, now: datetime) -> Line:
        """Returns how often the event occurred, and how long ago."""
        times = f"{self.count} times, last " if self.count > 1 else ""
        return Line(now, times, Moment(self.last, Mode.AGO))


_KNOWN_FROM_STATUS: Final = frozenset({"BackOff"})
"""Reasons of events that status reports in more detail."""


def warnings(events: Iterable[Mapping[str, Any]], known: str) -> tuple[PodWarning, ...]:
    """Returns the last warning for each reason, the newest first.

    ``events`` are the v1.Events of a Pod. A warning that the message ``known`` contains is omitted.
    """
    newest: dict[str, PodWarning] = {}
    for event in events:
        found = _read(event)
        if found is None or found.reason in _KNOWN_FROM_STATUS or _contains(known, found.message):
            continue
        before = newest.get(found.reason)
        if before is None or before.last < found.last:
            newest[found.reason] = found
    return tuple(sorted(newest.values(), key=lambda one: one.last, reverse=True)[:MAX_WARNINGS])


def _contains(known: str, message: str) -> bool:
    """Returns whether the two are the same except for a prefix: ``Error: `` in the event, the name
    of the container in status."""
    _, _, detail = known.partition(": ")
    return message.removeprefix("Error: ") in known or (bool(detail) and detail in message)


def _read(event: Mapping[str, Any]) -> PodWarning | None:
    """Returns the warning. None: the event is not a warning, or its time cannot be read.

    Events of the core API have a count and a last time. Events of events.k8s.io have a time and, if
    they are repeated, a series.
    """
    series = event.get("series") or {}
    observed = (
        series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    )
    last = parse_time(observed)
    if event.get("type") != "Warning" or last is None:
        return None
    return PodWarning(
        reason=event.get("reason") or "",
        message=one_line(event.get("message") or ""),
        count=series.get("count") or event.get("count") or 1,
        last=last,
    )
