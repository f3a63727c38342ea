"""In-place re-runs: the kubelet restarts all containers of the Pod (KEP-5532).

Messages of the API server, scheduler and kubelet were recorded from Kubernetes 1.36 with the
feature gate off.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from initpipeline.api import names
from initpipeline.api.models import Cause
from initpipeline.api.reasons import ConditionType, Reason, Trigger
from initpipeline.core.decide import CreatePod, DeletePod
from initpipeline.core.facts import Refusal
from tests.builders import (
    End,
    PodBuilder,
    at,
    container_id,
    fresh_pod,
    pipeline,
    running_pod,
    silent_pod,
)
from tests.unit.core.samples import RESTARTING_ALL
from tests.unit.core.simulation import SimulatedPipeline, new_pipeline

ANY = {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": []}}
NON_ZERO = {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}}
OWN = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}

REFUSED = Refusal(
    Reason.INVALID_TEMPLATE,
    'Pod "demo" is invalid: spec.containers[0].restartPolicyRules[0].action: Unsupported value: '
    '"RestartAllContainers": supported values: "Restart"',
)
UNKNOWN_FIELD = Refusal(
    Reason.INVALID_TEMPLATE,
    'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field '
    '"spec.containers[0].restartPolicyRules"',
)
OTHER_FAULT = Refusal(
    Reason.INVALID_TEMPLATE,
    'Pod "demo" is invalid: spec.containers[0].volumeMounts[0].name: Not found: "data"',
)
QUOTA = Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota: pods, used: pods=3")


def asking(**policies: Any) -> SimulatedPipeline:
    """Returns a pipeline with rerunStrategy InPlace."""
    return new_pipeline(**{"rerunStrategy": "InPlace", **policies})


def initialized(pod: PodBuilder, **policies: Any) -> SimulatedPipeline:
    """Returns the pipeline after its Pod was created and initialized."""
    return asking(**policies).reconcile(None).reconcile(pod)


def exited(passes: int = 0, code: int = 7) -> PodBuilder:
    """Returns the Pod after the app exited. The kubelet is about to restart all containers."""
    pod = run_again(passes) if passes else running_pod().in_place()
    ended = pod.ready(False).condition("AllContainersRestarting")
    return ended.app(exit=code, start=20 + 100 * passes, restarts=passes)


def restarting(passes: int) -> PodBuilder:
    """Returns the Pod while the kubelet restarts all containers for the n-th time."""
    pod = fresh_pod().in_place().phase("Running")
    for name in ("one", "two"):
        pod = pod.init(
            name,
            waiting=RESTARTING_ALL.reason,
            last=RESTARTING_ALL,
            restarts=passes,
            id=container_id(name, passes - 1),
        )
    return pod.app(waiting=RESTARTING_ALL.reason, last=RESTARTING_ALL, restarts=passes)


def run_again(passes: int) -> PodBuilder:
    """Returns the Pod after n in-place restarts, initialized again."""
    start = 100.0 * passes
    pod = running_pod().in_place()
    for position, name in enumerate(("one", "two")):
        begin = start + 10 * position
        pod = pod.init(name, exit=0, start=begin, restarts=passes, last=RESTARTING_ALL)
    return pod.app(running=True, start=start + 20, restarts=passes, last=RESTARTING_ALL)


def created(of: SimulatedPipeline) -> dict[str, Any]:
    action = of.decision.action
    assert isinstance(action, CreatePod), f"no Pod is created: {action}"
    return action.manifest


def app(of: SimulatedPipeline) -> dict[str, Any]:
    container: dict[str, Any] = created(of)["spec"]["containers"][0]
    return container


def in_place_condition(of: SimulatedPipeline) -> tuple[str, str] | None:
    """Returns status and reason of the condition InPlaceUnavailable. None: it is absent."""
    condition = of.status.condition(ConditionType.IN_PLACE_UNAVAILABLE)
    return None if condition is None else (condition.status, condition.reason)


def twice(seconds: float, **policies: Any) -> SimulatedPipeline:
    """Returns a pipeline with two in-place re-runs so many seconds apart."""
    first = initialized(running_pod().in_place(), **policies)
    first = (
        first.reconcile(restarting(1), 100).reconcile(run_again(1), 130).reconcile(exited(1), 140)
    )
    return first.reconcile(restarting(2), 100 + seconds)


def lost_twice() -> SimulatedPipeline:
    """Returns a pipeline whose Pod was lost twice, with the third Pod."""
    now = initialized(running_pod().in_place())
    for run, seconds in ((2, 50), (3, 100)):
        now = now.reconcile(None, seconds).reconcile(None, seconds + 30).reconcile(None)
        pod = created(now)
        now = now.reconcile(running_pod(run).in_place(pod["metadata"]["annotations"][ANNOTATION]))
    return now


ANNOTATION = names.RERUN_IN_PLACE_ANNOTATION
UNSUPPORTED, TOO_OFTEN = ("True", "InPlaceUnsupported"), ("True", "InPlaceTooOften")


class TestRules:
    """Rules that the operator adds to the Pod."""

    @pytest.mark.parametrize(
        ("pod_policy", "own", "rules"),
        [
            pytest.param(None, {}, [ANY], id="Always is the default"),
            pytest.param("Always", {}, [ANY], id="Always: any exit"),
            pytest.param("OnFailure", {}, [NON_ZERO], id="OnFailure: non-zero"),
            pytest.param("Never", {}, None, id="Never: none"),
            pytest.param("Never", {"restartPolicy": "Always"}, [ANY], id="its own Always"),
            pytest.param("Always", {"restartPolicy": "OnFailure"}, [NON_ZERO], id="its own OnFail"),
            pytest.param("Always", {"restartPolicy": "Never"}, None, id="its own Never"),
            pytest.param(
                "Always",
                {"restartPolicy": "Always", "restartPolicyRules": [OWN]},
                [OWN, ANY],
                id="its own rules come first",
            ),
        ],
    )
    def test_rule_follows_from_restart_policy(
        self, pod_policy: str | None, own: dict[str, Any], rules: list[Any] | None
    ) -> None:
        spec = pipeline().template["spec"]
        spec = {**spec, "containers": [{"name": "app", "image": "nginx", **own}]}
        spec = {**spec, "restartPolicy": pod_policy} if pod_policy else spec
        asked = asking()
        asked = asked.change(asked.pipeline.with_template({"spec": spec})).reconcile(None)
        assert app(asked).get("restartPolicyRules") == rules
        assert rules is None or app(asked)["restartPolicy"], "the API wants it beside rules"

    def test_creation_has_the_run_and_whether_the_pod_has_rules(self) -> None:
        first = asking().reconcile(None)
        without = first.reconcile(None, refusal=REFUSED, refused_in_place=True)
        for state, rules in ((first, True), (without, False)):
            action = state.decision.action
            assert isinstance(action, CreatePod)
            assert action.in_place is rules
            assert action.manifest["metadata"]["annotations"][names.RUN_ANNOTATION] == "1"

    def test_each_app_container_has_one_rule(self) -> None:
        sidecar = {"name": "log", "image": "busybox", "restartPolicy": "Always"}
        of = asking().pipeline.inits("one", sidecar)
        containers = [{"name": "app", "image": "nginx"}, {"name": "other", "image": "nginx"}]
        of = of.with_template({"spec": {**of.template["spec"], "containers": containers}})
        spec = created(asking().change(of).reconcile(None))["spec"]
        assert [c["restartPolicyRules"] for c in spec["containers"]] == [[ANY], [ANY]]
        assert not any("restartPolicyRules" in c for c in spec["initContainers"])

    @pytest.mark.parametrize(
        "policies",
        [
            pytest.param({"rerunStrategy": "Recreate"}, id="Recreate"),
            pytest.param({"rerunPolicy": "OnPodLoss"}, id="OnPodLoss"),
            pytest.param({"rerunPolicy": "Never"}, id="Never"),
        ],
    )
    def test_other_policies_add_no_rule(self, policies: dict[str, Any]) -> None:
        first = asking(**policies).reconcile(None)
        assert "restartPolicyRules" not in app(first)
        assert names.RERUN_IN_PLACE_ANNOTATION not in created(first)["metadata"]["annotations"]
        assert in_place_condition(first) is None

    def test_changed_strategy_takes_effect_with_the_next_pod(self) -> None:
        before = asking(rerunStrategy="Recreate").reconcile(None).reconcile(running_pod())
        after = before.policy(rerunStrategy="InPlace").reconcile(running_pod())
        assert (after.run.number, after.decision.action, in_place_condition(after)) == (
            1,
            None,
            None,
        )


class TestInPlaceRerun:
    """A run that the kubelet starts in the same Pod."""

    def test_working_pod_has_no_condition(self) -> None:
        assert in_place_condition(initialized(running_pod().in_place())) is None

    def test_restart_of_all_containers_is_a_run(self) -> None:
        after = initialized(running_pod().in_place()).reconcile(restarting(1), 100)
        assert (after.run.number, after.run.trigger) == (2, Trigger.RESTARTED_IN_PLACE)
        assert after.past == [(1, "Created", "Initialized")]
        assert not after.initialized
        again = after.reconcile(run_again(1), 130)
        assert again.initialized
        assert (again.run.number, again.decision.action, in_place_condition(again)) == (
            2,
            None,
            None,
        )

    def test_cause_is_the_exit_observed_before(self) -> None:
        """Afterwards the kubelet reports each termination as 137, RestartingAllContainers."""
        before = initialized(running_pod().in_place()).reconcile(exited(), 90)
        after = before.reconcile(restarting(1), 100)
        assert after.run.cause == Cause(container="app", exit_code=7, reason="Error")
        assert after.reconcile(run_again(1), 130).run.cause == after.run.cause

    def test_unobserved_exit_is_not_a_cause(self) -> None:
        after = initialized(running_pod().in_place()).reconcile(restarting(1), 100)
        assert after.run.cause is None

    def test_cause_belongs_to_one_run(self) -> None:
        first = (
            initialized(running_pod().in_place())
            .reconcile(exited(), 90)
            .reconcile(run_again(1), 100)
        )
        assert first.reconcile(restarting(2), 2000).run.cause is None

    def test_exit_is_not_the_cause_of_a_sandbox_restart(self) -> None:
        before = initialized(running_pod().in_place()).reconcile(exited(), 90)
        again = running_pod().in_place().ready(False)
        after = before.reconcile(again.init("one", running=True, restarts=1, last=End(0)), 100)
        assert (after.run.trigger, after.run.cause) == (Trigger.POD_RESTARTED, None)

    def test_sandbox_restart_that_matches_the_rules_is_one_run(self) -> None:
        """It terminates the app container, and the rule matches: the first run is cut short."""
        begun = exited(code=137).init("one", running=True, start=100, restarts=1, last=End(0))
        begun = begun.init("two", exit=0, restarts=1, last=RESTARTING_ALL, id=container_id("two"))
        before = initialized(running_pod().in_place(), initPolicies=[ONCE])
        after = before.reconcile(begun, 100).reconcile(restarting(2), 101)
        again = after.reconcile(
            restarting(2).init("one", running=True, restarts=2, last=RESTARTING_ALL), 102
        )
        for state in (after, again, again.reconcile(run_again(2), 130)):
            assert (state.run.number, state.run.trigger) == (2, Trigger.POD_RESTARTED)
            assert state.past == [(1, "Created", "Initialized")]


ONCE = {"name": "one", "maxRestarts": 0}


class TestTooOften:
    """After a second in-place re-run within ten minutes, the operator replaces the Pod."""

    def test_second_in_place_rerun_replaces_the_pod(self) -> None:
        after = twice(599)
        assert after.decision.action == DeletePod("pod-1")
        assert (after.run.number, after.run.trigger) == (4, Trigger.CONTAINER_RESTARTED)
        assert after.run.cause == Cause(container="app", exit_code=7, reason="Error")
        assert after.status.rerun_count == 1
        assert after.past == [
            (1, "Created", "Initialized"),
            (2, "RestartedInPlace", "Initialized"),
            (3, "RestartedInPlace", "Superseded"),
        ]

    def test_empty_history_does_not_hide_the_first(self) -> None:
        after = twice(599, runHistoryLimit=0)
        assert (after.run.number, after.run.trigger) == (4, Trigger.CONTAINER_RESTARTED)

    def test_reruns_ten_minutes_apart_keep_the_pod(self) -> None:
        after = twice(600)
        assert (after.run.number, after.run.trigger) == (3, Trigger.RESTARTED_IN_PLACE)

    def test_replacement_pod_has_no_rules(self) -> None:
        after = twice(599).reconcile(None)
        assert "restartPolicyRules" not in app(after)
        assert in_place_condition(after) == TOO_OFTEN
        pod = running_pod(4).in_place("InPlaceTooOften")
        assert in_place_condition(after.reconcile(pod, 720)) == TOO_OFTEN

    def test_condition_is_removed_if_the_user_no_longer_wants_in_place_reruns(self) -> None:
        before = twice(599).reconcile(None)
        assert in_place_condition(before) == TOO_OFTEN
        assert in_place_condition(before.policy(rerunStrategy="Recreate").reconcile(None)) is None

    def test_condition_is_of_the_generation_that_was_reconciled(self) -> None:
        before = twice(599)
        after = replace(before, pipeline=before.pipeline.of_generation(7)).reconcile(None)
        condition = after.condition(ConditionType.IN_PLACE_UNAVAILABLE)
        assert condition.observed_generation == 7

    def test_condition_is_kept_while_the_pod_exists(self) -> None:
        pod = running_pod(4).in_place("InPlaceTooOften")
        before = twice(599).reconcile(None).reconcile(pod, 720)
        after = before.reconcile(pod.ready(False), 99_000)
        type_ = ConditionType.IN_PLACE_UNAVAILABLE
        assert after.condition(type_) == before.condition(type_)

    def test_restart_ten_minutes_later_creates_a_pod_with_rules(self) -> None:
        pod = running_pod(4).in_place("InPlaceTooOften").condition("Ready", since=720)
        long_ready = twice(599).reconcile(None).reconcile(pod, 720)
        crashed = pod.ready(False).app(running=True, restarts=1, last=End(1, start=730))
        after = long_ready.reconcile(crashed, 1400)
        assert (after.run.number, after.run.trigger) == (5, Trigger.CONTAINER_RESTARTED)
        assert app(after.reconcile(None))["restartPolicyRules"] == [ANY]
        assert in_place_condition(after) is None

    @pytest.mark.parametrize(
        ("seconds", "rules"),
        [pytest.param(599, None, id="9:59"), pytest.param(600, [ANY], id="10:00")],
    )
    def test_pod_after_a_loss_has_rules_ten_minutes_after_the_last_in_place_rerun(
        self, seconds: float, rules: list[Any] | None
    ) -> None:
        once = initialized(running_pod().in_place()).reconcile(restarting(1), 100)
        lost = once.reconcile(run_again(1), 130).reconcile(None, 100 + seconds)
        assert lost.run.trigger is Trigger.POD_LOST
        assert app(lost.reconcile(None)).get("restartPolicyRules") == rules

    def test_further_in_place_reruns_keep_the_next_run_time(self) -> None:
        lost = initialized(running_pod().in_place()).reconcile(None, 50).reconcile(None)
        second = lost.reconcile(running_pod(2).in_place(), 60)
        assert second.status.rerun_count == 1, "the next of the kind waits"

        def of_second(pod: PodBuilder) -> PodBuilder:
            return pod.of_run(2)

        state = second
        for passes, seconds in ((1, 100), (2, 105), (3, 110), (4, 113)):
            state = state.reconcile(of_second(restarting(passes)), seconds)
            state = state.reconcile(of_second(run_again(passes)), seconds + 1)
        assert state.status.next_run_time == at(115)
        after = state.reconcile(of_second(run_again(4)), 115)
        assert after.run.trigger is Trigger.CONTAINER_RESTARTED

    def test_several_reruns_in_a_row_leave_the_rules_out(self) -> None:
        now = lost_twice()
        assert now.status.rerun_count == 2
        assert in_place_condition(now) == TOO_OFTEN

    def test_requested_run_gets_rules_again(self) -> None:
        first = initialized(running_pod().in_place()).reconcile(restarting(1), 100)
        requested = first.reconcile(run_again(1), 130).token("t").reconcile(run_again(1), 140)
        assert requested.decision.action == DeletePod("pod-1"), "a request always makes a new Pod"
        assert app(requested.reconcile(None))["restartPolicyRules"] == [ANY]

    def test_reruns_by_rules_of_the_template_are_not_limited(self) -> None:
        first = asking(rerunStrategy="Recreate").reconcile(None).reconcile(running_pod())

        def theirs(pod: PodBuilder) -> PodBuilder:
            return pod.in_place("", rules=True)

        first = first.reconcile(theirs(restarting(1)), 100).reconcile(theirs(run_again(1)), 130)
        after = first.reconcile(theirs(restarting(2)), 150)
        assert (after.run.number, after.run.trigger) == (3, Trigger.RESTARTED_IN_PLACE)


class TestUnsupported:
    """If the cluster does not support it, the Pod has no rules, and a condition reports that."""

    def test_pod_with_rules_carries_the_token_of_its_run(self) -> None:
        carried = created(asking().token("t").reconcile(None))["metadata"]["annotations"]
        assert (carried[ANNOTATION], carried[names.RERUN_TOKEN_ANNOTATION]) == (names.IN_PLACE, "t")

    def test_obstacle_is_reported_before_the_first_report_on_the_pod(self) -> None:
        """Otherwise the first status of a run waits for that report."""
        silent = asking().reconcile(None).reconcile(silent_pod().in_place("InPlaceUnsupported"), 1)
        assert in_place_condition(silent) == UNSUPPORTED
        assert silent.pipeline.status

    @pytest.mark.parametrize(
        "refusal",
        [
            pytest.param(REFUSED, id="the action is not known"),
            pytest.param(UNKNOWN_FIELD, id="the field is not known"),
        ],
    )
    def test_refused_pod_is_created_without_rules(self, refusal: Refusal) -> None:
        first = asking().reconcile(None)
        after = first.reconcile(None, refusal=refusal, refused_in_place=True)
        assert "restartPolicyRules" not in app(after)
        assert created(after)["metadata"]["annotations"][ANNOTATION] == "InPlaceUnsupported"
        assert (after.run.number, after.run.result, after.past) == (1, None, [])
        assert in_place_condition(after) == UNSUPPORTED
        assert refusal.message in after.condition(ConditionType.IN_PLACE_UNAVAILABLE).message

    def test_message_of_the_api_server_is_kept_while_the_pod_exists(self) -> None:
        refused = asking().reconcile(None).reconcile(None, refusal=REFUSED, refused_in_place=True)
        after = refused.reconcile(running_pod().in_place("InPlaceUnsupported"), 60)
        assert REFUSED.message in after.condition(ConditionType.IN_PLACE_UNAVAILABLE).message

    def test_second_refusal_is_reported_as_invalid_template(self) -> None:
        refused = asking().reconcile(None).reconcile(None, refusal=REFUSED, refused_in_place=True)
        after = refused.reconcile(None, refusal=OTHER_FAULT)
        ready = after.condition(ConditionType.READY)
        assert (ready.reason, ready.message) == ("InvalidTemplate", OTHER_FAULT.message)
        assert (after.decision.action, after.decision.retry) == (None, True)

    def test_refusal_for_another_reason_is_retried_with_rules(self) -> None:
        after = asking().reconcile(None).reconcile(None, refusal=OTHER_FAULT, refused_in_place=True)
        assert (after.decision.action, in_place_condition(after)) == (None, None)
        assert after.decision.retry
        assert app(after.reconcile(None, 1))["restartPolicyRules"] == [ANY]

    def test_refused_rules_are_not_tried_again_in_the_same_run(self) -> None:
        refused = asking().reconcile(None).reconcile(None, refusal=REFUSED, refused_in_place=True)
        waiting = refused.reconcile(None, refusal=QUOTA)
        assert waiting.decision.retry
        assert "restartPolicyRules" not in app(waiting.reconcile(None, 30))

    def test_refused_rules_after_a_change_of_the_spec_are_not_an_invalid_template(self) -> None:
        refused = asking().reconcile(None).reconcile(None, refusal=QUOTA, refused_in_place=True)
        assert refused.condition(ConditionType.READY).reason == "QuotaExceeded"
        changed = refused.policy(backoffLimit=3)
        after = changed.reconcile(None, refusal=REFUSED, refused_in_place=True)
        assert after.condition(ConditionType.READY).reason == "PodPending"
        assert in_place_condition(after) == UNSUPPORTED

    def test_next_run_tries_the_rules_again(self) -> None:
        refused = asking().reconcile(None).reconcile(None, refusal=REFUSED, refused_in_place=True)
        pod = running_pod().in_place("InPlaceUnsupported")
        after = refused.reconcile(pod).token("t").reconcile(pod, 60).reconcile(None, 61)
        assert app(after)["restartPolicyRules"] == [ANY]

    def test_dropped_rules_are_reported(self) -> None:
        """The API server has the field, but not the feature."""
        assert in_place_condition(initialized(running_pod().in_place(rules=False))) == UNSUPPORTED

    def test_node_without_the_feature_is_reported_by_the_next_pod(self) -> None:
        pod = running_pod().in_place()
        crashed = pod.app(running=True, restarts=1, last=End(7, start=20))
        after = initialized(pod).reconcile(crashed, 60)
        assert (after.run.number, after.run.trigger) == (2, Trigger.CONTAINER_RESTARTED)
        assert in_place_condition(after) == UNSUPPORTED
        assert "restartPolicyRules" not in app(after.reconcile(None))

    def test_restart_rule_of_the_template_is_not_a_missing_feature(self) -> None:
        own = {"restartPolicy": "Always", "restartPolicyRules": [OWN]}
        before = asking()
        spec = before.pipeline.template["spec"]
        template = {"spec": {**spec, "containers": [{"name": "app", "image": "nginx", **own}]}}
        before = before.change(before.pipeline.with_template(template))
        rules = {"restartPolicy": "Always", "restartPolicyRules": [OWN, ANY]}
        pod = running_pod().in_place().with_spec(containers=[{"name": "app", **rules}])
        crashed = pod.app(running=True, restarts=1, last=End(42, start=20))
        after = before.reconcile(None).reconcile(pod).reconcile(crashed, 60)
        assert (after.run.trigger, in_place_condition(after)) == (Trigger.CONTAINER_RESTARTED, None)

    def test_new_pod_is_not_the_one_that_was_restarted(self) -> None:
        pod = running_pod().in_place("InPlaceTooOften")
        crashed = pod.app(running=True, restarts=1, last=End(7, start=20))
        after = asking().reconcile(None).reconcile(pod).reconcile(crashed, 60).reconcile(None, 61)
        assert app(after)["restartPolicyRules"] == [ANY]
        assert in_place_condition(after.reconcile(silent_pod(2, created=61).in_place(), 61)) is None

    @pytest.mark.parametrize(
        ("annotation", "last"),
        [
            pytest.param(
                "InPlaceTooOften", End(7, start=20), id="the rules are the template's own"
            ),
            pytest.param(names.IN_PLACE, None, id="the kubelet does not report the exit"),
        ],
    )
    def test_restart_that_does_not_show_a_missing_feature_keeps_the_rules(
        self, annotation: str, last: End | None
    ) -> None:
        pod = running_pod().in_place(annotation, rules=True)
        crashed = pod.app(running=True, restarts=1, last=last)
        after = asking().reconcile(None).reconcile(pod).reconcile(crashed, 60)
        assert (after.run.number, after.run.trigger) == (2, Trigger.CONTAINER_RESTARTED)
        assert app(after.reconcile(None))["restartPolicyRules"] == [ANY]

    def test_other_strategy_has_no_condition(self) -> None:
        before = initialized(running_pod().in_place(rules=False))
        after = before.policy(rerunStrategy="Recreate").reconcile(
            running_pod().in_place(rules=False)
        )
        assert in_place_condition(after) is None


NO_NODE = (
    "0/1 nodes are available: 1 node(s) didn't match Pod's required features. no new claims to "
    "deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
)
NOT_ADMITTED = (
    "Pod was rejected: Pod requires node features that are not available: "
    "RestartAllContainersOnContainerExits"
)


def unschedulable(message: str = NO_NODE) -> PodBuilder:
    pod = fresh_pod().in_place().node(None)
    for name in ("one", "two"):
        pod = pod.init(name, reported=False)
    pod = pod.app(reported=False)
    return pod.condition("PodScheduled", "False", "Unschedulable", message)


def not_admitted() -> PodBuilder:
    scheduled = unschedulable().node("node-1").condition("PodScheduled")
    return scheduled.phase("Failed", "PodFeatureUnsupported", NOT_ADMITTED)


class TestUnfitPod:
    """No node accepts the Pod because of the rules. It is replaced in the same run."""

    @pytest.mark.parametrize(
        "pod",
        [
            pytest.param(unschedulable(), id="no node that the scheduler would take"),
            pytest.param(not_admitted(), id="not admitted by the kubelet"),
        ],
    )
    @pytest.mark.parametrize("seen", [False, True], ids=["at first sight", "after a while"])
    def test_pod_is_replaced_in_the_same_run(self, pod: PodBuilder, seen: bool) -> None:
        before = asking().reconcile(None)
        before = (
            before.reconcile(unschedulable("0/1 nodes are available: too busy")) if seen else before
        )
        after = before.reconcile(pod, 5)
        assert after.decision.action == DeletePod("pod-1")
        assert in_place_condition(after) == UNSUPPORTED
        without = after.reconcile(None, 6)
        assert "restartPolicyRules" not in app(without)
        assert (without.run.number, without.past) == (1, [])
        running = running_pod().of_run(1, uid="pod-1b").in_place("InPlaceUnsupported")
        assert in_place_condition(without.reconcile(running, 30)) == UNSUPPORTED

    def test_crash_before_the_deletion_deletes_again(self) -> None:
        after = asking().reconcile(None).reconcile(unschedulable(), 5).reconcile(unschedulable(), 6)
        assert after.decision.action == DeletePod("pod-1")

    def test_terminating_pod_is_awaited(self) -> None:
        after = (
            asking()
            .reconcile(None)
            .reconcile(unschedulable(), 5)
            .reconcile(unschedulable().deleting(), 6)
        )
        assert (after.decision.action, after.run.number) == (None, 1)

    def test_pod_that_the_kubelet_rejects_for_another_reason_is_lost(self) -> None:
        rejected = not_admitted().phase("Failed", "OutOfcpu", "Pod was rejected: not enough cpu")
        after = asking().reconcile(None).reconcile(rejected, 5)
        assert after.past == [(1, "Created", "Lost")]
        assert in_place_condition(after) is None

    @pytest.mark.parametrize(
        "pod",
        [
            pytest.param(unschedulable("0/1 nodes are available: 1 Insufficient cpu."), id="cpu"),
            pytest.param(
                unschedulable().in_place("InPlaceUnsupported", rules=True),
                id="for the template's own rules",
            ),
        ],
    )
    def test_pod_that_is_unschedulable_for_another_reason_stays(self, pod: PodBuilder) -> None:
        after = asking().reconcile(None).reconcile(pod, 5)
        assert after.decision.action is None
        assert after.condition(ConditionType.READY).reason == "PodUnschedulable"


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        pytest.param(
            lambda: (
                asking().reconcile(None).reconcile(None, refusal=REFUSED, refused_in_place=True)
            ),
            REFUSED.message,
            id="the API server refuses the rules",
        ),
        pytest.param(
            lambda: initialized(running_pod().in_place(rules=False)),
            "the API server has dropped the restartPolicyRules of the Pod",
            id="the API server drops the rules",
        ),
        pytest.param(
            lambda: asking().reconcile(None).reconcile(unschedulable()), NO_NODE, id="scheduler"
        ),
        pytest.param(
            lambda: asking().reconcile(None).reconcile(not_admitted()), NOT_ADMITTED, id="kubelet"
        ),
        pytest.param(
            lambda: initialized(running_pod().in_place()).reconcile(
                running_pod().in_place().app(running=True, restarts=1, last=End(7, start=20)), 60
            ),
            'the kubelet of node "node-1" restarted only container "app" of the Pod',
            id="the node restarts one container",
        ),
        pytest.param(
            lambda: twice(599),
            "all containers were last restarted in place at 2030-01-01T12:11:39Z",
            id="two in-place re-runs",
        ),
        pytest.param(
            lost_twice,
            "restarts, lost Pods or failures have caused 2 runs in a row",
            id="two losses",
        ),
    ],
)
def test_condition_has_the_consequence_and_its_cause(
    state: Callable[[], SimulatedPipeline], cause: str
) -> None:
    assert state().condition(ConditionType.IN_PLACE_UNAVAILABLE).message == (
        "the Pod has no rules for in-place restarts, so the operator replaces it if an app "
        f"container restarts: {cause}"
    )
