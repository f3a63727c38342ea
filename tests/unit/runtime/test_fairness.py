"""A namespace with failing, slow or changing pipelines does not delay the pipelines of another.

Delays are counted in requests, not in seconds: how many requests the operator sends after the
pipeline was created and before it creates its Pod. docs/faults.md has the seconds.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from initpipeline.api.raw import Raw
from initpipeline.core.pod import Pod
from initpipeline.runtime import handlers
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.errors import api_error
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.settings import Settings
from initpipeline.runtime.share import work_queue
from initpipeline.runtime.unlabelled_pods import UnlabelledPodWatcher
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from initpipeline.runtime.workers import run_worker
from tests.builders import PipelineBuilder, PodBuilder, fresh_pod, pipeline
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import PIPELINES, PODS, FakeApi, start_task
from tests.unit.runtime.stub_client import Request

NOISY, QUIET = "noisy", "quiet"
MANY = 300
"""More pipelines than workers, by far."""
QUOTA = api_error(403, {"message": "pods is forbidden: exceeded quota: q"})
BROKEN = api_error(500, {"message": "failed calling webhook"})


class SharedApi(FakeApi):
    """An API server that answers each request after others have run."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.refusing: Exception | None = None
        """The answer to the creation of a Pod in NOISY. None: it is created."""
        self.webhook: asyncio.Event | None = None
        """If set, the creation of a Pod in NOISY waits for it."""
        self.sent: list[str] = []
        """The requests, as namespace, method and plural."""

    async def answer(self, request: Request) -> Raw:
        target = urlsplit(request.path).path
        namespace = target.split("/namespaces/")[1].split("/")[0]
        creates_pod = request.method == "POST" and target.endswith("/pods")
        self.sent.append(f"{namespace} {'creates a Pod' if creates_pod else request.method}")
        for _ in range(10):
            await asyncio.sleep(0)
        if creates_pod and namespace == NOISY:
            if self.webhook is not None:
                await self.webhook.wait()
            if self.refusing is not None:
                raise self.refusing
        return await super().answer(request)


class World:
    """The operator with all its workers. The test is the watches."""

    def __init__(self, clock: Clock) -> None:
        self.api = SharedApi(clock)
        gateway, self.cache = Gateway(self.api), Cache.empty()
        self.queue = work_queue(Settings().workers, self.cache, clock)
        self.events = EventRecorder(gateway, clock, "operator-0")
        unlabelled = UnlabelledPodWatcher(gateway, self.queue, start_task)
        self.reconciler = Reconciler(
            gateway, self.cache, self.queue, clock, self.events, unlabelled
        )
        self._unreadable = UnreadableObjects()

    def write(self, namespace: str, name: str, builder: PipelineBuilder) -> None:
        """Create or change a pipeline as a user. The watch reports it at once."""
        raw = builder.raw()
        known = self.api.objects.get((PIPELINES, Key(namespace, name)), {})
        uid = f"{namespace}-{name}"
        raw["metadata"] |= {"namespace": namespace, "name": name, "uid": uid}
        raw["status"] = known.get("status", {})
        stored = self.api.put(PIPELINES, raw)
        event = {"type": "MODIFIED" if known else "ADDED", "object": stored}
        handlers.handle_pipeline(self.cache.pipelines, self.queue, self._unreadable, event)

    def report(self, namespace: str, name: str, builder: PodBuilder) -> None:
        """Change the status of a Pod as its kubelet. The watch reports it at once."""
        key = Key(namespace, name)
        self.api.edit(PODS, {"status": builder.raw()["status"]}, key)
        self.cache.pods.put(key, Pod.from_api(self.api.objects[PODS, key]))
        self.queue.add(key)

    def fill(self) -> None:
        """Create MANY pipelines in NOISY."""
        for number in range(MANY):
            self.write(NOISY, f"demo-{number}", pipeline().of_generation(1))

    async def requests_before_a_new_pod(self) -> list[str]:
        """Create a pipeline in QUIET. Returns the requests until its Pod is created."""
        start = len(self.api.sent)
        self.write(QUIET, "demo", pipeline().of_generation(1))
        for _ in range(10_000):
            if (PODS, Key(QUIET, "demo")) in self.api.objects:
                sent = self.api.sent[start:]
                return sent[: sent.index(f"{QUIET} creates a Pod")]
            await asyncio.sleep(0)
        raise AssertionError(f"no Pod after {len(self.api.sent) - start} requests")


@pytest.fixture
async def world(clock: Clock) -> AsyncIterator[World]:
    world = World(clock)
    work = [run_worker(world.queue, world.reconciler) for _ in range(Settings().workers)]
    tasks = [asyncio.create_task(one) for one in (*work, world.events.run())]
    yield world
    assert not any(task.done() for task in tasks), "a task ended"
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("error", [QUOTA, BROKEN], ids=["refused", "failed"])
async def test_many_failing_pipelines_delay_another_namespace_by_a_few_requests(
    world: World, error: Exception
) -> None:
    world.api.refusing = error
    world.fill()
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(world.api.sent) > Settings().workers // 8, "NOISY keeps its workers busy"
    before = await world.requests_before_a_new_pod()
    assert len(before) <= Settings().workers // 4, before


async def test_slow_webhook_occupies_a_quarter_of_the_workers(world: World) -> None:
    world.api.webhook = asyncio.Event()
    world.fill()
    for _ in range(1000):
        await asyncio.sleep(0)
    waiting = world.api.sent.count(f"{NOISY} creates a Pod")
    assert waiting == Settings().workers * 15 // 64
    assert await world.requests_before_a_new_pod() == []
    world.api.webhook.set()


async def test_slow_webhook_does_not_delay_results_in_its_namespace(world: World) -> None:
    """A status write calls no webhook for Pods."""
    world.write(NOISY, "old", pipeline().of_generation(1))
    for _ in range(100):
        await asyncio.sleep(0)
    world.api.webhook = asyncio.Event()
    world.fill()
    for _ in range(1000):
        await asyncio.sleep(0)
    world.report(NOISY, "old", fresh_pod().initialized("one", "two"))
    for _ in range(1000):
        await asyncio.sleep(0)
    status = world.api.objects[PIPELINES, Key(NOISY, "old")]["status"]
    assert status["initProgress"] == "2/2"
    world.api.webhook.set()


async def test_changing_template_starts_a_few_runs_and_delays_nothing(world: World) -> None:
    """The clock stands still, so all changes are simultaneous."""
    builder = pipeline().of_generation(1)
    for number in range(200):
        world.write(NOISY, "demo", builder := builder.edited(f"nginx:{number}"))
        for _ in range(100):
            await asyncio.sleep(0)
    runs = world.api.sent.count(f"{NOISY} creates a Pod")
    assert 1 <= runs <= 6, "the first run, and five for changes"
    sent = len([one for one in world.api.sent if one.startswith(NOISY)])
    assert sent <= 8 * 6, "changes that wait cost no request"
    assert await world.requests_before_a_new_pod() == []
