"""Times, reasons and ends in words, the same wherever they are told. Pure."""

from datetime import datetime, timedelta
from typing import Final

from initpipeline.api.models import Cause, InitPipelineStatus
from initpipeline.api.reasons import ConditionType
from initpipeline.core.template import changed_fields_message
from initpipeline.core.text import plain

NONE: Final = "-"


def span(time: timedelta) -> str:
    """Two units at most: 8s, 3m20s, 2h5m, 4d3h. What is negative, by clocks that differ, is 0s."""
    seconds = max(0, round(time.total_seconds()))
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size}{unit}" + (f"{rest}{below}" if rest else "")
    minutes, rest = divmod(seconds, 60)
    if not minutes:
        return f"{rest}s"
    return f"{minutes}m" + (f"{rest}s" if rest else "")


def between(start: datetime | None, end: datetime | None) -> str:
    return NONE if start is None or end is None else span(end - start)


def ago(time: datetime | None, now: datetime) -> str:
    return NONE if time is None else f"{span(now - time)} ago"


def moment(time: datetime, now: datetime) -> str:
    """A time to come, and how long that is: ``12:00:05Z, in 8s``."""
    clock = f"{time:%H:%M:%SZ}" if time.date() == now.date() else f"{time:%Y-%m-%d %H:%M:%SZ}"
    return f"{clock}, in {span(time - now)}" if time > now else f"{clock}, which has passed"


def ready_reason(status: InitPipelineStatus) -> str:
    ready = status.condition(ConditionType.READY)
    return ready.reason if ready else ""


def ready_message(status: InitPipelineStatus) -> str:
    """What Ready says, or what it needs a person for."""
    said = status.condition(ConditionType.STALLED) or status.condition(ConditionType.READY)
    return said.message if said else "the operator has not looked at it yet"


def exit_text(exit_code: int | None, signal: int | None, reason: str | None) -> str:
    """``exit 137 (OOMKilled)``, ``signal 9``; "" where nothing is known."""
    how = f"signal {signal}" if signal else "" if exit_code is None else f"exit {exit_code}"
    more = reason if reason and reason not in {"Error", "Completed"} else ""
    return f"{how} ({more})" if how and more else how or more


def cause_text(cause: Cause) -> str:
    """Returns the end of a container, or the change of the template, that caused a run."""
    if cause.changed_paths:
        return one_line(changed_fields_message(cause))
    how = exit_text(cause.exit_code, cause.signal, cause.reason)
    return f"container {cause.container}: {how}" if how else f"container {cause.container}"


def one_line(text: str) -> str:
    """Returns the text in one line, without control characters."""
    return " ".join(plain(text).split())
