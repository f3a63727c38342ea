"""Renders the report of ``explain``."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from initpipeline.api.models import format_time
from initpipeline.core.facts import Pipeline
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.explain import ActiveLimit, Report
from initpipeline.plugin.report.pod_events import PodWarning
from initpipeline.plugin.views import status as status_view
from initpipeline.plugin.views import styles


def view(report: Report, absent: str | None, warnings: Sequence[PodWarning] = ()) -> RenderableType:
    """Returns the state as a tree, followed by the sections that are not empty.

    ``absent`` is shown first if the operator does not appear to be running. The state is then the
    one that the operator has reported last, as in ``status``.
    """
    pipeline, now = _pipeline(report, absent), report.now
    parts: list[RenderableType] = []
    if absent:
        parts += [Text(absent, f"bold {styles.BAD}"), Text()]
    parts += [
        status_view.tree(pipeline, now, report.pod),
        _section("Conditions", _conditions(pipeline, now)),
        _section("Warnings about the Pod", _warnings(warnings, now)),
        _section("What happens next", _list(report.next)),
        _section("Limits", _limits(report.limits, now)),
        _section("What you can do", _remedies(report)),
    ]
    return Group(*parts)


def _pipeline(report: Report, absent: str | None) -> Pipeline:
    """Returns the pipeline to show. An operator that is absent does not write what it decides."""
    return report.reported if absent else report.pipeline


def _section(title: str, content: Table) -> RenderableType:
    if not content.rows:
        return Group()
    return Group(Text(), Text(title, "bold"), content)


def _grid(columns: int) -> Table:
    """Returns a grid whose first column indents it."""
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


def _conditions(pipeline: Pipeline, now: datetime) -> Table:
    """Returns the conditions. A message that is equal to the one above is shown as "(same)"."""
    grid, above = _grid(5), ""
    for one in pipeline.status.conditions:
        message = formatting.one_line(one.message)
        good = one.type in ("Ready", "Initialized")
        style = (styles.GOOD if one.status == "True" else styles.BUSY) if good else ""
        grid.add_row(
            "",
            one.type,
            # lastTransitionTime changes with the status only, not with the reason.
            Text(one.status, style),
            f"for {formatting.span(now - one.last_transition_time)}",
            one.reason,
            Text("(same)" if message == above else message),
        )
        above = message
    return grid


def _warnings(warnings: Sequence[PodWarning], now: datetime) -> Table:
    grid = _grid(3)
    for one in warnings:
        grid.add_row("", one.reason, Text(one.times(now)), Text(one.message))
    return grid


def _limits(limits: tuple[ActiveLimit, ...], now: datetime) -> Table:
    grid = _grid(2)
    for limit in limits:
        grid.add_row("", limit.name, Text(limit.line(now)))
    return grid


def _remedies(report: Report) -> Table:
    grid = _grid(2)
    for remedy in report.remedies:
        grid.add_row("", Text(remedy.command, "cyan"), Text(remedy.effect))
    return grid


def data(report: Report, absent: str | None, warnings: Sequence[PodWarning] = ()) -> dict[str, Any]:
    """Returns the report for -o json and yaml."""
    pipeline = _pipeline(report, absent)
    status = pipeline.status
    return {
        **status_view.data(pipeline, report.now, report.pod),
        "conditions": [condition.to_api() for condition in status.conditions],
        "podWarnings": [
            {
                "reason": one.reason,
                "message": one.message,
                "count": one.count,
                "lastTime": format_time(one.last),
            }
            for one in warnings
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
        yield {"name": limit.name, "words": limit.message, **at}
