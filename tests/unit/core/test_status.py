"""The reported status: the mirror of the init containers, and the conditions."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from initpipeline.api.models import NOT_OBSERVED, EffectiveResources
from initpipeline.api.names import MAX_MESSAGE_LENGTH
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from initpipeline.core import runs, status
from initpipeline.core.evolve import evolve
from initpipeline.core.facts import Facts, Refusal
from tests.builders import (
    End,
    PodBuilder,
    at,
    completed_pod,
    fresh_pod,
    pipeline,
    pod,
    running_pod,
    silent_pod,
)
from tests.pod_shapes import box
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started

WAITING = {"waiting": {"reason": "PodInitializing"}}


class TestMirror:
    def test_statuses_are_copied_with_unknown_fields(self) -> None:
        observed = fresh_pod().init("one", exit=0)
        raw = observed.raw()["status"]["initContainerStatuses"][0]
        observed.inits[0].status.update(aFieldOfTheFuture={"x": [1]})  # type: ignore[union-attr]
        mirrored = started(observed).status.init_container_statuses[0]
        assert mirrored == {**raw, "aFieldOfTheFuture": {"x": [1]}}

    def test_order_is_that_of_the_spec(self) -> None:
        observed = pod().init("a", exit=0).sidecar("s", running=True).init("b").reversed_statuses()
        mirrored = started(observed).status.init_container_statuses
        assert [status["name"] for status in mirrored] == ["a", "s", "b"]

    def test_init_container_added_by_admission_is_included(self) -> None:
        observed = pod().sidecar("mesh", running=True).init("one").init("two").app()
        status = started(observed).status
        assert [s["name"] for s in status.init_container_statuses] == ["mesh", "one", "two"]
        assert status.init_progress == "1/3"

    def test_unreported_container_has_a_placeholder(self) -> None:
        observed = fresh_pod().init("one", exit=0).init("two", reported=False)
        mirrored = started(observed).status.init_container_statuses[1]
        assert mirrored == {
            "name": "two",
            "image": "busybox",
            "imageID": "",
            "lastState": {},
            "ready": False,
            "restartCount": 0,
            "started": False,
            "state": WAITING,
        }

    def test_missing_pod_has_placeholders_in_order_of_the_template(self) -> None:
        status = new_pipeline().reconcile(None).status
        mirrored = status.init_container_statuses
        assert [(s["name"], s["state"]) for s in mirrored] == [("one", WAITING), ("two", WAITING)]
        assert (status.init_progress, status.current_step) == ("0/2", "one")

    def test_missing_pod_of_a_template_without_init_containers_has_no_current_step(self) -> None:
        status = SimulatedPipeline(pipeline().inits()).reconcile(None).status
        assert status.init_container_statuses == ()
        assert (status.init_progress, status.current_step) == ("0/0", None)

    @pytest.mark.parametrize(
        ("reported", "stored"),
        [
            # metav1.Time writes the zero time as null.
            pytest.param({"startedAt": None, "finishedAt": None}, {}, id="time"),
            pytest.param({"message": None}, {}, id="text"),
            pytest.param({"future": [{"health": None}]}, {"future": [{}]}, id="in a list"),
        ],
    )
    def test_null_is_left_out(self, reported: Raw, stored: Raw) -> None:
        """A CRD's schema accepts no null: it would be pruned, and the difference written again at
        each reconcile."""
        assert mirrored_end(reported) == stored

    @pytest.mark.parametrize(
        ("time", "stored"),
        [
            pytest.param("2026-01-02T03:04:05Z", True, id="UTC"),
            pytest.param("2026-01-02T03:04:05.678+01:00", True, id="fraction and offset"),
            pytest.param("10000-01-02T03:04:05Z", False, id="year of five digits"),
        ],
    )
    def test_time_that_the_schema_refuses_is_left_out(self, time: str, stored: bool) -> None:
        times = {"startedAt": time, "finishedAt": time}
        assert mirrored_end(times) == (times if stored else {})
        assert mirrored_end({"message": time}) == {"message": time}

    def test_fields_after_a_time_that_the_schema_refuses_are_mirrored(self) -> None:
        end = {"finishedAt": "10000-01-02T03:04:05Z", "reason": "Error"}
        assert mirrored_end(end) == {"reason": "Error"}

    @pytest.mark.parametrize(
        ("observed", "progress", "step"),
        [
            pytest.param(fresh_pod(), "0/2", "one", id="nothing yet"),
            pytest.param(fresh_pod().init("one", running=True), "0/2", "one", id="the first runs"),
            pytest.param(fresh_pod().init("one", exit=0), "1/2", "two", id="the first is done"),
            pytest.param(fresh_pod().initialized("one", "two"), "2/2", None, id="all are done"),
            pytest.param(
                fresh_pod().sidecar("one", running=True), "1/2", "two", id="a sidecar has started"
            ),
            pytest.param(
                running_pod().init("one", reported=False).init("two", reported=False),
                "2/2",
                None,
                id="the Pod is Ready, the init containers are not reported",
            ),
        ],
    )
    def test_progress_is_counted(
        self, observed: PodBuilder, progress: str, step: str | None
    ) -> None:
        status = started(observed).status
        assert (status.init_progress, status.current_step) == (progress, step)

    def test_pod_and_node_are_reported(self) -> None:
        status = started(fresh_pod()).status
        assert (status.pod_name, status.pod_uid, status.node_name) == ("demo", "pod-1", "node-1")

    def test_new_run_has_no_mirror_of_the_old_pod(self) -> None:
        status = started(running_pod()).token("t").reconcile(running_pod()).status
        assert (status.pod_uid, status.node_name, status.init_progress) == (None, None, "0/2")
        assert [s["state"] for s in status.init_container_statuses] == [WAITING, WAITING]

    def test_delayed_run_has_no_mirror_of_the_lost_pod(self) -> None:
        second = started(running_pod()).reconcile(None, 50).reconcile(running_pod(2), 60)
        status = second.reconcile(None, 70).status
        assert status.next_run_time == at(80)
        assert (status.pod_uid, status.node_name, status.init_progress) == (None, None, "0/2")
        assert [s["state"] for s in status.init_container_statuses] == [WAITING, WAITING]


def mirrored_end(fields: Raw) -> Raw:
    """Returns the mirrored fields of the first init container's end, except the exit code."""
    observed = fresh_pod().init("one", exit=137, id="")
    terminated = {"exitCode": 137, **fields}
    observed.inits[0].status.update(state={"terminated": terminated})  # type: ignore[union-attr]
    state = started(observed).status.init_container_statuses[0]["state"]
    assert state["terminated"].pop("exitCode") == 137
    found: Raw = state["terminated"]
    return found


def conditions(state: SimulatedPipeline) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in state.status.conditions}


FAILED_APP = running_pod().app(exit=1).restarts("Never").phase("Failed").ready(False)
FAILED_STEP = fresh_pod().init("one", exit=1).restarts("Never").phase("Failed")
SUCCEEDED = completed_pod().ready(False)
GOING = running_pod().deleting(60)
WITH_SIDECAR = running_pod().sidecar("two", running=True)
ALL_CRASHED = WITH_SIDECAR.sidecar("two", exit=1).ready(False)
ALL_CRASHED = ALL_CRASHED.app(waiting="CrashLoopBackOff", last=End(1))
INVALID = Refusal(Reason.INVALID_TEMPLATE, "image: Required value")
QUOTA = Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota: small")


class TestConditions:
    """Reconciling and Stalled are present only while they are True, as kstatus expects it."""

    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            pytest.param(
                lambda: new_pipeline().reconcile(None),
                {
                    "Initialized": ("False", "PodPending"),
                    "Ready": ("False", "PodPending"),
                    "Reconciling": ("True", "PodPending"),
                },
                id="the first write",
            ),
            pytest.param(
                lambda: started(fresh_pod().init("one", running=True)),
                {
                    "Initialized": ("False", "StepRunning"),
                    "Ready": ("False", "StepRunning"),
                    "Reconciling": ("True", "StepRunning"),
                },
                id="a step runs",
            ),
            pytest.param(
                lambda: started(running_pod().ready(False)),
                {"Initialized": ("True", "Initialized"), "Ready": ("False", "ContainersNotReady")},
                id="initialized, not ready",
            ),
            pytest.param(
                lambda: started(running_pod()),
                {"Initialized": ("True", "Initialized"), "Ready": ("True", "PodReady")},
                id="ready",
            ),
            pytest.param(
                lambda: started(WITH_SIDECAR, rerunPolicy="OnPodLoss").reconcile(ALL_CRASHED),
                {"Initialized": ("True", "Initialized"), "Ready": ("False", "ContainerFailed")},
                id="initialized, then its sidecar and its app container failed",
            ),
            pytest.param(
                lambda: started(SUCCEEDED),
                {"Initialized": ("True", "Initialized"), "Ready": ("True", "PodSucceeded")},
                id="succeeded",
            ),
            pytest.param(
                lambda: started(FAILED_STEP),
                {
                    "Initialized": ("False", "StepFailed"),
                    "Ready": ("False", "StepFailed"),
                    "Stalled": ("True", "BackoffLimitExceeded"),
                },
                id="failed at a step",
            ),
            pytest.param(
                lambda: started(FAILED_APP),
                {
                    "Initialized": ("True", "Initialized"),
                    "Ready": ("False", "ContainerFailed"),
                    "Stalled": ("True", "BackoffLimitExceeded"),
                },
                id="failed at an app container",
            ),
            pytest.param(
                lambda: started(running_pod()).reconcile(running_pod().deleting()),
                {
                    "Initialized": ("True", "Initialized"),
                    "Ready": ("False", "PodTerminating"),
                    "Reconciling": ("True", "PodTerminating"),
                },
                id="its Pod is being deleted",
            ),
            pytest.param(
                lambda: new_pipeline().reconcile(None).reconcile(None, refusal=QUOTA),
                {
                    "Initialized": ("False", "QuotaExceeded"),
                    "Ready": ("False", "QuotaExceeded"),
                    "Reconciling": ("True", "QuotaExceeded"),
                },
                id="refused, may pass",
            ),
            pytest.param(
                lambda: new_pipeline().reconcile(None).reconcile(None, refusal=INVALID),
                {
                    "Initialized": ("False", "InvalidTemplate"),
                    "Ready": ("False", "InvalidTemplate"),
                    "Stalled": ("True", "InvalidTemplate"),
                },
                id="refused as invalid",
            ),
            pytest.param(
                lambda: new_pipeline().reconcile(pod().owned_by("somebody-else")),
                {
                    "Initialized": ("False", "NameConflict"),
                    "Ready": ("False", "NameConflict"),
                    "Reconciling": ("True", "NameConflict"),
                },
                id="a Pod of another owner has the name",
            ),
            pytest.param(
                lambda: started(running_pod()).token("t").reconcile(running_pod()),
                {
                    "Initialized": ("False", "PodTerminating"),
                    "Ready": ("False", "PodTerminating"),
                    "Reconciling": ("True", "PodTerminating"),
                },
                id="the Pod of the run before is in the way",
            ),
            pytest.param(
                lambda: (
                    started(FAILED_STEP, backoffLimit=9)
                    .reconcile(None)
                    .reconcile(FAILED_STEP.of_run(2))
                ),
                {
                    "Initialized": ("False", "StepFailed"),
                    "Ready": ("False", "RerunBackOff"),
                    "Reconciling": ("True", "RerunBackOff"),
                },
                id="failed at a step, the next run waits",
            ),
            pytest.param(
                lambda: (
                    started(FAILED_APP, backoffLimit=9)
                    .reconcile(None)
                    .reconcile(FAILED_APP.of_run(2))
                ),
                {
                    "Initialized": ("True", "Initialized"),
                    "Ready": ("False", "RerunBackOff"),
                    "Reconciling": ("True", "RerunBackOff"),
                },
                id="failed at an app container, the next run waits",
            ),
            pytest.param(
                lambda: started(running_pod(), rerunPolicy="Never").reconcile(None),
                {
                    "Initialized": ("False", "PodLost"),
                    "Ready": ("False", "PodLost"),
                    "Stalled": ("True", "PodLost"),
                },
                id="lost after it was initialized, and no run follows",
            ),
            pytest.param(
                lambda: started(running_pod()).policy(suspend=True).reconcile(GOING, 60),
                {
                    "Initialized": ("False", "Suspended"),
                    "Ready": ("False", "Suspended"),
                    "Reconciling": ("True", "PodTerminating"),
                    "Suspended": ("True", "Suspended"),
                },
                id="suspended, its Pod is being deleted",
            ),
            pytest.param(
                lambda: (
                    started(running_pod())
                    .policy(suspend=True)
                    .reconcile(GOING, 60)
                    .reconcile(GOING, 900)
                ),
                {
                    "Initialized": ("False", "Suspended"),
                    "Ready": ("False", "Suspended"),
                    "Stalled": ("True", "PodTerminating"),
                    "Suspended": ("True", "Suspended"),
                },
                id="suspended, its Pod is stuck",
            ),
        ],
    )
    def test_state_has_conditions(
        self, seen: Callable[[], SimulatedPipeline], expected: dict[str, tuple[str, str]]
    ) -> None:
        assert conditions(seen()) == expected

    def test_in_place_rerun_is_not_initialized(self) -> None:
        """The kubelet leaves the Pod's own condition True."""
        again = (
            running_pod()
            .init("one", running=True, restarts=1, start=50, last=End())
            .app(exit=137)
            .ready(False)
            .condition("Initialized")
        )
        assert conditions(started(running_pod()).reconcile(again))["Initialized"] == (
            "False",
            "StepRunning",
        )

    def test_message_of_the_api_server_is_verbatim(self) -> None:
        seen = new_pipeline().reconcile(None).reconcile(None, refusal=QUOTA)
        assert seen.condition(ConditionType.READY).message == "exceeded quota: small"

    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            pytest.param(None, "the Pod is about to be created", id="no Pod has the name"),
            pytest.param(
                running_pod().of_run(7).deleting(60),
                'the Pod "demo" of an earlier run is being deleted',
                id="a terminating Pod of an earlier run",
            ),
            pytest.param(
                pod().owned_by("somebody-else").deleting(60),
                'the Pod "demo" that does not belong to this InitPipeline is being deleted',
                id="a terminating Pod of another owner",
            ),
            pytest.param(
                pod().owned_by("somebody-else"),
                'Pod "demo" exists and does not belong to this InitPipeline: delete that Pod, '
                "or give the InitPipeline another name",
                id="a Pod of another owner",
            ),
        ],
    )
    def test_missing_pod_has_the_reason(self, seen: PodBuilder | None, expected: str) -> None:
        after = started(running_pod()).reconcile(None, 50).reconcile(seen, 60)
        assert after.condition(ConditionType.READY).message == expected

    def test_failure_has_step_position_and_cause(self) -> None:
        failing = fresh_pod().init("one", exit=0).init("two", exit=1, restarts=3, message="no db")
        message = started(failing).condition(ConditionType.INITIALIZED).message
        assert message == 'init container 2 of 2 "two" exited with 1, restarted 3 times: no db'

    def test_new_template_ends_stalled(self) -> None:
        assert "Stalled" not in conditions(started(FAILED_STEP).edited().reconcile(FAILED_STEP))

    def test_new_token_ends_stalled(self) -> None:
        assert "Stalled" not in conditions(started(FAILED_STEP).token("t").reconcile(FAILED_STEP))


class TestMessages:
    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            pytest.param(
                lambda: started(FAILED_STEP),
                "1 run has failed, and backoffLimit is 0: "
                'init container 1 of 2 "one" exited with 1. '
                "To continue: change the template, request a run, or raise backoffLimit to 1",
                id="given up after one run",
            ),
            pytest.param(
                lambda: (
                    started(FAILED_STEP, backoffLimit=1)
                    .reconcile(None)
                    .reconcile(FAILED_STEP.of_run(2))
                ),
                "2 runs have failed, and backoffLimit is 1: "
                'init container 1 of 2 "one" exited with 1. '
                "To continue: change the template, request a run, or raise backoffLimit to 2",
                id="given up after two runs",
            ),
            pytest.param(
                lambda: started(
                    fresh_pod().init("one", running=True), initDeadlineSeconds=30
                ).reconcile(fresh_pod().init("one", running=True), 31),
                "1 run has failed, and backoffLimit is 0: not initialized within "
                'initDeadlineSeconds (30 s): init container 1 of 2 "one" is running. '
                "To continue: change the template, request a run, or raise initDeadlineSeconds "
                "above 30, or backoffLimit to 1",
                id="given up after an exceeded limit",
            ),
            pytest.param(
                lambda: started(running_pod(), rerunPolicy="Never").reconcile(None, 60),
                "rerunPolicy is Never, and the Pod was deleted. "
                "To continue: request a run, or set another rerunPolicy",
                id="given up after a loss",
            ),
        ],
    )
    def test_stalled_has_count_limit_cause_and_remedy(
        self, seen: Callable[[], SimulatedPipeline], expected: str
    ) -> None:
        assert seen().condition(ConditionType.STALLED).message == expected

    @pytest.mark.parametrize(
        ("failing", "end"),
        [
            pytest.param(
                fresh_pod().init("one", exit=1, message="é" * 600 + "oh").phase("Failed"),
                "éoh. To continue: change the template, request a run, or raise backoffLimit to 1",
                id="termination message",
            ),
            pytest.param(
                fresh_pod().init("one").phase("Failed", "DeadlineExceeded", "é" * 600),
                "é ... To continue: change the template, request a run, or raise backoffLimit to 1",
                id="message of the Pod",
            ),
        ],
    )
    def test_stalled_with_a_long_cause_keeps_the_remedy(
        self, failing: PodBuilder, end: str
    ) -> None:
        message = started(failing.restarts("Never")).condition(ConditionType.STALLED).message
        assert len(message.encode()) <= MAX_MESSAGE_LENGTH
        assert message.endswith(end)

    def test_back_off_has_time_count_and_cause(self) -> None:
        seen = started(FAILED_STEP, backoffLimit=9).reconcile(None)
        seen = seen.reconcile(FAILED_STEP.of_run(2), 60)
        assert seen.condition(ConditionType.RECONCILING).message == (
            "the next run is delayed until 2030-01-01T12:01:10Z: restarts, lost Pods or failures "
            'caused the last run; run 2 ended: init container 1 of 2 "one" exited with 1'
        )

    def test_back_off_after_two_runs_has_their_count(self) -> None:
        of = pipeline().build()
        state = runs.first(of, Trigger.CREATED, at(0))
        run = evolve(state.run, completion_time=at(5), result=Result.FAILED)
        state = replace(state, run=run, next_run_time=at(70), rerun_count=2)
        ready = status.without_pod(Facts(of, None), state, at(60)).condition(ConditionType.READY)
        assert ready is not None
        assert ready.message.endswith("caused the last 2 runs")

    def test_failed_deletion_takes_half_of_the_message_of_stalled(self) -> None:
        waiting = fresh_pod().init("one", running=True)
        given_up = started(waiting, initDeadlineSeconds=60).reconcile(waiting, 100)
        cause = given_up.condition(ConditionType.STALLED).message
        seen = given_up.reconcile(waiting, 900, undeleted="x" * 2000)
        stalled = seen.condition(ConditionType.STALLED)
        assert stalled.message.index(f". {cause}") == MAX_MESSAGE_LENGTH // 2
        assert stalled.observed_generation == seen.status.observed_generation

    def test_suspension_without_request_has_no_token(self) -> None:
        seen = new_pipeline(suspend=True).reconcile(None)
        assert seen.condition(ConditionType.SUSPENDED).message == (
            "suspended: a run starts once spec.suspend is false"
        )

    @pytest.mark.parametrize("delayed", [False, True])
    def test_run_ended_by_another_client_has_a_message(self, delayed: bool) -> None:
        """The client has recorded a reason that the operator does not know, and no message."""
        of, state = pipeline().build(), runs.first(pipeline().build(), Trigger.CREATED, at(0))
        run = evolve(state.run, completion_time=at(5), result=Result.FAILED, reason="Invented")
        state = replace(state, run=run, next_run_time=at(70) if delayed else None, rerun_count=1)
        written = status.without_pod(Facts(of, None), state, at(60))
        ready = written.condition(ConditionType.READY)
        initialized = written.condition(ConditionType.INITIALIZED)
        assert initialized is not None
        assert (initialized.reason, initialized.message) == ("Invented", "the run has ended")
        assert ready is not None
        if delayed:
            assert ready.message.endswith("caused the last run")


class TestEndedRun:
    """Conditions of an ended run are kept until the next one begins."""

    @pytest.mark.parametrize(
        "ended",
        [
            pytest.param(SUCCEEDED, id="succeeded"),
            pytest.param(FAILED_STEP, id="failed at a step"),
            pytest.param(FAILED_APP, id="failed at an app container"),
        ],
    )
    @pytest.mark.parametrize(
        "way",
        [
            pytest.param("gone", id="the Pod is gone"),
            pytest.param("deleting", id="the Pod is being deleted, held by a finalizer"),
            pytest.param("disrupted", id="the node of the Pod goes"),
        ],
    )
    def test_conditions_are_kept_until_the_next_run(self, ended: PodBuilder, way: str) -> None:
        before = started(ended)
        if way == "deleting":
            after = before.reconcile(ended.deleting(), 60)
            assert conditions(after) == conditions(before)
        elif way == "disrupted":
            after = before.reconcile(ended.condition("DisruptionTarget"), 60)
            assert conditions(after) == conditions(before)
        else:
            after = before
        assert conditions(after.reconcile(None, 70)) == conditions(before)

    def test_observed_generation_is_current(self) -> None:
        before = started(SUCCEEDED)
        after = before.change(before.pipeline.of_generation(4)).reconcile(None, 60)
        assert {c.observed_generation for c in after.status.conditions} == {4}


class TestEffectiveResources:
    ASKING = pipeline().with_template(
        {
            "spec": {
                "initContainers": [box("one", {"cpu": "2"})],
                "containers": [box("app", {"cpu": "1"}, {"memory": "1024Mi"})],
            }
        }
    )
    OF_THE_TEMPLATE = EffectiveResources(
        requests={"cpu": "2", "memory": "1Gi"}, limits={"memory": "1Gi"}
    )
    ADMITTED = fresh_pod().with_spec(overhead={"cpu": "3"})

    def test_missing_pod_has_those_of_the_template(self) -> None:
        assert (
            SimulatedPipeline(self.ASKING).reconcile(None).status.effective_resources
            == self.OF_THE_TEMPLATE
        )

    def test_pod_has_its_own_after_admission(self) -> None:
        seen = SimulatedPipeline(self.ASKING).reconcile(None).reconcile(self.ADMITTED)
        assert seen.status.effective_resources == EffectiveResources(requests={"cpu": "3"})

    def test_next_run_without_pod_has_those_of_the_template(self) -> None:
        lost = (
            SimulatedPipeline(self.ASKING).reconcile(None).reconcile(self.ADMITTED).reconcile(None)
        )
        assert lost.run.number == 2
        assert lost.status.effective_resources == self.OF_THE_TEMPLATE

    def test_ended_run_keeps_those_of_its_pod(self) -> None:
        ended = (
            self.ADMITTED.initialized("one", "two")
            .restarts("OnFailure")
            .app(exit=0)
            .phase("Succeeded")
        )
        gone = (
            SimulatedPipeline(self.ASKING)
            .reconcile(None)
            .reconcile(self.ADMITTED)
            .reconcile(ended)
            .reconcile(None)
        )
        assert gone.status.effective_resources == EffectiveResources(requests={"cpu": "3"})

    def test_field_is_absent_without_requests_and_limits(self) -> None:
        assert "effectiveResources" not in started(running_pod()).status.to_api()

    def test_empty_map_is_absent(self) -> None:
        resources = started(self.ADMITTED).status.to_api()["effectiveResources"]
        assert resources == {"requests": {"cpu": "3"}}


class TestTransitionTimes:
    def test_equal_status_keeps_the_time(self) -> None:
        first = new_pipeline().reconcile(fresh_pod(), 5)
        later = first.reconcile(fresh_pod().init("one", running=True), 20)
        assert later.condition(ConditionType.READY).reason == Reason.STEP_RUNNING
        assert later.condition(ConditionType.READY).last_transition_time == at(5)

    def test_changed_status_changes_the_time(self) -> None:
        later = new_pipeline().reconcile(None, 5).reconcile(running_pod(), 20)
        assert later.condition(ConditionType.READY).last_transition_time == at(20)

    def test_each_condition_has_its_own_time(self) -> None:
        seen = (
            new_pipeline()
            .reconcile(None, 5)
            .reconcile(running_pod().ready(False), 20)
            .reconcile(running_pod(), 30)
        )
        assert seen.condition(ConditionType.INITIALIZED).last_transition_time == at(20)
        assert seen.condition(ConditionType.READY).last_transition_time == at(30)

    def test_condition_that_returns_has_a_new_time(self) -> None:
        seen = new_pipeline().reconcile(None, 5).reconcile(running_pod(), 20)
        assert seen.status.condition(ConditionType.RECONCILING) is None
        again = seen.token("t").reconcile(running_pod(), 40)
        assert again.condition(ConditionType.RECONCILING).last_transition_time == at(40)

    def test_times_are_whole_seconds(self) -> None:
        assert new_pipeline().reconcile(None, 5.7).condition(
            ConditionType.READY
        ).last_transition_time == at(5)


class TestGeneration:
    def test_status_and_conditions_have_the_observed_generation(self) -> None:
        seen = SimulatedPipeline(pipeline().of_generation(3)).reconcile(None)
        assert seen.status.observed_generation == 3
        assert {c.observed_generation for c in seen.status.conditions} == {3}

    def test_change_while_the_pod_is_created_changes_only_the_observed_generation(self) -> None:
        before = new_pipeline().reconcile(None)
        after = before.policy(backoffLimit=3).reconcile(None)
        assert after.status.observed_generation == 2
        assert {c.observed_generation for c in after.status.conditions} == {2}
        assert [c.message for c in after.status.conditions] == [
            c.message for c in before.status.conditions
        ]

    @pytest.mark.parametrize("observed", [None, NOT_OBSERVED])
    def test_delayed_change_of_an_unobserved_pipeline_has_generation_0(
        self, observed: int | None
    ) -> None:
        """Another client may have removed observedGeneration."""
        of = pipeline().build()
        of = replace(of, status=evolve(of.status, observed_generation=observed))
        state = runs.first(of, Trigger.CREATED, at(0))
        state = replace(state, rate_limited=Trigger.SPEC_CHANGED)
        assert status.unchanged(of, state).observed_generation == 0


class TestSuspended:
    def test_suspended_pipeline_has_no_mirror_of_its_pod(self) -> None:
        seen = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 60).status
        assert (seen.pod_uid, seen.node_name, seen.init_progress) == (None, None, "0/2")
        assert [s["state"] for s in seen.init_container_statuses] == [WAITING, WAITING]

    def test_suspended_pipeline_has_pod_name_and_generation(self) -> None:
        seen = SimulatedPipeline(pipeline().policy(suspend=True).of_generation(3)).reconcile(None)
        assert (seen.status.pod_name, seen.status.observed_generation) == ("demo", 3)
        assert {c.observed_generation for c in seen.status.conditions} == {3}


def test_unchanged_status_has_pod_name_and_generation() -> None:
    """While the first report on the Pod of a later run is awaited, a user may change a policy."""
    before = started(running_pod()).reconcile(None, 60).pipeline
    lost = replace(before, status={"conditions": before.status["conditions"]}, generation=7)
    of = lost.build()
    written = status.unchanged(of, runs.first(of, Trigger.CREATED, at(0)))
    assert written.pod_name == "demo"
    assert written.observed_generation == 7
    assert {c.observed_generation for c in written.conditions} == {7}


class TestFirstReportGrace:
    """Scheduler and kubelet report on a new Pod within milliseconds. One write has all reports."""

    @pytest.mark.parametrize("seconds", [0, 1, 2])
    def test_new_pod_without_reports_writes_nothing(self, seconds: int) -> None:
        after = new_pipeline().reconcile(None, 0).reconcile(silent_pod(), seconds)
        assert after.decision.defer_status
        assert after.pipeline.status == {}

    @pytest.mark.parametrize("seconds", [0, 1, 2])
    def test_new_pod_of_a_later_run_without_reports_writes_nothing(self, seconds: int) -> None:
        before = new_pipeline().reconcile(running_pod(), 0).reconcile(None, 60)
        assert not before.decision.defer_status
        created = silent_pod(2, created=60)
        assert before.reconcile(created, 60 + seconds).status == before.status

    def test_new_pod_is_reported_after_the_grace_period(self) -> None:
        after = new_pipeline().reconcile(None, 0).reconcile(silent_pod(), 3)
        assert after.status.pod_uid == "pod-1"
        assert after.condition(ConditionType.READY).message == "the Pod has not been scheduled yet"

    def test_new_pod_is_requeued_for_the_deadline(self) -> None:
        assert new_pipeline().reconcile(None, 0).reconcile(silent_pod(), 1).decision.wake_at == at(
            3
        )

    def test_recorded_pod_has_no_grace_period(self) -> None:
        before = new_pipeline().reconcile(None, 0).reconcile(silent_pod(), 5)
        scheduled = silent_pod().node("n").condition("PodScheduled", since=6)
        assert before.reconcile(scheduled, 6).status.node_name == "n"
