"""Renders the runs of a pipeline, the newest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from initpipeline.api.models import InitPipelineStatus, RunFacts, RunRecord
from initpipeline.api.reasons import ConditionType, Result
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.history import recorded_runs
from initpipeline.plugin.views import styles

_STYLES = {
    Result.INITIALIZED: styles.GOOD,
    Result.SUCCEEDED: styles.GOOD,
    Result.FAILED: styles.BAD,
    Result.LOST: styles.BAD,
}


def table(status: InitPipelineStatus, now: datetime) -> Table:
    """Returns a table with one line for each run."""
    runs_table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("RUN", "TRIGGER", "RESULT", "STARTED", "INIT", "LASTED", "STEP", "REASON"):
        runs_table.add_column(head, no_wrap=True)
    runs_table.add_column("MESSAGE")
    for run in recorded_runs(status):
        runs_table.add_row(*_row(run, status, now))
    return runs_table


def _row(run: RunFacts, status: InitPipelineStatus, now: datetime) -> Sequence[Text]:
    failed = run.failed_step if isinstance(run, RunRecord) else None
    in_progress = run.result is None
    return [
        Text(str(run.number), "bold"),
        Text(run.trigger.value),
        Text("(current)" if in_progress else run.result or "", style(run)),
        Text(formatting.ago(run.start_time, now)),
        Text(formatting.between(run.start_time, run.initialized_time)),
        Text(formatting.between(run.start_time, run.completion_time or now)),
        Text(failed.name if failed else formatting.NONE),
        Text(run.reason or (formatting.ready_reason(status) if in_progress else formatting.NONE)),
        Text(formatting.one_line(message(run, status)) or formatting.NONE),
    ]


def style(run: RunFacts) -> str:
    """Returns the colour of the result of a run."""
    return "cyan" if run.result is None else _STYLES.get(run.result, styles.QUIET)


def message(run: RunFacts, status: InitPipelineStatus) -> str:
    """Returns why the run ended or makes no progress, or how its step failed. If nothing failed,
    returns why the run started."""
    if run.message:
        detail = run.exceeded.termination_message if run.exceeded else None
        return f"{run.message}: {detail}" if detail else run.message
    ready = status.condition(ConditionType.READY)
    if run.result is None and ready and styles.of_reason(ready.reason) == styles.BAD:
        return ready.message
    if isinstance(run, RunRecord) and run.failed_step:
        failed = run.failed_step
        exit_text = formatting.exit_text(failed.exit_code, failed.signal, failed.reason)
        return ": ".join(filter(None, [exit_text, failed.message]))
    if run.cause and run.cause.changed_paths:
        return formatting.cause_text(run.cause)
    if run.cause:
        return f"caused by {formatting.cause_text(run.cause)}"
    return f"rerun token {run.token}" if run.token else ""


def data(status: InitPipelineStatus) -> list[dict[str, Any]]:
    """Returns the runs for -o json and yaml, with the fields of status.history."""
    shared = {field.alias for field in RunRecord.model_fields.values()}
    entries = (run.to_api() for run in recorded_runs(status))
    return [{key: value for key, value in entry.items() if key in shared} for entry in entries]
