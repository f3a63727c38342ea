"""Renders the pages and their parts from the same reports as the terminal views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

import jinja2
from markupsafe import Markup

from initpipeline.api.models import RunFacts, format_time
from initpipeline.api.raw import Raw
from initpipeline.api.times import EARLIEST, parse_time
from initpipeline.core import pod_ownership
from initpipeline.core.errors import UnreadableError
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.pod import Pod
from initpipeline.core.text import plain
from initpipeline.plugin.cluster.client import Kind
from initpipeline.plugin.dashboard.live import Entry, Key, Store
from initpipeline.plugin.report import formatting, log_parts
from initpipeline.plugin.report.chart import chart
from initpipeline.plugin.report.explain import Report, absence, report
from initpipeline.plugin.report.formatting import Line
from initpipeline.plugin.report.history import recorded_runs
from initpipeline.plugin.report.pod_events import warnings
from initpipeline.plugin.report.steps import duration, steps
from initpipeline.plugin.report.summary import (
    headline,
    is_endless,
    short_forecast,
    state_line,
    step_started,
    summary,
)
from initpipeline.plugin.views import history, status, styles
from initpipeline.plugin.views.svg import svg

SECTIONS: Final = (
    *("problems", "head", "actions", "steps", "next", "warnings", "timeline", "limits", "remedies"),
    *("history", "conditions", "logs", "events", "resources", "yaml"),
)
"""The parts of a pipeline's page. A part is sent when it changes."""


@cache
def environment() -> jinja2.Environment:
    """Returns the templates. All text is escaped, and control characters are removed."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("initpipeline.plugin.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_safe,
    )
    made.filters["time"] = format_time
    made.filters["one_line"] = formatting.one_line
    made.filters["tone"] = lambda style: _TONES.get(style, "quiet")
    return made


_TONES: Final = {styles.GOOD: "good", styles.BAD: "bad", styles.BUSY: "busy"}


def _safe(value: Any) -> Any:
    """Removes control characters from a value of a template. None is shown as nothing."""
    if value is None:
        return ""
    if isinstance(value, Markup):
        return value
    if isinstance(value, Line):
        return markup(value)
    return plain(str(value)) if isinstance(value, str) else value


_MOMENT: Final = Markup('<time datetime="{}" data-mode="{}">{}</time>')


def markup(text: str) -> Markup:
    """Returns a text of a report as HTML. Its moments are elements that the browser makes relative,
    so the HTML does not depend on the present time."""
    return Markup("").join(
        plain(one)
        if isinstance(one, str)
        else _MOMENT.format(format_time(one.time), one.mode, format_time(one.time))
        for one in formatting.parts_of(text)
    )


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the user may do in a namespace. The texts name the missing permission, and are empty if
    it is granted or not known."""

    may_act: bool = True
    """False: the dashboard is read-only."""
    denied: str = ""
    logs_denied: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An InitPipeline in the list."""

    key: str
    order: str
    """The rows are sorted by this text."""
    summary: str
    reason: str
    html: str

    def data(self) -> dict[str, str]:
        """Returns the row for the stream of the list."""
        return {"key": self.key, "html": self.html}


def row(entry: Entry, now: datetime) -> Row:
    """Returns the row of an InitPipeline. Its HTML does not depend on the time."""
    metadata, pipeline = entry.raw["metadata"], entry.pipeline
    key = f"{metadata['namespace']}/{metadata['name']}"
    if pipeline is None:
        values = {"summary": "Unreadable", "reason": "", "message": entry.error, "tone": "bad"}
        order, run, endless = f"0 {key}", None, None
    else:
        reason, of = formatting.ready_reason(pipeline.status), headline(pipeline.status)
        values = {
            "summary": of,
            "reason": reason,
            "message": state_line(pipeline, now),
            "tone": tone(pipeline),
        }
        urgent = status.urgency(pipeline)[0]
        order, run = f"{urgent} {key}", pipeline.status.run
        endless = step_started(pipeline.status) if is_endless(pipeline) else None
    text = " ".join((key, values["message"])).lower()
    html = (
        environment()
        .get_template("row.html")
        .render(
            key=key,
            order=order,
            text=text,
            namespace=metadata["namespace"],
            name=metadata["name"],
            status=pipeline.status if pipeline else None,
            run=run,
            endless=endless,
            **values,
        )
    )
    return Row(key, order, values["summary"], values["reason"], html)


def tone(pipeline: Pipeline) -> str:
    """Returns good, busy or bad."""
    if summary(pipeline.status) == "Stalled":
        return "bad"
    return _TONES[styles.of_reason(formatting.ready_reason(pipeline.status))]


def _tone_of(run: RunFacts) -> str:
    """Returns good, busy, bad or quiet. The current run is good when it is initialized."""
    if run.result is None:
        return "good" if run.initialized_time else "busy"
    return _TONES.get(history.style(run), "quiet")


def problems(store: Store) -> str:
    """Returns the part of a page that shows what is not current."""
    order = [kind for kind in Kind if kind in store.problems]
    shown = [(kind.value, store.problems[kind], kind in store.listed) for kind in order]
    loading = Kind.PIPELINES not in store.listed and not shown
    return environment().get_template("problems.html").render(problems=shown, loading=loading)


@dataclass(frozen=True, slots=True)
class View:
    """A pipeline with all that its page shows."""

    entry: Entry
    report: Report
    facts: Facts
    overdue: tuple[str, ...]


def view(store: Store, key: Key, flags: str = "") -> View | None:
    """Returns the view of an InitPipeline. None: it does not exist or cannot be read.

    ``flags`` are the flags with which kubectl finds it.
    """
    entry = store.pipelines.get(key)
    if entry is None or entry.pipeline is None:
        return None
    facts = Facts(entry.pipeline.hashed(), _pod(store.pods.get(key)))
    current = report(facts, store.now(), flags)
    # Without Pods, the decision would be one about a lost Pod.
    known = Kind.PODS in store.listed
    return View(entry, current, facts, current.overdue if known else ())


def log_part(
    store: Store, key: Key, container: str, previous: bool
) -> tuple[str, log_parts.Part] | None:
    """Returns the UID of the Pod of the current run, and an attempt of a container. None: there is
    no such attempt."""
    found = view(store, key)
    pod = log_parts.pod_of_run(found.facts) if found else None
    if found is None or pod is None:
        return None
    parts = (
        log_parts.previous(pod, container)
        if previous
        else log_parts.newest(pod, container, log_parts.stale_ids(found.facts.pipeline.status))
    )
    return (pod.uid, parts[0]) if parts else None


def _pod(raw: Raw | None) -> Pod | None:
    try:
        return None if raw is None else Pod.from_api(raw)
    except UnreadableError:
        return None


def sections(
    store: Store,
    key: Key,
    overdue_seconds: float = 0,
    flags: str = "",
    permissions: Permissions = Permissions(),
) -> Mapping[str, str]:
    """Returns the parts of a pipeline's page as HTML by name.

    ``overdue_seconds``: how long the operator has had overdue actions. ``flags``: as in ``view``.
    """
    found = view(store, key, flags)
    if found is None:
        return _without(store, key)
    now = store.now()
    absent = absence(found.report, overdue_seconds) if overdue_seconds else None
    listed = Kind.PODS in store.listed
    pipeline = found.report.pipeline if listed and absent is None else found.report.reported
    values = _values(store, found, pipeline, now)
    lines = found.report.next if listed else ()
    values |= {
        "absent": absent,
        "next": lines if absent else _next(values["forecast"], lines),
        **_actions(found, permissions),
    }
    module = environment().get_template("sections.html").module
    made = {name: str(getattr(module, name)(values)) for name in SECTIONS[1:]}
    return {"problems": problems(store), **made}


def _actions(found: View, permissions: Permissions) -> dict[str, Any]:
    disabled = Markup(' disabled aria-describedby="denied"')
    return {
        "may_act": permissions.may_act,
        "denied": permissions.denied,
        "disabled": disabled if permissions.denied else "",
        "logs_denied": permissions.logs_denied,
        "suspended": found.facts.pipeline.policies.suspend,
    }


def _values(store: Store, found: View, pipeline: Pipeline, now: datetime) -> dict[str, Any]:
    of, pod = pipeline.status, found.facts.pod
    run = of.run
    own = pod if run and pod_ownership.pod_of_run(found.facts, run) else None
    events = store.events_of(of.pod_uid, pipeline.uid)
    known = formatting.state_message(of)
    forecast = short_forecast(pipeline, now, pod)
    stale = log_parts.stale_ids(of)
    parts = [] if own is None else [*log_parts.newest(own, None, stale), *_apps(own)]
    return {
        "pipeline": pipeline,
        "status": of,
        "now": now,
        "summary": headline(of),
        "reason": formatting.ready_reason(of),
        "message": state_line(pipeline, now),
        "tone": tone(pipeline),
        "run": run,
        "run_line": status.run_line(run, of, now) if run else "",
        "steps": [
            (step, duration(step, run, now), list(status.trouble(step)))
            for step in steps(pipeline, pod)
        ],
        "forecast": forecast,
        "limits": [(one.name, one.line(now)) for one in found.report.limits],
        "remedies": found.report.remedies,
        "warnings": () if summary(of) == "Ready" else warnings(store.events_of(of.pod_uid), known),
        "timeline": Markup(svg(chart(pipeline, now, pod), live=True)),
        "history": [(one, history.message(one, of), _tone_of(one)) for one in recorded_runs(of)],
        "recorded_output": any(one.failed_step and one.failed_step.message for one in of.history),
        "parts": parts,
        "previous": [] if own is None else log_parts.previous(own, None),
        "events": sorted(map(_event, events), key=_time, reverse=True),
        "events_problem": store.problems.get(Kind.EVENTS, ""),
        "yaml": found.entry.yaml,
        "span": formatting.span,
        "between": formatting.between,
        "exit_text": formatting.exit_text,
        "cause_text": formatting.cause_text,
    }


def _next(forecast: str, lines: Sequence[str]) -> Sequence[str]:
    """Returns the lines about what happens next, with the forecast unless a line includes it."""
    return lines if any(forecast in one for one in lines) else (forecast, *lines)


def _apps(pod: Pod) -> list[log_parts.Part]:
    """Returns the newest attempts of the app containers."""
    names = [one.name for one in pod.container_statuses]
    return [part for name in names for part in log_parts.newest(pod, name, ())]


def _event(raw: Raw) -> dict[str, Any]:
    series = raw.get("series") or {}
    last = series.get("lastObservedTime") or raw.get("lastTimestamp") or raw.get("eventTime") or ""
    return {
        "last": str(last),
        "type": str(raw.get("type") or ""),
        "reason": str(raw.get("reason") or ""),
        "count": series.get("count") or raw.get("count") or 1,
        "message": formatting.one_line(str(raw.get("message") or "")),
        "about": str((raw.get("involvedObject") or {}).get("kind") or ""),
    }


def _time(event: Mapping[str, Any]) -> datetime:
    """Returns the time of an event. Some have fractions of seconds, and a few have none."""
    return parse_time(event["last"]) or EARLIEST


def _without(store: Store, key: Key) -> Mapping[str, str]:
    """Returns the parts of the page of an InitPipeline that does not exist or cannot be read."""
    entry = store.pipelines.get(key)
    state = "unreadable" if entry else "gone" if key in store.gone else "missing"
    if Kind.PIPELINES not in store.listed:
        state = "loading"
    head = (
        environment()
        .get_template("absent.html")
        .render(namespace=key[0], name=key[1], state=state, error=entry.error if entry else "")
    )
    return {**dict.fromkeys(SECTIONS, ""), "problems": problems(store), "head": head}
