"""The runs that end with each status write of a pipeline."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from initpipeline.api.models import InitPipelineStatus
from initpipeline.core.run_changes import ended_runs
from tests.builders import End, at, completed_pod, fresh_pod, running_pod
from tests.unit.core.samples import a_run
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline

FAILED = fresh_pod().restarts("Never").phase("Failed").init("one", exit=3)
AGAIN = fresh_pod().init("one", running=True, restarts=1, start=60, last=End())


def superseded(now: SimulatedPipeline) -> list[SimulatedPipeline]:
    requested = now.reconcile(running_pod(), 30).token("now")
    ended = requested.reconcile(running_pod(), 40)
    return [ended, gone := ended.reconcile(None, 41), gone.reconcile(fresh_pod(2), 42)]


def retried(now: SimulatedPipeline) -> list[SimulatedPipeline]:
    failed = now.policy(backoffLimit=1).reconcile(FAILED, 30)
    return [failed, gone := failed.reconcile(None, 31), gone.reconcile(fresh_pod(2), 32)]


def requested_after_its_end(now: SimulatedPipeline) -> list[SimulatedPipeline]:
    done = now.reconcile(completed_pod(), 30)
    written_again = done.policy(backoffLimit=3).reconcile(completed_pod(), 31)
    requested = written_again.token("now").reconcile(completed_pod(), 40)
    return [done, written_again, requested, requested.reconcile(None, 41)]


def run_again_by_the_kubelet(now: SimulatedPipeline) -> list[SimulatedPipeline]:
    initialized = now.reconcile(running_pod(), 30)
    return [initialized, again := initialized.reconcile(AGAIN, 60), again.reconcile(AGAIN, 61)]


@pytest.mark.parametrize("limit", [0, 1, 10])
@pytest.mark.parametrize(
    "life", [superseded, retried, requested_after_its_end, run_again_by_the_kubelet]
)
def test_run_that_the_next_one_follows_ends_in_one_write(
    life: Callable[[SimulatedPipeline], list[SimulatedPipeline]], limit: int
) -> None:
    first = new_pipeline(runHistoryLimit=limit).reconcile(None)
    states = [first, *life(first)]
    ended = [
        run.number
        for before, after in pairwise(states)
        for run in ended_runs(before.status, after.status)
    ]
    assert states[-1].run.number == 2, "otherwise this test shows nothing"
    assert ended == [1]


def test_runs_that_end_in_one_write_are_returned_oldest_first() -> None:
    second = a_run().model_copy(update={"number": 2, "completion_time": at(30)})
    ended = ended_runs(InitPipelineStatus(run=a_run()), InitPipelineStatus(run=second))
    assert [run.number for run in ended] == [1, 2]


@pytest.mark.parametrize(
    ("next_start", "end"), [(20, 20), pytest.param(-5, 0, id="the clock was set back")]
)
def test_run_without_an_entry_in_history_ends_when_the_next_starts(
    next_start: float, end: float
) -> None:
    second = a_run().model_copy(update={"number": 2, "start_time": at(next_start)})
    [ended] = ended_runs(InitPipelineStatus(run=a_run()), InitPipelineStatus(run=second))
    assert (ended.number, ended.completion_time) == (1, at(end))


def test_run_does_not_end_when_status_is_removed() -> None:
    assert ended_runs(InitPipelineStatus(run=a_run()), InitPipelineStatus()) == ()
