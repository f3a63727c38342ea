"""Argo CD's health script and actions.

health_test.yaml and action_test.yaml have the format of Argo CD's own tests. Further cases are
below. ``python -m tests.gitops record`` records the objects from the operator.
"""

import copy
import time
from typing import Any

import pytest

from initpipeline.api import names
from tests.gitops import customizations
from tests.gitops.customizations import SCRIPTS, read_yaml
from tests.gitops.engine import Engine

HEALTH = read_yaml("health_test.yaml")["tests"]
ACTIONS = read_yaml("actions/action_test.yaml")
RUNNING = read_yaml("actions/testdata/running.yaml")


def by_input(tests: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(test, id=test["inputPath"].split("/")[-1]) for test in tests]


@pytest.mark.parametrize("test", by_input(HEALTH))
def test_health_is_as_listed(engine: Engine, test: dict[str, Any]) -> None:
    assert engine.health(read_yaml(test["inputPath"])) == test["healthStatus"]


def test_health_has_a_case_for_every_example() -> None:
    tested = {test["inputPath"] for test in HEALTH}
    assert tested == {f"testdata/{path.name}" for path in SCRIPTS.glob("testdata/*.yaml")}


@pytest.mark.parametrize("test", by_input(ACTIONS["discoveryTests"]))
def test_actions_are_enabled_as_listed(engine: Engine, test: dict[str, Any]) -> None:
    actions = engine.actions(read_yaml(f"actions/{test['inputPath']}"))
    assert actions == {one["name"]: not one.get("disabled", False) for one in test["result"]}


@pytest.mark.parametrize("test", [pytest.param(t, id=t["action"]) for t in ACTIONS["actionTests"]])
def test_action_changes_only_its_field(engine: Engine, test: dict[str, Any]) -> None:
    before = read_yaml(f"actions/{test['inputPath']}")
    result = engine.act(before, test["action"])
    expected = read_yaml(f"actions/{test['expectedOutputPath']}")
    assert without_clock(result) == without_clock(expected)


def test_actions_have_a_case_each() -> None:
    assert [test["action"] for test in ACTIONS["actionTests"]] == customizations.actions_()


def test_rerun_sets_the_current_time_as_token(engine: Engine) -> None:
    began = int(time.time())
    token = token_of(engine.act(RUNNING, "rerun"))
    assert began <= int(token) <= time.time()


def test_reruns_in_the_same_second_have_different_tokens(engine: Engine) -> None:
    tokens, pipeline = [], RUNNING
    for _ in range(3):
        pipeline = engine.act(pipeline, "rerun")
        tokens.append(token_of(pipeline))
    assert sorted(set(tokens)) == tokens


@pytest.mark.parametrize("token", ["please", "20261122", "99999999999999999999"])
def test_rerun_replaces_any_previous_token(engine: Engine, token: str) -> None:
    pipeline = copy.deepcopy(RUNNING)
    pipeline["metadata"]["annotations"] = {names.RERUN_ANNOTATION: token, "other": "kept"}
    result = engine.act(pipeline, "rerun")
    assert token_of(result) != token
    assert result["metadata"]["annotations"]["other"] == "kept"


def test_health_without_status_is_progressing(engine: Engine) -> None:
    """A CRD without a default for status leaves it absent until the operator writes it."""
    pipeline = {key: value for key, value in RUNNING.items() if key != "status"}
    assert engine.health(pipeline)["status"] == "Progressing"


def token_of(pipeline: dict[str, Any]) -> str:
    return str(pipeline["metadata"]["annotations"][names.RERUN_ANNOTATION])


def without_clock(pipeline: dict[str, Any]) -> dict[str, Any]:
    """Returns the pipeline with a fixed token instead of the time."""
    changed = copy.deepcopy(pipeline)
    annotations = changed["metadata"].get("annotations", {})
    if names.RERUN_ANNOTATION in annotations:
        annotations[names.RERUN_ANNOTATION] = "<the time>"
    return changed
