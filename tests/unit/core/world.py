"""A pipeline whose operator looks, from time to time, at what the API holds.

Each look feeds the status that the one before wrote back in, as JSON, as the API does. Whatever a
test is about, each look must also keep what holds always: see ``_check``.
"""

from dataclasses import dataclass, replace
from typing import Any

from initpipeline.api.models import Condition, InitPipelineStatus, Run
from initpipeline.api.names import MAX_MESSAGE_LENGTH
from initpipeline.api.reasons import ConditionType
from initpipeline.core.decide import Decision, decide
from initpipeline.core.facts import Facts, Refusal
from initpipeline.core.patch import merge_patch
from tests.builders import PipelineBuilder, PodBuilder, at, pipeline

NOTHING_YET = Decision(InitPipelineStatus())


@dataclass(frozen=True)
class World:
    """The pipeline as the API holds it, and what was decided last."""

    pipeline: PipelineBuilder
    decision: Decision = NOTHING_YET
    now: float = 0

    def look(
        self,
        pod: PodBuilder | None,
        seconds: float | None = None,
        refusal: Refusal | None = None,
        *,
        refused_in_place: bool = False,
        gone: PodBuilder | None = None,
    ) -> "World":
        """The operator looks, so many seconds after BASE, and its status write succeeds. ``gone``
        is what the watch told of the Pod when it went."""
        seconds = self.now if seconds is None else seconds
        seen = None if pod is None else pod.build()
        facts = Facts(
            self.pipeline.build(), seen, refusal, refused_in_place, gone.build() if gone else None
        )
        decision = decide(facts, at(seconds))
        after = replace(
            self,
            pipeline=self.pipeline.with_status(decision.status),
            decision=decision,
            now=seconds,
        )
        _check(facts.pipeline.status, decision, facts.pipeline.policies.run_history_limit)
        again = decide(replace(facts, pipeline=after.pipeline.build()), at(seconds))
        written = merge_patch(decision.status.to_api(), again.status.to_api())
        assert not written, f"looking again at the same facts would write {written}"
        assert again.action == decision.action, (
            "looking again at the same facts would act otherwise"
        )
        return after

    def change(self, changed: PipelineBuilder) -> "World":
        """A person changed the pipeline; its status is kept."""
        return replace(self, pipeline=replace(changed, status=self.pipeline.status))

    def policy(self, **changed: Any) -> "World":
        """A person changed these fields of the spec."""
        return self.change(self.pipeline.policy(**changed))

    def edited(self, image: str = "nginx:2") -> "World":
        return self.change(self.pipeline.edited(image))

    def token(self, token: str) -> "World":
        return self.change(self.pipeline.token(token))

    def wiped(self) -> "World":
        """The status is lost, as after a restore from a backup."""
        return World(replace(self.pipeline, status={}), now=self.now)

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


def world(**policies: Any) -> World:
    """A pipeline that nobody has looked at yet."""
    return World(pipeline().policy(**policies).of_generation(1))


def started(pod: PodBuilder, **policies: Any) -> World:
    """The operator has created the pipeline's first Pod, and now sees it."""
    return world(**policies).look(None).look(pod)


def _check(before: InitPipelineStatus, decision: Decision, limit: int) -> None:
    """What holds whatever happens."""
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
    types = [c.type for c in status.conditions]
    assert types[:2] == ["Initialized", "Ready"], f"conditions are {types}"
    for condition in status.conditions:
        assert len(condition.message.encode()) <= MAX_MESSAGE_LENGTH, condition.type
        assert condition.message, f"{condition.type} says nothing"
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
