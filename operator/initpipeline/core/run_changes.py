"""What one write of the status changes about runs. Log lines and spans follow from it, and Events
in part.

The inputs are the status before the write and after it.
"""

from initpipeline.api.models import InitPipelineStatus, RunFacts


def runs_of(status: InitPipelineStatus) -> dict[int, RunFacts]:
    """Returns the runs that status reports, by number: those of history, and the current run."""
    runs: dict[int, RunFacts] = {record.number: record for record in status.history}
    return runs | {status.run.number: status.run} if status.run else runs


def ended_runs(before: InitPipelineStatus, after: InitPipelineStatus) -> tuple[RunFacts, ...]:
    """Returns the runs that ended in this write, oldest first.

    If runHistoryLimit is 0 and the same write begins the next run, status does not report how the
    run ended. The run is then returned without a result, and its end is the start of the next run.
    """
    known = before.run.number if before.run else 0
    reported = {record.number for record in before.history}
    if before.run is not None and before.run.completion_time is not None:
        reported.add(known)
    runs = runs_of(after)
    ended = [
        run
        for number, run in sorted(runs.items())
        if number >= known and number not in reported and run.completion_time is not None
    ]
    if _is_unreported(before, after):
        assert before.run is not None
        assert after.run is not None
        end = max(after.run.start_time, before.run.start_time)
        ended.insert(0, before.run.model_copy(update={"completion_time": end}))
    return tuple(ended)


def _is_unreported(before: InitPipelineStatus, after: InitPipelineStatus) -> bool:
    """Returns whether the current run was active, and status has another one in its place."""
    if before.run is None or after.run is None or before.run.completion_time is not None:
        return False
    return after.run.number > before.run.number and before.run.number not in runs_of(after)


def completed_steps(before: InitPipelineStatus, after: InitPipelineStatus) -> tuple[str, ...]:
    """Returns the names of the init containers, without sidecars, that status reports as completed
    in the current run since this write, in their order."""
    run = after.run
    if run is None:
        return ()
    same = before.run is not None and before.run.number == run.number
    completed = before.run.completed_init_containers if before.run and same else ()
    known = {one.container_id for one in completed}
    return tuple(one.name for one in run.completed_init_containers if one.container_id not in known)
