"""A pipeline that is reconciled without a cluster, for tests.

Each reconcile reads the status that the previous one wrote, as JSON, like the API server stores it.
After each one ``_check`` asserts the invariants of every pipeline.
"""

from dataclasses import dataclass, replace
from typing import Any

from initpipeline.api.models import Condition, InitPipelineStatus, Run
from initpipeline.api.names import MAX_MESSAGE_LENGTH
from initpipeline.api.reasons import ConditionType
from initpipeline.core import conditions
from initpipeline.core.decide import Decision, decide
from initpipeline.core.facts import Facts, Refusal
from initpipeline.core.patch import merge_patch
from tests.builders import PipelineBuilder, PodBuilder, at, pipeline, running_pod

NOTHING_YET = Decision(InitPipelineStatus())


@dataclass(frozen=True)
class SimulatedPipeline:
    """The pipeline as the API server stores it, and the last decision."""

    pipeline: PipelineBuilder
    decision: Decision = NOTHING_YET
    now: float = 0

    def reconcile(
        self,
        pod: PodBuilder | None,
        seconds: float | None = None,
        refusal: Refusal | None = None,
        *,
        refused_in_place: bool = False,
        gone: PodBuilder | None = None,
        failed: Refusal | None = None,
        undeleted: str | None = None,
    ) -> "SimulatedPipeline":
        """Reconciles ``seconds`` after BASE. The status write succeeds, unless the decision defers
        it. ``gone`` is the last known state of the Pod that the watch reported as deleted."""
        seconds = self.now if seconds is None else seconds
        seen = None if pod is None else pod.build()
        facts = Facts(
            self.pipeline.build(),
            seen,
            refusal,
            refused_in_place,
            gone.build() if gone else None,
            failed=failed,
            undeleted=undeleted,
        )
        decision = decide(facts, at(seconds))
        written = self.pipeline.with_status(decision.status)
        after = replace(
            self,
            pipeline=self.pipeline if decision.defer_status else written,
            decision=decision,
            now=seconds,
        )
        _check(facts.pipeline.status, decision, facts.pipeline.policies.run_history_limit)
        patch = merge_patch(facts.pipeline.status.to_api(), decision.status.to_api())
        assert decision.patch == ({} if decision.defer_status else patch)
        again = decide(replace(facts, pipeline=after.pipeline.build()), at(seconds))
        patch = merge_patch(decision.status.to_api(), again.status.to_api())
        assert not patch, f"a second reconcile of the same facts would write {patch}"
        assert again.action == decision.action, (
            "a second reconcile of the same facts would act otherwise"
        )
        return after

    def change(self, changed: PipelineBuilder) -> "SimulatedPipeline":
        """Returns the pipeline after a user has changed it. Its status is kept."""
        return replace(self, pipeline=replace(changed, status=self.pipeline.status))

    def policy(self, **changed: Any) -> "SimulatedPipeline":
        """Returns the pipeline after a user has changed these fields of the spec."""
        return self.change(self.pipeline.policy(**changed))

    def edited(self, image: str = "nginx:2") -> "SimulatedPipeline":
        return self.change(self.pipeline.edited(image))

    def token(self, token: str) -> "SimulatedPipeline":
        return self.change(self.pipeline.token(token))

    def without_status(self) -> "SimulatedPipeline":
        """Returns the pipeline without status, as after a restore from a backup."""
        return SimulatedPipeline(replace(self.pipeline, status={}), now=self.now)

    @property
    def status(self) -> InitPipelineStatus:
        return self.decision.status

    @property
    def run(self) -> Run:
        assert self.status.run is not None
        return self.status.run

    @property
    def initialized(self) -> bool:
        return self.condition(ConditionType.INITIALIZED).status == "True"

    def condition(self, type_: ConditionType) -> Condition:
        condition = self.status.condition(type_)
        assert condition is not None, f"no condition {type_}"
        return condition

    @property
    def past(self) -> list[tuple[int, str, str]]:
        """History, oldest first: number, trigger and result."""
        return [(r.number, r.trigger.value, r.result.value) for r in reversed(self.status.history)]


def new_pipeline(**policies: Any) -> SimulatedPipeline:
    """Returns a pipeline that has never been reconciled."""
    return SimulatedPipeline(pipeline().policy(**policies).of_generation(1))


def started(pod: PodBuilder, **policies: Any) -> SimulatedPipeline:
    """Returns a pipeline whose first Pod was created and then observed as ``pod``."""
    return new_pipeline(**policies).reconcile(None).reconcile(pod)


def after_requests(count: int, seconds: float, **policies: Any) -> SimulatedPipeline:
    """Returns a pipeline after ``count`` requested runs at that time. The Pod of the last one is
    Ready."""
    state = started(running_pod(), **policies)
    for number in range(1, count + 1):
        state = state.token(str(number)).reconcile(running_pod(number), seconds)
        state = state.reconcile(running_pod(number + 1), seconds)
    return state


def _check(before: InitPipelineStatus, decision: Decision, limit: int) -> None:
    """Asserts what must hold after every decision."""
    status = decision.status
    run = status.run
    if run is None:
        return
    numbers = [record.number for record in status.history]
    assert len(numbers) <= limit, "history is bounded"
    assert numbers == sorted(set(numbers), reverse=True), f"history has the numbers {numbers}"
    assert all(n <= run.number for n in numbers), f"run {run.number} is older than {numbers}"
    if before.run is not None:
        assert run.number >= before.run.number, "the number of the run fell"
        ended = range(before.run.number, run.number)[:limit]
        assert set(ended) <= set(numbers), f"of the runs {list(ended)} history has {numbers}"
    types = [c.type for c in status.conditions if conditions.is_own(c.type)]
    assert types[:2] == ["Initialized", "Ready"], f"conditions are {types}"
    for condition in status.conditions:
        assert len(condition.message.encode()) <= MAX_MESSAGE_LENGTH, condition.type
        assert condition.message, f"{condition.type} has no message"
        assert condition.reason, f"{condition.type} has no reason"
    initialized = status.condition(ConditionType.INITIALIZED)
    assert initialized is not None
    ready = status.condition(ConditionType.READY)
    assert ready is not None
    assert not (ready.status == "True" and initialized.status == "False"), (
        "Ready before it is initialized"
    )
    if initialized.status == "True":
        assert run.initialized_time is not None, "Initialized, but the run has no initializedTime"
