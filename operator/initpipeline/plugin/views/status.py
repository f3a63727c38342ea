"""Renders one pipeline as a tree of its steps, or several in a table."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.formatting import Line, Mode, Moment
from initpipeline.plugin.report.steps import ShownStep, State, duration, steps
from initpipeline.plugin.report.summary import headline, short_forecast, state_line
from initpipeline.plugin.views import styles

_STYLES = {
    State.DONE: styles.GOOD,
    State.RUNNING: "cyan",
    State.FAILED: styles.BAD,
    State.BACKING_OFF: styles.BAD,
    State.WAITING: styles.BUSY,
    State.TO_RUN: styles.QUIET,
    State.STOPPED: styles.QUIET,
}


def tree(pipeline: Pipeline, now: datetime, pod: Pod | None = None) -> RenderableType:
    """Returns the state and its reason, the current run with its steps, and what happens next.
    ``pod``: as in ``steps``."""
    status = pipeline.status
    root = Tree(_title(pipeline), guide_style=styles.QUIET)
    message = state_line(pipeline, now)
    if message:
        root.add(Text(message))
    if status.run is not None:
        branch = root.add(Text(run_line(status.run, status, now)))
        for line in _step_lines(steps(pipeline, pod), status.run, now):
            branch.add(line)
    root.add(Text.assemble(("next: ", "bold"), short_forecast(pipeline, now, pod)))
    return root


def _title(pipeline: Pipeline) -> Text:
    status = pipeline.status
    reason = formatting.ready_reason(status)
    return Text.assemble(
        (pipeline.name, "bold"),
        (f"  namespace {pipeline.namespace}  ", styles.QUIET),
        (headline(status), f"bold {_summary_style(status, reason)}"),
        f"  {reason}" if reason else "",
        f"  {status.init_progress}" if status.init_progress else "",
    )


def _summary_style(status: InitPipelineStatus, reason: str) -> str:
    if headline(status) == "Stalled":
        return styles.BAD
    return styles.of_reason(reason)


def run_line(run: Run, status: InitPipelineStatus, now: datetime) -> Line:
    """Returns the run in one line: its trigger, cause, times, result and Pod."""
    parts: list[str | Moment] = [
        f"run {run.number}, {run.trigger.value}, started ",
        Moment(run.start_time, Mode.AGO),
    ]
    if run.token:
        parts.append(f", rerun token {run.token}")
    if run.cause:
        parts.append(f", {formatting.cause_text(run.cause)}")
    if run.initialized_time:
        after = formatting.between(run.start_time, run.initialized_time)
        parts.append(f", initialized after {after}")
    if run.result and run.completion_time:
        parts += [", ended ", Moment(run.completion_time, Mode.AGO), f": {run.result}"]
    if status.pod_uid:
        node = f" on {status.node_name}" if status.node_name else ""
        parts.append(f", Pod {status.pod_name}{node}")
    return Line(now, *parts)


def _step_lines(all_steps: Sequence[ShownStep], run: Run, now: datetime) -> Iterator[Text]:
    """Yields a line for each step, with aligned columns."""
    name_width = max((len(step.name) for step in all_steps), default=0)
    for step in all_steps:
        yield _step_line(step, name_width, duration(step, run, now))


def _step_line(step: ShownStep, name_width: int, lasted: str) -> Text:
    style = _STYLES[step.state]
    line = Text.assemble(
        (f"{step.position:>2}  ", styles.QUIET),
        f"{step.name:{name_width}}  ",
        (f"{step.state:<11}", style),
        f"  {lasted:>6}",
    )
    facts = ["sidecar"] if step.sidecar else []
    facts += trouble(step)
    line.append("  " + ", ".join(facts) if facts else "", "")
    line.rstrip()
    return line


def trouble(step: ShownStep) -> Iterator[str]:
    """Yields the restarts of the step, how it failed and its last message."""
    if step.restarts:
        yield f"restarted {formatting.count(step.restarts, 'time')}"
    how = formatting.exit_text(step.exit_code, step.signal, step.reason)
    if how:
        yield how
    if step.message:
        yield formatting.one_line(step.message)


def table(pipelines: Sequence[Pipeline], now: datetime, *, namespaces: bool, wide: bool) -> Table:
    """Returns a table with one line for each pipeline, those that need attention first."""
    pipelines_table = Table(box=None, pad_edge=False, header_style="bold")
    heads = [*(["NAMESPACE"] if namespaces else []), "NAME", "STATUS", "INIT", "STEP", "RUN"]
    heads += ["TRIGGER", "STARTED", "REASON"] + (["NODE", "MESSAGE"] if wide else [])
    for head in heads:
        pipelines_table.add_column(head, no_wrap=not (wide and head == "MESSAGE"))
    for one in sorted(pipelines, key=urgency):
        pipelines_table.add_row(*_row(one, now, namespaces, wide))
    return pipelines_table


def urgency(pipeline: Pipeline) -> tuple[int, str, str]:
    """Returns the key that sorts pipelines: those that need attention first."""
    order = ("Stalled", "Failing", "NotReady", "Reconciling", "Suspended", "Ready")
    rank = order.index(headline(pipeline.status))
    return rank, pipeline.namespace, pipeline.name


def _row(pipeline: Pipeline, now: datetime, namespaces: bool, wide: bool) -> list[Text]:
    status, run = pipeline.status, pipeline.status.run
    reason = formatting.ready_reason(status)
    cells = [
        Text(pipeline.name, "bold"),
        Text(headline(status), _summary_style(status, reason)),
        Text(status.init_progress or formatting.NONE),
        Text(status.current_step or formatting.NONE),
        Text(str(run.number) if run else formatting.NONE),
        Text(run.trigger.value if run else formatting.NONE),
        Text(formatting.ago(run.start_time if run else None, now)),
        Text(reason or formatting.NONE, styles.of_reason(reason)),
    ]
    if namespaces:
        cells.insert(0, Text(pipeline.namespace))
    if wide:
        message = state_line(pipeline, now)
        cells += [Text(status.node_name or formatting.NONE), Text(message)]
    return cells


def line(pipeline: Pipeline) -> str:
    """Returns the state in one line, for output that is not a terminal. The line does not depend on
    the time."""
    status, run = pipeline.status, pipeline.status.run
    parts = [f"run {run.number} ({run.trigger})" if run else "no run yet", headline(status)]
    parts += [status.init_progress or formatting.NONE, formatting.ready_reason(status)]
    message = formatting.one_line(formatting.state_message(status))
    return f"{pipeline.name}: {' '.join(filter(None, parts))}: {message}"


def data(pipeline: Pipeline, now: datetime, pod: Pod | None = None) -> dict[str, Any]:
    """Returns the pipeline for -o json and yaml. ``pod``: as in ``steps``."""
    status = pipeline.status
    run = status.run.to_api() if status.run else {}
    internal = {
        *("completedInitContainers", "staleContainerIDs", "restartBaselines"),
        *("initRestartBaselines", "runningStep", "inPlaceCause", "lastInPlaceTime"),
    }
    return {
        "namespace": pipeline.namespace,
        "name": pipeline.name,
        "status": headline(status),
        "reason": formatting.ready_reason(status),
        "message": formatting.state_message(status),
        "initProgress": status.init_progress,
        "currentStep": status.current_step,
        "podName": status.pod_name if status.pod_uid else None,
        "nodeName": status.node_name,
        "run": {key: value for key, value in run.items() if key not in internal} or None,
        "steps": [step.data() for step in steps(pipeline, pod)],
        "next": short_forecast(pipeline, now, pod),
    }
