"""The watch of Pods: what it requests, stores and queues, and what it does after each fault."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from initpipeline.api.raw import Raw
from initpipeline.core.pod import Pod
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.client import WATCH_SECONDS
from initpipeline.runtime.errors import ApiError, ConnectionFailed, HistoryLost, OperatorError
from initpipeline.runtime.keys import Key
from initpipeline.runtime.pod_watch import PodWatcher
from initpipeline.runtime.probes import End, Freshness
from initpipeline.runtime.retries import RETRY_SECONDS
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from tests.builders import NAMESPACE, running_pod
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, RecordingQueue

OTHER = Key(NAMESPACE, "other")
LONGEST = RETRY_SECONDS[-1]


def pod(version: int, key: Key = KEY, **fields: Any) -> Raw:
    """Returns a Pod with this resource version."""
    raw = {**running_pod().raw(), **fields}
    changed = {"name": key.name, "namespace": key.namespace, "uid": f"uid-{key.name}"}
    return {**raw, "metadata": {**raw["metadata"], **changed, "resourceVersion": str(version)}}


def event(type_: str, version: int, key: Key = KEY, **fields: Any) -> Raw:
    return {"type": type_, "object": pod(version, key, **fields)}


def bookmark(version: int) -> Raw:
    raw = {"kind": "Pod", "metadata": {"resourceVersion": str(version)}}
    return {"type": "BOOKMARK", "object": raw}


class Server:
    """The gateway's methods that list and watch Pods."""

    server = "https://api.test"

    def __init__(self) -> None:
        self.pages: list[list[Raw]] = [[]]
        self.version = 10
        self.present = 1000
        """The present resource version of Pods."""
        self.asked: list[str] = []
        self.failing: list[Exception] = []
        """Errors of the next lists."""
        self.refusing: list[Exception | None] = []
        """Errors of the next watches, or None for a watch that ends at once."""
        self.open = 0
        self._sent: asyncio.Queue[Raw | Exception | None] = asyncio.Queue()

    def send(self, *events: Raw | Exception | None) -> None:
        """Send events by the watch. None ends it, an exception ends it with an error."""
        for one in events:
            self._sent.put_nowait(one)

    async def current_version(self, *_: object) -> int:
        return self.present

    async def list_pods(self, namespace: str | None) -> AsyncIterator[Raw]:
        self.asked.append(f"list {namespace or 'all'}")
        for items in self.pages:
            if self.failing:
                raise self.failing.pop(0)
            yield {"metadata": {"resourceVersion": str(self.version)}, "items": items}

    async def watch_pods(
        self,
        namespace: str | None,
        version: str,
        seconds: int,
        opened: Callable[[], None],
    ) -> AsyncGenerator[Raw]:
        self.asked.append(f"watch {namespace or 'all'} from {version} for {seconds}")
        if self.refusing:
            refusal = self.refusing.pop(0)
            if refusal is not None:
                raise refusal
            return
        self.open += 1
        opened()
        try:
            while (one := await self._sent.get()) is not None:
                if isinstance(one, Exception):
                    raise one
                yield one
        finally:
            self.open -= 1


class Watching:
    """A watch of Pods in a task."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.server, self.queue = clock, Server(), RecordingQueue(clock)
        self.store, self.unreadable = Cache.empty().pods, UnreadableObjects()
        gateway: Any = self.server
        self.filled: list[str | None] = []
        self.ends: list[str] = []
        fresh = defaultdict[str | None, Freshness](
            lambda: Freshness("Pods", ended=self.ends.append)
        )
        self.watcher = PodWatcher(
            gateway, self.store, self.queue, self.unreadable, fresh, self.filled.append
        )
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, namespace: str | None = None) -> None:
        await self.watcher.fill(namespace)
        self.tasks.append(asyncio.create_task(self.watcher.run(namespace)))
        await self.clock.advance()
        self.queue.forget()

    async def send(self, *events: Raw | Exception | None) -> bool:
        """Send events. Returns whether a pipeline was queued."""
        self.queue.forget()
        self.server.send(*events)
        await self.clock.advance()
        return self.queue.requeued

    @property
    def watches(self) -> list[str]:
        """The resource versions from which watches were requested."""
        return [one.split()[3] for one in self.server.asked if one.startswith("watch")]

    @property
    def lists(self) -> int:
        return sum(one.startswith("list") for one in self.server.asked)

    def version(self, key: Key = KEY) -> str | None:
        """Returns the resource version of the stored Pod."""
        known = self.store.get(key)
        return known.resource_version if known else None


@pytest.fixture
async def pods(clock: Clock) -> AsyncIterator[Watching]:
    watching = Watching(clock)
    yield watching
    for task in watching.tasks:
        task.cancel()
    await asyncio.gather(*watching.tasks, return_exceptions=True)


class TestStart:
    async def test_first_list_stores_all_pages_and_queues_nothing(self, pods: Watching) -> None:
        """The lists of InitPipelines queue them."""
        pods.server.pages = [[pod(5)], [pod(6, OTHER)], []]
        await pods.watcher.fill(None)
        assert pods.filled == [None]
        assert (pods.version(), pods.version(OTHER)) == ("5", "6")
        assert not pods.queue.requeued

    async def test_watch_continues_from_the_first_list(self, pods: Watching) -> None:
        await pods.start()
        assert pods.server.asked == ["list all", f"watch all from 10 for {WATCH_SECONDS}"]

    async def test_null_items_are_an_empty_list(self, pods: Watching) -> None:
        odd: Any = None
        pods.server.pages = [odd]
        await pods.start()
        assert pods.watches == ["10"]

    @pytest.mark.parametrize(
        ("listed", "version"),
        [
            pytest.param([pod(5)], "5", id="changed"),
            pytest.param([], None, id="deleted"),
        ],
    )
    async def test_pod_created_before_the_first_list_queues_its_pipeline(
        self, pods: Watching, listed: list[Raw], version: str | None
    ) -> None:
        pods.store.put(KEY, Pod.from_api(pod(4, status={})))
        pods.server.pages = [listed]
        await pods.watcher.fill(None)
        assert pods.version() == version
        assert pods.queue.requeued

    async def test_failed_first_list_is_repeated(self, pods: Watching) -> None:
        pods.server.failing = [ApiError(500, {"message": "etcd is away"})]
        pods.tasks.append(asyncio.create_task(pods.watcher.run(None)))
        await pods.clock.advance()
        assert pods.filled == []
        await pods.clock.advance(RETRY_SECONDS[0])
        assert pods.filled == [None]
        assert pods.lists == 2
        assert not pods.queue.requeued

    async def test_each_namespace_has_its_own_watch(self, pods: Watching) -> None:
        for namespace in ("a", "b"):
            await pods.start(namespace)
            pods.server.version += 1
        assert [one.split(" for")[0] for one in pods.server.asked] == [
            "list a",
            "watch a from 10",
            "list b",
            "watch b from 11",
        ]


class TestEvent:
    @pytest.mark.parametrize("type_", ["ADDED", "MODIFIED"])
    async def test_new_pod_is_stored_and_queued(self, pods: Watching, type_: str) -> None:
        await pods.start()
        assert await pods.send(event(type_, 11))
        assert pods.version() == "11"

    async def test_event_of_own_write_queues_nothing(self, pods: Watching) -> None:
        await pods.start()
        pods.store.put(KEY, Pod.from_api(pod(11)))
        assert not await pods.send(event("ADDED", 11))

    async def test_change_that_no_decision_needs_is_stored_and_queues_nothing(
        self, pods: Watching
    ) -> None:
        await pods.start()
        assert await pods.send(event("ADDED", 11))
        changed = event("MODIFIED", 12)
        changed["object"]["metadata"]["annotations"]["example.com/network"] = "a"
        changed["object"]["status"]["hostIP"] = "10.0.0.1"
        assert not await pods.send(changed)
        assert pods.version() == "12"

    @pytest.mark.parametrize(
        "part",
        [
            pytest.param(("status", "phase", "Failed"), id="phase"),
            pytest.param(("status", "initContainerStatuses", []), id="statuses"),
            pytest.param(("metadata", "labels", {}), id="label"),
            pytest.param(("metadata", "uid", "another"), id="uid"),
            pytest.param(("metadata", "annotations", {}), id="annotations"),
            pytest.param(("spec", "nodeName", "node-2"), id="node"),
        ],
    )
    async def test_change_that_a_decision_needs_is_queued(
        self, pods: Watching, part: tuple[str, str, Any]
    ) -> None:
        await pods.start()
        assert await pods.send(event("ADDED", 11))
        changed = event("MODIFIED", 12)
        section, field, value = part
        changed["object"][section][field] = value
        assert await pods.send(changed)

    async def test_deleted_pod_is_removed_and_queued_and_its_last_state_kept(
        self, pods: Watching
    ) -> None:
        pods.server.pages = [[pod(5)]]
        await pods.start()
        assert await pods.send(event("DELETED", 11))
        last = pods.store.gone(KEY)
        assert (pods.version(), last and last.resource_version) == (None, "11")

    async def test_deletion_of_unknown_pod_queues_nothing(self, pods: Watching) -> None:
        await pods.start()
        assert not await pods.send(event("DELETED", 11))

    async def test_deletion_of_unreadable_pod_removes_it(self, pods: Watching) -> None:
        pods.server.pages = [[pod(5)]]
        await pods.start()
        assert await pods.send(event("DELETED", 11, status="odd"))
        assert pods.version() is None

    async def test_pod_that_becomes_unreadable_is_removed_and_queued(
        self, pods: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Otherwise decisions would be made from its previous state."""
        pods.server.pages = [[pod(5)]]
        await pods.start()
        assert await pods.send(event("MODIFIED", 11, spec="none"))
        assert pods.version() is None
        assert [record.message for record in caplog.records] == ["object cannot be read"]

    async def test_unreadable_pod_of_a_list_does_not_hide_the_others(
        self, pods: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        pods.server.pages = [[pod(5, spec="none"), pod(6, OTHER)]]
        await pods.start()
        assert (pods.version(), pods.version(OTHER)) == (None, "6")
        assert len(caplog.records) == 1

    @pytest.mark.parametrize("listed", [True, False], ids=["list", "event"])
    async def test_exception_for_one_pod_does_not_stop_the_watch(
        self, pods: Watching, monkeypatch: pytest.MonkeyPatch, *, listed: bool
    ) -> None:
        read = Pod.from_api

        def fails(raw: Raw) -> Pod:
            if raw["metadata"]["name"] == KEY.name:
                raise ZeroDivisionError
            return read(raw)

        monkeypatch.setattr(Pod, "from_api", fails)
        if listed:
            pods.server.pages = [[pod(5), pod(6, OTHER)]]
        await pods.start()
        if not listed:
            await pods.send(event("ADDED", 11), event("ADDED", 12, OTHER))
        assert pods.version(OTHER)
        assert pods.watches == ["10"], "the watch was opened again"

    async def test_event_of_an_unknown_type_is_ignored(self, pods: Watching) -> None:
        await pods.start()
        assert not await pods.send(event("RENAMED", 11))
        assert pods.version() is None


class TestResume:
    """A watch that ends continues from what it has delivered. It lists nothing."""

    @pytest.mark.parametrize(
        ("sent", "version"),
        [
            pytest.param([], "10", id="the list"),
            pytest.param([event("ADDED", 12)], "12", id="the last event"),
            pytest.param([event("DELETED", 12)], "12", id="a deletion"),
            pytest.param([event("ADDED", 12, spec="none")], "12", id="an unreadable Pod"),
            pytest.param([event("ADDED", 12), bookmark(20)], "20", id="a bookmark"),
        ],
    )
    async def test_ended_watch_continues_from(
        self, pods: Watching, sent: list[Raw], version: str
    ) -> None:
        await pods.start()
        await pods.send(*sent)
        await pods.clock.advance(WATCH_SECONDS)
        await pods.send(None)
        assert pods.watches == ["10", version]
        assert (pods.lists, pods.server.open) == (1, 1)

    async def test_bookmark_stores_and_queues_nothing(self, pods: Watching) -> None:
        await pods.start()
        assert not await pods.send(bookmark(20))

    async def test_open_watch_costs_no_request(self, pods: Watching) -> None:
        await pods.start()
        await pods.clock.advance(3600)
        assert len(pods.watches) == 1

    async def test_watch_that_ends_at_once_is_retried_with_growing_delays(
        self, pods: Watching
    ) -> None:
        """A load balancer may cut each connection."""
        pods.server.refusing = [None] * 99
        await pods.start()
        for delay in RETRY_SECONDS:
            before = len(pods.watches)
            await pods.clock.advance(delay - 0.01)
            assert len(pods.watches) == before
            await pods.clock.advance(0.01)
            assert len(pods.watches) == before + 1
        assert pods.lists == 1

    async def test_watch_that_is_cut_every_ten_seconds_is_resumed_without_delay(
        self, pods: Watching
    ) -> None:
        await pods.start()
        for _ in range(20):
            await pods.clock.advance(10)
            await pods.send(None)
            assert pods.server.open == 1
        assert (pods.lists, len(pods.watches)) == (1, 21)


EXPIRED = ApiError(410, {"reason": "Expired", "message": "too old resource version"})


class TestRestoredCluster:
    async def test_watch_from_a_version_of_the_future_ends_the_operator(
        self, pods: Watching
    ) -> None:
        """The API server would accept it, and send no event."""
        await pods.start()
        pods.server.present = 9
        await pods.send(None)
        await pods.clock.advance(LONGEST)
        with pytest.raises(HistoryLost, match="all Pods went back from 10 to 9"):
            await pods.tasks[0]


class TestRelist:
    """The Pods are listed again if the watch cannot continue."""

    async def gone(self, pods: Watching) -> None:
        await pods.clock.advance(WATCH_SECONDS)
        await pods.send(EXPIRED)

    async def test_expired_version_is_replaced_by_a_list(
        self, pods: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        await pods.start()
        pods.server.version = 30
        await self.gone(pods)
        assert (pods.lists, pods.watches) == (2, ["10", "30"])
        assert not caplog.records, "it is normal"

    async def test_version_that_expired_before_the_watch_is_replaced_by_a_list(
        self, pods: Watching
    ) -> None:
        pods.server.refusing = [EXPIRED]
        await pods.start()
        pods.server.version = 30
        await pods.clock.advance(RETRY_SECONDS[0])
        assert (pods.lists, pods.watches) == (2, ["10", "30"])

    async def test_version_of_a_list_that_expires_at_once_is_retried_with_growing_delays(
        self, pods: Watching, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Otherwise lists would follow each other without end."""
        pods.server.refusing = [EXPIRED] * 99
        await pods.start()
        for delay in RETRY_SECONDS:
            before = pods.lists
            await pods.clock.advance(delay)
            assert pods.lists == before + 1
        assert len(caplog.records) == len(RETRY_SECONDS)

    async def test_pod_deleted_between_two_lists_is_removed_and_queued(
        self, pods: Watching
    ) -> None:
        pods.server.pages = [[pod(5), pod(6, OTHER)]]
        await pods.start()
        pods.server.pages, pods.server.version = [[pod(6, OTHER)]], 30
        await self.gone(pods)
        assert (pods.version(), pods.version(OTHER)) == (None, "6")
        assert pods.queue.requeued

    async def test_pod_replaced_between_two_lists_is_stored_and_queued(
        self, pods: Watching
    ) -> None:
        pods.server.pages = [[pod(5)]]
        await pods.start()
        replacement = pod(25)
        replacement["metadata"]["uid"] = "another"
        pods.server.pages, pods.server.version = [[replacement]], 30
        await self.gone(pods)
        known = pods.store.get(KEY)
        assert (known and known.uid, pods.queue.requeued) == ("another", True)

    async def test_unchanged_pods_are_not_queued(self, pods: Watching) -> None:
        pods.server.pages = [[pod(5)]]
        await pods.start()
        pods.server.version = 30
        await self.gone(pods)
        assert (pods.lists, pods.queue.requeued) == (2, False)

    async def test_pod_created_by_the_operator_after_the_list_is_kept(self, pods: Watching) -> None:
        await pods.start()
        pods.store.put(KEY, Pod.from_api(pod(31)))
        pods.store.put(OTHER, Pod.from_api(pod(9, OTHER)))
        pods.server.version = 31
        pods.server.pages = [[pod(31)]]
        await self.gone(pods)
        assert (pods.version(), pods.version(OTHER)) == ("31", None)

    async def test_list_of_a_namespace_removes_no_pod_of_another(self, pods: Watching) -> None:
        elsewhere = Key("elsewhere", "demo")
        await pods.start(NAMESPACE)
        pods.store.put(elsewhere, Pod.from_api(pod(9, elsewhere)))
        pods.server.version = 30
        await self.gone(pods)
        assert (pods.lists, pods.version(elsewhere)) == (2, "9")

    async def test_failed_list_is_repeated_and_queues_what_changed(self, pods: Watching) -> None:
        """Its first page was stored, so the next list would not queue it."""
        await pods.start()
        pods.server.version = 30
        pods.server.pages = [[pod(20)], [pod(21, OTHER)]]
        listed = pods.server.list_pods

        async def fails(namespace: str | None) -> AsyncIterator[Raw]:
            async for page in listed(namespace):
                yield page
                raise EXPIRED  # the continue token

        pods.server.list_pods = fails  # type: ignore[method-assign]
        await self.gone(pods)
        assert (pods.version(), pods.version(OTHER), pods.queue.requeued) == ("20", None, True)
        pods.server.list_pods = listed  # type: ignore[method-assign]
        await pods.clock.advance(RETRY_SECONDS[0])
        assert (pods.version(OTHER), pods.watches) == ("21", ["10", "30"])

    async def test_lower_version_of_the_list_ends_the_operator(self, pods: Watching) -> None:
        """Its cache would ignore each later change, as after a restore of etcd."""
        pods.server.pages = [[pod(9)]]
        await pods.start()
        pods.server.version = 8
        await self.gone(pods)
        with pytest.raises(OperatorError, match="went back from"):
            await pods.tasks[0]


class TestCause:
    """Why a watch must be opened again."""

    @pytest.mark.parametrize(
        ("end", "cause"),
        [
            pytest.param(None, End.ENDED, id="the API server ends it"),
            pytest.param(ApiError(410, {}), End.GONE, id="410"),
            pytest.param(ApiError(500, {}), End.REFUSED, id="500"),
            pytest.param(ConnectionFailed("no event"), End.UNREADABLE, id="no event"),
        ],
    )
    async def test_end_of_an_open_watch_is_counted_once(
        self, pods: Watching, end: Exception | None, cause: str
    ) -> None:
        await pods.start()
        await pods.send(bookmark(11), end)
        assert pods.ends == [cause]

    async def test_watch_without_an_answer_is_counted(self, pods: Watching) -> None:
        pods.server.refusing = [ConnectionFailed("refused"), ApiError(403, {})]
        await pods.start()
        await pods.clock.advance(1)
        assert pods.ends == [End.UNANSWERED, End.REFUSED]


class TestNotUnderstood:
    """The Pods that cannot be read now."""

    async def test_pod_counts_until_it_can_be_read(self, pods: Watching) -> None:
        await pods.start()
        await pods.send(event("ADDED", 11, spec="none"), event("ADDED", 12, OTHER))
        assert pods.watcher.not_understood == {KEY}
        await pods.send(event("MODIFIED", 13, spec="none"))
        assert pods.watcher.not_understood == {KEY}
        await pods.send(event("MODIFIED", 14))
        assert pods.watcher.not_understood == set()

    async def test_deleted_pod_does_not_count(self, pods: Watching) -> None:
        await pods.start()
        await pods.send(event("ADDED", 11, spec="none"), event("DELETED", 12, spec="none"))
        assert pods.watcher.not_understood == set()

    async def test_pod_that_a_list_does_not_have_does_not_count(self, pods: Watching) -> None:
        await pods.start()
        await pods.send(event("ADDED", 11, spec="none"))
        pods.server.version = 20
        await pods.send(ApiError(410, {}))
        await pods.clock.advance(1)
        assert pods.lists == 2
        assert pods.watcher.not_understood == set()


class TestFault:
    @pytest.mark.parametrize(
        ("error", "lists"),
        [
            pytest.param(ConnectionFailed("refused"), 1, id="no answer"),
            pytest.param(ApiError(429, {}), 1, id="too many requests"),
            pytest.param(ApiError(503, {}), 1, id="unavailable"),
            pytest.param(ApiError(504, {}), 1, id="timeout"),
            pytest.param(ApiError(500, {}), 2, id="internal error"),
            pytest.param(ApiError(400, {}), 2, id="refused version"),
            pytest.param(ApiError(403, {}), 2, id="no permission"),
            pytest.param(ValueError("not an event"), 1, id="a bug in the operator"),
        ],
    )
    @pytest.mark.parametrize("opened", [True, False], ids=["open", "refused"])
    async def test_watch_is_retried_after_a_delay_and_logged(
        self,
        pods: Watching,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
        lists: int,
        *,
        opened: bool,
    ) -> None:
        """The list follows if the error may come from the resource version."""
        if not opened:
            pods.server.refusing = [error]
        await pods.start()
        if opened:
            await pods.send(error)
        assert (pods.server.open, len(caplog.records)) == (0, 1)
        await pods.clock.advance(RETRY_SECONDS[0])
        assert (pods.server.open, pods.lists, pods.watches) == (1, lists, ["10", "10"])

    async def test_outage_is_retried_without_end(self, pods: Watching) -> None:
        pods.server.refusing = [ConnectionFailed("refused")] * 999
        await pods.start()
        await pods.clock.advance(0)
        for _ in range(300):
            await pods.clock.advance(LONGEST)
        assert 250 < len(pods.watches) <= 302
        pods.server.refusing.clear()
        await pods.clock.advance(LONGEST)
        assert (pods.server.open, pods.lists) == (1, 1)

    async def test_delays_start_again_after_a_watch_that_lasted(self, pods: Watching) -> None:
        pods.server.refusing = [ConnectionFailed("refused")] * 8
        await pods.start()
        for _ in range(8):
            await pods.clock.advance(LONGEST)
        assert pods.server.open == 1
        await pods.clock.advance(LONGEST)
        await pods.send(ApiError(500, {}))
        await pods.clock.advance(RETRY_SECONDS[0])
        assert pods.server.open == 1

    async def test_delay_is_short_if_watches_fail_after_a_while(self, pods: Watching) -> None:
        """An error every few seconds must not make the watch blind for half a minute."""
        await pods.start()
        for _ in range(10):
            await pods.clock.advance(RETRY_SECONDS[0] + 0.1)
            await pods.send(ApiError(500, {}))
            assert pods.server.open == 0
            await pods.clock.advance(RETRY_SECONDS[0])
            assert pods.server.open == 1

    async def test_delays_grow_if_accepted_watches_fail_at_once(self, pods: Watching) -> None:
        await pods.start()
        for delay in RETRY_SECONDS[:6]:
            await pods.send(ApiError(500, {}))
            await pods.clock.advance(delay - 0.01)
            assert pods.server.open == 0
            await pods.clock.advance(0.01)
            assert pods.server.open == 1

    @pytest.mark.parametrize(("seconds", "delay"), [(0, 1), (20, 20), (9999, LONGEST)])
    async def test_retry_waits_as_long_as_the_api_server_requests(
        self, pods: Watching, seconds: int, delay: float
    ) -> None:
        """Within limits: a wrong value must not stop the watch."""
        pods.server.refusing = [ApiError(429, {}, seconds)]
        await pods.start()
        await pods.clock.advance(delay - 0.01)
        assert pods.server.open == 0
        await pods.clock.advance(0.01)
        assert pods.server.open == 1

    async def test_failed_list_is_retried(self, pods: Watching) -> None:
        await pods.start()
        pods.server.failing = [ConnectionFailed("refused"), ApiError(503, {})]
        await pods.clock.advance(WATCH_SECONDS)
        await pods.send(EXPIRED)
        for _ in range(2):
            await pods.clock.advance(LONGEST)
        assert (pods.server.open, pods.lists) == (1, 4)

    async def test_refused_credentials_are_tried_again(self, pods: Watching) -> None:
        """The client has loaded them again before. The next ones may be valid."""
        pods.server.refusing = [ApiError(401, {})]
        await pods.start()
        await pods.clock.advance(LONGEST)
        assert pods.server.open == 1

    @pytest.mark.parametrize("opened", [True, False], ids=["open watch", "delay"])
    async def test_cancelled_task_ends_at_once(self, pods: Watching, *, opened: bool) -> None:
        if not opened:
            pods.server.refusing = [ConnectionFailed("refused")]
        await pods.start()
        pods.tasks[0].cancel()
        await pods.clock.advance()
        assert pods.tasks[0].cancelled()
        assert pods.server.open == 0
