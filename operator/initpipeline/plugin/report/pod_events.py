"""What scheduler and kubelet warn of a Pod in events alone: a volume that is missing, a probe that
fails. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from initpipeline.api.times import parse_time
from initpipeline.plugin.report.formatting import one_line

MOST: Final = 4
"""More would hide what matters."""


@dataclass(frozen=True, slots=True)
class PodWarning:
    """What was last warned of for one reason."""

    reason: str
    message: str
    count: int
    """How often this was told."""
    last: datetime


_TOLD: Final = frozenset({"BackOff"})
"""Reasons of what status says itself, and with the time until which the kubelet waits."""


def warnings(events: Iterable[Mapping[str, Any]], known: str) -> tuple[PodWarning, ...]:
    """Of the v1.Events of a Pod, the newest warning for each reason, the newest first. What the
    message ``known`` says already is not said again."""
    newest: dict[str, PodWarning] = {}
    for event in events:
        found = _read(event)
        if found is None or found.reason in _TOLD or _says(known, found.message):
            continue
        before = newest.get(found.reason)
        if before is None or before.last < found.last:
            newest[found.reason] = found
    return tuple(sorted(newest.values(), key=lambda one: one.last, reverse=True)[:MOST])


def _says(known: str, message: str) -> bool:
    """Whether it is the same but for what one of them begins with: ``Error: ...`` in the event, the
    title of a container in status."""
    _, _, words = known.partition(": ")
    return message.removeprefix("Error: ") in known or (bool(words) and words in message)


def _read(event: Mapping[str, Any]) -> PodWarning | None:
    """None for what is no warning. Events of the old API have a count and a last time, those of the
    new one (events.k8s.io) a time and, once repeated, a series."""
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
