"""The world of tests/unit/runtime/counted.py, in which operators die at their writes.

A dead operator makes no request any more. Another one starts without memory, and nothing else
happens meanwhile. So the life must end as without a death, to the second.
"""

import asyncio
import copy
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, NoReturn, cast
from unittest.mock import patch

from initpipeline.api.names import RERUN_ANNOTATION
from initpipeline.api.raw import Raw
from initpipeline.core.decide import Decision
from initpipeline.core.facts import Facts
from initpipeline.runtime import reconcile
from initpipeline.runtime.client import JSON
from initpipeline.runtime.errors import api_error
from tests.builders import PipelineBuilder
from tests.costs.lives import (
    AGAIN,
    APP_FAILS,
    LIVES,
    REQUEST,
    RESUME,
    STEP_FAILS,
    SUSPEND,
    TWO,
    Life,
    Stage,
    never_restarting,
    ready,
    with_policies,
)
from tests.unit.model.witness import Witness
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.counted import CountedClient, CountedOperator, CountedWorld
from tests.unit.runtime.fake_api import EVENTS, PIPELINES, PODS, FakeApi

ANOTHER_REQUEST: Final = ("edit", {"metadata": {"annotations": {RERUN_ANNOTATION: "2"}}})
LIMITED: Final = with_policies(TWO, initDeadlineSeconds=20)
EVERY_RESTART: Final = (APP_FAILS, ("wait", 60), AGAIN)
"""An app container restarts, and the back-off of the next run passes."""

HARSH_LIVES: Final[Mapping[str, Life]] = {
    "another Pod has the name, and is then deleted": Life(
        (("take_name",), ("create", TWO), ("wait", 5), ("free_name",), AGAIN)
    ),
    "another Pod takes the name of a lost one": Life(
        (("lose_name",), ("wait", 5), ("free_name",), AGAIN), ready()
    ),
    "a quota refuses the Pod three times": Life(
        (("refuse_pods", 3), ("create", TWO), ("wait", 30), AGAIN)
    ),
    "a quota refuses the Pod of a requested run": Life(
        (("refuse_pods", 3), REQUEST, ("wait", 30), AGAIN), ready()
    ),
    "the deadline is exceeded, then raised": Life(
        (
            ("create", LIMITED),
            ("start_pod",),
            ("wait", 30),
            ("edit", {"spec": {"initDeadlineSeconds": 600}}),
            AGAIN,
        )
    ),
    "retries are exhausted, then a user requests a run": Life(
        (
            ("create", never_restarting(backoffLimit=1)),
            ("start_pod",),
            STEP_FAILS,
            ("wait", 60),
            ("start_pod",),
            STEP_FAILS,
            ("wait", 60),
            REQUEST,
            ("run_pod", "one"),
        )
    ),
    "an app container restarts three times": Life(EVERY_RESTART * 3, ready()),
    "an app container restarts twice, InPlace": Life(
        (APP_FAILS, ("exit", "one"), ("exit", "two"), APP_FAILS, ("wait", 60), AGAIN),
        ready(with_policies(TWO, rerunStrategy="InPlace")),
    ),
    "the Pod is evicted": Life((("evict",), AGAIN), ready()),
    "the template changes while a step runs": Life(
        (("edit_template",), AGAIN), (("create", TWO), ("start_pod",))
    ),
    "the template changes, and a user requests a run at once": Life(
        (("edit_at_once",), AGAIN), ready()
    ),
    "a user requests a run, and another one during it": Life(
        (REQUEST, ("start_pod",), ANOTHER_REQUEST, AGAIN), ready()
    ),
    "a user requests a run while suspended": Life((REQUEST, RESUME, AGAIN), (*ready(), SUSPEND)),
    "suspended while a step runs, then resumed": Life(
        (SUSPEND, RESUME, AGAIN), (("create", TWO), ("start_pod",))
    ),
    "deleted and created again with the same name": Life((("recreate", TWO), AGAIN), ready()),
    "the Pod completes, a user requests a run": Life(
        (REQUEST, ("run_pod", "one", "app")),
        (("create", never_restarting()), ("run_pod", "one", "app")),
    ),
    "history has one entry": Life(
        (REQUEST, AGAIN, ANOTHER_REQUEST, AGAIN), ready(with_policies(TWO, runHistoryLimit=1))
    ),
}
"""Lives whose costs the table does not list."""

RESTS: Final = (1, 1, 5, 30, 600, 3600)
"""The seconds between two rounds of work while nothing else happens."""

TIME: Final = re.compile(r"[0-9-]{10}T[0-9:.]+Z")
QUOTA: Final = api_error(403, {"message": "pods is forbidden: exceeded quota: q"})


@dataclass(frozen=True)
class End:
    """What is left of a life."""

    objects: Mapping[str, Raw]
    """The pipeline and its Pod, without resource versions."""
    runs_of_pods: tuple[int, ...]
    """The run of each Pod that was ever created."""
    reasons: frozenset[str]
    """The reasons of all events."""

    def difference(self, other: "End", times: bool = True) -> list[str]:
        """Returns what differs in the other end. It may lack events, but not have others. Times
        are compared only with ``times``."""
        found = [
            f"{path}: {before!r} became {after!r}"
            for path, before, after in _differences(self.objects, other.objects)
            if times or not _is_time(before, after)
        ]
        if self.runs_of_pods != other.runs_of_pods:
            found.append(f"Pods of the runs {self.runs_of_pods} became {other.runs_of_pods}")
        if invented := other.reasons - self.reasons:
            found.append(f"events that nothing has caused: {sorted(invented)}")
        return found


def _differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _differences(before.get(key), after.get(key), f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, both in enumerate(zip(before, after, strict=True)):
            yield from _differences(*both, f"{path}/{number}")
    elif before != after:
        yield path, before, after


def _is_time(*values: object) -> bool:
    return all(isinstance(value, str) and TIME.fullmatch(value) for value in values)


@dataclass
class Deaths:
    """At which of its writes each operator dies, in order. Later operators live."""

    left: list[int]
    carried_out: bool
    """The API server carries out the write, but its response is lost. If the API server refuses it,
    nothing has changed, and the operator does not die."""
    writes: list[str] = field(default_factory=list)
    """The writes of all operators."""


class MortalClient(CountedClient):
    """Sends nothing after the death of its operator."""

    def __init__(
        self,
        deaths: Deaths,
        api: FakeApi,
        costs: Counter[str],
        answering: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(api, costs, answering)
        self._deaths = deaths
        self._written = 0
        self.dead = False

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        seconds: float = math.inf,
    ) -> Raw:
        if self.dead:
            await _never()
        if method == "GET":
            return await super().request(method, path, body, content_type, accept, seconds)
        self._written += 1
        self._deaths.writes.append(f"{method} {path}")
        dies = self._deaths.left[:1] == [self._written]
        if not dies or self._deaths.carried_out:
            answer = await super().request(method, path, body, content_type, accept, seconds)
            if not dies:
                return answer
        self._deaths.left.pop(0)
        self.dead = True
        return await _never()

    async def page(self, path: str, accept: str = JSON) -> Raw:
        if self.dead:
            await _never()
        return await super().page(path, accept)


async def _never() -> NoReturn:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


class PerturbedWorld(CountedWorld):
    """A cluster whose operators die. Each decision is judged by the truth of the model."""

    def __init__(self, clock: Clock, deaths: Deaths | None = None) -> None:
        self.deaths = deaths or Deaths([], carried_out=False)
        self.faults: list[str] = []
        """What the witness has found wrong with decisions."""
        super().__init__(clock)

    def _new_operator(self) -> CountedOperator:
        return CountedOperator(
            self._api, self._clock, self.costs, new_client=partial(MortalClient, self.deaths)
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        witness = Witness(self._cluster)

        def judged(facts: Facts, now: datetime) -> Decision:
            try:
                return witness.decide(facts, now)
            except AssertionError as error:  # The worker would only log it.
                self.faults.append(str(error))
                raise

        async with super().running():
            with patch.object(reconcile, "decide", judged):
                yield

    async def _work(self) -> None:
        await super()._work()
        while cast(MortalClient, self._operator.client).dead:
            await self.replace_operator()
            await super()._work()

    async def replace_operator(self) -> None:
        await self._operator.stop()
        self._operator = self._new_operator()
        await self._operator.start()

    async def rest(self) -> None:
        for seconds in RESTS:
            await self._pass(seconds)

    async def wait(self, seconds: int) -> None:
        for part in (1, seconds - 1):
            await self._pass(part)

    def take_name(self) -> None:
        """Create a Pod with the name of the pipeline as another client."""
        self._cluster.create_pod({"containers": [{"name": "web", "image": "nginx"}]}, uid="other")

    def free_name(self) -> None:
        """Remove that Pod."""
        self._api.gone(PODS)

    def refuse_pods(self, times: int) -> None:
        """Let a quota refuse the Pod so many times."""
        self._api.failing["POST pods"] = [QUOTA] * times

    def evict(self) -> None:
        self._cluster.disrupt()

    def recreate(self, builder: PipelineBuilder) -> None:
        """Delete the pipeline, and create another one with its name before the operator observes
        that."""
        self.delete()
        raw = builder.raw()
        raw["metadata"]["uid"] = "second"
        self._api.put(PIPELINES, raw)

    def end(self) -> End:
        """Returns what is left when nothing more happens."""
        objects: dict[str, Raw] = {}
        for (plural, key), raw in self._api.objects.items():
            if plural != EVENTS:
                metadata = {k: v for k, v in raw["metadata"].items() if k != "resourceVersion"}
                objects[f"{plural} {key}"] = {**raw, "metadata": metadata}
        reasons = frozenset(raw["reason"] for raw in self._api.posted_events)
        return End(objects, tuple(self._api.runs_of_pods), reasons)

    @property
    def foreign_deleted(self) -> bool:
        """Whether an operator has deleted a Pod that is not its pipeline's."""
        return self._api.foreign_deleted


class HarshStage(Stage):
    """The actions of all lives, and of those that only this world has."""

    def __init__(self, world: PerturbedWorld) -> None:
        super().__init__(world)
        self._perturbed = world

    async def take_name(self) -> None:
        self._perturbed.take_name()
        await self._follow()

    async def lose_name(self) -> None:
        """Delete the Pod. Another client takes its name before the operator observes that."""
        self._perturbed.free_name()
        await self.take_name()

    async def edit_at_once(self) -> None:
        """Change the template and request a run with one write."""
        template = copy.deepcopy(self._perturbed.spec["template"])
        template["spec"]["containers"][0]["image"] = "nginx:2"
        await self.edit({"spec": {"template": template}, **REQUEST[1]})

    async def free_name(self) -> None:
        self._perturbed.free_name()
        await self._follow()

    async def refuse_pods(self, times: int) -> None:
        self._perturbed.refuse_pods(times)

    async def evict(self) -> None:
        self._perturbed.evict()
        await self._follow()

    async def recreate(self, builder: PipelineBuilder) -> None:
        self._perturbed.recreate(builder)
        await self._follow()

    async def wait(self, seconds: int) -> None:
        await self._perturbed.wait(seconds)
        await self._follow()


ALL_LIVES: Final = {
    **{
        name: life
        for name, life in LIVES.items()
        if not name.startswith(("at rest", "the operator restarts"))
    },
    **HARSH_LIVES,
}


async def play(life: Life, world: PerturbedWorld) -> range:
    """Play the life. Returns the numbers of the writes that belong to its counted part."""
    stage = HarshStage(world)
    async with world.running():
        await stage.play(*life.before)
        if life.before:
            await world.rest()
        start = len(world.deaths.writes)
        await stage.play(*life.counted)
        await world.rest()
    assert not world.faults, world.faults
    assert not world.foreign_deleted, "the operator deleted a Pod of another owner"
    return range(start, len(world.deaths.writes))
