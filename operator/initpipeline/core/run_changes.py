"""What one write of the status changes about runs. Log lines and spans follow from it, and Events
in part.

The inputs are the status before the write and after it.
"""

from initpipeline.api.models import InitPipelineStatus, RunFacts
from initpipeline.core.evolve import evolve


def runs_of(status: InitPipelineStatus) -> dict[int, RunFacts]:
    """Returns the runs that status reports, by number: those of history, and the current run."""
    runs: dict[int, RunFacts] = {record.number: record for record in status.history}
    return runs | {status.run.number: status.run} if status.run else runs


def ended_runs(before: InitPipelineStatus, after: InitPipelineStatus) -> tuple[RunFacts, ...]:
    """Returns the runs that ended in this write, oldest first.

    If runHistoryLimit is 0 and the same write begins the next run, status does not report how the
    run ended. The run is then returned without a result, and its end is the start of the next run.
    """
    reported = {record.number for record in before.history}
    runs = runs_of(after)
    last = before.run
    if last is not None and last.completion_time is not None:
        reported.add(last.number)
    elif last is not None and after.run is not None and last.number not in runs:
        end = max(after.run.start_time, last.start_time)
        runs[last.number] = evolve(last, completion_time=end)
    return tuple(
        run
        for number, run in sorted(runs.items())
        if number not in reported and run.completion_time is not None
    )


def completed_steps(before: InitPipelineStatus, after: InitPipelineStatus) -> tuple[str, ...]:
    """Returns the names of the init containers, without sidecars, that status reports as completed
    in the current run since this write, in their order."""
    last = before.run.completed_init_containers if before.run else ()
    completed = after.run.completed_init_containers if after.run else ()
    known = {one.container_id for one in last}
    return tuple(one.name for one in completed if one.container_id not in known)
