"""The world of tests/unit/runtime/counted.py, in which operators die, and have old views.

A dead operator makes no request any more. Another one starts without memory, and nothing else
happens meanwhile. So the life must end as without a death, to the second.

The watches of an operator may be behind, or miss states. Each decision is judged by the truth of
the model, unless it is made from a status that may be newer than the Pod.
"""

import asyncio
import copy
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, NoReturn
from unittest.mock import patch

from initpipeline.api.names import RERUN_ANNOTATION
from initpipeline.api.raw import Raw
from initpipeline.core.decide import Decision, decide
from initpipeline.core.facts import Facts
from initpipeline.runtime import reconcile
from initpipeline.runtime.client import JSON
from initpipeline.runtime.errors import api_error
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.sweep import Sweeper
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
from tests.unit.model.cluster import UNLABELLED, Api
from tests.unit.model.witness import Witness
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.counted import CountedClient, CountedOperator, CountedWorld
from tests.unit.runtime.fake_api import EVENTS, PIPELINES, PODS, FakeApi
from tests.unit.runtime.stub_client import Request

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

    def outline(self) -> list[Any]:
        """Returns what does not depend on the states that were observed: the conditions, and the
        Pod."""
        conditions = [
            (raw["kind"], one["type"], one["status"], one.get("reason"))
            for raw in self.objects.values()
            for one in raw.get("status", {}).get("conditions", ())
        ]
        return [*self.objects, *conditions]


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
        self.next_page: Raw | None = None
        """The next page of a list, in place of the present one."""

    async def answer(self, request: Request) -> Raw:
        if self.dead:
            await _never()
        if request.method == "GET":
            return await super().answer(request)
        self._written += 1
        self._deaths.writes.append(f"{request.method} {request.path}")
        dies = self._deaths.left[:1] == [self._written]
        if not dies or self._deaths.carried_out:
            answer = await super().answer(request)
            if not dies:
                return answer
        self._deaths.left.pop(0)
        self.dead = True
        return await _never()

    async def page(self, path: str, accept: str = JSON) -> Raw:
        if self.dead:
            await _never()
        page, self.next_page = self.next_page, None
        return page or await super().page(path, accept)


async def _never() -> NoReturn:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


@dataclass(frozen=True)
class Lag:
    """By how many events of each watch the lists of an operator are out of date when it starts. Its
    watches then report these events, one by one. Single objects are read up to date, because the
    API server reads them from etcd."""

    pipelines: int = 0
    pods: int = 0


class PerturbedOperator(CountedOperator):
    """An operator with a lagging or interrupted view of the cluster."""

    client: MortalClient

    def __init__(
        self, api: Api, clock: Clock, costs: Counter[str], deaths: Deaths, lag: Lag, gated: bool
    ) -> None:
        super().__init__(api, clock, costs, new_client=partial(MortalClient, deaths), gated=gated)
        self._sweeper = Sweeper(Gateway(self.client), self._cache, self._queue, (None,))
        self._late = {PIPELINES: lag.pipelines, PODS: lag.pods, UNLABELLED: 0}
        """How many events each watch has not reported yet, at the start."""
        self._seen: dict[str, int] = {}
        """How many events each watch has reported."""
        self.blind = False
        """The watches report nothing."""

    async def start(self) -> None:
        for watch, late in self._late.items():
            self._seen[watch] = max(0, len(self._api.events_of(watch)) - late)
        if self._late[PODS]:
            items = self._listed(PODS)
            version = self._api.events_of(PODS)[: self._seen[PODS]][-1:]
            newest = version[0].object["metadata"]["resourceVersion"] if version else "1"
            metadata = {"resourceVersion": newest, "continue": ""}
            self.client.next_page = {"metadata": metadata, "items": items}
        await super().start()

    def _listed_pipelines(self) -> list[Raw]:
        return self._listed(PIPELINES)

    def _listed(self, watch: str) -> list[Raw]:
        """Returns the objects as they were when the last reported event occurred."""
        found: dict[str, Raw] = {}
        for event in self._api.events_of(watch)[: self._seen[watch]]:
            found.pop(event.object["metadata"]["uid"], None)
            if event.type != "DELETED":
                found[event.object["metadata"]["uid"]] = event.object
        return list(found.values())

    def deliver(self) -> bool:
        if self.blind:
            return False
        reported = False
        for watch in self._seen:
            for event in self._api.events_of(watch)[self._seen[watch] :]:
                self._seen[watch] += 1
                self._report(event)
                reported = True
                if self._late[watch]:
                    self._late[watch] -= 1
                    return True
        return reported

    async def see(self) -> None:
        """Let the watches continue after 410 Gone: with a list, and without the events between."""
        self.blind = False
        for watch in self._seen:
            self._seen[watch] = len(self._api.events_of(watch))
        await self._pods.relist(None)
        for raw in self._listed_pipelines():
            self._report_pipeline(None, raw)
        await self._sweeper.sweep()


class PerturbedWorld(CountedWorld):
    """A cluster whose operators die. Each decision is judged by the truth of the model."""

    _operator: PerturbedOperator

    def __init__(
        self,
        clock: Clock,
        deaths: Deaths | None = None,
        lag: Lag | None = None,
        blind: range = range(0),
        gated: bool = False,
    ) -> None:
        self._gated = gated
        self._lag = lag or Lag()
        self._blind = blind
        """The settlings in which the operator sees nothing."""
        self.settled = 0
        """How often the world has settled."""
        self.deaths = deaths or Deaths([], carried_out=False)
        self.faults: list[str] = []
        """What the witness has found wrong with decisions."""
        super().__init__(clock)

    def _new_operator(self, lag: Lag | None = None) -> PerturbedOperator:
        deaths, lag = self.deaths, lag or Lag()
        return PerturbedOperator(self._api, self._clock, self.costs, deaths, lag, self._gated)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        witness = Witness(self._cluster)

        def judged(facts: Facts, now: datetime) -> Decision:
            if self._lag != Lag():
                return decide(facts, now)  # The status may be newer than the Pod.
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
        while self._operator.client.dead:
            await self._operator.stop()
            self._operator = self._new_operator(self._lag)
            await self._operator.start()
            await self._work_blindly()
            await super()._work()

    async def _work_blindly(self) -> None:
        """Work until the operator has nothing to do, before its watches report anything."""
        self._operator.blind = True
        await super()._work()
        self._operator.blind = False

    async def settle(self) -> None:
        self.settled += 1
        if self.settled in self._blind:
            self._operator.blind = True
        await super().settle()
        if self.settled + 1 not in self._blind:
            await self.see()

    async def see(self) -> None:
        """Let the operator see the cluster again, if it does not."""
        if self._operator.blind:
            await self._operator.see()
            await self._work()

    async def rest(self) -> None:
        for seconds in RESTS:
            await self._pass(seconds)

    async def wait(self, seconds: int) -> None:
        for part in (1, seconds - 1):
            await self._pass(part)

    @property
    def is_pod_new(self) -> bool:
        """Whether there is a Pod without a node."""
        pod = self._cluster.pod
        return pod is not None and "nodeName" not in pod["spec"]

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


class ImpossibleError(Exception):
    """The life cannot go on, because the operator has not seen what should have made it act."""


class HarshStage(Stage):
    """The actions of all lives, and of those that only this world has."""

    def __init__(self, world: PerturbedWorld) -> None:
        super().__init__(world)
        self._perturbed = world

    async def start_pod(self) -> None:
        if not self._perturbed.is_pod_new:
            await self.see()
        if not self._perturbed.is_pod_new:
            raise ImpossibleError
        await super().start_pod()

    async def see(self) -> None:
        """Let the operator see the cluster again, and finish its work."""
        await self._perturbed.see()
        await self._follow()

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
    """Play the life. Returns the numbers of the writes that belong to its counted part. Raises
    ImpossibleError if the life cannot go on."""
    stage = HarshStage(world)
    async with world.running():
        await stage.play(*life.before)
        if life.before:
            await world.rest()
        start = len(world.deaths.writes)
        await stage.play(*life.counted)
        await stage.see()
        await world.rest()
        await stage.see()  # The kubelet ends a Pod that was deleted meanwhile.
    assert not world.faults, world.faults
    assert not world.foreign_deleted, "the operator deleted a Pod of another owner"
    return range(start, len(world.deaths.writes))
