"""Tests ``plan``: what the operator would do after an InitPipeline is applied."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from initpipeline.api.models import Policies
from initpipeline.core.facts import Facts
from initpipeline.plugin.report.plan import Plan, plan
from tests.builders import PipelineBuilder, PodBuilder, at, fresh_pod, pod, running_pod
from tests.unit.core.simulation import SimulatedPipeline, started


def planned(
    before: SimulatedPipeline,
    after: SimulatedPipeline,
    seen: PodBuilder | None,
    seconds: float = 100,
) -> Plan:
    """Returns the plan for a change of the pipeline, with this Pod."""
    found = seen.build() if seen else None
    live, applied = (Facts(one.pipeline.build(), found) for one in (before, after))
    return plan(live, applied, at(seconds))


def running(seconds: float) -> PodBuilder:
    """Returns a Pod whose first step has been running since this time."""
    return fresh_pod().init("one", running=True, start=seconds)


def failed(**policies: Any) -> tuple[SimulatedPipeline, PodBuilder]:
    """Returns a pipeline whose only run has failed, and its Pod."""
    seen = fresh_pod().init("one", exit=1).phase("Failed").restarts("Never")
    return started(fresh_pod(), **policies).reconcile(seen, 50), seen


def with_history() -> SimulatedPipeline:
    """Returns a pipeline with three runs that ended because of requests."""
    world = started(running_pod())
    for run in (2, 3, 4):
        world = world.token(f"t{run}").reconcile(running_pod(run - 1), run * 10)
        world = world.reconcile(None, run * 10 + 1).reconcile(running_pod(run), run * 10 + 2)
    return world


class TestKinds:
    def test_same_template_is_nothing(self) -> None:
        before = started(running_pod())
        assert planned(before, before, running_pod()).kind == "nothing"

    def test_another_template_is_a_run(self) -> None:
        before = started(running_pod())
        found = planned(before, before.edited(), running_pod())
        assert (found.kind, found.run, found.trigger) == ("run", 2, "SpecChanged")
        assert [change.path for change in found.changes] == ["spec.containers[0].image"]
        assert (found.changes[0].old, found.changes[0].new) == ("nginx", "nginx:2")
        assert found.interrupts is not None

    def test_another_spelling_is_nothing(self) -> None:
        before = started(running_pod())
        spec = {**before.pipeline.template["spec"], "dnsPolicy": "ClusterFirst"}
        new = before.change(before.pipeline.with_template({"spec": spec}).of_generation(2))
        found = planned(before, new, running_pod())
        assert (found.kind, found.same_pod) == ("nothing", True)

    def test_run_that_starts_in_any_case_is_not_in_the_plan(self) -> None:
        """The operator has not reconciled an earlier request yet."""
        before = started(running_pod()).token("t")
        found = planned(before, before.policy(backoffLimit=3), running_pod())
        assert (found.kind, found.run) == ("policy", None)


class TestPolicies:
    def test_changed_policy_has_old_and_new_value(self) -> None:
        before = started(running_pod(), backoffLimit=1)
        [policy] = planned(before, before.policy(backoffLimit=2), running_pod()).policies
        assert (policy.field, policy.old, policy.new) == ("backoffLimit", 1, 2)

    def test_every_policy_has_an_effect_or_a_decision(self) -> None:
        before = started(running_pod())
        every = {
            "rerunPolicy": "Never",
            "rerunStrategy": "InPlace",
            "backoffLimit": 1,
            "initDeadlineSeconds": 9,
            "initPolicies": [{"name": "one", "maxRestarts": 1}],
            "suspend": True,
            "runHistoryLimit": 1,
            "logTails": "Omit",
            "ttlSecondsAfterFinished": 1,
        }
        assert set(every) == {to_camel(field) for field in Policies.model_fields}
        found = planned(before, before.policy(**every), running_pod())
        assert {policy.field for policy in found.policies} == set(every)

    def test_suspend_deletes_the_pod_and_starts_no_run(self) -> None:
        before = started(running_pod())
        found = planned(before, before.policy(suspend=True), running_pod())
        assert found.effects == ("the Pod is deleted", "no run starts until you resume it")
        assert found.interrupts is not None

    def test_lowered_history_limit_drops_entries(self) -> None:
        before = with_history()
        found = planned(before, before.policy(runHistoryLimit=1), running_pod(4))
        assert found.effects == ("status.history drops the entries of runs 1, 2",)

    def test_raised_limit_starts_a_run(self) -> None:
        before, seen = failed()
        found = planned(before, before.policy(backoffLimit=1), seen)
        assert (found.kind, found.run, found.trigger) == ("run", 2, "Retry")
        assert found.interrupts is None

    @pytest.mark.parametrize(
        ("limit", "more"),
        [
            pytest.param(0, "", id="no retries"),
            pytest.param(1, ", and if it fails, at most 1 retry can follow", id="one"),
            pytest.param(3, ", and if it fails, at most 3 retries can follow", id="several"),
        ],
    )
    def test_request_that_resets_the_count_of_failed_runs_shows_the_retries(
        self, limit: int, more: str
    ) -> None:
        before, seen = failed(backoffLimit=limit)
        found = planned(before, before.token("again"), seen)
        assert found.consequences[-1] == f"run {found.run} starts (Requested){more}"
        assert found.to_api()["run"].get("retries") == (limit or None)

    def test_retry_does_not_reset_the_count_of_failed_runs(self) -> None:
        before, seen = failed()
        found = planned(before, before.policy(backoffLimit=1), seen)
        assert found.consequences[-1] == "run 2 starts (Retry)"

    def test_lowered_deadline_ends_the_run(self) -> None:
        before = started(running(0))
        found = planned(before, before.policy(initDeadlineSeconds=5), running(0))
        assert found.kind == "policy"
        assert any(effect.startswith("run 1 ends (Failed): ") for effect in found.effects)

    def test_ttl_that_has_passed_deletes_the_pipeline(self) -> None:
        before, seen = failed()
        found = planned(before, before.policy(ttlSecondsAfterFinished=1), seen)
        assert found.effects == ("the InitPipeline and its Pod are deleted",)

    def test_ttl_in_future_shows_the_time(self) -> None:
        before, seen = failed()
        found = planned(before, before.policy(ttlSecondsAfterFinished=3600), seen)
        assert len(found.effects) == 1
        assert "in 59m10s" in found.effects[0]

    def test_template_of_a_suspended_pipeline_waits(self) -> None:
        before = (
            started(running_pod())
            .policy(suspend=True)
            .reconcile(running_pod(), 10)
            .reconcile(None, 20)
        )
        found = planned(before, before.edited(), None)
        assert found.run is None
        assert "when spec.suspend is false" in found.effects[0]

    def test_limit_of_no_step_is_refused(self) -> None:
        before = started(running_pod())
        new = before.policy(initPolicies=[{"name": "typo", "maxRestarts": 1}])
        [refused] = planned(before, new, running_pod()).refused
        assert 'Not found: "typo"' in refused.message


class TestInterrupted:
    @pytest.mark.parametrize(
        ("seen", "words"),
        [
            pytest.param(running_pod(), "run 1, Ready for 1m40s", id="ready"),
            pytest.param(
                running(40), 'run 1 at step "one", which has been running for 1m', id="step"
            ),
            pytest.param(fresh_pod(), 'run 1 at step "one"', id="before the step"),
            pytest.param(
                running_pod().ready(False), "run 1, initialized but not Ready", id="not ready"
            ),
        ],
    )
    def test_interrupted_run_is_shown_with_its_state(self, seen: PodBuilder, words: str) -> None:
        before = started(seen)
        assert planned(before, before.edited(), seen).interrupts == words


class TestNew:
    def test_name_that_is_taken_is_reported(self) -> None:
        new = Facts(PipelineBuilder().build(), replace(pod(), owner=None).build())
        found = plan(None, new, at(0))
        assert found.kind == "create"
        assert any(effect.startswith("the run waits: ") for effect in found.effects)


class TestRunsThatAreDue:
    """The operator has not reconciled an earlier change yet."""

    def test_run_of_a_lost_pod_becomes_one_of_the_template(self) -> None:
        before = started(running_pod())
        found = planned(before, before.edited(), None)
        assert (found.run, found.trigger) == (2, "SpecChanged")

    def test_run_of_an_earlier_change_is_of_the_newer_one(self) -> None:
        before = started(running_pod()).edited("nginx:2")
        found = planned(before, before.edited("nginx:3"), running_pod())
        assert (found.kind, found.run) == ("policy", None)
        assert found.effects == ("run 2, which starts in any case, has the new template",)

    def test_first_run_that_has_not_begun_is_of_the_new_template(self) -> None:
        before = SimulatedPipeline(PipelineBuilder())
        found = planned(before, before.edited(), None)
        assert found.effects == ("run 1, which starts in any case, has the new template",)
