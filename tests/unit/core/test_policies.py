"""Each sentence of the resource's reference about a policy, as a row or a test of its own name."""

from dataclasses import replace
from typing import Any

import pytest

from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from initpipeline.core.decide import CreatePod, DeletePipeline, DeletePod
from initpipeline.core.facts import Refusal
from tests.builders import (
    End,
    PodBuilder,
    at,
    completed_pod,
    fresh_pod,
    running_pod,
    stamp,
)
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline, started

Raw = dict[str, Any]


def restarted(run: int = 1, times: int = 1) -> PodBuilder:
    """The app container has restarted since the run was initialized."""
    return running_pod(run).app(running=True, restarts=times, last=End(1, start=20))


def evicted(run: int = 1) -> PodBuilder:
    return (
        running_pod(run)
        .phase("Failed", "Evicted", "The node was low on memory.")
        .condition("DisruptionTarget")
    )


def sandbox_killed() -> PodBuilder:
    """The kubelet runs the first init container again in the same Pod."""
    return running_pod().ready(False).init("one", running=True, start=60, restarts=1, last=End())


def failed(run: int = 1) -> PodBuilder:
    """The first init container has failed in a Pod with restartPolicy Never."""
    found = fresh_pod(run).restarts("Never").phase("Failed")
    return found.init("one", exit=3, message="no such table")


def hanging(run: int = 1, start: float = 0) -> PodBuilder:
    """The first init container runs, and goes on running."""
    return fresh_pod(run).init("one", running=True, start=start)


def failing(run: int = 1, restarts: int = 0) -> PodBuilder:
    """The first init container has failed, and the kubelet is about to start it again."""
    last = End(3, message="no such table")
    waiting: Raw = {"waiting": "CrashLoopBackOff", "restarts": restarts, "last": last}
    return fresh_pod(run).init("one", **waiting)


def reason(now: SimulatedPipeline, type_: ConditionType = ConditionType.READY) -> str:
    return now.condition(type_).reason


def has(now: SimulatedPipeline, type_: ConditionType) -> bool:
    return now.status.condition(type_) is not None


class TestRerunPolicy:
    @pytest.mark.parametrize(
        ("policy", "seen", "trigger"),
        [
            pytest.param("OnRestart", restarted(), "ContainerRestarted", id="on-restart-restart"),
            pytest.param("OnRestart", None, "PodLost", id="on-restart-pod-gone"),
            pytest.param("OnRestart", evicted(), "PodLost", id="on-restart-evicted"),
            pytest.param("OnPodLoss", restarted(), None, id="on-pod-loss-restart"),
            pytest.param("OnPodLoss", None, "PodLost", id="on-pod-loss-pod-gone"),
            pytest.param("OnPodLoss", evicted(), "PodLost", id="on-pod-loss-evicted"),
            pytest.param("Never", restarted(), None, id="never-restart"),
            pytest.param("Never", None, None, id="never-pod-gone"),
            pytest.param("Never", evicted(), None, id="never-evicted"),
        ],
    )
    def test_what_re_runs_every_init_container(
        self, policy: str, seen: PodBuilder | None, trigger: str | None
    ) -> None:
        now = started(running_pod(), rerunPolicy=policy).reconcile(seen, 60)
        assert (now.run.number, now.run.trigger) == ((2, trigger) if trigger else (1, "Created"))

    @pytest.mark.parametrize("policy", ["OnRestart", "OnPodLoss", "Never"])
    @pytest.mark.parametrize(
        ("change", "trigger"),
        [
            pytest.param(
                lambda now: now.reconcile(sandbox_killed(), 60), "PodRestarted", id="kubelet"
            ),
            pytest.param(
                lambda now: now.token("t").reconcile(running_pod(), 60), "Requested", id="request"
            ),
            pytest.param(
                lambda now: now.edited().reconcile(running_pod(), 60), "SpecChanged", id="template"
            ),
        ],
    )
    def test_what_works_under_each(self, policy: str, change: Any, trigger: str) -> None:
        now = change(started(running_pod(), rerunPolicy=policy))
        assert (now.run.number, now.run.trigger) == (2, trigger)

    def test_a_sidecars_restart_does_not_count(self) -> None:
        found = running_pod().sidecar("log", running=True, started=True)
        again = found.sidecar("log", running=True, started=True, restarts=1, last=End(1, start=20))
        assert started(found).reconcile(again, 60).run.number == 1

    @pytest.mark.parametrize("before", ["OnPodLoss", "Never"])
    def test_restarts_before_it_was_set_are_not_judged(self, before: str) -> None:
        now = started(running_pod(), rerunPolicy=before).reconcile(restarted(times=2), 60)
        now = now.policy(rerunPolicy="OnRestart").reconcile(restarted(times=2), 70)
        assert now.run.number == 1
        assert now.reconcile(restarted(times=3), 80).run.trigger is Trigger.CONTAINER_RESTARTED

    def test_restarts_while_it_was_not_set_are_not_judged_afterwards(self) -> None:
        now = started(running_pod()).policy(rerunPolicy="Never").reconcile(running_pod(), 50)
        now = (
            now.reconcile(restarted(), 60)
            .policy(rerunPolicy="OnRestart")
            .reconcile(restarted(), 70)
        )
        assert now.run.number == 1

    def test_a_restart_that_nobody_saw_is_judged_where_the_policy_was_set_before(self) -> None:
        now = started(running_pod()).policy(runHistoryLimit=3).reconcile(restarted(), 60)
        assert now.run.trigger is Trigger.CONTAINER_RESTARTED

    def test_a_pod_lost_under_never_needs_a_person_and_says_why(self) -> None:
        now = started(running_pod(), rerunPolicy="Never").reconcile(evicted(), 60)
        stalled = now.condition(ConditionType.STALLED)
        assert stalled.reason == "PodLost"
        assert stalled.message == (
            "the Pod was lost: The node was low on memory.; rerunPolicy is Never"
        )
        assert not has(now, ConditionType.RECONCILING)
        assert now.decision.wake_at is None

    def test_a_pod_lost_under_never_is_made_again_once_the_policy_allows(self) -> None:
        now = started(running_pod(), rerunPolicy="Never").reconcile(None, 60)
        now = now.policy(rerunPolicy="OnPodLoss").reconcile(None, 70)
        assert (now.run.number, now.run.trigger) == (2, Trigger.POD_LOST)


class TestBackoffLimit:
    def fail(self, now: SimulatedPipeline, times: int) -> SimulatedPipeline:
        """So many runs fail, one after the other; the waits in between pass."""
        for _ in range(times):
            number = now.run.number
            now = now.reconcile(failed(number), now.now + 400)
            if now.status.next_run_time is not None:
                now = now.reconcile(failed(number), now.now + 400)
            if now.run.number == number:
                return now
        return now

    def test_none_by_default(self) -> None:
        now = started(failed())
        assert now.past == [(1, "Created", "Failed")]
        assert now.run.completion_time is not None
        assert reason(now, ConditionType.STALLED) == "BackoffLimitExceeded"

    def test_so_many_failed_runs_are_followed_by_another(self) -> None:
        now = self.fail(started(fresh_pod(), backoffLimit=2), times=5)
        assert now.past == [
            (1, "Created", "Failed"),
            (2, "Retry", "Failed"),
            (3, "Retry", "Failed"),
        ]
        assert now.status.failed_runs == 3
        assert now.condition(ConditionType.STALLED).message == (
            "3 runs have failed, and backoffLimit is 2: "
            'init container 1 of 2 "one" exited with 3: no such table'
        )

    def test_the_other_run_has_a_new_pod(self) -> None:
        now = started(failed(), backoffLimit=1)
        assert now.run.number == 2
        assert now.decision.action == DeletePod("pod-1")
        assert isinstance(now.reconcile(None).decision.action, CreatePod)

    def test_a_lost_pod_is_not_a_failed_run(self) -> None:
        now = started(fresh_pod()).reconcile(None, 60)
        assert (now.run.trigger, now.status.failed_runs) == (Trigger.POD_LOST, 0)

    def test_the_first_retry_is_at_once_and_the_next_ones_wait(self) -> None:
        now = started(failed(), backoffLimit=5).reconcile(None)
        assert now.run.number == 2
        now = now.reconcile(failed(2), 60)
        assert (now.run.number, now.status.next_run_time) == (2, at(70))
        assert reason(now) == "RerunBackOff"
        assert "no such table" in now.condition(ConditionType.READY).message

    def test_the_failed_runs_pod_stays_while_the_next_waits(self) -> None:
        now = started(failed(), backoffLimit=5).reconcile(None).reconcile(failed(2), 60)
        assert (now.decision.action, now.decision.wake_at) == (None, at(70))

    def test_given_up_until_the_limit_is_raised(self) -> None:
        now = started(failed()).policy(backoffLimit=1).reconcile(failed(), 60)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RETRY)

    @pytest.mark.parametrize("change", [SimulatedPipeline.edited, lambda now: now.token("t")])
    def test_a_person_begins_anew(self, change: Any) -> None:
        now = change(self.fail(started(fresh_pod(), backoffLimit=1), times=3))
        now = now.reconcile(failed(2), now.now + 1)
        assert now.run.number == 3
        assert (now.status.failed_runs, now.status.rerun_count) == (0, 0)

    def test_a_refusal_counts_as_no_failed_run(self) -> None:
        refusal = Refusal(Reason.INVALID_TEMPLATE, "spec.containers: Required value")
        now = new_pipeline(backoffLimit=3).reconcile(None, refusal=refusal).reconcile(None, 60)
        assert (now.past, now.status.failed_runs) == ([], 0)
        assert isinstance(now.decision.action, CreatePod)


class TestThePodOfAPipelineThatWasGivenUp:
    def test_stays_for_its_logs_if_it_has_ended(self) -> None:
        assert started(failed()).decision.action is None

    def test_is_deleted_if_it_has_not(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 30)
        assert now.decision.action == DeletePod("pod-1")

    def test_leaves_its_evidence(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 30)
        gone = now.reconcile(hanging().deleting(30), 31).reconcile(None, 70)
        assert gone.past == [(1, "Created", "Failed")]
        assert reason(gone) == "InitDeadlineExceeded"
        assert gone.status.init_container_statuses == now.status.init_container_statuses


class TestInitDeadlineSeconds:
    def test_from_the_creation_of_the_runs_pod(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 29)
        assert (now.run.completion_time, now.decision.wake_at) == (None, at(30))
        assert now.reconcile(hanging(), 30).run.result is Result.FAILED

    @pytest.mark.parametrize(
        ("found", "words"),
        [
            pytest.param(
                fresh_pod()
                .node(None)
                .condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available"),
                "0/3 nodes are available",
                id="scheduling-included",
            ),
            pytest.param(
                fresh_pod().init("one", waiting="ImagePullBackOff", message="no such image"),
                'init container 1 of 2 "one": no such image',
                id="pulling-included",
            ),
            pytest.param(
                failing(restarts=4),
                'init container 1 of 2 "one" exited with 3, restarted 4 times: no such table',
                id="failures-included",
            ),
            pytest.param(hanging(), 'init container 1 of 2 "one" is running', id="running"),
        ],
    )
    def test_the_message_tells_what_took_so_long(self, found: PodBuilder, words: str) -> None:
        now = started(found, initDeadlineSeconds=30).reconcile(found, 40)
        ready = now.condition(ConditionType.READY)
        assert ready.reason == "InitDeadlineExceeded"
        assert ready.message == f"not initialized within the initDeadlineSeconds of 30 s: {words}"

    def test_of_a_run_of_the_kubelets_from_when_it_was_first_seen(self) -> None:
        now = started(running_pod(), initDeadlineSeconds=30).reconcile(sandbox_killed(), 65)
        assert (now.run.number, now.decision.wake_at) == (2, at(95))
        now = now.reconcile(sandbox_killed(), 95)
        assert now.past == [(1, "Created", "Initialized"), (2, "PodRestarted", "Failed")]

    def test_not_of_a_run_that_is_initialized(self) -> None:
        now = started(running_pod(), initDeadlineSeconds=30).reconcile(running_pod(), 1000)
        assert (now.run.completion_time, now.decision.wake_at) == (None, None)

    def test_not_of_a_pod_that_is_being_deleted_and_will_be_lost(self) -> None:
        found = hanging().deleting(20)
        assert (
            started(found, initDeadlineSeconds=30).reconcile(found, 40).run.completion_time is None
        )

    def test_applies_at_once(self) -> None:
        now = started(hanging()).reconcile(hanging(), 60).policy(initDeadlineSeconds=30)
        assert now.reconcile(hanging(), 61).run.result is Result.FAILED

    def test_ends_in_history_with_the_step_and_the_limit(self) -> None:
        [entry] = (
            started(failing(restarts=2), initDeadlineSeconds=9)
            .reconcile(failing(), 9)
            .status.history
        )
        assert entry.exceeded is not None
        assert (entry.exceeded.limit, entry.exceeded.value) == ("initDeadlineSeconds", 9)
        assert entry.failed_step is not None
        assert (entry.failed_step.name, entry.failed_step.exit_code) == ("one", 3)
        assert entry.failed_step.message == "no such table"

    def test_raised_it_grants_another_run(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 30)
        now = now.policy(initDeadlineSeconds=60).reconcile(None, 90)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RETRY)

    def test_lowered_it_does_not(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30).reconcile(hanging(), 30)
        assert now.policy(initDeadlineSeconds=20).reconcile(None, 90).run.number == 1

    def test_a_failed_run_is_retried_within_backoff_limit(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30, backoffLimit=1).reconcile(hanging(), 30)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RETRY)
        assert now.decision.action == DeletePod("pod-1")


def limits_of_one(**limits: int) -> Raw:
    return {"initPolicies": [{"name": "one", **limits}]}


class TestTimeoutSeconds:
    def test_from_when_the_attempt_was_first_seen_running(self) -> None:
        now = started(fresh_pod(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 7)
        assert now.decision.wake_at == at(17)
        assert now.reconcile(hanging(), 16).run.result is None
        assert now.reconcile(hanging(), 17).run.result is Result.FAILED

    def test_for_one_attempt(self) -> None:
        now = started(fresh_pod(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 5)
        second = fresh_pod().init("one", running=True, start=9, restarts=1, last=End(1, end=8))
        now = now.reconcile(second, 12)
        assert (now.run.result, now.decision.wake_at) == (None, at(22))

    def test_of_one_init_container(self) -> None:
        other = {"initPolicies": [{"name": "two", "timeoutSeconds": 10}]}
        assert started(hanging(), **other).reconcile(hanging(), 90).run.result is None

    def test_is_remembered_across_a_restart_of_the_operator(self) -> None:
        """Nothing is kept but what the API holds, and each look begins from that alone."""
        now = started(hanging(), **limits_of_one(timeoutSeconds=10))
        assert now.run.running_step is not None
        assert now.run.running_step.first_seen_time == at(0)

    def test_the_message_names_step_and_limit(self) -> None:
        now = started(hanging(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 10)
        ready = now.condition(ConditionType.READY)
        assert (ready.reason, ready.message) == (
            "StepTimedOut",
            'init container 1 of 2 "one" was still running after its timeoutSeconds of 10 s',
        )

    def test_applies_at_once(self) -> None:
        now = started(hanging()).policy(**limits_of_one(timeoutSeconds=10))
        assert now.reconcile(hanging(), 50).run.result is Result.FAILED

    def test_raised_it_grants_another_run(self) -> None:
        now = started(hanging(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 10)
        now = now.policy(**limits_of_one(timeoutSeconds=20)).reconcile(None, 60)
        assert now.run.trigger is Trigger.RETRY


class TestWhatAStepLeaves:
    """A step that is ended for a limit of its run writes its last words when its Pod goes."""

    words = 'init container 1 of 2 "one" was still running after its timeoutSeconds of 10 s: no db'
    dying = hanging().deleting(10).init("one", exit=137, message="no db")

    def test_is_in_the_condition(self) -> None:
        now = started(hanging(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 10)
        now = now.reconcile(self.dying, 12).reconcile(None, 13)
        assert now.condition(ConditionType.READY).message == self.words

    def test_is_in_history(self) -> None:
        now = started(hanging(), **limits_of_one(timeoutSeconds=10)).reconcile(hanging(), 10)
        [entry] = now.reconcile(self.dying, 12).reconcile(None, 13).status.history
        assert entry.exceeded is not None
        assert entry.exceeded.termination_message == "no db"

    def test_is_in_history_also_when_the_next_run_has_begun(self) -> None:
        limits = {**limits_of_one(timeoutSeconds=10), "backoffLimit": 1}
        now = started(hanging(), **limits).reconcile(hanging(), 10).reconcile(self.dying, 12)
        [entry] = now.status.history
        assert now.run.number == 2
        assert entry.exceeded is not None
        assert entry.exceeded.termination_message == "no db"

    def test_is_not_said_twice(self) -> None:
        now = started(failing(), **limits_of_one(maxRestarts=0))
        gone = fresh_pod().deleting(10).init("one", exit=3, message="no such table")
        assert (
            now.reconcile(gone, 60).condition(ConditionType.READY).message.count("no such table")
            == 1
        )


class TestMaxRestarts:
    @pytest.mark.parametrize(
        ("allowed", "found", "exceeded"),
        [
            pytest.param(0, failing(), True, id="none-allowed-and-it-failed"),
            pytest.param(1, failing(), False, id="one-allowed-and-it-failed"),
            pytest.param(1, failing(restarts=1), True, id="one-allowed-and-it-failed-twice"),
            pytest.param(
                1,
                fresh_pod().init("one", running=True, restarts=1, last=End(3)),
                False,
                id="one-allowed-and-it-runs-again",
            ),
            pytest.param(
                0,
                fresh_pod().init("one", running=True, restarts=1, last=End(3)),
                True,
                id="none-allowed-and-it-runs-again",
            ),
            pytest.param(
                0,
                fresh_pod().init("one", running=True),
                False,
                id="none-allowed-and-none-needed",
            ),
            pytest.param(
                0,
                fresh_pod().init("one", exit=0, restarts=1, last=End(3)),
                False,
                id="got-over-before-anybody-looked",
            ),
        ],
    )
    def test_how_often(self, allowed: int, found: PodBuilder, exceeded: bool) -> None:
        now = started(fresh_pod(), **limits_of_one(maxRestarts=allowed)).reconcile(found, 60)
        assert (now.run.result is Result.FAILED) == exceeded
        if exceeded:
            assert reason(now) == "RestartLimitExceeded"

    def test_with_restart_policy_never_the_pod_fails_instead(self) -> None:
        now = started(failed(), **limits_of_one(maxRestarts=0))
        assert reason(now) == "StepFailed"

    def test_the_message_has_the_evidence(self) -> None:
        now = started(failing(restarts=2), **limits_of_one(maxRestarts=2))
        assert now.condition(ConditionType.READY).message == (
            'init container 1 of 2 "one" needs more restarts than its maxRestarts of 2: it exited '
            "with 3, restarted 2 times: no such table"
        )

    def test_counts_within_a_run_of_the_kubelets(self) -> None:
        """The kubelet counts the first start after a restart of the sandbox as a restart."""
        now = started(running_pod(), **limits_of_one(maxRestarts=0)).reconcile(sandbox_killed(), 65)
        assert (now.run.number, now.run.result) == (2, None)
        again = sandbox_killed().init(
            "one", waiting="CrashLoopBackOff", restarts=1, last=End(3, start=60, end=66)
        )
        assert now.reconcile(again, 70).run.result is Result.FAILED

    def test_a_step_that_had_failed_before_the_sandbox_was_killed_begins_anew(self) -> None:
        first = fresh_pod().init("one", exit=0).init("two", waiting="CrashLoopBackOff", restarts=2)
        first = first.init("two", waiting="CrashLoopBackOff", restarts=2, last=End(3), id="two-2")
        limits = {"initPolicies": [{"name": "two", "maxRestarts": 3}]}
        second = first.init("one", running=True, start=60, restarts=1)
        now = started(first, **limits).reconcile(second, 61)
        assert (now.run.number, now.run.result) == (2, None)
        third = second.init("one", exit=0, start=60, restarts=1, end=62)
        third = third.init("two", running=True, start=63, restarts=3, last=End(3), id="two-3")
        assert now.reconcile(third, 64).run.result is None

    def test_a_step_that_went_with_its_sandbox_has_not_failed(self) -> None:
        """As recorded from a kubelet: the count rises, and how it ended is not known."""
        lost = End(137, start=None, end=None, reason="ContainerStatusUnknown")
        waiting = fresh_pod().init("one", restarts=1, last=lost)
        now = started(hanging(), **limits_of_one(maxRestarts=0)).reconcile(waiting, 20)
        assert (now.run.result, reason(now)) == (None, "StepPending")
        again = fresh_pod().init("one", running=True, start=21, restarts=1, last=lost)
        now = now.reconcile(again, 21)
        assert now.run.result is None
        failure = End(3, start=21, end=25)
        now = now.reconcile(fresh_pod().init("one", restarts=1, exit=3, start=21, last=failure), 26)
        assert reason(now) == "RestartLimitExceeded"

    def test_raised_it_grants_another_run(self) -> None:
        now = started(failing(), **limits_of_one(maxRestarts=0))
        now = now.policy(**limits_of_one(maxRestarts=1)).reconcile(None, 60)
        assert now.run.trigger is Trigger.RETRY


class TestSuspend:
    def test_the_pod_is_deleted(self) -> None:
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 60)
        assert now.decision.action == DeletePod("pod-1")

    def test_also_one_that_has_succeeded(self) -> None:
        done = completed_pod()
        now = started(done).policy(suspend=True).reconcile(done, 60)
        assert now.decision.action == DeletePod("pod-1")

    def test_but_not_somebody_elses(self) -> None:
        now = new_pipeline(suspend=True).reconcile(running_pod().owned_by("somebody-else"))
        assert now.decision.action is None

    @pytest.mark.parametrize(
        ("found", "result"),
        [
            pytest.param(hanging(), "Superseded", id="before-it-was-initialized"),
            pytest.param(running_pod(), "Initialized", id="after"),
        ],
    )
    def test_the_run_ends(self, found: PodBuilder, result: str) -> None:
        now = started(found).policy(suspend=True).reconcile(found, 60)
        assert now.past == [(1, "Created", result)]

    def test_no_run_starts(self) -> None:
        now = (
            started(running_pod())
            .policy(suspend=True)
            .reconcile(running_pod(), 60)
            .reconcile(None, 90)
        )
        assert (now.run.number, now.decision.action, now.decision.wake_at) == (1, None, None)

    def test_conditions_say_so(self) -> None:
        now = (
            started(running_pod())
            .policy(suspend=True)
            .reconcile(running_pod(), 60)
            .reconcile(None, 90)
        )
        said = {c.type: (c.status, c.reason) for c in now.status.conditions}
        assert said == {
            "Initialized": ("False", "Suspended"),
            "Ready": ("False", "Suspended"),
            "Suspended": ("True", "Suspended"),
        }

    def test_while_the_pod_goes_it_is_still_reconciling(self) -> None:
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod().deleting(60), 61)
        assert reason(now, ConditionType.RECONCILING) == "PodTerminating"

    def test_nothing_is_created_for_a_pipeline_that_is_created_suspended(self) -> None:
        now = new_pipeline(suspend=True).reconcile(None)
        assert now.status.run is None
        assert now.decision.action is None
        assert reason(now) == "Suspended"

    def test_its_first_run_is_a_resumed_one(self) -> None:
        now = new_pipeline(suspend=True).reconcile(None).policy(suspend=False).reconcile(None, 60)
        assert (now.run.number, now.run.trigger) == (1, Trigger.RESUMED)

    def test_resumed_a_new_run_starts(self) -> None:
        now = (
            started(running_pod())
            .policy(suspend=True)
            .reconcile(running_pod(), 60)
            .reconcile(None, 90)
        )
        now = now.policy(suspend=False).reconcile(None, 100)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RESUMED)
        assert isinstance(now.decision.action, CreatePod)
        assert not has(now, ConditionType.SUSPENDED)

    def test_resumed_before_the_pod_has_gone_it_waits_for_that(self) -> None:
        going = running_pod().deleting(60)
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 60)
        now = now.policy(suspend=False).reconcile(going, 61)
        assert (now.run.trigger, now.decision.action) == (Trigger.RESUMED, None)
        assert reason(now) == "PodTerminating"

    def test_resumed_before_anybody_saw_it_suspended_it_was_never_suspended(self) -> None:
        now = started(running_pod()).policy(suspend=True).policy(suspend=False)
        assert now.reconcile(running_pod(), 60).run.number == 1

    @pytest.mark.parametrize(
        "end",
        [
            pytest.param(failed(), id="given-up"),
            pytest.param(completed_pod(), id="succeeded"),
        ],
    )
    def test_resumed_also_a_pipeline_that_was_at_its_end_runs_again(self, end: PodBuilder) -> None:
        now = started(end).policy(suspend=True).reconcile(end, 60).reconcile(None, 90)
        now = now.policy(suspend=False).reconcile(None, 100)
        assert (now.run.number, now.run.trigger) == (2, Trigger.RESUMED)
        assert (now.status.failed_runs, now.status.rerun_count) == (0, 0)

    def test_a_token_waits(self) -> None:
        now = new_pipeline(suspend=True).reconcile(None).token("t").reconcile(None, 60)
        assert now.status.run is None
        assert 'the request "t"' in now.condition(ConditionType.SUSPENDED).message

    def test_a_token_that_waited_is_answered_by_the_run_that_follows(self) -> None:
        now = started(running_pod()).policy(suspend=True).token("t").reconcile(running_pod(), 60)
        now = now.policy(suspend=False).reconcile(None, 90)
        assert (now.run.trigger, now.run.token) == (Trigger.REQUESTED, "t")
        assert now.reconcile(running_pod(2), 120).run.number == 2

    def test_a_template_changed_meanwhile_is_what_the_next_run_is_for(self) -> None:
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 60)
        now = now.edited().reconcile(None, 90).policy(suspend=False).reconcile(None, 120)
        assert (now.run.number, now.run.trigger) == (2, Trigger.SPEC_CHANGED)

    def test_numbers_go_on_after_a_lost_status(self) -> None:
        now = new_pipeline(suspend=True).reconcile(running_pod(7), 60)
        assert now.past == [(7, "Created", "Initialized")]
        assert now.policy(suspend=False).reconcile(None, 90).run.number == 8

    def test_it_ends_the_wait_for_the_next_run(self) -> None:
        now = started(failed(), backoffLimit=5).reconcile(None).reconcile(failed(2), 60)
        now = now.policy(suspend=True).reconcile(failed(2), 61)
        assert (now.status.next_run_time, now.decision.wake_at) == (None, None)


class TestRunHistoryLimit:
    @pytest.mark.parametrize(
        ("limit", "kept"),
        [
            pytest.param(None, list(range(14, 4, -1)), id="ten-by-default"),
            pytest.param(3, [14, 13, 12], id="three"),
            pytest.param(0, [], id="none"),
        ],
    )
    def test_so_many_are_kept(self, limit: int | None, kept: list[int]) -> None:
        now = started(running_pod(), runHistoryLimit=limit)
        for number in range(1, 15):
            now = now.token(f"t-{number}").reconcile(running_pod(number), number * 100)
        assert [record.number for record in now.status.history] == kept

    def test_applies_at_once(self) -> None:
        now = started(running_pod()).token("t").reconcile(running_pod(), 60)
        assert len(now.status.history) == 1
        assert now.policy(runHistoryLimit=0).reconcile(running_pod(2), 70).status.history == ()

    def test_without_history_a_lost_pod_is_still_answered(self) -> None:
        now = started(running_pod(), runHistoryLimit=0).reconcile(None, 60)
        assert (now.run.number, now.run.trigger) == (2, Trigger.POD_LOST)

    def test_without_history_a_token_is_still_answered_once(self) -> None:
        now = started(running_pod(), runHistoryLimit=0).token("t").reconcile(running_pod(), 60)
        assert now.reconcile(running_pod(2), 70).reconcile(running_pod(2), 80).run.number == 2


class TestTtlSecondsAfterFinished:
    succeeded = completed_pod()

    @pytest.mark.parametrize(
        "end",
        [pytest.param(succeeded, id="succeeded"), pytest.param(failed(), id="given-up")],
    )
    def test_the_pipeline_is_deleted_so_long_after(self, end: PodBuilder) -> None:
        now = started(running_pod(), ttlSecondsAfterFinished=100).reconcile(end, 60)
        assert (now.decision.action, now.decision.wake_at) == (None, at(160))
        assert now.reconcile(end, 159).decision.action is None
        assert now.reconcile(end, 160).decision.action == DeletePipeline()

    @pytest.mark.parametrize(
        "found",
        [pytest.param(running_pod(), id="ready"), pytest.param(hanging(), id="on-its-way")],
    )
    def test_not_while_it_goes_on(self, found: PodBuilder) -> None:
        now = started(found, ttlSecondsAfterFinished=0).reconcile(found, 1000)
        assert (now.decision.action, now.decision.wake_at) == (None, None)

    def test_not_while_another_run_is_due(self) -> None:
        now = started(failed(), ttlSecondsAfterFinished=0, backoffLimit=9).reconcile(None)
        now = now.reconcile(failed(2), 60)
        assert (now.decision.action, now.decision.wake_at) == (None, at(70))

    def test_not_while_it_is_suspended(self) -> None:
        now = started(self.succeeded, ttlSecondsAfterFinished=10)
        now = now.policy(suspend=True).reconcile(None, 1000)
        assert now.decision.action is None

    def test_the_pod_of_one_that_was_given_up_goes_first(self) -> None:
        now = started(hanging(), initDeadlineSeconds=30, ttlSecondsAfterFinished=0)
        now = now.reconcile(hanging(), 30)
        assert now.decision.action == DeletePod("pod-1")
        assert now.reconcile(None, 60).decision.action == DeletePipeline()

    def test_a_pod_that_was_collected_before_changes_nothing(self) -> None:
        now = started(self.succeeded, ttlSecondsAfterFinished=100).reconcile(None, 50)
        assert now.decision.wake_at == at(100)


class TestTheLastOfAPod:
    """What the watch told of a Pod when it went, of which only the beginning had been seen."""

    def test_how_it_was_lost(self) -> None:
        words = "Eviction API: evicting"
        last = hanging().deleting(50).condition("DisruptionTarget", message=words)
        [entry] = started(hanging()).reconcile(None, 60, gone=last).status.history
        assert (entry.result, entry.message) == (Result.LOST, f"the Pod was lost: {words}")

    def test_that_it_had_been_initialized(self) -> None:
        now = started(hanging()).reconcile(None, 60, gone=running_pod().deleting(50))
        [entry] = now.status.history
        assert (entry.result, entry.initialized_time) == (Result.LOST, at(18))

    def test_that_it_had_succeeded_before(self) -> None:
        last = completed_pod()
        now = started(hanging()).reconcile(None, 60, gone=last)
        assert now.past == [(1, "Created", "Succeeded")]
        assert reason(now) == "PodSucceeded"

    def test_that_it_had_failed_before(self) -> None:
        now = started(hanging()).reconcile(None, 60, gone=failed())
        assert now.past == [(1, "Created", "Failed")]
        assert reason(now) == "StepFailed"

    def test_a_failure_while_it_was_deleted_is_no_end_of_its_own(self) -> None:
        now = started(hanging()).reconcile(None, 60, gone=failed().deleting(50))
        assert now.past == [(1, "Created", "Lost")]
        [entry] = now.status.history
        assert entry.failed_step is not None
        assert entry.failed_step.message == "no such table"

    def test_another_pods_end_is_nothing_to_this_run(self) -> None:
        last = replace(failed(), uid="another")
        now = started(hanging()).reconcile(None, 60, gone=last)
        assert now.past == [(1, "Created", "Lost")]


class TestAPodThatStaysTerminating:
    def test_is_waited_for(self) -> None:
        going = running_pod().deleting(requested=0, grace=30)
        now = started(going).reconcile(going, 329)
        assert reason(now, ConditionType.RECONCILING) == "PodTerminating"
        assert now.decision.wake_at == at(330)

    def test_needs_a_person_five_minutes_after_its_grace_period(self) -> None:
        going = running_pod().deleting(requested=0, grace=30)
        now = started(going).reconcile(going, 330)
        stalled = now.condition(ConditionType.STALLED)
        assert stalled.reason == "PodTerminating"
        assert 'node "node-1"' in stalled.message
        assert "out-of-service" in stalled.message
        assert "--force" in stalled.message
        assert not has(now, ConditionType.RECONCILING)
        assert (now.decision.action, now.decision.wake_at) == (None, None)

    def test_so_does_one_of_an_earlier_run(self) -> None:
        now = started(running_pod()).token("t").reconcile(running_pod(), 60)
        going = running_pod().deleting(requested=60, grace=30)
        assert now.reconcile(going, 100).decision.wake_at == at(390)
        stuck = now.reconcile(going, 390)
        assert reason(stuck, ConditionType.STALLED) == "PodTerminating"
        assert isinstance(stuck.reconcile(None, 400).decision.action, CreatePod)

    def test_so_does_one_that_suspend_deleted(self) -> None:
        going = running_pod().deleting(requested=60, grace=30)
        now = started(running_pod()).policy(suspend=True).reconcile(running_pod(), 60)
        assert now.reconcile(going, 61).decision.wake_at == at(390)
        assert reason(now.reconcile(going, 390), ConditionType.STALLED) == "PodTerminating"

    def test_names_the_finalizers_that_keep_it(self) -> None:
        going = running_pod().deleting(requested=0, grace=30).held_by("example.com/backup")
        stalled = started(going).reconcile(going, 400).condition(ConditionType.STALLED)
        assert "example.com/backup" in stalled.message

    def test_once_it_is_gone_the_next_run_starts(self) -> None:
        going = running_pod().deleting(requested=0, grace=30)
        now = started(going).reconcile(going, 400).reconcile(None, 500)
        assert now.past == [(1, "Created", "Lost")]
        assert now.run.number == 2
        assert not has(now, ConditionType.STALLED)


def test_the_back_off_is_known_from_status_alone() -> None:
    """An operator that starts anew while the next run waits changes nothing."""
    now = started(failed(), backoffLimit=5).reconcile(None).reconcile(failed(2), 60)
    assert (now.status.rerun_count, now.status.next_run_time) == (1, at(70))
    assert now.pipeline.status["nextRunTime"] == stamp(70)
    assert now.reconcile(failed(2), 65).status == now.status
    assert now.reconcile(failed(2), 70).run.number == 3
