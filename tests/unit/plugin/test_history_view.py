"""Tests ``history``: the runs of a pipeline, the newest first."""

import pytest

from initpipeline.api.reasons import Reason
from initpipeline.core.facts import Refusal
from initpipeline.plugin.report.history import last_message, recorded_runs
from initpipeline.plugin.views import history as view
from tests.builders import End, at, fresh_pod, running_pod
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started
from tests.unit.plugin.rendered import text


def rows(of: SimulatedPipeline, now: float = 120) -> list[str]:
    return [" ".join(line.split()) for line in text(view.table(of.status, at(now))).splitlines()]


def after_a_failure() -> SimulatedPipeline:
    """Run 1 failed, a user requested run 2, and a restart of the app container triggered run 3."""
    failed = fresh_pod().init("one", exit=3, message="no\n table").phase("Failed").restarts("Never")
    state = (
        new_pipeline()
        .reconcile(None)
        .reconcile(failed, 20)
        .token("again")
        .reconcile(failed, 30)
        .reconcile(None, 40)
    )
    state = state.reconcile(running_pod(2), 70)
    return state.reconcile(running_pod(2).app(running=True, restarts=1, last=End(137)), 90)


def test_table_runs_have_result_step_and_message() -> None:
    assert rows(after_a_failure()) == [
        "RUN TRIGGER RESULT STARTED INIT LASTED STEP REASON MESSAGE",
        "3 ContainerRestarted (current) 30s ago - 30s - PodTerminating caused by container app: "
        "exit 137",
        "2 Requested Initialized 1m30s ago 0s 1m - - rerun token again",
        '1 Created Failed 2m ago - 20s one StepFailed init container 1 of 2 "one" exited with 3: '
        "no / table",
    ]


def test_table_current_run_that_has_ended_is_one_line() -> None:
    failed = fresh_pod().init("one", exit=3).phase("Failed").restarts("Never")
    _, only = rows(started(failed))
    assert only.startswith("1 Created Failed")


def test_table_superseded_run_has_failure_of_its_step() -> None:
    failing = fresh_pod().init("one", exit=3, message="no table")
    _, _, superseded = rows(started(failing).edited().reconcile(failing, 30))
    assert superseded.startswith("1 Created Superseded")
    assert superseded.endswith('one StepFailed init container 1 of 2 "one" exited with 3: no table')


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(
            new_pipeline()
            .reconcile(None)
            .reconcile(None, refusal=Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota")),
            "QuotaExceeded exceeded quota",
            id="refused",
        ),
        pytest.param(
            started(fresh_pod().init("one", exit=3)),
            'StepFailed init container 1 of 2 "one" exited with 3',
            id="step failed",
        ),
        pytest.param(started(fresh_pod()), "StepPending -", id="in progress"),
    ],
)
def test_table_current_run_has_message_of_its_reason(
    state: SimulatedPipeline, expected: str
) -> None:
    _, only = rows(state)
    assert only.endswith(f"- {expected}")


def test_last_message_step_that_exceeded_a_limit_is_in_history_and_logs() -> None:
    waiting = fresh_pod().init("one", running=True)
    state = started(waiting, initDeadlineSeconds=30).reconcile(waiting, 40)
    ended = fresh_pod().init("one", exit=137, message="no\n database").deleting()
    state = state.reconcile(ended, 42)
    assert rows(state)[1].endswith('init container 1 of 2 "one" is running: no / database')
    assert last_message(state.status.history[0]) == "no\n database"


def test_data_runs_have_the_fields_of_history() -> None:
    current, *_, first = view.data(after_a_failure().status)
    assert (current["number"], current["trigger"]) == (3, "ContainerRestarted")
    assert "staleContainerIDs" not in current
    assert first["failedStep"]["exitCode"] == 3


def test_runs_without_status_are_empty() -> None:
    assert recorded_runs(new_pipeline().status) == []
