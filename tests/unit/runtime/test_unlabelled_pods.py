"""Pods without the operator's label: when their pipelines are requeued, and by which requests."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from typing import Any

import pytest

from initpipeline.runtime import unlabelled_pods as module
from initpipeline.runtime.errors import ApiError, ConnectionFailed
from initpipeline.runtime.keys import Key
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.retries import RETRY_SECONDS
from initpipeline.runtime.unlabelled_pods import (
    TURN_SECONDS,
    UnlabelledPodWatcher,
)
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import start_task

SHOP, SITE, OTHER = Key("a", "shop"), Key("a", "site"), Key("b", "shop")


class Pods:
    """The methods of the gateway that list and watch unlabelled Pods."""

    def __init__(self) -> None:
        self.there: set[Key] = {SHOP, SITE, OTHER}
        self.versions: dict[Key, str] = {}
        self.asked: list[str] = []
        self.open = 0
        self.failing: list[Exception] = []
        self.slow: asyncio.Event | None = None
        self._changes: dict[str, asyncio.Queue[Key | Exception | None]] = {}

    def changes(self, namespace: str) -> asyncio.Queue[Key | Exception | None]:
        """Returns the queue of events of this namespace's watch. None in it ends the watch."""
        return self._changes.setdefault(namespace, asyncio.Queue())

    async def find_unlabelled_pods(
        self, namespace: str, keys: Collection[Key]
    ) -> tuple[dict[Key, str], str]:
        self.asked.append(f"list {namespace}")
        if self.failing:
            raise self.failing.pop(0)
        if self.slow:
            await self.slow.wait()
        return {key: self.versions.get(key, "5") for key in self.there & set(keys)}, "7"

    async def watch_unlabelled_pods(
        self, namespace: str, version: str, seconds: int, opened: Callable[[], None]
    ) -> AsyncGenerator[Key]:
        opened()
        self.asked.append(f"watch {namespace} from {version} for {seconds}")
        self.open += 1
        try:
            while (change := await self.changes(namespace).get()) is not None:
                if isinstance(change, Exception):
                    raise change
                yield change
        finally:
            self.open -= 1


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
async def watcher(pods: Pods, queue: WorkQueue[Key]) -> AsyncIterator[UnlabelledPodWatcher]:
    made: Any = pods
    watcher = UnlabelledPodWatcher(made, queue, start_task)
    yield watcher
    for key in (SHOP, SITE, OTHER):
        watcher.forget(key)


async def due(queue: WorkQueue[Key], clock: Clock) -> list[Key]:
    """Returns the keys that are queued now, and marks them done."""
    found: list[Key] = []
    while True:
        taken = asyncio.create_task(queue.get())
        await clock.advance()
        if not taken.done():
            taken.cancel()
            return found
        found.append(taken.result())
        queue.done(found[-1])


async def test_namespace_has_one_watch_for_all_its_pods(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock, queue: WorkQueue[Key]
) -> None:
    assert [watcher.watch(key) for key in (SHOP, SITE, OTHER, SHOP)] == [
        True,
        True,
        True,
        False,
    ]
    assert await due(queue, clock) == [], "queued without a change"
    watches = [f"watch {namespace} from 7 for {TURN_SECONDS}" for namespace in "ab"]
    assert sorted(pods.asked) == sorted([*watches, "list a", "list b"])
    await clock.advance(3600)
    assert len(pods.asked) == 4, "an hour of waiting costs no request while the watch is open"


async def test_pod_changed_between_two_watches_requeues_its_pipeline_once(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock, queue: WorkQueue[Key]
) -> None:
    watcher.watch(SHOP)
    watcher.watch(SITE)
    assert await due(queue, clock) == []
    pods.versions[SHOP] = "8"
    await clock.advance(TURN_SECONDS)
    pods.changes("a").put_nowait(None)
    assert await due(queue, clock) == [SHOP]
    await clock.advance(TURN_SECONDS)
    pods.changes("a").put_nowait(None)
    assert await due(queue, clock) == [], "the Pod has not changed again"
    assert pods.asked.count("list a") == 3


async def test_changed_pod_requeues_only_its_pipeline(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock, queue: WorkQueue[Key]
) -> None:
    watcher.watch(SHOP)
    await clock.advance()
    pods.changes("a").put_nowait(SITE)
    assert await due(queue, clock) == [], "a pipeline was queued that does not wait"
    pods.changes("a").put_nowait(SHOP)
    assert await due(queue, clock) == [SHOP]
    watcher.watch(SITE)
    pods.changes("a").put_nowait(SITE)
    assert await due(queue, clock) == [SITE], "a second watch was opened"


async def test_pod_deleted_before_the_watch_requeues_its_pipeline(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock, queue: WorkQueue[Key]
) -> None:
    pods.there.clear()
    watcher.watch(SHOP)
    assert await due(queue, clock) == [SHOP]


@pytest.mark.parametrize("first", ["list", "read"])
async def test_pod_changed_between_the_first_list_and_the_read_requeues_its_pipeline(
    watcher: UnlabelledPodWatcher,
    pods: Pods,
    clock: Clock,
    queue: WorkQueue[Key],
    first: str,
) -> None:
    """The watch starts from the list. If the list has the change, and the read does not, no event
    reports it."""
    watcher.watch(SHOP)
    pods.versions[SHOP] = "6"
    if first == "list":
        await clock.advance()
    watcher.was_read(SHOP, "5")
    assert await due(queue, clock) == [SHOP]


async def test_pod_watched_while_a_list_is_read_requeues_its_pipeline_if_it_changes(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock, queue: WorkQueue[Key]
) -> None:
    pods.slow = asyncio.Event()
    watcher.watch(SHOP)
    await clock.advance()
    watcher.watch(SITE)
    watcher.was_read(SITE, "4")
    pods.slow.set()
    assert await due(queue, clock) == [SITE]


async def test_ended_watch_restarts_with_a_list(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock, queue: WorkQueue[Key]
) -> None:
    watcher.watch(SHOP)
    await clock.advance()
    pods.there.clear()
    await clock.advance(TURN_SECONDS)
    pods.changes("a").put_nowait(None)
    assert await due(queue, clock) == [SHOP]
    assert pods.asked.count("list a") == 2


async def test_watch_ends_with_the_last_watched_pod(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock
) -> None:
    watcher.watch(SHOP)
    watcher.watch(SITE)
    await clock.advance()
    watcher.forget(SHOP)
    await clock.advance()
    assert (pods.open, SHOP in watcher, SITE in watcher) == (1, False, True)
    watcher.forget(SITE)
    watcher.forget(SITE)
    await clock.advance()
    assert pods.open == 0


async def test_pod_watched_again_is_listed_again(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock
) -> None:
    watcher.watch(SHOP)
    await clock.advance()
    watcher.forget(SHOP)
    watcher.watch(SHOP)
    await clock.advance()
    assert (pods.asked.count("list a"), pods.open) == (2, 1)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ConnectionFailed("reset"), id="no answer"),
        pytest.param(ApiError(410, {"message": "too old"}), id="too old"),
        pytest.param(ValueError("not a watch event"), id="a bug in the operator"),
    ],
)
async def test_failed_watch_is_retried_without_effect_on_others(
    watcher: UnlabelledPodWatcher,
    pods: Pods,
    clock: Clock,
    queue: WorkQueue[Key],
    error: Exception,
) -> None:
    watcher.watch(SHOP)
    watcher.watch(OTHER)
    await clock.advance()
    pods.changes("a").put_nowait(error)
    await clock.advance()
    assert pods.asked.count("list a") == 1, "retried without a delay"
    pods.changes("b").put_nowait(OTHER)
    assert await due(queue, clock) == [OTHER]
    await clock.advance(1)
    assert pods.asked.count("list a") == 2
    pods.changes("a").put_nowait(SHOP)
    assert await due(queue, clock) == [SHOP]


async def test_watch_that_ends_at_once_is_retried_after_a_delay(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock
) -> None:
    watcher.watch(SHOP)
    await clock.advance()
    pods.changes("a").put_nowait(None)
    await clock.advance()
    assert pods.asked.count("list a") == 1
    await clock.advance(RETRY_SECONDS[0])
    assert pods.asked.count("list a") == 2


async def test_outage_is_retried_with_growing_delays(
    watcher: UnlabelledPodWatcher, pods: Pods, clock: Clock
) -> None:
    pods.failing = [ConnectionFailed("down")] * 99
    watcher.watch(SHOP)
    for _ in range(10):
        await clock.advance(RETRY_SECONDS[-1])
    assert pods.asked.count("list a") <= 11
    pods.failing.clear()
    await clock.advance(RETRY_SECONDS[-1])
    assert pods.open == 1


async def test_namespaces_beyond_the_watch_limit_take_turns(
    pods: Pods, clock: Clock, queue: WorkQueue[Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCHES", 1)
    made: Any = pods
    narrow = UnlabelledPodWatcher(made, queue, start_task)
    narrow.watch(SHOP)
    narrow.watch(OTHER)
    await clock.advance()
    assert pods.open == 1
    assert pods.asked[-1].endswith(f"for {module.SHORT_TURN_SECONDS}")
    pods.changes("a").put_nowait(None)
    await clock.advance()
    assert (pods.open, pods.asked.count("list b")) == (1, 1)
    narrow.forget(SHOP)
    narrow.forget(OTHER)
