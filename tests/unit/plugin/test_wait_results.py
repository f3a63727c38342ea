"""Tests when a wait ends, and with which result."""

from collections.abc import Callable
from functools import partial

import pytest

from initpipeline.core.facts import Pipeline
from initpipeline.plugin.report import wait_results
from initpipeline.plugin.report.wait_results import Milestone, WaitResult
from tests.builders import (
    End,
    PodBuilder,
    completed_pod,
    fresh_pod,
    running_pod,
)
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started

Check = Callable[[Pipeline], WaitResult | None]

FAILED = fresh_pod().init("one", exit=1).phase("Failed").restarts("Never")


def failed(run: int = 1) -> PodBuilder:
    return FAILED.of_run(run)


def requested(**policies: int) -> SimulatedPipeline:
    """Returns the state after a user has requested run 2 with token t."""
    state = started(running_pod(), **policies).token("t").reconcile(running_pod(), 20)
    return state.reconcile(None, 30)


def outcome(state: SimulatedPipeline, check: Check) -> bool | None:
    """Returns True if the state is reached, False if it cannot be reached, None if not yet."""
    result = check(state.pipeline.build())
    return None if result is None else result.ok


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(new_pipeline(), None, id="never reconciled"),
        pytest.param(started(fresh_pod()), None, id="at a step"),
        pytest.param(started(fresh_pod().initialized("one", "two")), None, id="initialized"),
        pytest.param(started(running_pod()), True, id="ready"),
        pytest.param(started(FAILED), False, id="given up"),
        pytest.param(started(running_pod()).edited(), None, id="ready, but the template is new"),
        pytest.param(started(running_pod()).token("t"), None, id="ready, but a run is requested"),
        pytest.param(started(FAILED, backoffLimit=1), None, id="failed, and retried"),
        pytest.param(new_pipeline(suspend=True).reconcile(None), None, id="suspended"),
    ],
)
def test_ready_or_stalled_state_has_result(state: SimulatedPipeline, expected: bool | None) -> None:
    assert outcome(state, wait_results.ready_or_stalled) is expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(started(running_pod()).policy(suspend=True), None, id="not observed yet"),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(running_pod().deleting(20), 20),
            None,
            id="Pod terminates",
        ),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(None, 20), True, id="no Pod"
        ),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(running_pod().deleting(20), 900),
            False,
            id="Pod does not terminate",
        ),
        pytest.param(
            started(running_pod()).policy(suspend=True).policy(suspend=False),
            False,
            id="resumed meanwhile",
        ),
    ],
)
def test_suspended_state_has_result(state: SimulatedPipeline, expected: bool | None) -> None:
    assert outcome(state, wait_results.suspended) is expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(started(running_pod()), True, id="ready"),
        pytest.param(started(FAILED), False, id="given up"),
        pytest.param(started(fresh_pod()), None, id="at a step"),
        pytest.param(new_pipeline(suspend=True), None, id="never reconciled"),
        pytest.param(new_pipeline(suspend=True).reconcile(None), False, id="created suspended"),
        pytest.param(
            started(running_pod()).policy(suspend=True), None, id="suspension not observed yet"
        ),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(running_pod().deleting(20), 20),
            None,
            id="suspended, Pod terminates",
        ),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(None, 20),
            False,
            id="suspended, no Pod",
        ),
        pytest.param(
            new_pipeline(suspend=True).reconcile(None).policy(suspend=False), None, id="resumed"
        ),
    ],
)
def test_watched_state_has_result(state: SimulatedPipeline, expected: bool | None) -> None:
    assert outcome(state, wait_results.ready_stalled_or_suspended) is expected


def test_watched_suspended_state_names_the_command_that_resumes_it() -> None:
    state = new_pipeline(suspend=True).reconcile(None)
    found = wait_results.ready_stalled_or_suspended(state.pipeline.build())
    assert found is not None
    assert found.message == "suspended: no run starts until kubectl initpipeline resume"


@pytest.mark.parametrize(
    ("state", "ready", "initialized"),
    [
        pytest.param(started(running_pod()).token("t"), None, None, id="no run yet"),
        pytest.param(requested(), None, None, id="no Pod yet"),
        pytest.param(requested().reconcile(fresh_pod(2), 40), None, None, id="at a step"),
        pytest.param(
            requested().reconcile(fresh_pod(2).initialized("one", "two"), 60),
            None,
            True,
            id="initialized",
        ),
        pytest.param(requested().reconcile(running_pod(2), 60), True, True, id="ready"),
        pytest.param(requested().reconcile(completed_pod(2), 60), True, True, id="succeeded"),
        pytest.param(requested().reconcile(failed(2), 40), False, False, id="given up"),
        pytest.param(
            requested(backoffLimit=1).reconcile(failed(2), 40), None, None, id="failed, and retried"
        ),
        pytest.param(
            requested(backoffLimit=1)
            .reconcile(failed(2), 40)
            .reconcile(None, 45)
            .reconcile(running_pod(3), 60),
            True,
            True,
            id="the retry is ready",
        ),
        pytest.param(
            requested()
            .reconcile(running_pod(2), 60)
            .reconcile(running_pod(2).app(running=True, restarts=1, last=End(1)), 70)
            .reconcile(fresh_pod(3), 80),
            None,
            True,
            id="run again",
        ),
        pytest.param(
            requested().reconcile(fresh_pod(2), 40).edited().reconcile(fresh_pod(2), 50),
            False,
            False,
            id="replaced by a new template",
        ),
        pytest.param(
            requested().reconcile(fresh_pod(2), 40).token("u").reconcile(fresh_pod(2), 50),
            False,
            False,
            id="replaced by another request",
        ),
        pytest.param(
            started(running_pod()).token("t").token("u"),
            False,
            False,
            id="request was replaced",
        ),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(None, 20).token("t"),
            False,
            False,
            id="suspended: the request waits",
        ),
        pytest.param(
            requested().reconcile(fresh_pod(2), 40).policy(suspend=True).reconcile(None, 50),
            False,
            False,
            id="suspended while it ran",
        ),
        pytest.param(
            requested(runHistoryLimit=0)
            .reconcile(fresh_pod(2), 40)
            .reconcile(None, 50)
            .reconcile(None, 51),
            None,
            None,
            id="lost, no history",
        ),
        pytest.param(
            requested(runHistoryLimit=0)
            .reconcile(fresh_pod(2), 40)
            .edited()
            .reconcile(fresh_pod(2), 50),
            False,
            False,
            id="replaced by a new template, no history",
        ),
    ],
)
def test_state_after_a_rerun_request_has_result(
    state: SimulatedPipeline, ready: bool | None, initialized: bool | None
) -> None:
    checks = {
        milestone: partial(wait_results.rerun_result, token="t", milestone=milestone)
        for milestone in Milestone
    }
    assert outcome(state, checks[Milestone.READY]) is ready
    assert outcome(state, checks[Milestone.INITIALIZED]) is initialized


def test_given_up_rerun_request_has_reason() -> None:
    found = wait_results.rerun_result(
        requested().reconcile(failed(2), 40).pipeline.build(), "t", Milestone.READY
    )
    assert found is not None
    assert found.message.startswith("given up: 1 run has failed, and backoffLimit is 0: ")
