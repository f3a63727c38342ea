"""Lists the runs that the status records. Pure."""

from initpipeline.api.models import InitPipelineStatus, RunFacts, RunRecord


def recorded_runs(status: InitPipelineStatus) -> list[RunFacts]:
    """Returns the current run, in progress or not, and the earlier runs that are recorded."""
    records: list[RunFacts] = list(status.history)
    if status.run is not None and all(r.number != status.run.number for r in records):
        records.insert(0, status.run)
    return records


def last_message(record: RunRecord) -> str:
    """Returns the last message of the failed step, or else why the run ended. Empty if neither is
    recorded."""
    step, exceeded = record.failed_step, record.exceeded
    # The operator deletes the Pod of a run that exceeded a limit, so this message comes later.
    after_the_end = exceeded.termination_message if exceeded else None
    return (step.message if step else None) or after_the_end or record.message or ""
