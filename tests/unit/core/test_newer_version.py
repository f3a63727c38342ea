"""Statuses that a newer version of the operator has written: unknown fields, conditions and
reasons are kept."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.core.decide import DeletePod
from initpipeline.core.facts import Pipeline
from initpipeline.core.triggers import USER_RUNS
from initpipeline.core.unreadable import (
    UnreadablePipeline,
    error_conditions,
    read_pipeline,
    unreadable_conditions,
)
from tests.builders import End, PodBuilder, at, fresh_pod, running_pod, stamp
from tests.unit.core.simulation import SimulatedPipeline, started

FIELD: Final = "aFieldOfTheFuture"
VALUE: Final = {"deep": [1, {"er": True}]}

DERIVED: Final = frozenset({"conditions", "effectiveResources", "initContainerStatuses"})
"""Fields of status that each version derives from the Pod again. They are not marked."""
MAPS: Final = frozenset({FIELD, "resources"})
"""Fields that are not objects of the API: each of their keys is a value."""

RUNNING: Final = fresh_pod().init("one", running=True)
RESTARTED: Final = fresh_pod().init("one", running=True, restarts=1, last=End(1))
LOST: Final = replace(RESTARTED, uid="pod-1").init(
    "one", running=True, restarts=1, last=End(255, reason="ContainerStatusUnknown")
)
READY: Final = running_pod()
CRASHED: Final = running_pod().app(running=True, restarts=1, last=End(7, start=20, message="oops"))

STORIES: Final[dict[str, tuple[SimulatedPipeline, PodBuilder | None]]] = {
    "a step runs": (started(RUNNING), RUNNING),
    "a step was restarted": (started(RESTARTED), RESTARTED),
    "a step was lost with its node": (started(RUNNING).reconcile(LOST, 20), LOST),
    "the run is initialized": (started(READY), READY),
    "a container restarted": (started(READY).reconcile(CRASHED, 60), CRASHED),
    "a limit is exceeded": (
        started(RUNNING, initDeadlineSeconds=30).reconcile(RUNNING, 30),
        RUNNING,
    ),
    "the Pod is lost": (started(RESTARTED).reconcile(None, 30), None),
}
each_story = pytest.mark.parametrize(("before", "pod"), STORIES.values(), ids=STORIES.keys())


def marked(value: Any) -> Any:
    """Returns the JSON with an unknown field in each object."""
    if isinstance(value, list):
        return [marked(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: one for key, one in value.items() if key in DERIVED | MAPS}
    return {**kept, **{k: marked(v) for k, v in value.items() if k not in kept}, FIELD: VALUE}


def marks(value: Any, path: str = "") -> Iterator[str]:
    """Yields the path of each unknown field."""
    items = enumerate(value) if isinstance(value, list) else ()
    for key, one in value.items() if isinstance(value, dict) else items:
        if key == FIELD:
            assert one == VALUE
            yield f"{path}.{key}"
        else:
            yield from marks(one, f"{path}.{key}")


def by_newer_version(before: SimulatedPipeline) -> SimulatedPipeline:
    """Returns the pipeline as if a newer version had written its status."""
    status = marked(before.status.to_api())
    return replace(before, pipeline=replace(before.pipeline, status=status))


class TestUnknownFields:
    @each_story
    def test_fields_are_kept_in_place(
        self, before: SimulatedPipeline, pod: PodBuilder | None
    ) -> None:
        newer = by_newer_version(before)
        after = newer.reconcile(pod)
        assert list(marks(after.status.to_api())) == list(marks(newer.pipeline.status))
        assert FIELD not in str(after.decision.patch)

    @each_story
    def test_fields_of_a_run_move_to_its_entry_in_history(
        self, before: SimulatedPipeline, pod: PodBuilder | None
    ) -> None:
        newer = by_newer_version(before)
        run, history = newer.pipeline.status["run"], newer.pipeline.status.get("history", [])
        after = newer.token("next").reconcile(pod, before.now + 1).status.to_api()
        assert after["run"]["number"] == run["number"] + 1
        assert not list(marks(after["run"])), "of the previous run"
        ended = next(one for one in after["history"] if one["number"] == run["number"])
        shared = {key: run[key] for key in run.keys() & ended.keys()}
        assert FIELD in shared
        assert set(marks(shared)) <= set(marks(ended))
        others = [one for one in history if one["number"] != run["number"]]
        assert [one for one in after["history"] if one is not ended] == others

    def test_field_of_a_run_with_the_name_of_a_later_field_is_replaced(self) -> None:
        """Only history has failedStep. A newer version may have it in the current run as well."""
        before = started(RESTARTED)
        run = {**before.run.to_api(), "failedStep": {"new": 1}}
        status = {**before.status.to_api(), "run": run}
        newer = replace(before, pipeline=replace(before.pipeline, status=status))
        [ended] = newer.reconcile(None, 30).status.history
        assert ended.failed_step is not None
        assert (ended.failed_step.name, ended.failed_step.exit_code) == ("one", 1)

    def test_status_of_every_story_has_objects_of_every_kind(self) -> None:
        """Otherwise the tests above would show less than they seem to."""
        found = {
            ".".join(part for part in path.split(".") if part and not part.isdigit())
            for before, _ in STORIES.values()
            for path in marks(by_newer_version(before).pipeline.status)
        }
        assert {path.removesuffix(f".{FIELD}") for path in found} >= {
            "run",
            "run.cause",
            "run.completedInitContainers",
            "run.exceeded",
            "run.initRestartBaselines",
            "run.restartBaselines",
            "run.runningStep",
            "history",
            "history.exceeded",
            "history.failedStep",
        }


def condition(type_: str, **fields: Any) -> Raw:
    return {
        "type": type_,
        "status": "True",
        "reason": "Paused",
        "message": "by another controller",
        "lastTransitionTime": stamp(1),
        **fields,
    }


OTHERS: Final = [
    condition("Paused", observedGeneration=1, severity="Info"),
    condition("example.com/Audited", message="x" * 32768),
    condition("Odd", status="Perhaps"),
]


def with_conditions(before: SimulatedPipeline, *added: Raw) -> SimulatedPipeline:
    """Returns the pipeline with conditions that others have added before those of the operator."""
    status = before.status.to_api()
    status["conditions"] = [*added, *status["conditions"]]
    return replace(before, pipeline=replace(before.pipeline, status=status))


def of_others(status: InitPipelineStatus) -> list[Raw]:
    known = set(ConditionType)
    return [one.to_api() for one in status.conditions if one.type not in known]


class TestConditionsOfOthers:
    @pytest.mark.parametrize("other", OTHERS, ids=lambda one: one["type"])
    def test_condition_is_read_and_kept(self, other: Raw) -> None:
        stored = with_conditions(started(RUNNING), other).pipeline.raw()
        read = read_pipeline(stored)
        assert isinstance(read, Pipeline)
        assert of_others(read.status) == [other]

    @each_story
    def test_conditions_are_kept_as_they_are(
        self, before: SimulatedPipeline, pod: PodBuilder | None
    ) -> None:
        short = [OTHERS[0], OTHERS[2]]
        after = with_conditions(before, *short).policy(backoffLimit=9).reconcile(pod)
        assert of_others(after.status) == short
        ready = after.condition(ConditionType.READY)
        assert ready.observed_generation == after.pipeline.generation
        suspended = after.policy(suspend=True).reconcile(None, before.now + 1)
        assert of_others(suspended.status) == short

    def test_own_condition_with_an_unknown_status_is_corrected(self) -> None:
        before = started(READY)
        status = before.status.to_api()
        status["conditions"][1]["status"] = "Perhaps"
        odd = replace(before, pipeline=replace(before.pipeline, status=status))
        ready = odd.reconcile(READY, 60).condition(ConditionType.READY)
        assert (ready.status, ready.last_transition_time) == ("True", at(60))

    def test_report_of_an_error_keeps_conditions(self) -> None:
        stored = with_conditions(started(READY), *OTHERS).pipeline.build()
        conditions = error_conditions(stored, ValueError("a"), at(20)) or []
        assert [one for one in conditions if one["reason"] == "Paused"] == OTHERS

    def test_report_of_an_unreadable_pipeline_keeps_valid_conditions(self) -> None:
        raw = with_conditions(started(READY), *OTHERS, {"type": "Half"}).pipeline.raw()
        raw["status"]["rerunCount"] = -1
        read = read_pipeline(raw)
        assert isinstance(read, UnreadablePipeline)
        conditions = unreadable_conditions(read, at(5)) or []
        assert conditions[3:] == OTHERS
        assert [one["reason"] for one in conditions[:3]] == ["Unreadable"] * 3

    def test_reported_conditions_are_not_written_again(self) -> None:
        raw = with_conditions(started(READY), *OTHERS).pipeline.raw()
        raw["status"]["rerunCount"] = -1
        read = read_pipeline(raw)
        assert isinstance(read, UnreadablePipeline)
        raw["status"]["conditions"] = unreadable_conditions(read, at(5))
        again = read_pipeline(raw)
        assert isinstance(again, UnreadablePipeline)
        assert unreadable_conditions(again, at(9)) is None


class TestUnknownReasons:
    def test_reason_of_the_ended_run_is_that_of_its_conditions(self) -> None:
        before = started(RESTARTED, rerunPolicy="Never").reconcile(None, 30)
        run = {**before.run.to_api(), "reason": "NodeOnFire", "message": "node-1 is on fire"}
        status = {**before.status.to_api(), "run": run}
        newer = replace(before, pipeline=replace(before.pipeline, status=status))
        after = newer.reconcile(None, 40)
        for type_ in (ConditionType.READY, ConditionType.STALLED):
            assert after.condition(type_).reason == "NodeOnFire"
        assert "node-1 is on fire" in after.condition(ConditionType.READY).message

    def test_ended_run_without_a_reason_is_reported_as_pod_failed(self) -> None:
        before = started(RESTARTED, rerunPolicy="Never").reconcile(None, 30)
        run = {key: value for key, value in before.run.to_api().items() if key != "reason"}
        status = {**before.status.to_api(), "run": run}
        other = replace(before, pipeline=replace(before.pipeline, status=status))
        assert other.reconcile(None, 40).condition(ConditionType.READY).reason == Reason.POD_FAILED

    def test_pod_without_rules_keeps_the_reason_for_that(self) -> None:
        pod = running_pod().in_place("InPlaceForbidden")
        after = started(pod, rerunStrategy="InPlace")
        unavailable = after.condition(ConditionType.IN_PLACE_UNAVAILABLE)
        assert unavailable.reason == "InPlaceForbidden"
        assert after.reconcile(pod, 60).condition(ConditionType.IN_PLACE_UNAVAILABLE) == unavailable


def with_run(before: SimulatedPipeline, **changed: Any) -> SimulatedPipeline:
    """Returns the pipeline after another version has changed its current run."""
    status = before.status.to_api()
    status["run"] = {**status["run"], **changed}
    return replace(before, pipeline=replace(before.pipeline, status=status))


class TestUnknownResults:
    """The run has ended in a way that only the newer version knows."""

    def paused(self, before: SimulatedPipeline) -> SimulatedPipeline:
        """Returns the pipeline with another result of its last run."""
        status = before.status.to_api()
        for run in (status["run"], status["history"][0]):
            run["result"] = "Paused"
            run.pop("exceeded")
        return replace(before, pipeline=replace(before.pipeline, status=status))

    @pytest.fixture
    def before(self) -> SimulatedPipeline:
        return self.paused(started(RUNNING, initDeadlineSeconds=30).reconcile(RUNNING, 30))

    @pytest.mark.parametrize("pod", [RUNNING, CRASHED, None], ids=["running", "restarted", "gone"])
    def test_ended_run_keeps_its_conditions_and_its_pod(
        self, before: SimulatedPipeline, pod: PodBuilder | None
    ) -> None:
        after = before.policy(ttlSecondsAfterFinished=1).reconcile(pod, 60)
        assert (after.decision.action, after.decision.wake_at) == (None, None)
        assert [one.reason for one in after.status.conditions] == [
            one["reason"] for one in before.pipeline.status["conditions"]
        ]
        assert after.run.result == "Paused"

    def test_user_starts_the_next_run(self, before: SimulatedPipeline) -> None:
        after = before.token("next").reconcile(RUNNING, 60)
        assert (after.run.number, after.run.trigger) == (2, "Requested")
        assert after.status.history[0].result == "Paused"
        assert isinstance(after.decision.action, DeletePod)

    def test_run_that_is_delayed_starts_later(self, before: SimulatedPipeline) -> None:
        """A user may start five runs at once."""
        often = before
        for number in range(USER_RUNS.burst):
            often = often.token(f"token-{number}").reconcile(None, 60)
        status, ended = often.status.to_api(), {"result": "Paused", "completionTime": stamp(61)}
        status["run"] |= ended
        shared = {key: status["run"][key] for key in ("number", "trigger", "startTime")}
        status["history"].insert(0, shared | ended)
        paused = replace(often, pipeline=replace(often.pipeline, status=status))
        delayed = paused.token("next").reconcile(None, 61)
        assert (delayed.run.number, delayed.decision.wake_at) == (often.run.number, at(70))
        assert delayed.reconcile(None, 70).run.number == often.run.number + 1


class TestUnknownTriggers:
    def test_deadline_of_a_run_in_an_older_pod_counts_from_its_start(self) -> None:
        """The kubelet may have started the run."""
        before = with_run(
            started(RUNNING, initDeadlineSeconds=30), trigger="Repaired", startTime=stamp(100)
        )
        assert before.reconcile(RUNNING, 129).run.completion_time is None
        assert before.reconcile(RUNNING, 130).run.reason == Reason.INIT_DEADLINE_EXCEEDED
