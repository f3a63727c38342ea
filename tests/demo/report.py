"""The end: the history as a table, and what to try next."""

from collections.abc import Sequence
from datetime import datetime

from initpipeline.api.models import Cause, FailedStep, Run, RunRecord
from initpipeline.api.names import RERUN_ANNOTATION
from initpipeline.core.template import changed_fields_message
from tests.demo.place import NAMESPACE, PIPELINE, Place
from tests.demo.snapshot import Snapshot
from tests.demo.view import View

HEADS = ("RUN", "TRIGGER", "RESULT", "STARTED", "INITIALIZED AFTER", "CAUSE, FAILED STEP")


def history(snapshot: Snapshot, view: View) -> None:
    """Every run, oldest first, the current one last."""
    status = snapshot.status
    rows = [_row(record, record.result, record.failed_step) for record in reversed(status.history)]
    if status.run:
        rows.append(_row(status.run, "(current)", None))
    view.table("History, as it is in the pipeline's status", HEADS, rows)


def _row(run: Run | RunRecord, result: str, failed: FailedStep | None) -> Sequence[str]:
    why = [_cause(run.cause)] if run.cause else []
    why += [_failure(failed)] if failed else []
    started = _local(run.start_time)
    told = "; ".join(why) or "-"
    return (str(run.number), run.trigger, result, started, _initialized_after(run), told)


def _initialized_after(run: Run | RunRecord) -> str:
    if run.initialized_time is None:
        return "-"
    seconds = (run.initialized_time - run.start_time).total_seconds()
    # A run of the kubelet's starts when the operator first sees it, which may have been away.
    return f"{seconds:.0f} s" if seconds >= 0 else "before it was seen"


def _local(time: datetime) -> str:
    return time.astimezone().strftime("%H:%M:%S")


def _cause(cause: Cause) -> str:
    if cause.changed_paths:
        return changed_fields_message(cause)
    return f"container {cause.container} exited with {cause.exit_code} ({cause.reason})"


def _failure(failed: FailedStep) -> str:
    return f"step {failed.name} exited with {failed.exit_code}: {failed.message or failed.reason}"


def next_steps(place: Place, operator: int | None, view: View) -> None:
    """What can be pasted, as it stands."""
    kubectl = f"{place.kubectl} -n {NAMESPACE}"
    view.text(
        "",
        "The cluster stays up, and the operator runs on. Try next:",
        "",
        *(f"  {line}" for line in place.preparations),
        f"  {kubectl} get ipl -w",
        f"  {kubectl} describe ipl {PIPELINE}",
        f"  {kubectl} annotate ipl {PIPELINE} {RERUN_ANNOTATION}=$(date +%s) --overwrite",
        "",
        "And take it all down:",
        "",
        *(f"  {line}" for line in place.farewell(operator)),
    )
