"""Conditions of pipelines that the operator cannot read or cannot reconcile."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType, Trigger
from initpipeline.api.triggers import by_kubelet, by_user, event_text
from initpipeline.core.decide import decide
from initpipeline.core.errors import UnreadableError
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.unreadable import (
    UnreadablePipeline,
    error_conditions,
    read_pipeline,
    unreadable_conditions,
)
from tests.builders import at, pipeline, running_pod, stamp
from tests.unit.core.simulation import started

PROBLEM = "status.rerunCount: Input should be greater than or equal to 0"

REMEDY = "correct the field, or run the operator version that wrote it"


def raw(**status: Any) -> Raw:
    """Returns a pipeline whose status violates the schema."""
    return {**pipeline().of_generation(4).raw(), "status": {"rerunCount": -1, **status}}


def unreadable(**status: Any) -> UnreadablePipeline:
    read = read_pipeline(raw(**status))
    assert isinstance(read, UnreadablePipeline)
    return read


def stalled(conditions: list[dict[str, Any]] | None) -> dict[str, Any]:
    assert conditions is not None
    return next(one for one in conditions if one["type"] == "Stalled")


class TestRead:
    def test_valid_pipeline_is_read(self) -> None:
        assert isinstance(read_pipeline(pipeline().raw()), Pipeline)

    def test_unreadable_pipeline_has_its_metadata_and_the_problem(self) -> None:
        read = unreadable(conditions=[{"type": "Ready"}, 7])
        assert (read.namespace, read.name, read.generation) == ("default", "demo", 4)
        assert read.problem == "status.conditions.0.status: Field required"
        assert read.conditions == ({"type": "Ready"},), "others than objects are left out"

    def test_template_of_an_answer_to_a_status_write_is_not_read_again(self) -> None:
        before = pipeline().build()
        answer = pipeline().raw()
        del answer["spec"]["template"]
        read = read_pipeline(answer, before)
        assert isinstance(read, Pipeline)
        assert read.template_zip == before.template_zip

    def test_pipeline_that_was_unreadable_before_is_read(self) -> None:
        before = unreadable()
        answer = pipeline().of_generation(before.generation).raw()
        assert isinstance(read_pipeline(answer, before), Pipeline)

    @pytest.mark.parametrize("metadata", [{}, None, 7])
    def test_missing_metadata_raises_the_problem(self, metadata: Any) -> None:
        with pytest.raises(UnreadableError, match="not a valid InitPipeline"):
            read_pipeline({**raw(), "metadata": metadata})


@given(st.text(min_size=1, max_size=253), st.integers(-5, 90))
def test_unknown_values_of_enumerations_are_served_and_kept(value: str, now: int) -> None:
    before = started(running_pod())
    run = {**before.status.run.to_api(), "trigger": value}  # type: ignore[union-attr]
    ended = {**run, "number": 1, "result": value, "completionTime": stamp(1)}
    stored = before.pipeline.raw()
    spec = {**stored["spec"], "rerunPolicy": value, "rerunStrategy": value}
    status = {**before.status.to_api(), "run": {**run, "number": 2}, "history": [ended]}
    read = read_pipeline({**stored, "spec": spec, "status": status})
    assert isinstance(read, Pipeline)
    decision = decide(Facts(read.hashed(), None), at(60 + now))
    kept = next(one for one in decision.status.history if one.number == 1)
    assert (kept.trigger.value, kept.result.value) == (value, value)
    assert read.status.to_api() == InitPipelineStatus.model_validate(status).to_api()


class TestUnknownValues:
    """Values that only a newer version of the operator knows."""

    def test_requested_run_starts_after_a_run_with_an_unknown_trigger_and_result(self) -> None:
        before = started(running_pod())
        run = {**before.status.run.to_api(), "trigger": "Future"}  # type: ignore[union-attr]
        ended = {**run, "result": "Future", "completionTime": stamp(1)}
        stored = before.pipeline.raw()
        stored["metadata"]["annotations"] = {"initpipeline.dev/rerun": "now"}
        status = {**before.status.to_api(), "run": ended, "history": [ended]}
        read = Pipeline.from_api({**stored, "status": status})
        decision = decide(Facts(read, None), at(60))
        assert decision.status.run is not None
        assert decision.status.run.trigger is Trigger.REQUESTED
        assert [one.result for one in decision.status.history] == ["Future"]

    @pytest.mark.parametrize("trigger", ["Future", "CREATED"])
    def test_unknown_trigger_is_of_no_known_starter(self, trigger: str) -> None:
        unknown = Trigger(trigger)
        assert not by_user(unknown)
        assert not by_kubelet(unknown)
        assert event_text(unknown) == f"its trigger is {trigger}"


class TestUnreadableConditions:
    def test_conditions_have_the_problem_and_the_remedy(self) -> None:
        conditions = unreadable_conditions(unreadable(), at(5))
        assert conditions == [
            {
                "type": type_,
                "status": status,
                "reason": "Unreadable",
                "message": f"{PROBLEM}: {REMEDY}",
                "observedGeneration": 4,
                "lastTransitionTime": stamp(5),
            }
            for type_, status in (("Initialized", "False"), ("Ready", "False"), ("Stalled", "True"))
        ]

    def test_reported_conditions_are_not_written_again(self) -> None:
        conditions = unreadable_conditions(unreadable(), at(5))
        assert unreadable_conditions(unreadable(conditions=conditions), at(9)) is None

    def test_transition_time_changes_only_with_the_status(self) -> None:
        before = [
            {"type": "Initialized", "status": "True", "lastTransitionTime": stamp(1)},
            {"type": "Ready", "status": "False", "lastTransitionTime": stamp(2)},
        ]
        conditions = unreadable_conditions(unreadable(conditions=before), at(5))
        assert conditions is not None
        assert [one["lastTransitionTime"] for one in conditions] == [stamp(5), stamp(2), stamp(5)]


class TestErrorConditions:
    def test_stalled_has_the_exception_and_others_are_kept(self) -> None:
        before = started(running_pod())
        conditions = error_conditions(before.pipeline.build(), ValueError("a\n b"), at(20))
        assert conditions is not None
        assert conditions[:2] == [c.to_api() for c in before.status.conditions]
        assert conditions[2:] == [
            {
                "type": "Stalled",
                "status": "True",
                "reason": "ReconcileError",
                "message": "the operator failed to reconcile this InitPipeline, and retries. Open "
                "an issue with the error in its log: ValueError: a b",
                "observedGeneration": 1,
                "lastTransitionTime": stamp(20),
            }
        ]

    def test_same_exception_is_not_written_again_and_another_is(self) -> None:
        before = started(running_pod()).pipeline
        conditions = error_conditions(before.build(), ValueError("a"), at(20))
        failed = {**before.raw(), "status": {**before.status, "conditions": conditions}}
        marked = Pipeline.from_api(failed)
        assert error_conditions(marked, ValueError("b"), at(30)) is None
        other = error_conditions(marked, KeyError("b"), at(30))
        assert "KeyError: 'b'" in stalled(other)["message"]
        assert stalled(other)["lastTransitionTime"] == stamp(20), "it was already True"
        assert len(other or ()) == 3

    def test_exception_replaces_another_reason_of_stalled(self) -> None:
        refused = started(running_pod()).pipeline
        given_up = {
            "type": ConditionType.STALLED.value,
            "status": "True",
            "reason": "InvalidTemplate",
            "message": "a ValueError: a",
            "observedGeneration": 1,
            "lastTransitionTime": stamp(3),
        }
        raw = {**refused.raw(), "status": {**refused.status, "conditions": [given_up]}}
        conditions = error_conditions(Pipeline.from_api(raw), ValueError("a"), at(20))
        assert stalled(conditions)["reason"] == "ReconcileError"
