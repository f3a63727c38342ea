"""The demo's checks notice what they claim to notice."""

from typing import Any

import pytest

from tests.builders import PodBuilder, fresh_pod, running_pod
from tests.demo.checks import difference
from tests.demo.journal import Journal
from tests.demo.observer import OperatorRestarted
from tests.demo.snapshot import Snapshot, pod_status

KUBECTL_STATUS = [
    pytest.param(fresh_pod(), "Init:0/2", id="no-step-done"),
    pytest.param(fresh_pod().initialized("one"), "Init:1/2", id="one-step-done"),
    pytest.param(fresh_pod().init("one", exit=1), "Init:Error", id="step-failed"),
    pytest.param(
        fresh_pod().init("one", waiting="CrashLoopBackOff", restarts=1),
        "Init:CrashLoopBackOff",
        id="step-waits",
    ),
    pytest.param(running_pod(), "Running", id="running"),
    pytest.param(
        running_pod().init("one", running=True, restarts=1).app(exit=1).condition("Initialized"),
        "Error",
        id="initialized-true-hides-init-containers",
    ),
    pytest.param(running_pod().app(exit=1), "Error", id="app-failed"),
    pytest.param(running_pod().deleting(), "Terminating", id="terminating"),
]


@pytest.mark.parametrize(("pod", "status"), KUBECTL_STATUS)
def test_pod_status_equals_that_of_kubectl(pod: PodBuilder, status: str) -> None:
    assert pod_status(pod.raw()) == status


def test_pod_status_of_no_pod_is_shown_in_parentheses() -> None:
    assert pod_status(None) == "(no Pod)"


class TestDifference:
    def test_equal_values_have_none(self) -> None:
        assert difference([{"a": [1, 2]}], [{"a": [1, 2]}], "statuses") is None

    @pytest.mark.parametrize(
        ("mirrored", "expected"),
        [
            ([{"a": [1, 3]}], "statuses[0].a[1] is 3, the Pod's is 2"),
            ([{"a": [1]}], "statuses[0].a is [1], the Pod's is [1, 2]"),
            ([{"a": 0}], "statuses[0].a is 0, the Pod's is [1, 2]"),
        ],
    )
    def test_first_difference_is_named_by_its_path(
        self, mirrored: list[Any], expected: str
    ) -> None:
        assert difference(mirrored, [{"a": [1, 2]}], "statuses") == expected


def snapshot(run: int, *history: dict[str, Any], initialized: str = "True") -> Snapshot:
    time = "2030-01-01T12:00:00Z"
    condition = {
        "type": "Initialized",
        "status": initialized,
        "reason": "StepFailed",
        "message": "exited with 1",
        "lastTransitionTime": time,
        "observedGeneration": 1,
    }
    current = {"number": run, "trigger": "Created", "startTime": time}
    status = {"run": current, "history": list(history), "conditions": [condition]}
    return Snapshot("demo", pipeline={"status": status})


def record(result: str) -> dict[str, Any]:
    time = "2030-01-01T12:00:00Z"
    times = {"startTime": time, "endTime": time}
    return {"number": 1, "trigger": "Created", "result": result, **times}


class TestJournal:
    def test_consecutive_runs_are_allowed(self) -> None:
        journal = Journal()
        journal.changed(snapshot(1))
        journal.changed(snapshot(2, record("Lost")))
        journal.changed(snapshot(2, record("Lost")))
        assert journal.violations == []

    def test_skipped_run_is_a_violation(self) -> None:
        journal = Journal()
        journal.changed(snapshot(2))
        assert journal.violations == ["run 2 followed run 0"]

    def test_changed_history_is_a_violation(self) -> None:
        journal = Journal()
        journal.changed(snapshot(1))
        journal.changed(snapshot(2, record("Lost")))
        journal.changed(snapshot(2, record("Failed")))
        assert journal.violations == ["the history of run 1 changed after its end"]

    def test_failure_message_is_recorded_for_its_run(self) -> None:
        journal = Journal()
        journal.changed(snapshot(1, initialized="False"))
        assert journal.run(1).failures == {"exited with 1"}
        assert journal.run(1).uninitialized
        assert not journal.run(2).uninitialized

    def test_restart_of_the_operator_concerns_this_run_and_the_next(self) -> None:
        journal = Journal()
        journal.operator_restarted(OperatorRestarted(1, 2), snapshot(1))
        assert [journal.run(number).operator_down for number in (1, 2, 3)] == [True, True, False]
