"""The limits of a run: which apply, and when a run exceeds them."""

from dataclasses import replace
from typing import Any

import pytest

from initpipeline.api.reasons import Result
from tests.builders import End, PodBuilder, fresh_pod
from tests.unit.core.simulation import started

RUNNING = fresh_pod().init("one", running=True)


def limits_of_one(**limits: Any) -> dict[str, Any]:
    return {"initPolicies": [{"name": "one", **limits}]}


@pytest.mark.parametrize(
    ("policies", "seconds", "limit"),
    [
        pytest.param(
            {"initDeadlineSeconds": 30, **limits_of_one(timeoutSeconds=40)},
            30,
            "initDeadlineSeconds",
            id="the deadline",
        ),
        pytest.param(
            {"initDeadlineSeconds": 40, **limits_of_one(timeoutSeconds=30)},
            30,
            "timeoutSeconds",
            id="the timeout",
        ),
    ],
)
def test_earliest_of_several_limits_ends_the_run(
    policies: dict[str, Any], seconds: int, limit: str
) -> None:
    before = started(RUNNING, **policies).reconcile(RUNNING, seconds - 1)
    assert before.run.result is None
    exceeded = before.reconcile(RUNNING, seconds).run.exceeded
    assert exceeded is not None
    assert exceeded.limit == limit


def test_deadline_counts_from_the_creation_of_the_pod() -> None:
    """The API server may refuse the Pod for a while."""
    late = replace(RUNNING, created=50)
    before = started(late, initDeadlineSeconds=30).reconcile(late, 79)
    assert before.run.result is None
    assert before.reconcile(late, 80).run.result is Result.FAILED


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(fresh_pod().init("one", reported=False), id="a step that is not reported"),
        pytest.param(
            fresh_pod().sidecar("one", waiting="CrashLoopBackOff", restarts=9, last=End(1)),
            id="a sidecar",
        ),
    ],
)
def test_max_restarts_does_not_apply(observed: PodBuilder) -> None:
    assert started(observed, **limits_of_one(maxRestarts=1)).run.result is None


def test_exceeded_max_restarts_without_a_reported_end_has_no_cause() -> None:
    run = started(fresh_pod().init("one", running=True, restarts=2), **limits_of_one(maxRestarts=1))
    assert (
        run.run.message
        == 'init container 1 of 2 "one" failed, and its maxRestarts of 1 allows no further restart'
    )


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(fresh_pod().init("one", exit=1), id="it has failed"),
        pytest.param(fresh_pod().init("one", running=True, id=""), id="it has no container ID"),
    ],
)
def test_step_without_a_running_container_is_not_recorded(observed: PodBuilder) -> None:
    assert started(observed).run.running_step is None
