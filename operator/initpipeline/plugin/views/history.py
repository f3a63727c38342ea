"""The runs of a pipeline, newest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from initpipeline.api.models import InitPipelineStatus, RunFacts, RunRecord
from initpipeline.api.reasons import Result
from initpipeline.plugin.report import formatting
from initpipeline.plugin.views import styles

_STYLES = {
    Result.INITIALIZED: styles.GOOD,
    Result.SUCCEEDED: styles.GOOD,
    Result.FAILED: styles.BAD,
    Result.LOST: styles.BAD,
}


def runs(status: InitPipelineStatus) -> list[RunFacts]:
    """The current one first, whether it goes on or has ended."""
    records: list[RunFacts] = list(status.history)
    if status.run is not None and all(r.number != status.run.number for r in records):
        records.insert(0, status.run)
    return records


def table(status: InitPipelineStatus, now: datetime) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("RUN", "TRIGGER", "RESULT", "STARTED", "INIT", "LASTED", "STEP", "REASON"):
        shown.add_column(head, no_wrap=True)
    shown.add_column("MESSAGE")
    for run in runs(status):
        shown.add_row(*_row(run, status, now))
    return shown


def last_words(record: RunRecord) -> str:
    """Returns what the step that failed wrote last, or else why the run ended. Empty if neither is
    recorded. A step that the operator ended for a limit wrote it after the run had ended."""
    step, exceeded = record.failed_step, record.exceeded
    left = exceeded.termination_message if exceeded else None
    return (step.message if step else None) or left or record.message or ""


def _row(run: RunFacts, status: InitPipelineStatus, now: datetime) -> Sequence[Text]:
    failed = run.failed_step if isinstance(run, RunRecord) else None
    going_on = run.result is None
    return [
        Text(str(run.number), "bold"),
        Text(run.trigger.value),
        Text("(current)" if going_on else run.result or "", _style(run)),
        Text(formatting.ago(run.start_time, now)),
        Text(formatting.between(run.start_time, run.initialized_time)),
        Text(formatting.between(run.start_time, run.completion_time or now)),
        Text(failed.name if failed else formatting.NONE),
        Text(run.reason or (formatting.ready_reason(status) if going_on else formatting.NONE)),
        Text(formatting.one_line(_message(run)) or formatting.NONE),
    ]


def _style(run: RunFacts) -> str:
    return "cyan" if run.result is None else _STYLES.get(run.result, styles.QUIET)


def _message(run: RunFacts) -> str:
    """Why it ended, or how its step had failed; of a run that went well, why it had started."""
    if run.message:
        left = run.exceeded.termination_message if run.exceeded else None
        return f"{run.message}: {left}" if left else run.message
    if isinstance(run, RunRecord) and run.failed_step:
        failed = run.failed_step
        how = formatting.exit_text(failed.exit_code, failed.signal, failed.reason)
        return ": ".join(filter(None, [how, failed.message]))
    if run.cause and run.cause.changed_paths:
        return formatting.cause_text(run.cause)
    if run.cause:
        return f"caused by {formatting.cause_text(run.cause)}"
    return f"answers {run.token}" if run.token else ""


def data(status: InitPipelineStatus) -> list[dict[str, Any]]:
    """For -o json and yaml: the entries of status.history, the current run before them."""
    shared = {field.alias for field in RunRecord.model_fields.values()}
    entries = (run.to_api() for run in runs(status))
    return [{key: value for key, value in entry.items() if key in shared} for entry in entries]
