"""What is wrong with a spec although the API server would accept its Pod, and what follows."""

from typing import Any

import pytest

from initpipeline.api.reasons import ConditionType, Reason, Trigger
from initpipeline.core import validation
from initpipeline.core.decide import CreatePod, DeletePod
from tests.builders import PipelineBuilder, Raw, pipeline, running_pod
from tests.unit.core.world import World, started

SIDECAR: Raw = {"name": "proxy", "image": "envoy", "restartPolicy": "Always"}
NONE_COMPLETES = (
    "spec.template.spec.initContainers: Required value: "
    "must have at least one init container without restartPolicy=Always"
)
UNKNOWN = 'spec.initPolicies[0].name: Not found: "typo"'


def with_policies(*names: str, of: PipelineBuilder | None = None) -> PipelineBuilder:
    """A pipeline with limits for init containers of these names."""
    limits = [{"name": name, "timeoutSeconds": 60} for name in names]
    return (of or pipeline()).policy(initPolicies=limits)


def restarting(policy: str) -> Raw:
    return {"name": "step", "image": "busybox", "restartPolicy": policy}


class TestRefusal:
    @pytest.mark.parametrize(
        "good",
        [
            pytest.param(pipeline(), id="no policies"),
            pytest.param(with_policies("two", "one"), id="policies of steps"),
            pytest.param(pipeline().inits(SIDECAR, "step"), id="a step beside a sidecar"),
            pytest.param(pipeline().inits(restarting("Never")), id="a step that is tried once"),
            pytest.param(pipeline().inits(restarting("OnFailure")), id="a step that is retried"),
        ],
    )
    def test_none(self, good: PipelineBuilder) -> None:
        assert validation.refusal(good.build()) is None

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            pytest.param(pipeline().inits(), NONE_COMPLETES, id="no init container"),
            pytest.param(pipeline().inits(SIDECAR), NONE_COMPLETES, id="sidecars alone"),
            pytest.param(with_policies("typo"), UNKNOWN, id="policy of nothing"),
            pytest.param(
                with_policies("app"),
                'spec.initPolicies[0].name: Not found: "app"',
                id="policy of an app container",
            ),
            pytest.param(
                with_policies("one", "proxy", of=pipeline().inits("one", SIDECAR)),
                'spec.initPolicies[1].name: Invalid value: "proxy": '
                "must be an init container without restartPolicy=Always",
                id="policy of a sidecar",
            ),
            pytest.param(
                with_policies("typo", of=pipeline().inits(SIDECAR)),
                f"[{NONE_COMPLETES}, {UNKNOWN}]",
                id="two mistakes",
            ),
        ],
    )
    def test_words(self, bad: PipelineBuilder, message: str) -> None:
        refusal = validation.refusal(bad.build())
        assert refusal is not None
        assert (refusal.reason, refusal.message) == (Reason.INVALID_TEMPLATE, message)


class TestWhatFollows:
    """Without the admission policy, that refuses such a spec."""

    BAD = World(with_policies("typo").of_generation(1))

    def corrected(self, world: World, **others: Any) -> World:
        return world.policy(initPolicies=[{"name": "one", "timeoutSeconds": 60}], **others)

    def test_no_pod_is_created_and_nothing_is_retried(self) -> None:
        now = self.BAD.look(None)
        for seconds in (0, 600, 86400):
            now = now.look(None, seconds)
            decision = now.decision
            assert (decision.action, decision.retry, decision.wake_at) == (None, False, None)
        assert (now.run.number, now.past) == (1, []), "a mistake of the spec is no failed run"
        stalled = now.condition(ConditionType.STALLED)
        assert (stalled.reason, stalled.message) == (Reason.INVALID_TEMPLATE, UNKNOWN)
        assert now.status.condition(ConditionType.RECONCILING) is None

    def test_a_live_pod_stays_and_its_next_is_not_created(self) -> None:
        live = started(running_pod()).policy(initPolicies=[{"name": "typo"}]).look(running_pod())
        assert (live.decision.action, live.past) == (None, [])
        gone = live.look(None, 60)
        assert gone.past == [(1, "Created", "Lost")]
        assert (gone.run.number, gone.run.trigger) == (2, Trigger.POD_LOST)
        assert gone.decision.action is None

    def test_a_pod_of_the_run_before_is_deleted_first(self) -> None:
        edited = started(running_pod())
        edited = edited.change(edited.pipeline.inits(SIDECAR).of_generation(9))
        assert edited.look(running_pod()).decision.action == DeletePod("pod-1")
        gone = edited.look(running_pod()).look(running_pod().deleting()).look(None)
        assert (gone.run.number, gone.decision.action) == (2, None)
        assert gone.condition(ConditionType.STALLED).reason == Reason.INVALID_TEMPLATE

    def test_a_corrected_spec_is_run_in_the_same_run(self) -> None:
        now = self.corrected(self.BAD.look(None)).look(None, 60)
        assert (now.run.number, now.run.trigger) == (1, Trigger.CREATED)
        assert isinstance(now.decision.action, CreatePod)
        assert now.status.condition(ConditionType.STALLED) is None

    def test_a_spec_that_is_changed_and_still_wrong_starts_no_run(self) -> None:
        now = self.BAD.look(None)
        for limit in range(5):
            now = now.policy(backoffLimit=limit).look(None, limit)
            assert (now.run.number, now.decision.action) == (1, None)
        assert isinstance(self.corrected(now).look(None, 10).decision.action, CreatePod)

    def test_while_suspended_it_is_not_reported(self) -> None:
        now = self.corrected(self.BAD.look(None), suspend=True).look(None, 60)
        assert now.status.condition(ConditionType.STALLED) is None
        assert now.policy(suspend=False).look(None, 90).run.trigger is Trigger.RESUMED
