"""spec.logTails: nothing that a container printed is in status, in an event or in the next Pod."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType
from initpipeline.core.decide import CreatePod, decide
from initpipeline.core.facts import Facts
from initpipeline.core.log_tails import OMITTED, as_reported, required
from initpipeline.core.pod_restarts import ALL_CONTAINERS_RESTARTING
from initpipeline.core.run_events import events_between
from tests.builders import End, PodBuilder, at, fresh_pod, pipeline, running_pod
from tests.unit.core.samples import RESTARTING_ALL
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started

SECRET: Final = "password=hunter2"
LONG: Final = "\n".join(f"{number}: {SECRET}" for number in range(100))
"""Longer than a message of status."""

MESSAGES: Final = {"short": SECRET, "long": LONG}


def failed(message: str) -> PodBuilder:
    observed = fresh_pod().restarts("Never").phase("Failed")
    return observed.init("one", exit=3, message=message)


def backing_off(message: str, restarts: int = 1) -> PodBuilder:
    waiting: Raw = {"waiting": "CrashLoopBackOff", "last": End(3, message=message)}
    return fresh_pod().init("one", restarts=restarts, **waiting)


def restarted_app(message: str) -> PodBuilder:
    last = End(1, start=20, message=message)
    return running_pod().app(running=True, restarts=1, last=last)


def limited(**limits: Any) -> Raw:
    return {"initPolicies": [{"name": "one", **limits}]}


def after_failure(message: str, **policies: Any) -> SimulatedPipeline:
    return started(failed(message), **policies).reconcile(failed(message), 20)


def after_restart(message: str, **policies: Any) -> SimulatedPipeline:
    now = started(running_pod(), **policies).reconcile(running_pod(), 30)
    now = now.reconcile(restarted_app(message), 60)
    return now.reconcile(None, 61).reconcile(fresh_pod(2), 62)


def after_app_failure(message: str, **policies: Any) -> SimulatedPipeline:
    """Returns a pipeline that has the message only in the text of history: the Pod is gone."""
    observed = running_pod().restarts("Never").app(exit=1, message=message).phase("Failed")
    now = started(observed, backoffLimit=1, **policies).reconcile(observed, 60)
    return now.reconcile(None, 61).reconcile(fresh_pod(2), 62)


RESTARTED: Final = fresh_pod().init("one", running=True, restarts=1, last=RESTARTING_ALL).in_place()


def restarting_all_containers(message: str, **policies: Any) -> SimulatedPipeline:
    now = started(running_pod(), **policies).reconcile(running_pod(), 30)
    observed = running_pod().app(exit=1, message=message).in_place()
    return now.reconcile(observed.condition(ALL_CONTAINERS_RESTARTING), 60)


def after_restart_of_all_containers(message: str, **policies: Any) -> SimulatedPipeline:
    return restarting_all_containers(message, **policies).reconcile(RESTARTED, 62)


def after_retry(message: str, **policies: Any) -> SimulatedPipeline:
    now = started(failed(message), backoffLimit=1, **policies).reconcile(failed(message), 60)
    return now.reconcile(None, 61).reconcile(fresh_pod(2), 62)


def after_back_off(message: str, **policies: Any) -> SimulatedPipeline:
    return started(backing_off(message), **policies).reconcile(backing_off(message), 20)


def after_too_many_restarts(message: str, **policies: Any) -> SimulatedPipeline:
    now = started(backing_off(message, 0), **limited(maxRestarts=0), **policies)
    observed = fresh_pod().init("one", exit=3, message=message)
    return now.reconcile(observed, 20).reconcile(observed.deleting(20), 21).reconcile(None, 22)


def after_timeout(message: str, **policies: Any) -> SimulatedPipeline:
    hanging = fresh_pod().init("one", running=True)
    now = started(hanging, **limited(timeoutSeconds=10), **policies).reconcile(hanging, 10)
    dying = hanging.deleting(10).init("one", exit=137, message=message)
    return now.reconcile(dying, 12).reconcile(None, 13)


def after_loss(message: str, **policies: Any) -> SimulatedPipeline:
    now = started(backing_off(message), **policies).reconcile(backing_off(message), 20)
    ended = fresh_pod().init("one", exit=4, restarts=2, message=message)
    return now.reconcile(None, 30, gone=ended.deleting(25))


def after_unobserved_loss(message: str, **policies: Any) -> SimulatedPipeline:
    now = started(backing_off(message), **policies).reconcile(backing_off(message), 20)
    return now.reconcile(None, 30)


LIVES: Final[dict[str, Callable[..., SimulatedPipeline]]] = {
    "failure": after_failure,
    "restart of the app": after_restart,
    "failure of the app": after_app_failure,
    "restart of all containers": after_restart_of_all_containers,
    "retry": after_retry,
    "back-off": after_back_off,
    "too many restarts": after_too_many_restarts,
    "timeout": after_timeout,
    "loss": after_loss,
    "loss that was not observed": after_unobserved_loss,
}


def text(status: InitPipelineStatus) -> str:
    return json.dumps(status.to_api())


def without_texts(value: Any) -> Any:
    """Returns the status without all texts about failures."""
    if isinstance(value, dict):
        left_out = {"message", "terminationMessage", "observedGeneration"}
        return {key: without_texts(one) for key, one in value.items() if key not in left_out}
    return [without_texts(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
class TestOmit:
    def test_status_has_no_message_of_a_container(
        self, life: Callable[..., SimulatedPipeline], message: str
    ) -> None:
        now = life(message, logTails="Omit")
        assert "hunter2" not in text(now.status)
        assert OMITTED in text(now.status)

    def test_status_is_the_same_apart_from_texts(
        self, life: Callable[..., SimulatedPipeline], message: str
    ) -> None:
        recorded, omitted = life(message), life(message, logTails="Omit")
        assert "hunter2" in text(recorded.status), "otherwise this test shows nothing"
        assert without_texts(omitted.status.to_api()) == without_texts(recorded.status.to_api())

    def test_change_removes_what_status_has(
        self, life: Callable[..., SimulatedPipeline], message: str
    ) -> None:
        before = life(message)
        now = before.policy(logTails="Omit").reconcile(None, before.now + 1)
        assert "hunter2" not in text(now.status)
        assert now.run.number >= before.run.number

    def test_operator_omits_messages_of_all_pipelines(
        self, life: Callable[..., SimulatedPipeline], message: str
    ) -> None:
        before = life(message)
        facts = Facts(before.pipeline.build(), None)
        decision = decide(required(facts), at(before.now + 1))
        assert "hunter2" not in text(decision.status)
        assert "hunter2" not in json.dumps(decision.patch)


def test_exit_code_and_reason_stay() -> None:
    now = after_failure(SECRET, logTails="Omit")
    [record] = now.status.history
    assert record.failed_step is not None
    assert (record.failed_step.exit_code, record.failed_step.message) == (3, OMITTED)
    ready = now.condition(ConditionType.READY)
    assert "exited with 3: log tails are switched off" in ready.message


def test_failure_without_a_message_is_explained() -> None:
    """With the policy File, the kubelet reports no message, unless the container wrote one."""
    now = started(fresh_pod().restarts("Never").phase("Failed").init("one", exit=3))
    assert "log tails" not in text(now.reconcile(None, 20).status)
    now = after_failure("", logTails="Omit")
    assert "exited with 3: log tails are switched off" in text(now.status)


@pytest.mark.parametrize("message", ["log", "e", "\n"])
def test_message_that_is_a_part_of_other_texts_changes_only_its_own(message: str) -> None:
    now = after_failure(message, logTails="Omit").reconcile(failed(message), 30)
    assert now.run.message == f'init container 1 of 2 "one" exited with 3: {OMITTED}'


def test_message_of_a_step_that_was_stopped_is_replaced() -> None:
    now = after_timeout(SECRET)
    for changed in (now, now.policy(logTails="Omit")):
        [record] = changed.reconcile(None, 20).status.history
        assert record.exceeded is not None
        expected = SECRET if changed is now else OMITTED
        assert record.exceeded.termination_message == expected


def test_message_of_a_completed_step_is_replaced() -> None:
    """A step that succeeds can write to its terminationMessagePath."""
    observed = fresh_pod().init("one", exit=0, message=SECRET).init("two", exit=0)
    now = started(observed, logTails="Omit").reconcile(observed, 20)
    ends = [raw["state"]["terminated"] for raw in now.status.init_container_statuses]
    assert [end.get("message") for end in ends] == [OMITTED, None]


def test_message_of_the_cause_of_a_restart_in_place_is_replaced() -> None:
    now = restarting_all_containers(SECRET).policy(logTails="Omit").reconcile(RESTARTED, 62)
    assert now.run.cause is not None
    assert (now.run.number, now.run.cause.message) == (2, OMITTED)


def test_message_of_the_cause_of_an_ended_run_is_replaced() -> None:
    now = after_restart(SECRET).reconcile(None, 90).policy(logTails="Omit").reconcile(None, 91)
    record = next(one for one in now.status.history if one.number == 2)
    assert record.cause is not None
    assert record.cause.message == OMITTED


def test_message_of_the_container_runtime_stays() -> None:
    """A container that could not be started has printed nothing."""
    cause = 'exec: "migrate": executable file not found in $PATH'
    end: Raw = {"exit": 128, "reason": "StartError", "message": cause}
    observed = fresh_pod().restarts("Never").phase("Failed").init("one", **end)
    now = started(observed, logTails="Omit").reconcile(observed, 20)
    assert json.dumps(cause) in text(now.status)


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_change_starts_no_run_and_posts_no_event(life: Callable[..., SimulatedPipeline]) -> None:
    before = life(SECRET)
    same = before.reconcile(None, before.now)
    changed = same.policy(logTails="Omit").reconcile(None, before.now)
    assert changed.run.number == same.run.number
    assert changed.decision.action == same.decision.action or isinstance(
        changed.decision.action, CreatePod
    )
    assert events_between(same.status, changed.status) == ()


class TestAsReported:
    """The plugin does not know the operator's option."""

    @pytest.mark.parametrize("observed", [failed(SECRET), backing_off(SECRET)])
    def test_messages_are_omitted_if_status_shows_that_the_operator_does(
        self, observed: PodBuilder
    ) -> None:
        recorded = started(observed).reconcile(observed, 20)
        facts = Facts(recorded.pipeline.build(), observed.build())
        assert as_reported(facts) == facts
        written = recorded.pipeline.with_status(decide(required(facts), at(20)).status)
        facts = replace(facts, pipeline=written.build())
        assert as_reported(facts) == required(facts)


def test_change_of_log_tails_keeps_run_and_pod() -> None:
    now = started(running_pod()).reconcile(running_pod(), 30)
    for value in ("Omit", "Record"):
        now = now.policy(logTails=value).reconcile(running_pod(), 40)
        assert (now.run.number, now.decision.action) == (1, None)


def test_value_of_a_newer_version_omits() -> None:
    now = after_failure(SECRET, logTails="Redact")
    assert "hunter2" not in text(now.status)


@pytest.mark.parametrize(
    ("policies", "omit", "expected"),
    [
        ({}, False, "FallbackToLogsOnError"),
        ({"logTails": "Record"}, False, "FallbackToLogsOnError"),
        ({"logTails": "Omit"}, False, None),
        ({}, True, None),
        ({"logTails": "Record"}, True, None),
    ],
)
def test_pod_gets_the_default_only_if_tails_are_recorded(
    policies: Raw, omit: bool, expected: str | None
) -> None:
    facts = Facts(pipeline().policy(**policies).build(), None)
    action = decide(required(facts) if omit else facts, at(0)).action
    assert isinstance(action, CreatePod)
    (first, *_) = action.manifest["spec"]["initContainers"]
    assert first.get("terminationMessagePolicy") == expected


def test_pod_of_an_omitting_pipeline_has_the_same_hash() -> None:
    hashes = {
        replace(pipeline(), policies=policies).build().hashed().template_hash
        for policies in ({}, {"logTails": "Omit"})
    }
    assert len(hashes) == 1
    assert new_pipeline(logTails="Omit").reconcile(None).run.number == 1
