"""kstatus and Argo CD's health of every recorded state.

Flux, kpt and Config Sync use kstatus. ``python -m tests.gitops record`` records the states from the
operator.
"""

import itertools
import json
from collections.abc import Iterable

import pytest

from initpipeline.api.raw import Raw
from tests.gitops.engine import Engine
from tests.gitops.record import FOLDER
from tests.gitops.scenarios import SCENARIOS

RECORDED: dict[str, list[Raw]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))
}
EVERY_STATE = [
    pytest.param(state, id=f"{scenario}-{number}")
    for scenario, states in RECORDED.items()
    for number, state in enumerate(states)
]

KSTATUS = {
    "becomes-ready": "InProgress Current",
    # After its containers have ended and before it has succeeded, a Pod is not Ready.
    "succeeds": "InProgress Current InProgress Current",
    "fails": "InProgress Failed",
    "is-requested-after-failure": "InProgress Failed InProgress Failed",
    "is-retried": "InProgress Current",
    "step-fails-temporarily": "InProgress Current",
    "is-suspended-and-resumed": "InProgress Current InProgress Current",
    "is-created-suspended": "InProgress",
    "loses-its-pod": "InProgress Current InProgress Current",
    "loses-its-pod-without-rerun": "InProgress Current InProgress Failed",
    "app-keeps-restarting": "InProgress Current InProgress Current InProgress",
    "app-fails-without-rerun": "InProgress Current InProgress",
    "exceeds-quota": "InProgress Current",
    "is-refused-temporarily": "InProgress Failed InProgress Current",
    "name-is-taken": "InProgress",
    "template-changes": "InProgress Current InProgress Current",
    "is-requested": "InProgress Current InProgress Current",
    "is-deleted": "InProgress Current Terminating",
}

HEALTH = {
    "InProgress": "Progressing",
    "Current": "Healthy",
    "Failed": "Degraded",
    "Terminating": "Progressing",
}


def test_scenarios_are_recorded_and_have_an_expectation() -> None:
    assert set(RECORDED) == set(SCENARIOS) == set(KSTATUS)


@pytest.mark.parametrize("scenario", KSTATUS)
def test_kstatus_changes_as_expected(engine: Engine, scenario: str) -> None:
    statuses = without_repetition(engine.kstatus(state) for state in RECORDED[scenario])
    assert " ".join(statuses) == KSTATUS[scenario]


@pytest.mark.parametrize("state", EVERY_STATE)
def test_kstatus_matches_conditions(engine: Engine, state: Raw) -> None:
    assert engine.kstatus(state) == expected_kstatus(state)


@pytest.mark.parametrize("state", EVERY_STATE)
def test_health_matches_conditions_and_has_a_message(engine: Engine, state: Raw) -> None:
    health = engine.health(state)
    assert health["status"] == expected_health(state)
    assert health["message"]


def expected_kstatus(state: Raw) -> str:
    if "deletionTimestamp" in state["metadata"]:
        return "Terminating"
    if not is_observed(state):
        return "InProgress"
    if holds(state, "Stalled"):
        return "Failed"
    return "Current" if holds(state, "Ready") and not holds(state, "Reconciling") else "InProgress"


def expected_health(state: Raw) -> str:
    """Returns the health that corresponds to kstatus, with two exceptions.

    kstatus has no status for a suspended pipeline. A Pod that is Ready while the next run is
    delayed is Healthy, because it serves, but InProgress, because another run follows.
    """
    if "deletionTimestamp" not in state["metadata"] and is_observed(state):
        if holds(state, "Suspended"):
            return "Suspended"
        if holds(state, "Ready"):
            return "Healthy"
    return HEALTH[expected_kstatus(state)]


def is_observed(state: Raw) -> bool:
    return bool(state["status"]["observedGeneration"] == state["metadata"]["generation"])


def holds(state: Raw, condition: str) -> bool:
    statuses = {one["type"]: one["status"] for one in state["status"].get("conditions", ())}
    return statuses.get(condition) == "True"


def without_repetition(statuses: Iterable[str]) -> list[str]:
    return [status for status, _ in itertools.groupby(statuses)]
