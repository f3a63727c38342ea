"""A changed pipeline ends like a new one with the same spec: see tests/unit/model/oracle.py.

``make oracle`` compares all fields of the Pod template, and thousands of sequences.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from initpipeline.api.models import Policies
from initpipeline.api.reasons import RerunPolicy
from initpipeline.core import run_limits, triggers
from initpipeline.core.facts import Facts
from initpipeline.core.runs import FollowedRun, RunState
from tests.unit.model import specs
from tests.unit.model.oracle import EVENTS, difference

SEQUENCES = int(os.environ.get("INITPIPELINE_SEQUENCES", "0"))
"""Number of sequences in the long form. 0: the short form."""
FIRST = int(os.environ.get("INITPIPELINE_SEED", "0"))
"""The seed of the first sequence."""

PAIRS = [*specs.one_field_pairs()]
FIELDS = [*specs.template_fields()]
PAIR_STRIDE, FIELD_STRIDE = (1, 1) if SEQUENCES else (11, 29)
"""The short form compares every eleventh pair, and every 29th field of the template. Both are
prime, so that each field of spec is among the pairs."""


def test_pairs_have_several_values_of_each_field_of_spec() -> None:
    paths = {*specs.fields_of()}
    assert {path.partition(".")[0] for path in paths} == {"template", *specs.POLICIES}
    assert {"initPolicies.timeoutSeconds", "suspend"} <= paths
    for path in paths:
        assert len(specs.values_of(path)) > 1, path


def test_short_form_has_each_field_of_spec() -> None:
    changed = [name.split(" from ")[0].split(": ")[-1] for name, *_ in PAIRS[::11]]
    assert {*changed} == {"template", *specs.POLICIES}


def test_template_fields_are_set_and_change_the_template() -> None:
    good = specs.spec("good")
    assert len(FIELDS) > 600
    same = [path for path in FIELDS if specs.with_template_field(path) == good]
    assert not same, "these fields have the value that the template has already"


@pytest.mark.parametrize("start", range(3))
def test_pipeline_after_one_changed_field_is_like_a_new_one(start: int) -> None:
    for number, (name, old, new) in list(enumerate(PAIRS))[start * PAIR_STRIDE :: 3 * PAIR_STRIDE]:
        found = difference([old, new], EVENTS[number % len(EVENTS)])
        assert found is None, f"{name}\n{found}"


@pytest.mark.parametrize("start", range(3))
def test_pipeline_after_a_changed_field_of_the_template_is_like_a_new_one(start: int) -> None:
    good = specs.spec("good")
    for path in FIELDS[start * FIELD_STRIDE :: 3 * FIELD_STRIDE]:
        changed = specs.with_template_field(path)
        for sequence in ([good, changed], [changed, good]):
            found = difference(sequence, "nothing")
            assert found is None, f"{path}\n{found}"


@pytest.mark.parametrize("start", range(3))
def test_pipeline_after_several_changes_is_like_a_new_one(start: int) -> None:
    for seed in range(FIRST + start, FIRST + (SEQUENCES or 36), 3):
        found = difference(specs.sequence(seed), EVENTS[seed % len(EVENTS)])
        assert found is None, f"seed {seed}\n{found}"


Fault = Callable[[pytest.MonkeyPatch], None]


def ignores_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "_CHAIN", triggers._CHAIN[1:])


def keeps_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets runs that a user starts keep the counts of failures."""
    monkeypatch.setattr(RunState, "with_counts_reset", lambda state: state)


def applies_no_limit_to_later_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    applicable = run_limits.applicable

    def first_run_only(policies: Any, run: Any, observation: Any) -> Any:
        return applicable(policies, run, observation) if run.number == 1 else ()

    monkeypatch.setattr(run_limits, "applicable", first_run_only)


def ignores_changed_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    due = triggers.due

    def with_default_policy(facts: Facts, followed: FollowedRun) -> Any:
        pipeline = facts.pipeline
        if pipeline.generation > 1:
            pipeline = replace(pipeline, policies=Policies(rerun_policy=RerunPolicy.NEVER))
        return due(facts.with_pipeline(pipeline), followed)

    monkeypatch.setattr(triggers, "due", with_default_policy)


@pytest.mark.parametrize(
    ("fault", "old", "new", "event"),
    [
        (ignores_templates, specs.spec("good"), specs.spec("sidecar"), "nothing"),
        (
            keeps_failures,
            specs.spec("step fails for good", backoffLimit=2),
            specs.spec("good", backoffLimit=2),
            "nothing",
        ),
        (
            applies_no_limit_to_later_runs,
            specs.spec("good"),
            specs.spec("step hangs", initDeadlineSeconds=5),
            "nothing",
        ),
        (
            ignores_changed_policies,
            specs.spec("good", rerunPolicy="Never"),
            specs.spec("good", rerunPolicy="OnRestart"),
            "app exits",
        ),
    ],
)
def test_oracle_finds_a_fault(
    fault: Fault,
    old: specs.Spec,
    new: specs.Spec,
    event: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert difference([old, new], event) is None
    fault(monkeypatch)
    assert difference([old, new], event) is not None
