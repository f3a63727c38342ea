"""Print the history as a table, and what the user can try next."""

from collections.abc import Sequence
from datetime import datetime

from initpipeline.api.models import Cause, FailedStep, Run, RunRecord
from initpipeline.api.names import RERUN_ANNOTATION
from initpipeline.core.template_changes import changed_fields_message
from tests.demo.cluster import NAMESPACE, PIPELINE, DemoCluster
from tests.demo.snapshot import Snapshot
from tests.demo.view import View

HEADS = ("RUN", "TRIGGER", "RESULT", "STARTED", "INITIALIZED AFTER", "CAUSE, FAILED STEP")


def history(snapshot: Snapshot, view: View) -> None:
    """Print a table of all runs, oldest first."""
    status = snapshot.status
    rows = [_row(record, record.result, record.failed_step) for record in reversed(status.history)]
    if status.run:
        rows.append(_row(status.run, "(current)", None))
    view.table("History in the pipeline's status", HEADS, rows)


def _row(run: Run | RunRecord, result: str, failed: FailedStep | None) -> Sequence[str]:
    why = [_cause(run.cause)] if run.cause else []
    why += [_failure(failed)] if failed else []
    started = _local(run.start_time)
    cause = "; ".join(why) or "-"
    return (str(run.number), run.trigger, result, started, _initialized_after(run), cause)


def _initialized_after(run: Run | RunRecord) -> str:
    if run.initialized_time is None:
        return "-"
    seconds = (run.initialized_time - run.start_time).total_seconds()
    # A kubelet-initiated run starts when the operator first observes it. The operator may have
    # been down.
    return f"{seconds:.0f} s" if seconds >= 0 else "before it was observed"


def _local(time: datetime) -> str:
    return time.astimezone().strftime("%H:%M:%S")


def _cause(cause: Cause) -> str:
    if cause.changed_paths:
        return changed_fields_message(cause)
    return f"container {cause.container} exited with {cause.exit_code} ({cause.reason})"


def _failure(failed: FailedStep) -> str:
    return f"step {failed.name} exited with {failed.exit_code}: {failed.message or failed.reason}"


def next_steps(cluster: DemoCluster, operator: int | None, view: View) -> None:
    """Print commands that the user can paste."""
    kubectl = f"{cluster.kubectl_command} -n {NAMESPACE}"
    view.text(
        "",
        "The cluster and the operator continue to run. Try next:",
        "",
        *(f"  {line}" for line in cluster.exports),
        f"  {kubectl} get ipl -w",
        f"  {kubectl} describe ipl {PIPELINE}",
        f"  {kubectl} annotate ipl {PIPELINE} {RERUN_ANNOTATION}=$(date +%s) --overwrite",
        "",
        "To remove everything:",
        "",
        *(f"  {line}" for line in cluster.cleanup(operator)),
    )
