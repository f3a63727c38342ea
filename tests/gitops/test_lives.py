"""What kstatus (Flux, kpt, Config Sync) and Argo CD make of every state in pipelines' lives, which
were recorded from the real operator: ``python -m tests.gitops record``."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest

from tests.gitops.engine import Engine
from tests.gitops.lives import LIVES
from tests.gitops.record import FOLDER

State = dict[str, Any]

RECORDED: dict[str, list[State]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))
}
EVERY_STATE = [
    pytest.param(state, id=f"{life}-{number}")
    for life, states in RECORDED.items()
    for number, state in enumerate(states)
]

KSTATUS = {
    "becomes-ready": "InProgress Current",
    # Between the end of its containers and its own success a Pod is not Ready.
    "succeeds": "InProgress Current InProgress Current",
    "fails": "InProgress Failed",
    "is-asked-for-again": "InProgress Failed InProgress Failed",
    "is-retried": "InProgress Current",
    "step-fails-for-a-while": "InProgress Current",
    "is-suspended-and-resumed": "InProgress Current InProgress Current",
    "is-created-suspended": "InProgress",
    "loses-its-pod": "InProgress Current InProgress Current",
    "loses-its-pod-for-good": "InProgress Current InProgress Failed",
    "app-keeps-ending": "InProgress Current InProgress Current InProgress",
    "app-fails-without-rerun": "InProgress Current InProgress",
    "has-no-quota": "InProgress Current",
    "is-refused-for-a-while": "InProgress Failed InProgress Current",
    "name-is-taken": "InProgress",
    "template-changes": "InProgress Current InProgress Current",
    "is-asked-for": "InProgress Current InProgress Current",
    "is-deleted": "InProgress Current Terminating",
}

HEALTH = {
    "InProgress": "Progressing",
    "Current": "Healthy",
    "Failed": "Degraded",
    "Terminating": "Progressing",
}


def test_every_life_is_recorded_and_expected() -> None:
    assert set(RECORDED) == set(LIVES) == set(KSTATUS)


@pytest.mark.parametrize("life", KSTATUS)
def test_kstatus_through_a_life(engine: Engine, life: str) -> None:
    said = without_repetition(engine.kstatus(state) for state in RECORDED[life])
    assert " ".join(said) == KSTATUS[life]


@pytest.mark.parametrize("state", EVERY_STATE)
def test_kstatus_of_every_state(engine: Engine, state: State) -> None:
    assert engine.kstatus(state) == expected_kstatus(state)


@pytest.mark.parametrize("state", EVERY_STATE)
def test_health_of_every_state(engine: Engine, state: State) -> None:
    health = engine.health(state)
    assert health["status"] == expected_health(state)
    assert health["message"]


def expected_kstatus(state: State) -> str:
    if "deletionTimestamp" in state["metadata"]:
        return "Terminating"
    if not is_observed(state):
        return "InProgress"
    if holds(state, "Stalled"):
        return "Failed"
    return "Current" if holds(state, "Ready") and not holds(state, "Reconciling") else "InProgress"


def expected_health(state: State) -> str:
    """The same, but for what kstatus does not know, a suspension, and for a Pod that is Ready while
    the next run waits for its time: it serves, which is health, but another run is on its way."""
    if "deletionTimestamp" not in state["metadata"] and is_observed(state):
        if holds(state, "Suspended"):
            return "Suspended"
        if holds(state, "Ready"):
            return "Healthy"
    return HEALTH[expected_kstatus(state)]


def is_observed(state: State) -> bool:
    return bool(state["status"]["observedGeneration"] == state["metadata"]["generation"])


def holds(state: State, condition: str) -> bool:
    found = {one["type"]: one["status"] for one in state["status"].get("conditions", ())}
    return found.get(condition) == "True"


def without_repetition(words: Iterable[str]) -> list[str]:
    return [word for word, _ in itertools.groupby(words)]
