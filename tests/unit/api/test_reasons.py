"""Compares the table of reasons with the conditions that the operator reports."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from initpipeline.api.reasons import CONDITIONS, ConditionType, Reason
from initpipeline.core.decide import decide
from initpipeline.core.facts import Facts
from initpipeline.core.unreadable import UnreadablePipeline, read_pipeline, unreadable_conditions
from tests.builders import PodBuilder, at, fresh_pod, pipeline
from tests.unit.core.simulation import SimulatedPipeline, started
from tests.unit.plugin.test_explain import (
    CASES,
    IN_PLACE,
    QUOTA,
    TOO_OFTEN,
    WITHOUT_RULES,
    refused,
)

BEFORE_THE_END_OF_THE_STEPS = fresh_pod().init("one", running=True)
MORE_STATES: tuple[tuple[SimulatedPipeline, PodBuilder | None], ...] = (
    (IN_PLACE, WITHOUT_RULES),
    (IN_PLACE, TOO_OFTEN),
    (refused(QUOTA), None),
    (started(ended := BEFORE_THE_END_OF_THE_STEPS.phase("Failed", "Evicted", "emptyDir")), ended),
    (started(late := BEFORE_THE_END_OF_THE_STEPS.phase("Failed", "DeadlineExceeded")), late),
    (
        started(vague := BEFORE_THE_END_OF_THE_STEPS.phase("Succeeded"))
        .reconcile(vague, 15)
        .reconcile(None, 20),
        vague.of_run(2),
    ),
)


def test_table_has_exactly_the_conditions_that_report_each_reason() -> None:
    expected = {(type_, reason) for reason, types in CONDITIONS.items() for type_ in types}
    assert set(reported()) == expected


def test_table_has_each_reason() -> None:
    assert set(CONDITIONS) == set(Reason)


def reported() -> Iterator[tuple[ConditionType, Reason]]:
    """Yields the type and reason of all conditions of the states."""
    cases = ((state, pod, now) for _, state, pod, now in CASES.values())
    more = ((state, pod, 60.0) for state, pod in MORE_STATES)
    for state, pod, now in (*cases, *more):
        facts = Facts(state.pipeline.build(), pod.build() if pod else None)
        for status in (facts.pipeline.status, decide(facts, at(now)).status):
            for condition in status.conditions:
                yield ConditionType(condition.type), Reason(condition.reason)
    yield from _pairs(_of_unreadable_pipeline())


def _of_unreadable_pipeline() -> list[dict[str, Any]]:
    raw = pipeline().raw()
    found = read_pipeline({**raw, "spec": {**raw["spec"], "backoffLimit": "many"}})
    assert isinstance(found, UnreadablePipeline)
    return unreadable_conditions(found, at(0)) or []


def _pairs(conditions: Iterable[Mapping[str, Any]]) -> Iterator[tuple[ConditionType, Reason]]:
    for condition in conditions:
        yield ConditionType(condition["type"]), Reason(condition["reason"])
