"""Decisions: when a run starts, what is done about Pods, and crashes between any two writes."""

from dataclasses import replace
from typing import Any, Final

import pytest

from initpipeline.api.models import Condition, InitPipelineStatus
from initpipeline.api.names import (
    RERUN_TOKEN_ANNOTATION,
    RUN_ANNOTATION,
    RUN_GATE,
    TEMPLATE_HASH_ANNOTATION,
)
from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from initpipeline.core import admission
from initpipeline.core.decide import CreatePod, DeletePod, UngatePod, decide, needs_live_pod
from initpipeline.core.facts import Facts, Refusal
from initpipeline.core.pod_ownership import LARGEST_ADOPTED_RUN
from tests.builders import (
    BASE,
    End,
    PodBuilder,
    at,
    completed_pod,
    fresh_pod,
    pipeline,
    pod,
    running_pod,
    silent_pod,
    stamp,
)
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started

INVALID = Refusal(Reason.INVALID_TEMPLATE, "image: Required value")
QUOTA = Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota: small")
UNSPECIFIED = Refusal(Reason.QUOTA_REQUIRES_RESOURCES, "must specify requests.cpu for: one")
FORBIDDEN = Refusal(Reason.POD_FORBIDDEN, "violates PodSecurity")
RESTARTED = running_pod().app(running=True, restarts=1, last=End(1, start=20))
AGAIN = (
    running_pod()
    .init("one", running=True, restarts=1, start=50, last=End())
    .app(exit=137)
    .ready(False)
)
IN_PLACE = (
    running_pod()
    .init("one", waiting="RestartingAllContainers", restarts=1, last=End())
    .app(waiting="RestartingAllContainers", restarts=1)
    .ready(False)
)


def created_for(state: SimulatedPipeline) -> int:
    """Returns the number of the run for which the Pod is created."""
    action = state.decision.action
    assert isinstance(action, CreatePod), f"{action} is no creation"
    return int(action.manifest["metadata"]["annotations"][RUN_ANNOTATION])


class TestRunStart:
    """The table "When a run starts" of the reference."""

    @pytest.mark.parametrize(
        ("before", "observed", "trigger", "result"),
        [
            pytest.param(
                started(running_pod()).edited(),
                running_pod(),
                Trigger.SPEC_CHANGED,
                "Initialized",
                id="template changed",
            ),
            pytest.param(
                started(fresh_pod()).edited(),
                fresh_pod(),
                Trigger.SPEC_CHANGED,
                "Superseded",
                id="template changed before it was initialized",
            ),
            pytest.param(
                started(running_pod()).token("t"),
                running_pod(),
                Trigger.REQUESTED,
                "Initialized",
                id="new token",
            ),
            pytest.param(
                started(running_pod()),
                RESTARTED,
                Trigger.CONTAINER_RESTARTED,
                "Initialized",
                id="an app container restarted",
            ),
            pytest.param(
                started(running_pod()), None, Trigger.POD_LOST, "Lost", id="the Pod is gone"
            ),
            pytest.param(
                started(fresh_pod()), None, Trigger.POD_LOST, "Lost", id="gone before initialized"
            ),
            pytest.param(
                started(running_pod()),
                running_pod().phase("Failed", "Evicted").condition("DisruptionTarget"),
                Trigger.POD_LOST,
                "Lost",
                id="evicted",
            ),
            pytest.param(
                started(running_pod()),
                running_pod().phase("Failed").condition("DisruptionTarget"),
                Trigger.POD_LOST,
                "Lost",
                id="preempted or drained",
            ),
            pytest.param(
                started(fresh_pod()),
                fresh_pod().phase("Failed", "NodeAffinity"),
                Trigger.POD_LOST,
                "Lost",
                id="not admitted by the kubelet",
            ),
            pytest.param(
                started(running_pod()),
                AGAIN,
                Trigger.POD_RESTARTED,
                "Initialized",
                id="sandbox re-created",
            ),
            pytest.param(
                started(running_pod()),
                IN_PLACE,
                Trigger.RESTARTED_IN_PLACE,
                "Initialized",
                id="all containers restarted in place",
            ),
        ],
    )
    def test_cause_starts_run_2(
        self, before: SimulatedPipeline, observed: PodBuilder | None, trigger: Trigger, result: str
    ) -> None:
        after = before.reconcile(observed, 60)
        assert (after.run.number, after.run.trigger) == (2, trigger)
        assert after.past == [(1, "Created", result)]

    def test_no_cause_keeps_run_1(self) -> None:
        after = new_pipeline().reconcile(None)
        assert (after.run.number, after.run.trigger, after.past) == (1, Trigger.CREATED, [])
        assert created_for(after) == 1

    @pytest.mark.parametrize(
        ("observed", "result"),
        [
            pytest.param(completed_pod(), "Succeeded", id="well"),
            pytest.param(
                running_pod().app(exit=1).restarts("Never").phase("Failed"), "Failed", id="badly"
            ),
            pytest.param(
                fresh_pod().init("one", exit=1).restarts("Never").phase("Failed"),
                "Failed",
                id="at a step",
            ),
        ],
    )
    def test_terminated_pod_starts_no_run(self, observed: PodBuilder, result: str) -> None:
        after = started(fresh_pod()).reconcile(observed, 60)
        assert after.past == [(1, "Created", result)]
        assert after.run.number == 1
        assert after.decision.action is None, "the Pod stays, for its logs"


class TestPodDeletedByUser:
    """The kubelet may report Failed or Succeeded while the Pod terminates."""

    @pytest.mark.parametrize(
        "on_its_way",
        [
            pytest.param(running_pod().app(exit=143).phase("Failed").deleting(), id="Failed"),
            pytest.param(completed_pod().deleting(), id="Succeeded"),
        ],
    )
    def test_run_is_lost_in_each_phase_the_kubelet_reports(self, on_its_way: PodBuilder) -> None:
        deleting = started(running_pod()).reconcile(running_pod().deleting(), 50)
        after = deleting.reconcile(on_its_way, 60).reconcile(None, 61)
        assert after.past == [(1, "Created", "Lost")]
        assert (after.run.number, after.run.trigger) == (2, Trigger.POD_LOST)

    def test_terminating_pod_delays_the_next(self) -> None:
        deleting = started(running_pod()).reconcile(running_pod().deleting(), 50)
        assert deleting.decision.action is None
        assert deleting.run.number == 1

    def test_pending_run_is_lost(self) -> None:
        pending = fresh_pod().init("one", running=True)
        after = started(pending).reconcile(pending.deleting(), 50).reconcile(None, 60)
        assert after.past == [(1, "Created", "Lost")]
        assert created_for(after) == 2

    def test_template_change_meanwhile_starts_a_run_that_waits(self) -> None:
        deleting = started(running_pod()).reconcile(running_pod().deleting(), 50)
        edited = deleting.edited().reconcile(running_pod().deleting(), 55)
        assert (edited.run.number, edited.run.trigger) == (2, Trigger.SPEC_CHANGED)
        assert edited.decision.action is None
        assert created_for(edited.reconcile(None, 60)) == 2
        assert edited.reconcile(None, 60).past == [(1, "Created", "Initialized")]


NOT_DELETED = "is not deleted, because the request failed: 403: no"
REMEDY = (
    ". To continue: check the operator's permissions, and the webhooks and policies that refuse "
    "the deletion. The operator retries at least every 5 minutes"
)


class TestFailedCreation:
    """The requests to create the Pod fail again and again, but not because of the Pod."""

    FAILED: Final = admission.failed_request(None, "connection reset")

    def test_failure_is_reported_before_the_next_request(self) -> None:
        state = new_pipeline().reconcile(None, 0, failed=self.FAILED)
        assert created_for(state) == 1
        assert not state.decision.defer_status
        ready = state.condition(ConditionType.READY)
        assert (ready.reason, ready.message) == (Reason.POD_REQUEST_FAILED, self.FAILED.message)

    def test_failure_is_reported_in_place_of_a_refusal(self) -> None:
        refused = new_pipeline().reconcile(None, 0, Refusal(Reason.QUOTA_EXCEEDED, "no quota"))
        after = refused.reconcile(None, 10, failed=self.FAILED)
        assert after.condition(ConditionType.READY).reason == Reason.POD_REQUEST_FAILED
        assert created_for(after) == 1

    def test_failure_is_not_reported_any_more_when_the_pod_exists(self) -> None:
        failed = new_pipeline().reconcile(None, 0, failed=self.FAILED)
        after = failed.reconcile(silent_pod(1, created=10), 10, failed=self.FAILED)
        assert after.condition(ConditionType.READY).reason == Reason.POD_PENDING
        assert failed.reconcile(running_pod(), 10).condition(ConditionType.READY).status == "True"


class TestFailedDeletion:
    OLD = started(running_pod()).token("t").reconcile(running_pod(), 20)
    SUSPENDED = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 20)
    FINISHED = started(completed_pod(), ttlSecondsAfterFinished=100)

    @staticmethod
    def texts(state: SimulatedPipeline) -> dict[str, str]:
        """Returns the messages of the conditions that report the failure, by type."""
        return {
            one.type: one.message
            for one in state.status.conditions
            if one.reason == Reason.DELETION_FAILED
        }

    def test_deletion_that_did_not_fail_is_not_reported(self) -> None:
        for state in (self.OLD, self.SUSPENDED):
            assert self.texts(state) == {}
            assert state.decision.action == DeletePod("pod-1")

    @pytest.mark.parametrize("now", [30, 619])
    def test_old_pod_is_reported(self, now: float) -> None:
        after = self.OLD.reconcile(running_pod(), now, undeleted="403: no")
        message = f'the Pod "demo" of an earlier run {NOT_DELETED}'
        assert self.texts(after) == dict.fromkeys(("Initialized", "Ready", "Reconciling"), message)
        assert after.decision.action == DeletePod("pod-1")

    def test_old_pod_is_stalled_ten_minutes_after_the_start_of_the_run(self) -> None:
        after = self.OLD.reconcile(running_pod(), 620, undeleted="403: no")
        message = f'the Pod "demo" of an earlier run {NOT_DELETED}'
        assert self.texts(after) == {
            "Initialized": message,
            "Ready": message,
            "Stalled": message + REMEDY,
        }

    def test_pod_of_a_suspended_pipeline_is_reported(self) -> None:
        after = self.SUSPENDED.reconcile(running_pod(), 619, undeleted="403: no")
        assert self.texts(after) == {"Reconciling": f"the Pod {NOT_DELETED}"}
        after = after.reconcile(running_pod(), 620, undeleted="403: no")
        assert self.texts(after) == {"Stalled": f"the Pod {NOT_DELETED}{REMEDY}"}
        assert after.condition(ConditionType.READY).reason == Reason.SUSPENDED

    def test_finished_pipeline_is_reported_from_the_end_of_its_ttl(self) -> None:
        expired = self.FINISHED.run.completion_time
        assert expired is not None
        end = (expired - BASE).total_seconds() + 100
        after = self.FINISHED.reconcile(completed_pod(), end + 599, undeleted="403: no")
        assert self.texts(after) == {"Reconciling": f"the InitPipeline {NOT_DELETED}"}
        after = after.reconcile(completed_pod(), end + 600, undeleted="403: no")
        assert self.texts(after) == {"Stalled": f"the InitPipeline {NOT_DELETED}{REMEDY}"}
        assert after.condition(ConditionType.READY).reason == Reason.POD_SUCCEEDED

    def test_finished_pipeline_before_its_ttl_reports_no_deletion(self) -> None:
        after = self.FINISHED.reconcile(completed_pod(), undeleted="403: no")
        assert self.texts(after) == {}

    def test_pod_after_an_exceeded_limit_is_reported_before_the_limit(self) -> None:
        waiting = fresh_pod().init("one", running=True)
        given_up = started(waiting, initDeadlineSeconds=60).reconcile(waiting, 100)
        assert given_up.decision.action == DeletePod("pod-1")
        before = given_up.condition(ConditionType.STALLED)
        after = given_up.reconcile(waiting, 900, undeleted="403: no")
        stalled = after.condition(ConditionType.STALLED)
        assert stalled.message == f"the Pod {NOT_DELETED}. {before.message}"
        assert stalled.reason == Reason.BACKOFF_LIMIT_EXCEEDED
        assert stalled.last_transition_time == before.last_transition_time
        long = given_up.reconcile(waiting, 900, undeleted="x" * 2000)
        assert before.message in long.condition(ConditionType.STALLED).message

    @pytest.mark.parametrize("now", [30, 900])
    @pytest.mark.parametrize("name", ["OLD", "SUSPENDED", "FINISHED"])
    def test_report_stays_until_the_next_process_has_tried(self, name: str, now: float) -> None:
        observed = completed_pod() if name == "FINISHED" else running_pod()
        state: SimulatedPipeline = getattr(self, name)
        failed = state.reconcile(observed, now + 100, undeleted="403: no")
        assert failed.reconcile(observed, now + 101).status == failed.status

    @pytest.mark.parametrize("name", ["OLD", "SUSPENDED"])
    def test_report_ends_when_the_pod_terminates(self, name: str) -> None:
        state: SimulatedPipeline = getattr(self, name)
        failed = state.reconcile(running_pod(), 900, undeleted="403: no")
        after = failed.reconcile(running_pod().deleting(901), 901)
        assert self.texts(after) == {}
        assert after.condition(ConditionType.RECONCILING).reason == Reason.POD_TERMINATING

    def test_report_ends_when_the_pod_is_gone(self) -> None:
        failed = self.OLD.reconcile(running_pod(), 900, undeleted="403: no")
        after = failed.reconcile(None, 901)
        assert self.texts(after) == {}
        assert created_for(after) == 2

    @pytest.mark.parametrize("name", ["OLD", "SUSPENDED", "FINISHED"])
    def test_absence_of_the_pod_must_be_confirmed(self, name: str) -> None:
        observed = completed_pod() if name == "FINISHED" else running_pod()
        state: SimulatedPipeline = getattr(self, name)
        failed = state.reconcile(observed, 900, undeleted="403: no")
        recorded = failed.run.pod_uid is not None
        assert needs_live_pod(failed.pipeline.build()) is recorded


class TestPodName:
    """The API server refuses a second Pod of the same name. The first may belong to anything."""

    def test_pod_of_the_current_run_is_adopted(self) -> None:
        after = new_pipeline().reconcile(None).reconcile(fresh_pod())
        assert (after.run.number, after.run.pod_uid) == (1, "pod-1")
        assert after.decision.action is None

    def test_pod_of_an_older_run_is_deleted_by_uid(self) -> None:
        after = started(running_pod()).token("t").reconcile(running_pod())
        assert after.decision.action == DeletePod("pod-1")

    def test_terminating_pod_of_an_older_run_is_awaited(self) -> None:
        after = started(running_pod()).token("t").reconcile(running_pod().deleting())
        assert after.decision.action is None
        assert after.condition(ConditionType.RECONCILING).reason == Reason.POD_TERMINATING

    def test_owned_pod_without_run_number_is_deleted(self) -> None:
        unmarked = fresh_pod().of_run(None, uid="unmarked")
        assert new_pipeline().reconcile(None).reconcile(unmarked).decision.action == DeletePod(
            "unmarked"
        )

    @pytest.mark.parametrize(
        "owner",
        [
            pytest.param("somebody-else", id="another owner"),
            pytest.param(None, id="no owner"),
        ],
    )
    def test_pod_of_another_owner_is_kept(self, owner: str | None) -> None:
        taken = fresh_pod().owned_by(owner)
        after = new_pipeline().reconcile(None).reconcile(taken).reconcile(taken, 60)
        assert after.decision.action is None
        assert after.run.pod_uid is None
        assert after.condition(ConditionType.READY).reason == Reason.NAME_CONFLICT
        assert after.decision.wake_at == at(600), "its end is watched: only Stalled is waited for"

    def test_name_taken_for_ten_minutes_is_stalled(self) -> None:
        foreign = fresh_pod().owned_by("somebody-else")
        after = new_pipeline().reconcile(None).reconcile(foreign)
        after = after.reconcile(foreign, 599).reconcile(foreign, 600)
        assert after.condition(ConditionType.STALLED).reason == Reason.NAME_CONFLICT
        assert after.status.condition(ConditionType.RECONCILING) is None
        assert after.decision.wake_at is None
        freed = after.reconcile(None, 9999).reconcile(fresh_pod(), 10000)
        assert freed.status.condition(ConditionType.STALLED) is None

    EARLIER = fresh_pod().owned_by("deleted-pipeline")

    @pytest.mark.parametrize("suspend", [False, True])
    def test_pod_of_an_earlier_pipeline_of_the_name_is_deleted(self, suspend: bool) -> None:
        """The garbage collector misses a deletion and creation in a gap of its watch."""
        later = SimulatedPipeline(pipeline().created(1).policy(suspend=suspend))
        after = later.reconcile(self.EARLIER, 2)
        assert after.decision.action == DeletePod(self.EARLIER.build().uid)
        assert after.condition(ConditionType.RECONCILING).reason == Reason.POD_TERMINATING
        gone = after.reconcile(None, 3)
        assert gone.status.run is None if suspend else created_for(gone) == 1

    def test_message_names_the_pod_of_an_earlier_pipeline(self) -> None:
        after = SimulatedPipeline(pipeline().created(1)).reconcile(self.EARLIER, 2)
        message = after.condition(ConditionType.READY).message
        assert message == (
            'the Pod "demo" of an earlier InitPipeline of this name is being deleted'
        )

    @pytest.mark.parametrize("created", [None, 0])
    def test_pod_that_is_not_older_than_the_pipeline_is_kept(self, created: float | None) -> None:
        """It may belong to a later pipeline, if this one is read from an outdated cache."""
        known = pipeline() if created is None else pipeline().created(created)
        after = SimulatedPipeline(known).reconcile(self.EARLIER, 2)
        assert after.decision.action is None
        assert after.condition(ConditionType.READY).reason == Reason.NAME_CONFLICT

    def test_terminating_pod_of_another_owner_is_awaited(self) -> None:
        after = (
            new_pipeline()
            .reconcile(None)
            .reconcile(fresh_pod().owned_by("somebody-else").deleting())
        )
        assert after.condition(ConditionType.READY).reason == Reason.POD_TERMINATING

    def test_pod_is_created_when_the_conflict_is_over(self) -> None:
        conflict = new_pipeline().reconcile(None).reconcile(fresh_pod().owned_by("somebody-else"))
        assert created_for(conflict.reconcile(None)) == 1

    def test_name_taken_after_the_pod_was_lost_is_a_conflict(self) -> None:
        foreign = fresh_pod().of_run(1, uid="foreign").owned_by("somebody-else")
        after = started(running_pod()).reconcile(foreign, 60)
        assert after.past == [(1, "Created", "Lost")]
        assert after.condition(ConditionType.READY).reason == Reason.NAME_CONFLICT

    @pytest.mark.parametrize("owner", [None, "somebody-else"])
    def test_run_of_a_pod_with_another_owner_ends_with_that_cause(self, owner: str | None) -> None:
        released = running_pod().owned_by(owner)
        after = started(running_pod()).reconcile(released, 60)
        assert after.past == [(1, "Created", "Lost")]
        assert after.status.history[0].message == (
            "the Pod exists, but this InitPipeline is not its controller any more"
        )
        assert after.condition(ConditionType.READY).reason == Reason.NAME_CONFLICT
        assert after.decision.action is None

    def test_owned_pod_with_another_uid_does_not_belong_to_the_run(self) -> None:
        """The Pod has the annotation of the run. The run has recorded another UID."""
        other = running_pod().of_run(1, uid="another")
        after = started(running_pod()).reconcile(other, 60)
        assert after.past == [(1, "Created", "Lost")]
        assert after.decision.action == DeletePod("another")


EACH = pytest.mark.parametrize("refusal", [INVALID, UNSPECIFIED, QUOTA, FORBIDDEN])


class TestRefusals:
    def test_refusal_is_retried(self) -> None:
        after = new_pipeline().reconcile(None).reconcile(None, refusal=QUOTA)
        assert after.decision.retry
        assert after.decision.action is None
        assert after.run.completion_time is None

    def test_reason_is_kept_until_the_pod_exists(self) -> None:
        refused = new_pipeline().reconcile(None).reconcile(None, refusal=QUOTA)
        trying = refused.reconcile(None, 60)
        assert created_for(trying) == 1
        assert trying.status == refused.status, "each try would write twice"
        created = trying.reconcile(fresh_pod(), 61)
        assert created.condition(ConditionType.READY).reason == Reason.STEP_PENDING

    @EACH
    def test_retry_keeps_the_run(self, refusal: Refusal) -> None:
        after = new_pipeline(backoffLimit=0, ttlSecondsAfterFinished=0).reconcile(None)
        for seconds in (0, 60, 3600, 86400):
            after = after.reconcile(None, seconds)
            assert created_for(after) == 1
            after = after.reconcile(None, seconds, refusal)
            assert (after.decision.action, after.decision.retry) == (None, True)
        assert (after.past, after.status.failed_runs) == ([], 0), "a refusal is no failed run"
        assert after.condition(ConditionType.READY).message == refusal.message

    @EACH
    def test_equal_refusal_of_a_retry_writes_nothing(self, refusal: Refusal) -> None:
        refused = new_pipeline().reconcile(None).reconcile(None, 900, refusal)
        retried = refused.reconcile(None, 1200)
        assert retried.status == refused.status
        assert retried.reconcile(None, 1200, refusal).status == refused.status

    @EACH
    def test_refusal_that_ends_after_a_day_clears_the_conditions(self, refusal: Refusal) -> None:
        after = (
            new_pipeline().reconcile(None).reconcile(None, 86400, refusal).reconcile(None, 90000)
        )
        created = after.reconcile(silent_pod(created=90000), 90000)
        assert created.condition(ConditionType.READY).reason == Reason.POD_PENDING
        assert created.status.condition(ConditionType.STALLED) is None
        assert (
            created.reconcile(running_pod(), 90060).condition(ConditionType.READY).status == "True"
        )
        assert (created.run.number, created.run.trigger) == (1, Trigger.CREATED)

    @pytest.mark.parametrize("refusal", [INVALID, UNSPECIFIED])
    def test_lasting_refusal_is_stalled_at_once(self, refusal: Refusal) -> None:
        after = new_pipeline().reconcile(None).reconcile(None, refusal=refusal)
        stalled = after.condition(ConditionType.STALLED)
        assert stalled.reason == refusal.reason
        assert stalled.message.startswith(f"{refusal.message}. To continue: ")
        assert stalled.message.endswith("The operator retries at least every 5 minutes")
        assert after.status.condition(ConditionType.RECONCILING) is None

    @pytest.mark.parametrize("refusal", [QUOTA, FORBIDDEN])
    def test_temporary_refusal_is_stalled_after_ten_minutes(self, refusal: Refusal) -> None:
        refused = new_pipeline().reconcile(None).reconcile(None, refusal=refusal)
        waiting = refused.reconcile(None, 599).reconcile(None, 599, refusal)
        assert waiting.condition(ConditionType.RECONCILING).reason == refusal.reason
        assert waiting.status.condition(ConditionType.STALLED) is None
        assert waiting.decision.wake_at == at(600)
        stalled = waiting.reconcile(None, 600).reconcile(None, 600, refusal)
        assert stalled.condition(ConditionType.STALLED).reason == refusal.reason
        assert stalled.status.condition(ConditionType.RECONCILING) is None
        assert stalled.decision.retry

    def test_message_of_any_length_leaves_room_for_the_remedy(self) -> None:
        refusal = Refusal(Reason.INVALID_TEMPLATE, "x" * 5000)
        message = (
            new_pipeline()
            .reconcile(None)
            .reconcile(None, refusal=refusal)
            .condition(ConditionType.STALLED)
        )
        assert message.message.endswith("The operator retries at least every 5 minutes")

    @pytest.mark.parametrize("way", ["edit", "token", "resume"])
    def test_user_starts_another_run_at_once(self, way: str) -> None:
        refused = new_pipeline().reconcile(None).reconcile(None, 900, INVALID)
        if way == "resume":
            after = refused.policy(suspend=True).reconcile(None, 901).policy(suspend=False)
        else:
            after = refused.edited() if way == "edit" else refused.token("t")
        after = after.reconcile(None, 960)
        assert created_for(after) == 2
        assert after.status.condition(ConditionType.STALLED) is None
        [record] = after.status.history
        assert (record.result, record.reason) == (Result.SUPERSEDED, Reason.INVALID_TEMPLATE)

    def test_refusal_of_an_older_spec_is_removed(self) -> None:
        refused = new_pipeline().reconcile(None).reconcile(None, refusal=INVALID)
        after = refused.policy(backoffLimit=3).reconcile(None, 60)
        assert created_for(after) == 1
        assert after.condition(ConditionType.READY).reason == Reason.POD_PENDING
        assert after.status.condition(ConditionType.STALLED) is None


class TestDeletion:
    def test_terminating_pipeline_is_left_alone(self) -> None:
        deleting = started(running_pod()).pipeline.deleting().build()
        for observed in (None, running_pod(), RESTARTED):
            decision = decide(
                Facts(deleting, None if observed is None else observed.build()), at(60)
            )
            assert decision.action is None
            assert decision.status == deleting.status

    def test_pipeline_deleted_at_once_gets_no_pod(self) -> None:
        decision = decide(Facts(pipeline().deleting().build(), None), at(0))
        assert (decision.action, decision.status.run) == (None, None)


class TestNeedsLivePod:
    """If the watch does not show the Pod, the API server must confirm that it does not exist."""

    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            pytest.param(new_pipeline().reconcile(None), False, id="not created yet"),
            pytest.param(started(fresh_pod()), True, id="was seen"),
            pytest.param(started(completed_pod()), False, id="its run has ended"),
            pytest.param(
                started(completed_pod()).policy(suspend=True),
                True,
                id="its run has ended, and the spec was changed",
            ),
            pytest.param(
                started(completed_pod()).policy(suspend=True).reconcile(completed_pod()),
                True,
                id="it is being deleted for a suspension",
            ),
            pytest.param(
                started(completed_pod())
                .policy(suspend=True)
                .reconcile(completed_pod())
                .reconcile(None),
                False,
                id="it was deleted for a suspension",
            ),
        ],
    )
    def test_reported_state_determines_the_need(
        self, seen: SimulatedPipeline, expected: bool
    ) -> None:
        assert needs_live_pod(seen.pipeline.build()) is expected

    def test_pipeline_without_run_does_not_need_it(self) -> None:
        assert not needs_live_pod(pipeline().build())


class TestCrashPoints:
    """The operator crashes between two writes. The stored state leads to the same end."""

    def end(
        self, state: SimulatedPipeline
    ) -> tuple[int, str, str | None, list[tuple[int, str, str]]]:
        run = state.run
        return run.number, run.trigger, run.pod_uid, state.past

    def test_crash_before_the_creation_of_the_pod_repeats_it(self) -> None:
        """The first status follows the Pod, so nothing was written."""
        decided = new_pipeline().reconcile(None)
        assert decided.pipeline.status == {}
        restarted = SimulatedPipeline(decided.pipeline).reconcile(None, 60)
        assert created_for(restarted) == 1
        assert restarted.pipeline.status == {}

    @pytest.mark.parametrize("observed", [silent_pod(), fresh_pod(), running_pod()])
    def test_crash_before_the_uid_is_written_keeps_the_pod(self, observed: PodBuilder) -> None:
        restarted = SimulatedPipeline(new_pipeline().reconcile(None).pipeline).reconcile(
            observed, 60
        )
        assert self.end(restarted) == (1, "Created", "pod-1", [])
        assert restarted.decision.action is None

    def test_pod_that_succeeded_during_a_crash_ends_its_run(self) -> None:
        ended = completed_pod()
        restarted = SimulatedPipeline(new_pipeline().reconcile(None).pipeline).reconcile(ended, 600)
        assert self.end(restarted) == (1, "Created", "pod-1", [(1, "Created", "Succeeded")])

    def test_pod_that_is_gone_after_a_crash_is_created_again(self) -> None:
        """The operator has never observed the Pod, so the run still needs one."""
        restarted = SimulatedPipeline(new_pipeline().reconcile(None).pipeline).reconcile(None, 600)
        assert created_for(restarted) == 1

    @pytest.mark.parametrize(
        ("cause", "observed"),
        [
            pytest.param("edit", running_pod(), id="template changed"),
            pytest.param("token", running_pod(), id="new token"),
            pytest.param("restart", RESTARTED, id="app container restarted"),
            pytest.param(
                "evicted",
                running_pod().phase("Failed", "Evicted").condition("DisruptionTarget"),
                id="evicted",
            ),
        ],
    )
    def test_crash_at_any_point_of_a_rerun_does_not_change_its_end(
        self, cause: str, observed: PodBuilder
    ) -> None:
        before = started(running_pod())
        before = before.edited() if cause == "edit" else before
        before = before.token("t") if cause == "token" else before

        persisted = before.reconcile(observed, 60)
        assert persisted.decision.action == DeletePod("pod-1")
        expected = persisted.reconcile(None, 62).reconcile(running_pod(2), 63)

        not_deleted = SimulatedPipeline(persisted.pipeline).reconcile(observed, 300)
        assert not_deleted.decision.action == DeletePod("pod-1")
        assert not_deleted.status == persisted.status

        not_gone = SimulatedPipeline(not_deleted.pipeline).reconcile(observed.deleting(), 310)
        assert not_gone.decision.action is None

        gone = SimulatedPipeline(not_gone.pipeline).reconcile(None, 320)
        assert created_for(gone) == 2

        created = SimulatedPipeline(gone.pipeline).reconcile(running_pod(2), 330)
        assert self.end(created) == self.end(expected)
        assert created.decision.action is None

    def test_failed_status_write_is_repeated(self) -> None:
        """Nothing was done. The same facts lead to the same decision."""
        before = started(running_pod())
        lost_write = before.reconcile(RESTARTED, 60)
        again = before.reconcile(RESTARTED, 70)
        assert self.end(again) == self.end(lost_write)
        assert again.decision.action == lost_write.decision.action

    def test_pod_lost_before_its_deletion_does_not_end_the_new_run(self) -> None:
        persisted = started(running_pod()).reconcile(RESTARTED, 60)
        after = persisted.reconcile(None, 70)
        assert created_for(after) == 2
        assert after.past == [(1, "Created", "Initialized")]

    def test_back_off_continues_after_a_crash(self) -> None:
        first = started(running_pod()).reconcile(RESTARTED, 60).reconcile(running_pod(2), 70)
        again = running_pod(2).app(running=True, restarts=1, last=End(1, start=75))
        waiting = first.reconcile(again, 80)
        restarted = SimulatedPipeline(waiting.pipeline).reconcile(again, 85)
        assert restarted.decision.wake_at == at(90)
        assert restarted.reconcile(again, 90).run.number == 3


class TestFirstPod:
    """The first run's Pod exists, and status does not record the run yet. Anything may happen in
    between, and the operator may have been restarted: only the stored objects are known."""

    NEW = pipeline().of_generation(1)

    def test_creation_writes_no_status(self) -> None:
        decided = new_pipeline().reconcile(None)
        assert created_for(decided) == 1
        assert decided.decision.defer_status
        assert not decided.decision.patch

    def test_second_request_follows_the_status_of_the_run(self) -> None:
        decision = decide(Facts(self.NEW.build(), None, requested=True), at(0))
        assert isinstance(decision.action, CreatePod)
        assert not decision.defer_status
        assert decision.patch["run"]["number"] == 1

    def test_pod_carries_what_the_run_needs(self) -> None:
        action = new_pipeline().token("t").reconcile(None).decision.action
        assert isinstance(action, CreatePod)
        annotations = action.manifest["metadata"]["annotations"]
        assert annotations[RUN_ANNOTATION] == "1"
        assert annotations[RERUN_TOKEN_ANNOTATION] == "t"
        assert annotations[TEMPLATE_HASH_ANNOTATION] == self.NEW.build().template_hash

    def test_first_report_writes_the_first_status(self) -> None:
        silent = new_pipeline().reconcile(None).reconcile(silent_pod(), 1)
        assert silent.pipeline.status == {}
        after = silent.reconcile(fresh_pod(), 2)
        assert (after.run.number, after.run.trigger, after.run.pod_uid) == (1, "Created", "pod-1")
        assert after.pipeline.status

    def test_deadline_of_the_first_report_writes_the_first_status(self) -> None:
        after = new_pipeline().reconcile(None).reconcile(silent_pod(), 3)
        assert after.pipeline.status
        assert after.condition(ConditionType.READY).reason == Reason.POD_PENDING

    @pytest.mark.parametrize("seconds", [4, 60])
    def test_run_starts_when_its_pod_was_created(self, seconds: int) -> None:
        created = replace(fresh_pod(), created=4)
        assert new_pipeline().reconcile(created, seconds).run.start_time == at(4)

    def test_run_does_not_start_in_the_future_of_the_operators_clock(self) -> None:
        assert new_pipeline().reconcile(fresh_pod(), -5).run.start_time == at(-5)

    def test_stalled_pipeline_is_reported_at_once(self) -> None:
        """An earlier error must not stay in status while the Pod is not reported."""
        stalled = Condition(
            type="Stalled",
            status="True",
            observed_generation=1,
            last_transition_time=at(0),
            reason="ReconcileError",
            message="the operator failed",
        )
        status = InitPipelineStatus(conditions=(stalled,))
        after = SimulatedPipeline(self.NEW.with_status(status)).reconcile(None)
        assert created_for(after) == 1
        assert not after.decision.defer_status
        assert after.status.condition(ConditionType.STALLED) is None

    @pytest.mark.parametrize(
        "observed", [silent_pod(), fresh_pod(), running_pod()], ids=["silent", "fresh", "running"]
    )
    def test_changed_template_starts_another_run(self, observed: PodBuilder) -> None:
        created = observed.created_for(self.NEW)
        after = SimulatedPipeline(self.NEW.edited()).reconcile(created, 1)
        assert (after.run.number, after.run.trigger) == (2, Trigger.SPEC_CHANGED)
        assert after.pipeline.status, "the status was not written before the action"
        assert after.decision.action == DeletePod("pod-1")
        [record] = after.status.history
        assert (record.number, record.trigger) == (1, Trigger.CREATED)

    def test_changed_fields_are_recorded(self) -> None:
        created = fresh_pod().created_for(self.NEW).made_of(self.NEW.template)
        after = SimulatedPipeline(self.NEW.edited()).reconcile(created, 1)
        assert after.run.cause is not None
        assert after.run.cause.changed_paths == ("spec.containers[0].image",)

    def test_template_in_another_spelling_starts_no_run(self) -> None:
        spec = {**self.NEW.template["spec"], "dnsPolicy": "ClusterFirst"}
        respelled = self.NEW.with_template({"spec": spec}).of_generation(2)
        after = SimulatedPipeline(respelled).reconcile(fresh_pod().created_for(self.NEW), 1)
        assert after.run.number == 1

    @pytest.mark.parametrize("hash_", [None, "", "no hash", "0000000000000000"])
    def test_pod_without_hash_is_compared_by_its_template(self, hash_: str | None) -> None:
        created = replace(fresh_pod().made_of(self.NEW.template), template_hash=hash_)
        assert SimulatedPipeline(self.NEW).reconcile(created, 1).run.number == 1
        changed = SimulatedPipeline(self.NEW.edited()).reconcile(created, 1)
        assert (changed.run.number, changed.run.trigger) == (2, Trigger.SPEC_CHANGED)

    @pytest.mark.parametrize("hash_", [None, "no hash"])
    @pytest.mark.parametrize("template", [None, "no template"])
    def test_pod_that_does_not_show_its_template_counts_as_unchanged(
        self, hash_: str | None, template: str | None
    ) -> None:
        created = replace(fresh_pod().made_of(template), template_hash=hash_)
        assert SimulatedPipeline(self.NEW.edited()).reconcile(created, 1).run.number == 1

    def test_token_from_before_the_pod_is_answered_by_its_run(self) -> None:
        asked = self.NEW.token("t")
        after = SimulatedPipeline(asked).reconcile(fresh_pod().created_for(asked), 1)
        assert (after.run.number, after.run.token) == (1, "t")
        assert after.status.last_rerun_token == "t"

    @pytest.mark.parametrize("before", [None, "earlier"])
    @pytest.mark.parametrize("observed", [silent_pod(), fresh_pod()], ids=["silent", "fresh"])
    def test_token_from_after_the_pod_starts_another_run(
        self, observed: PodBuilder, before: str | None
    ) -> None:
        created = observed.created_for(self.NEW.token(before) if before else self.NEW)
        after = SimulatedPipeline(self.NEW.token("t")).reconcile(created, 1)
        assert (after.run.number, after.run.trigger) == (2, Trigger.REQUESTED)
        assert after.run.token == "t"
        assert [record.token for record in after.status.history] == [before]

    @pytest.mark.parametrize("observed", [silent_pod(), fresh_pod()], ids=["silent", "fresh"])
    def test_suspension_deletes_the_pod_and_records_the_run(self, observed: PodBuilder) -> None:
        created = observed.created_for(self.NEW)
        after = SimulatedPipeline(self.NEW.policy(suspend=True)).reconcile(created, 1)
        assert after.past == [(1, "Created", "Superseded")]
        assert after.pipeline.status, "the status was not written before the action"
        assert after.decision.action == DeletePod("pod-1")
        [record] = after.status.history
        assert record.reason in {Reason.POD_PENDING, Reason.STEP_PENDING}
        resumed = after.reconcile(None, 2).policy(suspend=False).reconcile(None, 3)
        assert (resumed.run.number, resumed.run.trigger) == (2, Trigger.RESUMED)

    def test_template_changed_during_a_suspension_is_recorded_by_the_next_run(self) -> None:
        edited = self.NEW.edited().policy(suspend=True)
        after = SimulatedPipeline(edited).reconcile(fresh_pod().created_for(self.NEW), 1)
        assert after.status.template_hash == self.NEW.build().template_hash

    def test_first_run_after_a_suspension_has_the_trigger_resumed(self) -> None:
        suspended = new_pipeline(suspend=True).reconcile(None)
        resumed = suspended.policy(suspend=False).reconcile(None, 10)
        assert created_for(resumed) == 1
        assert resumed.decision.defer_status
        after = SimulatedPipeline(resumed.pipeline).reconcile(replace(fresh_pod(), created=10), 11)
        assert (after.run.number, after.run.trigger) == (1, Trigger.RESUMED)
        assert after.status.condition(ConditionType.SUSPENDED) is None

    def test_first_run_after_a_suspension_that_failed_unobserved_is_not_resumed_again(
        self,
    ) -> None:
        resumed = new_pipeline(suspend=True).reconcile(None).policy(suspend=False)
        failed = fresh_pod().init("one", exit=1).restarts("Never").phase("Failed")
        after = resumed.reconcile(None, 10).reconcile(failed, 60)
        assert after.past == [(1, "Resumed", "Failed")]
        assert after.run.number == 1

    def test_first_run_after_a_suspension_superseded_unobserved_has_its_own_reason(self) -> None:
        resumed = new_pipeline(suspend=True).reconcile(None).policy(suspend=False)
        created = silent_pod().created_for(resumed.pipeline)
        after = resumed.reconcile(None, 0).edited().reconcile(created, 1)
        [record] = after.status.history
        assert (record.trigger, record.reason) == (Trigger.RESUMED, Reason.POD_PENDING)

    def test_pod_deleted_before_any_report_is_created_again_for_the_same_run(self) -> None:
        silent = new_pipeline().reconcile(None).reconcile(silent_pod(), 1)
        again = silent.reconcile(None, 2, gone=silent_pod())
        assert created_for(again) == 1
        assert again.past == []

    def test_terminating_pod_is_recorded_before_it_is_gone(self) -> None:
        after = new_pipeline().reconcile(silent_pod().deleting(), 1).reconcile(None, 2)
        assert after.past == [(1, "Created", "Lost")]
        assert created_for(after) == 2

    def test_evicted_pod_is_recorded_as_lost(self) -> None:
        evicted = fresh_pod().phase("Failed", "Evicted").condition("DisruptionTarget")
        after = new_pipeline().reconcile(None).reconcile(evicted, 1)
        assert after.past == [(1, "Created", "Lost")]
        assert (after.run.number, after.run.trigger) == (2, Trigger.POD_LOST)

    def test_pod_without_run_number_is_deleted_and_reported(self) -> None:
        """A webhook removes the annotation."""
        after = new_pipeline().reconcile(None).reconcile(silent_pod().of_run(None, uid="x"), 1)
        assert after.decision.action == DeletePod("x")
        assert after.condition(ConditionType.READY).reason == Reason.POD_TERMINATING
        assert after.pipeline.status

    def test_pod_of_an_earlier_pipeline_of_this_name_is_a_conflict(self) -> None:
        before = fresh_pod().owned_by("earlier").created_for(self.NEW)
        after = new_pipeline().reconcile(None).reconcile(before, 1)
        assert after.decision.action is None
        assert after.condition(ConditionType.READY).reason == Reason.NAME_CONFLICT
        assert after.pipeline.status

    @EACH
    def test_refusal_is_reported_at_once(self, refusal: Refusal) -> None:
        after = new_pipeline().reconcile(None).reconcile(None, refusal=refusal)
        assert after.pipeline.status
        assert (after.run.number, after.condition(ConditionType.READY).reason) == (
            1,
            refusal.reason,
        )

    @pytest.mark.parametrize("change", ["template", "token", "token again"])
    def test_unanswered_creation_from_before_a_change_is_replaced(self, change: str) -> None:
        """The response to the first creation is lost. The user changes the InitPipeline, and the
        API server refuses the next creation. Then the first Pod appears."""
        before = self.NEW.token("first") if change == "token again" else self.NEW
        created = fresh_pod().created_for(before)
        changed = before.edited() if change == "template" else before.token("t")
        refused = SimulatedPipeline(changed).reconcile(None).reconcile(None, refusal=QUOTA)
        after = refused.reconcile(created, 5)
        assert after.run.number == 1
        assert after.decision.action == DeletePod("pod-1")
        assert created_for(after.reconcile(None, 6)) == 1
        follows = after.reconcile(None, 6).reconcile(fresh_pod().created_for(changed), 7)
        assert (follows.run.pod_uid, follows.decision.action) == ("pod-1", None)

    def test_unanswered_creation_without_a_change_is_adopted(self) -> None:
        refused = new_pipeline().reconcile(None).reconcile(None, refusal=QUOTA)
        after = refused.reconcile(fresh_pod().created_for(self.NEW), 5)
        assert (after.run.pod_uid, after.decision.action) == ("pod-1", None)

    @pytest.mark.parametrize("removed", ["template_hash", "rerun_token"])
    def test_pod_without_an_annotation_is_adopted_after_a_refusal(self, removed: str) -> None:
        asked = self.NEW.token("t")
        refused = SimulatedPipeline(asked).reconcile(None).reconcile(None, refusal=QUOTA)
        without: dict[str, Any] = {removed: None}
        created = replace(fresh_pod().created_for(asked), **without)
        assert refused.reconcile(created, 5).run.pod_uid == "pod-1"


class TestSchedulingGate:
    GATED: Final = silent_pod().with_spec(schedulingGates=[{"name": RUN_GATE}, {"name": "queue"}])

    def test_gate_is_removed_from_the_pod_that_status_records(self) -> None:
        decision = decide(Facts(pipeline().build(), self.GATED.build()), at(1))
        assert decision.status.run is not None
        assert (decision.status.run.pod_uid, decision.defer_status) == ("pod-1", False)
        assert (decision.action, decision.retry) == (UngatePod("pod-1"), False)

    def test_pod_of_an_earlier_run_is_deleted_with_its_gate(self) -> None:
        state = started(running_pod()).reconcile(None, 30)
        assert state.run.number == 2
        decision = decide(Facts(state.pipeline.build(), self.GATED.build()), at(31))
        assert decision.action == DeletePod("pod-1")

    def test_gate_of_a_user_stays(self) -> None:
        held = silent_pod().with_spec(schedulingGates=[{"name": "queue"}])
        assert decide(Facts(pipeline().build(), held.build()), at(1)).action is None

    def test_gate_of_a_terminating_pod_stays(self) -> None:
        """No step of it may start any more."""
        going = self.GATED.deleting(1)
        assert decide(Facts(pipeline().build(), going.build()), at(2)).action is None

    def test_refused_removal_is_retried(self) -> None:
        facts = Facts(pipeline().build(), self.GATED.build(), gate_refused=True)
        decision = decide(facts, at(1))
        assert (decision.action, decision.retry) == (None, True)

    def test_gate_of_a_run_that_has_failed_stays(self) -> None:
        """Its Pod is replaced when the next run may start."""

        def held(run: int, created: float) -> PodBuilder:
            return silent_pod(run, created).with_spec(schedulingGates=[{"name": RUN_GATE}])

        policies = {"initDeadlineSeconds": 10, "backoffLimit": 9}
        state = new_pipeline(**policies).reconcile(None).reconcile(held(1, 0), 60)
        state = state.reconcile(None, 60).reconcile(held(2, 60), 61).reconcile(held(2, 60), 90)
        assert (state.run.result, state.status.next_run_time) == (Result.FAILED, at(100))
        assert state.decision.action is None


class TestLostStatus:
    """After a restore from a backup: the Pod exists, and the status is empty."""

    def test_run_number_is_that_of_the_pod(self) -> None:
        after = started(running_pod()).without_status().reconcile(running_pod(5), 100)
        assert (after.run.number, after.run.pod_uid) == (5, "pod-5")
        assert after.past == []

    @pytest.mark.parametrize(
        ("number", "adopted"), [(LARGEST_ADOPTED_RUN, True), (LARGEST_ADOPTED_RUN + 1, False)]
    )
    def test_run_number_that_leaves_too_few_is_not_adopted(
        self, number: int, adopted: bool
    ) -> None:
        """A user can write the annotation of the Pod."""
        pod = running_pod().of_run(number, uid="forged")
        after = new_pipeline().reconcile(pod, 100)
        assert after.run.number == (number if adopted else 1)
        assert after.decision.action == (None if adopted else DeletePod("forged"))

    def test_progress_is_read_from_the_pod(self) -> None:
        after = new_pipeline().reconcile(running_pod(5), 100)
        assert after.initialized
        assert after.run.initialized_time == at(18)

    def test_success_of_an_earlier_run_does_not_count(self) -> None:
        half = AGAIN.init("one", exit=0, restarts=1, start=50)
        after = new_pipeline().reconcile(half, 60)
        assert not after.initialized
        assert after.status.current_step == "two"

    def test_existing_token_starts_no_run(self) -> None:
        after = (
            new_pipeline()
            .token("old")
            .reconcile(running_pod(5), 100)
            .reconcile(running_pod(5), 101)
        )
        assert after.run.number == 5

    def test_token_of_an_earlier_run_starts_no_run(self) -> None:
        """The Pod of run 5 carries the token that an earlier run has answered."""
        asked = pipeline().of_generation(1).token("old")
        restored = SimulatedPipeline(asked).reconcile(running_pod(5).created_for(asked), 100)
        assert (restored.run.number, restored.status.last_rerun_token) == (5, "old")

    def test_token_from_after_the_pod_starts_a_run(self) -> None:
        carried = running_pod(5).created_for(pipeline().token("old"))
        restored = new_pipeline().token("new").reconcile(carried, 100)
        assert (restored.run.number, restored.run.trigger) == (6, Trigger.REQUESTED)

    def test_template_that_changed_without_the_operator_starts_a_run(self) -> None:
        carried = running_pod(5).created_for(pipeline())
        restored = new_pipeline().edited().reconcile(carried, 100)
        assert (restored.run.number, restored.run.trigger) == (6, Trigger.SPEC_CHANGED)

    def test_existing_template_starts_no_run(self) -> None:
        assert new_pipeline().edited().reconcile(running_pod(5), 100).run.number == 5

    def test_pod_of_the_run_that_is_due_is_followed_at_once(self) -> None:
        """The restored status is older than the Pod."""
        failed = running_pod(2).restarts("Never").app(exit=1).phase("Failed").ready(False)
        after = started(running_pod()).token("t").reconcile(failed, 60)
        assert (after.run.number, after.run.pod_uid, after.run.result) == (2, "pod-2", "Failed")
        assert after.run.completion_time == at(60)

    def test_without_pod_run_1_starts(self) -> None:
        assert created_for(started(running_pod()).without_status().reconcile(None)) == 1

    def test_pod_of_another_owner_gives_no_number(self) -> None:
        assert new_pipeline().reconcile(running_pod(5).owned_by("x")).run.number == 1

    def test_terminating_pod_is_recorded_as_lost(self) -> None:
        after = new_pipeline().reconcile(running_pod(5).deleting(), 100).reconcile(None, 110)
        assert after.past == [(5, "Created", "Lost")]
        assert created_for(after) == 6


class TestSeveralCauses:
    def test_sandbox_restart_and_failed_app_are_one_run(self) -> None:
        """A restart of the sandbox also restarts app containers. That starts no second run."""
        after = started(running_pod()).reconcile(AGAIN, 50)
        seen = AGAIN.initialized().init("one", exit=0, restarts=1, start=50)
        seen = seen.init("two", exit=0, restarts=1, start=60)
        seen = seen.app(running=True, restarts=1, start=70, last=End(137, start=20)).ready()
        after = after.reconcile(seen, 80).reconcile(seen, 90)
        assert (after.run.number, after.run.trigger) == (2, Trigger.POD_RESTARTED)

    def test_unobserved_app_restarts_are_one_run(self) -> None:
        observed = running_pod().app(running=True, restarts=4, start=90, last=End(1, start=70))
        after = started(fresh_pod()).reconcile(observed, 100)
        assert (after.run.number, after.run.trigger) == (2, Trigger.CONTAINER_RESTARTED)

    def test_app_restart_before_initialization_was_observed_starts_no_run(self) -> None:
        observed = running_pod().app(running=True, restarts=1, start=40, last=End(2, start=20))
        after = started(fresh_pod()).reconcile(observed, 50)
        assert (after.run.number, after.run.trigger) == (2, Trigger.CONTAINER_RESTARTED)
        assert after.run.cause is not None
        assert after.run.cause.exit_code == 2

    def test_retried_step_stays_in_its_run(self) -> None:
        seen = started(fresh_pod())
        for restarts in range(1, 6):
            failing = fresh_pod().init("one", exit=1, restarts=restarts, last=End(1))
            seen = seen.reconcile(failing, 10 * restarts)
            waiting = fresh_pod().init(
                "one", waiting="CrashLoopBackOff", restarts=restarts, last=End(1)
            )
            seen = seen.reconcile(waiting, 10 * restarts + 5)
        assert (seen.run.number, seen.past) == (1, [])


class TestClocks:
    def test_run_is_initialized_if_the_node_clock_was_set_back_between_two_steps(self) -> None:
        stepped = fresh_pod().init("one", exit=0, start=3600).init("two", exit=0, start=10)
        assert started(fresh_pod()).reconcile(stepped, 3700).initialized

    def test_restart_of_the_app_starts_a_run_if_the_node_clock_was_set_back(self) -> None:
        """By the node's clock the app container started before the init containers finished."""
        stepped = fresh_pod().init("one", exit=0, start=3600).init("two", exit=0, start=10)
        state = started(fresh_pod()).reconcile(stepped.app(running=True, start=20).ready(), 3700)
        crashed = stepped.app(running=True, start=30, restarts=1, last=End(1, start=20))
        assert state.reconcile(crashed, 3710).run.trigger is Trigger.CONTAINER_RESTARTED

    def test_initialized_time_is_kept_if_the_operator_clock_is_behind(self) -> None:
        after = started(running_pod()).reconcile(running_pod(), -600)
        assert after.run.initialized_time == at(18)

    def test_back_off_counts_from_the_present_time_if_the_operator_clock_was_set_back(self) -> None:
        state = started(running_pod()).reconcile(RESTARTED, 600).reconcile(running_pod(2), 610)
        again = running_pod(2).app(running=True, restarts=1, last=End(1, start=75))
        after = state.reconcile(again, 100)
        assert after.status.next_run_time == at(110)

    def test_fractions_of_a_second_are_not_written(self) -> None:
        decision = decide(Facts(pipeline().build(), None), at(0.75))
        run = decision.status.to_api()["run"]
        assert run["startTime"] == stamp(0)
        assert decision.status.run is not None
        assert decision.status.run.start_time == BASE


def test_pod_without_container_statuses_starts_no_run() -> None:
    bare = pod().init("one", reported=False).init("two", reported=False).app(reported=False)
    after = started(bare.condition("PodScheduled", since=-60))
    assert after.status.init_progress == "0/2"
    assert not after.initialized
