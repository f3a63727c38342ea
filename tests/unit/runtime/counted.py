"""An operator in memory whose work is counted, in the cluster of tests/unit/model.

The watch of Pods, the cache, the queue, a worker, the reconciler and the task that posts events are
those of the real process. Only the transport and Kopf are left out: Kopf delivers the pipelines
that it lists and watches. No thread runs, and only the test advances the time, so
each count is exact.
"""

import asyncio
import copy
import json
import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import quote

from initpipeline.api.names import TEMPLATE_ANNOTATION
from initpipeline.api.raw import Raw
from initpipeline.core.decide import Decision, decide
from initpipeline.core.facts import Facts
from initpipeline.runtime import handlers, reconcile
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.client import JSON
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.pod_watch import PodWatcher
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.share import freshness
from initpipeline.runtime.unlabelled_pods import UnlabelledPodWatcher
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from initpipeline.runtime.workers import run_worker
from tests.builders import NAME, PIPELINE_UID, PipelineBuilder
from tests.costs.lives import SANDBOX_READY
from tests.costs.table import BYTES, DECISIONS, PIPELINES_READ, PODS_READ, RECONCILES
from tests.unit.model.cluster import UNLABELLED, Api, Cluster, Event
from tests.unit.model.kubelet import Kubelet
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS, FakeApi, merged, start_task
from tests.unit.runtime.stub_client import Request, StubClient

PAUSE: Final = 1
"""Seconds between two writes to the cluster."""
MINUTE, HOUR = 60, 3600
ROUNDS: Final = 100
"""No change in the cluster takes the operator more rounds of events and reconciles."""

_KINDS: Final = {"initpipelines": "pipeline", "pods": "Pod", "events": "event"}


class CountedClient(StubClient):
    """Counts the requests and what they write. Reads Pods from a watch that the test feeds."""

    def __init__(
        self, api: FakeApi, costs: Counter[str], answering: Callable[[], Awaitable[None]]
    ) -> None:
        """``answering`` is awaited before each response."""
        self._api, self._costs, self._answering = api, costs, answering
        self._pod_events: asyncio.Queue[Raw] = asyncio.Queue()
        self._unlabelled_events: asyncio.Queue[Raw] = asyncio.Queue()
        self.sent: list[str] = []
        """The requests, with the length of each body."""

    async def answer(self, request: Request) -> Raw:
        name = _name(request.method, request.path)
        size = 0 if request.body is None else _size(request.body)
        self._costs.update({name: 1, BYTES: size})
        self.sent.append(f"{name} {size}" if size else name)
        answer = await self._api.answer(request)
        await self._answering()
        return answer

    async def page(self, path: str, accept: str = JSON) -> Raw:
        page = await self._api.page(path, accept)
        self._costs.update({"LIST Pods": 1, PODS_READ: len(page["items"])})
        return page

    async def watch(self, *request: Any) -> AsyncGenerator[Raw]:
        unlabelled = f"labelSelector={quote('!')}" in request[0]
        events = self._unlabelled_events if unlabelled else self._pod_events
        while True:
            event = await events.get()
            self._costs[PODS_READ] += 1
            yield event

    def report(self, event: Raw, unlabelled: bool = False) -> None:
        """Add an event to the watch of Pods, or of those without the operator's label."""
        (self._unlabelled_events if unlabelled else self._pod_events).put_nowait(event)


def _name(method: str, path: str) -> str:
    """Returns the column of the request."""
    if path.endswith("/status"):
        return f"{method} status"
    (kind,) = (kind for plural, kind in _KINDS.items() if f"/{plural}" in path)
    return f"{method} {kind}"


def _size(body: Mapping[str, Any]) -> int:
    """Returns the length of the body. The packed template of a Pod is left out, because its length
    depends on the version of zlib."""
    body = copy.deepcopy(dict(body))
    body.get("metadata", {}).get("annotations", {}).pop(TEMPLATE_ANNOTATION, None)
    return len(json.dumps(body).encode())


class CountedQueue(WorkQueue[Key]):
    """Counts the reconciles."""

    def __init__(self, clock: Callable[[], datetime], costs: Counter[str], meter: Meter) -> None:
        super().__init__(clock, meter=meter)
        self._costs = costs

    async def get(self) -> Key:
        await asyncio.sleep(0)  # Otherwise a key that is always due would block the event loop.
        return await super().get()

    def done(self, key: Key) -> None:
        self._costs[RECONCILES] += 1
        super().done(key)


NewClient = Callable[[FakeApi, Counter[str], Callable[[], Awaitable[None]]], CountedClient]


class CountedOperator:
    """The operator's process. It lists all objects when it starts."""

    def __init__(
        self,
        api: Api,
        clock: Clock,
        costs: Counter[str],
        events_before_responses: bool = False,
        new_client: NewClient = CountedClient,
        gated: bool = False,
        meter: Meter = Meter(),
    ) -> None:
        self._meter = meter
        self._api, self._costs, self._early = api, costs, events_before_responses
        self.client = new_client(api, costs, self._answering)
        gateway, self._unreadable = Gateway(self.client), UnreadableObjects()
        self._cache, self._queue = Cache.empty(), CountedQueue(clock, costs, meter)
        self._events = EventRecorder(gateway, clock, "operator-0", meter)
        unlabelled_pods = UnlabelledPodWatcher(gateway, self._queue, start_task)
        self._reconciler = Reconciler(
            gateway, self._cache, self._queue, clock, self._events, unlabelled_pods, gated, meter
        )
        fresh = freshness("Pods", (None,))
        self._pods = PodWatcher(gateway, self._cache.pods, self._queue, self._unreadable, fresh)
        self._delivered = 0
        self._tasks: list[asyncio.Task[None]] = []
        """The event loop has only weak references to its tasks."""
        self._before: set[asyncio.Task[Any]] = set()
        """The tasks that ran before this operator started."""

    async def start(self) -> None:
        self._before = asyncio.all_tasks()
        self._delivered = len(self._api.events)
        await self._pods.fill(None)
        worker = run_worker(self._queue, self._reconciler, meter=self._meter)
        work = worker, self._pods.run(None), self._events.run()
        self._tasks = [asyncio.create_task(one) for one in work]
        for raw in self._listed_pipelines():
            self._report_pipeline(None, raw)

    def _listed_pipelines(self) -> list[Raw]:
        return [raw for (plural, _), raw in self._api.objects.items() if plural == PIPELINES]

    async def stop(self) -> None:
        tasks = asyncio.all_tasks() - self._before - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def deliver(self) -> bool:
        """Deliver the events of the watches since the last call. Returns whether there are any."""
        news = self._api.events[self._delivered :]
        self._delivered += len(news)
        for event in news:
            self._report(event)
        return bool(news)

    def _report(self, event: Event) -> None:
        if event.watch == PIPELINES:
            self._report_pipeline(event.type, event.object)
        elif event.watch in (PODS, UNLABELLED):
            raw = {"type": event.type, "object": event.object}
            self.client.report(raw, unlabelled=event.watch == UNLABELLED)

    async def _answering(self) -> None:
        if self._early and self.deliver():
            await run_other_tasks()

    def _report_pipeline(self, type_: str | None, raw: Raw) -> None:
        self._costs[PIPELINES_READ] += 1
        event = {"type": type_, "object": raw}
        handlers.handle_pipeline(self._cache.pipelines, self._queue, self._unreadable, event)


async def run_other_tasks() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class CountedWorld:
    """The cluster with one operator. ``costs`` counts its work by the columns of the table."""

    def __init__(
        self, clock: Clock, events_before_responses: bool = False, meter: Meter = Meter()
    ) -> None:
        self._meter = meter
        self.costs: Counter[str] = Counter()
        self._clock, self._early = clock, events_before_responses
        self._cluster = Cluster()
        self._api = self._cluster.api
        self._operator = self._new_operator()
        self.on_settled: Callable[[], object] = lambda: None
        """Called whenever the operator has finished its work."""

    def _new_operator(self) -> CountedOperator:
        return CountedOperator(self._api, self._clock, self.costs, self._early, meter=self._meter)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the operator, and counts the decisions."""

        def counted(facts: Facts, now: datetime) -> Decision:
            self.costs[DECISIONS] += 1
            return decide(facts, now)

        with patch.object(reconcile, "decide", counted):
            await self._operator.start()
            await self._work()
            try:
                yield
            finally:
                await self._operator.stop()

    @property
    def requests(self) -> list[str]:
        """The requests of the operator, with the length of each body."""
        return self._operator.client.sent

    @property
    def kubelet(self) -> Kubelet | None:
        return self._cluster.kubelet

    @property
    def spec(self) -> Raw:
        spec: Raw = self._api.objects[PIPELINES, KEY]["spec"]
        return spec

    def create(self, builder: PipelineBuilder) -> None:
        self._api.put(PIPELINES, builder.raw())

    def edit(self, change: Mapping[str, Any]) -> None:
        raw = merged(self._api.objects[PIPELINES, KEY], change)
        if "spec" in change:
            raw["metadata"] = {**raw["metadata"], "generation": raw["metadata"]["generation"] + 1}
        self._api.put(PIPELINES, raw)

    def delete(self) -> None:
        self._api.gone(PIPELINES)

    def delete_pod(self) -> None:
        self._api.delete(PODS)

    def report_sandbox(self) -> None:
        status = self._api.objects[PODS, KEY]["status"]
        conditions = [*status["conditions"], SANDBOX_READY]
        self._api.edit(PODS, {"status": {**status, "conditions": conditions}})

    def schedule(self) -> None:
        self._cluster.schedule()

    def node_step(self) -> bool:
        return self._cluster.node_step()

    async def settle(self) -> None:
        await self._work()
        await self._pass(PAUSE)
        self.on_settled()

    async def end_back_off(self) -> None:
        ends = self.kubelet.back_off_ends() if self.kubelet else None
        if ends is not None:
            await self._pass(math.ceil((ends - self._clock()).total_seconds()))

    async def rest(self) -> None:
        """Let an hour pass, the first minute second by second."""
        for _ in range(MINUTE):
            await self._pass(1)
        for _ in range(MINUTE, HOUR, MINUTE):
            await self._pass(MINUTE)
        self.on_settled()

    def count(self) -> None:
        self.costs.clear()
        self.requests.clear()

    async def restart(self, pipelines: int) -> None:
        await self._operator.stop()
        objects = [(plural, self._api.objects[plural, KEY]) for plural in (PIPELINES, PODS)]
        for number in range(1, pipelines):
            for plural, raw in objects:
                self._api.put(plural, _copy(raw, f"-{number}"))
        self._operator = self._new_operator()
        await self._operator.start()
        await self.settle()

    async def _pass(self, seconds: int) -> None:
        self._cluster.clock.seconds += seconds
        await self._clock.advance(seconds)
        await self._work()

    async def _work(self) -> None:
        """Deliver and reconcile until there is nothing to do."""
        for _ in range(ROUNDS):
            before = self.costs.copy()
            delivered = self._operator.deliver()
            await run_other_tasks()
            if not delivered and self.costs == before:
                return
        raise AssertionError(f"work without end: {self.requests[-10:]}")


def _copy(raw: Raw, suffix: str) -> Raw:
    """Returns the pipeline or the Pod with another name and other UIDs."""
    text = json.dumps(raw)
    for own in (f'"{NAME}"', f'"{PIPELINE_UID}"', '"made-1"'):
        text = text.replace(own, f'{own[:-1]}{suffix}"')
    copied: Raw = json.loads(text)
    return copied
