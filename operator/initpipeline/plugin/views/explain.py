"""The report about a pipeline, for a person and for a program."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from initpipeline.api.models import format_time
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.pod_events import PodWarning
from initpipeline.plugin.report.report import ActiveLimit, Report
from initpipeline.plugin.views import status as status_view
from initpipeline.plugin.views import styles


def view(
    report: Report, now: datetime, absent: str | None, warned: Sequence[PodWarning] = ()
) -> RenderableType:
    """``absent``: why the operator seems not to be at work, if it does. ``warned``: what is warned
    of the Pod besides."""
    parts: list[RenderableType] = []
    if absent:
        parts += [Text(absent, f"bold {styles.BAD}"), Text()]
    parts += [
        status_view.tree(report.pipeline, now, report.pod),
        _section("Conditions", _conditions(report, now)),
        _section("Warnings about the Pod", _warnings(warned, now)),
        _section("What happens next", _list(report.next)),
        _section("Limits", _limits(report.limits, now)),
        _section("What you can do", _remedies(report)),
    ]
    return Group(*parts)


def _section(title: str, content: Table) -> RenderableType:
    if not content.rows:
        return Group()
    return Group(Text(), Text(title, "bold"), content)


def _grid(columns: int) -> Table:
    """The first column is empty: an indent."""
    grid = Table.grid(padding=(0, 2))
    for _ in range(columns):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _list(lines: tuple[str, ...]) -> Table:
    grid = _grid(2)
    for line in lines:
        grid.add_row("", "-", Text(line))
    return grid


def _conditions(report: Report, now: datetime) -> Table:
    """A message that the one before said is not said again."""
    grid, said = _grid(5), ""
    for one in report.pipeline.status.conditions:
        message = formatting.one_line(one.message)
        good = one.type in ("Ready", "Initialized")
        style = (styles.GOOD if one.status == "True" else styles.BUSY) if good else ""
        grid.add_row(
            "",
            one.type,
            # The time is that of the status: reasons come and go without it.
            Text(one.status, style),
            f"for {formatting.span(now - one.last_transition_time)}",
            one.reason,
            Text('"' if message == said else message),
        )
        said = message
    return grid


def _warnings(warned: Sequence[PodWarning], now: datetime) -> Table:
    grid = _grid(3)
    for one in warned:
        times = f"{one.count} times, last " if one.count > 1 else ""
        grid.add_row("", one.reason, f"{times}{formatting.ago(one.last, now)}", Text(one.message))
    return grid


def _limits(limits: tuple[ActiveLimit, ...], now: datetime) -> Table:
    grid = _grid(2)
    for limit in limits:
        at = f", at {formatting.moment(limit.at, now)}" if limit.at else ""
        grid.add_row("", limit.name, Text(f"{limit.words}{at}"))
    return grid


def _remedies(report: Report) -> Table:
    grid = _grid(2)
    for remedy in report.remedies:
        grid.add_row("", Text(remedy.command, "cyan"), Text(remedy.effect))
    return grid


def data(
    report: Report, now: datetime, absent: str | None, warned: Sequence[PodWarning] = ()
) -> dict[str, Any]:
    """For -o json and yaml."""
    status = report.pipeline.status
    return {
        **status_view.data(report.pipeline, now, report.pod),
        "conditions": [condition.to_api() for condition in status.conditions],
        "podWarnings": [
            {
                "reason": one.reason,
                "message": one.message,
                "count": one.count,
                "lastTime": format_time(one.last),
            }
            for one in warned
        ],
        "nextRunTime": format_time(status.next_run_time) if status.next_run_time else None,
        "whatHappensNext": list(report.next),
        "limits": list(_limit_data(report.limits)),
        "whatYouCanDo": [{"command": r.command, "effect": r.effect} for r in report.remedies],
        "operator": {"absent": absent, "undone": list(report.pending)},
    }


def _limit_data(limits: tuple[ActiveLimit, ...]) -> Iterator[dict[str, Any]]:
    for limit in limits:
        at = {"time": format_time(limit.at)} if limit.at else {}
        yield {"name": limit.name, "words": limit.words, **at}
