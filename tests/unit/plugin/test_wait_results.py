"""Whether what was waited for has come."""

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
    """A person asks for a run with the token t, and the operator answers it with run 2."""
    state = started(running_pod(), **policies).token("t").reconcile(running_pod(), 20)
    return state.reconcile(None, 30)


def said(state: SimulatedPipeline, check: Check) -> bool | None:
    """True: it has come; False: it will not; None: not yet."""
    found = check(state.pipeline.build())
    return None if found is None else found.ok


@pytest.mark.parametrize(
    ("state", "comes"),
    [
        pytest.param(new_pipeline(), None, id="nobody has looked"),
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
def test_a_pipeline_is_at_rest(state: SimulatedPipeline, comes: bool | None) -> None:
    assert said(state, wait_results.ready_or_stalled) is comes


@pytest.mark.parametrize(
    ("state", "comes"),
    [
        pytest.param(started(running_pod()).policy(suspend=True), None, id="not seen yet"),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(running_pod().deleting(20), 20),
            None,
            id="the Pod goes",
        ),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(None, 20),
            True,
            id="no Pod is left",
        ),
        pytest.param(
            started(running_pod()).policy(suspend=True).reconcile(running_pod().deleting(20), 900),
            False,
            id="the Pod does not go",
        ),
    ],
)
def test_a_suspension_is_complete(state: SimulatedPipeline, comes: bool | None) -> None:
    assert said(state, wait_results.suspended) is comes


@pytest.mark.parametrize(
    ("state", "ready", "initialized"),
    [
        pytest.param(started(running_pod()).token("t"), None, None, id="not answered yet"),
        pytest.param(requested(), None, None, id="its Pod is to come"),
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
            id="run again since",
        ),
        pytest.param(
            requested().reconcile(fresh_pod(2), 40).edited().reconcile(fresh_pod(2), 50),
            False,
            False,
            id="a new template came between",
        ),
        pytest.param(
            requested().reconcile(fresh_pod(2), 40).token("u").reconcile(fresh_pod(2), 50),
            False,
            False,
            id="another request came between",
        ),
        pytest.param(
            started(running_pod()).token("t").token("u"),
            False,
            False,
            id="another request took its place",
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
            id="lost, and history keeps nothing",
        ),
        pytest.param(
            requested(runHistoryLimit=0)
            .reconcile(fresh_pod(2), 40)
            .edited()
            .reconcile(fresh_pod(2), 50),
            False,
            False,
            id="a new template came between, and history keeps nothing",
        ),
    ],
)
def test_a_request_is_answered(
    state: SimulatedPipeline, ready: bool | None, initialized: bool | None
) -> None:
    checks = {goal: partial(wait_results.rerun_result, token="t", goal=goal) for goal in Milestone}
    assert said(state, checks[Milestone.READY]) is ready
    assert said(state, checks[Milestone.INITIALIZED]) is initialized


def test_the_words_name_the_run_and_why() -> None:
    found = wait_results.rerun_result(
        requested().reconcile(failed(2), 40).pipeline.build(), "t", Milestone.READY
    )
    assert found is not None
    assert found.message.startswith("given up: 1 run has failed, and backoffLimit is 0: ")
