"""Formats times, reasons and exit codes, in the same way for all subcommands. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from initpipeline.api.models import Cause, InitPipelineStatus
from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.core.kubelet_reasons import PLAIN_ENDS
from initpipeline.core.template_changes import changed_fields_message
from initpipeline.core.text import plain

NONE: Final = "-"
"""Shown for a value that is not known or does not exist."""


def span(time: timedelta) -> str:
    """Returns the duration in at most two units, without fractions: 8s, 3m20s, 2h5m, 4d3h. A
    negative duration, which comes from clocks that differ, is 0s.

    ``span`` in dashboard.js is the same function.
    """
    seconds = max(0, time // timedelta(seconds=1))
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size}{unit}" + (f"{rest}{below}" if rest else "")
    minutes, rest = divmod(seconds, 60)
    if not minutes:
        return f"{rest}s"
    return f"{minutes}m" + (f"{rest}s" if rest else "")


def between(start: datetime | None, end: datetime | None) -> str:
    """Returns the duration from start to end, or "-" if one of them is unknown."""
    return NONE if start is None or end is None else span(end - start)


def ago(time: datetime | None, now: datetime) -> str:
    """Returns how long ago the time was, or "-" if it is unknown."""
    return NONE if time is None else f"{span(now - time)} ago"


def count(number: int, singular: str, plural: str = "") -> str:
    """Returns the number with its noun: ``1 retry``, ``3 retries``."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


class Mode(StrEnum):
    """How a moment is written."""

    AGO = "ago"
    """``8s ago``."""
    FOR = "for"
    """``8s``, the duration since the moment."""
    UNTIL = "until"
    """``12:00:05Z, in 8s``."""
    ABOUT = "about"
    """``at about 12:00:05Z, in 8s``, or ``any moment now``."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time that is written relative to the present one.

    ``written`` in dashboard.js is the same as ``text``.
    """

    time: datetime
    mode: Mode

    def text(self, now: datetime) -> str:
        """Returns the time relative to ``now``."""
        # Kubernetes reports whole seconds. With a fraction, a time that has passed and one to come
        # would differ from their distance by a second.
        now, time = now.replace(microsecond=0), self.time.replace(microsecond=0)
        past = span(now - time)
        match self.mode:
            case Mode.AGO:
                return f"{past} ago"
            case Mode.FOR:
                return past
            case Mode.ABOUT if time <= now:
                return "any moment now"
        clock = f"{time:%Y-%m-%d %H:%M:%SZ}"
        clock = clock.removeprefix(f"{now:%Y-%m-%d} ")
        clock = f"at about {clock}" if self.mode is Mode.ABOUT else clock
        later = f"in {span(time - now)}" if time > now else "which has passed"
        return f"{clock}, {later}"


class Line(str):
    """A text at the time ``now``, and the parts that it is made of. The live page updates
    the moments among them."""

    now: datetime
    parts: tuple[str | Moment, ...]

    def __new__(cls, now: datetime, *parts: "str | Moment | Line") -> "Line":
        flat = tuple(one for part in parts for one in parts_of(part))
        texts = (one if isinstance(one, str) else one.text(now) for one in flat)
        made = super().__new__(cls, "".join(texts))
        made.now, made.parts = now, flat
        return made

    def after(self, text: str) -> "Line":
        """Returns the line after another text."""
        return Line(self.now, text, self)


def parts_of(text: str | Moment) -> tuple[str | Moment, ...]:
    """Returns the parts of a text."""
    return text.parts if isinstance(text, Line) else (text,)


def ready_reason(status: InitPipelineStatus) -> str:
    """Returns the reason of the condition Ready. Empty if it is not reported."""
    ready = status.condition(ConditionType.READY)
    return ready.reason if ready else ""


def stalled_reason(status: InitPipelineStatus) -> str:
    """Returns the reason of the condition Stalled. Empty if it is not reported."""
    stalled = status.condition(ConditionType.STALLED)
    return stalled.reason if stalled else ""


def is_rate_limited(status: InitPipelineStatus) -> bool:
    """Returns whether a user starts the next run, and the rate of such runs delays it."""
    reconciling = status.condition(ConditionType.RECONCILING)
    return reconciling is not None and reconciling.reason == Reason.RATE_LIMITED


def state_message(status: InitPipelineStatus) -> str:
    """Returns the message of the condition Stalled, or else of Ready. If a user starts the next run
    and it is delayed, returns the message about that: the Pod may be Ready meanwhile."""
    condition = status.condition(ConditionType.STALLED) or status.condition(ConditionType.READY)
    if is_rate_limited(status):
        condition = status.condition(ConditionType.RECONCILING)
    return condition.message if condition else "the operator has not written its status yet"


def exit_text(exit_code: int | None, signal: int | None, reason: str | None) -> str:
    """Returns how a container terminated: ``exit 137 (OOMKilled)``, ``signal 9``. Empty if nothing
    is known."""
    how = f"signal {signal}" if signal else "" if exit_code is None else f"exit {exit_code}"
    more = reason if reason and reason not in PLAIN_ENDS else ""
    return f"{how} ({more})" if how and more else how or more


def cause_text(cause: Cause) -> str:
    """Returns what caused a run: the termination of a container, or the changed fields of the
    template."""
    if cause.changed_paths:
        return one_line(changed_fields_message(cause))
    how = exit_text(cause.exit_code, cause.signal, cause.reason)
    return f"container {cause.container}: {how}" if how else f"container {cause.container}"


def one_line(text: str) -> str:
    """Returns the text in one line, without control characters. A slash is between its lines."""
    lines = (" ".join(line.split()) for line in plain(text).splitlines())
    return " / ".join(filter(None, lines))
