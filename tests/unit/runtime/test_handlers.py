"""Kopf's part: an event is noted, its pipeline named, and Kopf itself never writes or freezes."""

import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import kopf
import pytest

from initpipeline.api import names
from initpipeline.core.facts import Pipeline
from initpipeline.core.unreadable import UnreadablePipeline
from initpipeline.runtime import handlers
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.gateway import Key, Kind
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from tests.builders import Raw, pipeline, running_pod
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, RecordingQueue

PIPELINE, POD = names.PLURAL, "pods"
RAW = {PIPELINE: pipeline().raw, POD: running_pod().raw}


class Shell:
    """The handlers, with the cache and the queue behind them."""

    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache, self.unreadable = Cache.empty(), UnreadableObjects()
        self.queue = RecordingQueue(clock)
        self.told: dict[str, Callable[..., Awaitable[None]]] = {}

        def on_event(*selector: str, registry: object) -> Callable[[Any], Any]:
            assert registry is not None, "a handler of all operators of the process"
            return lambda function: self.told.setdefault(selector[-1], function)

        monkeypatch.setattr(kopf.on, "event", on_event)
        handlers.register(kopf.OperatorRegistry(), self.cache, self.queue, self.unreadable)

    async def tell(self, plural: str, type_: str | None, raw: Raw, version: int = 1) -> bool:
        """An event comes. Whether it asked for a look."""
        self.queue.forget()
        raw["metadata"]["resourceVersion"] = str(version)
        await self.told[plural](event={"type": type_, "object": raw}, extra="Kopf's")
        return self.queue.again

    def known(self, plural: str, key: Key = KEY) -> bool:
        stores: dict[str, Any] = {PIPELINE: self.cache.pipelines, POD: self.cache.pods}
        return stores[plural].get(key) is not None


@pytest.fixture
def shell(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(clock, monkeypatch)


@pytest.mark.parametrize("plural", [PIPELINE, POD])
class TestEvent:
    @pytest.mark.parametrize("type_", [None, "ADDED", "MODIFIED"], ids=str)
    async def test_news_is_kept_and_asks_for_a_look(
        self, shell: Shell, plural: str, type_: str | None
    ) -> None:
        """None is Kopf's word for what the first list held."""
        assert await shell.tell(plural, type_, RAW[plural]())
        assert shell.known(plural)

    async def test_an_echo_asks_for_nothing(self, shell: Shell, plural: str) -> None:
        await shell.tell(plural, "ADDED", RAW[plural]())
        assert not await shell.tell(plural, "MODIFIED", RAW[plural]())

    async def test_a_new_list_of_the_same_asks_for_nothing(self, shell: Shell, plural: str) -> None:
        """After 410 Gone, Kopf tells of everything once more."""
        await shell.tell(plural, "ADDED", RAW[plural](), version=5)
        assert not await shell.tell(plural, None, RAW[plural](), version=5)

    async def test_a_deletion_is_forgotten_and_asks_for_a_look(
        self, shell: Shell, plural: str
    ) -> None:
        await shell.tell(plural, "ADDED", RAW[plural]())
        assert await shell.tell(plural, "DELETED", RAW[plural](), version=2)
        assert not shell.known(plural)

    async def test_of_what_is_gone_only_the_last_of_a_pod_is_kept(
        self, shell: Shell, plural: str
    ) -> None:
        await shell.tell(plural, "ADDED", RAW[plural]())
        await shell.tell(plural, "DELETED", RAW[plural](), version=7)
        stores: dict[str, Any] = {PIPELINE: shell.cache.pipelines, POD: shell.cache.pods}
        last = stores[plural].gone(KEY)
        assert (last and last.resource_version) == ("7" if plural == POD else None)

    async def test_a_deletion_of_the_unknown_asks_for_nothing(
        self, shell: Shell, plural: str
    ) -> None:
        assert not await shell.tell(plural, "DELETED", RAW[plural]())

    async def test_a_deletion_needs_nothing_of_the_object(self, shell: Shell, plural: str) -> None:
        """Else what was never understood could never be forgotten."""
        await shell.tell(plural, "ADDED", RAW[plural]())
        raw = {"metadata": RAW[plural]()["metadata"], "status": "odd"}
        assert await shell.tell(plural, "DELETED", raw, version=2)


@pytest.mark.parametrize(
    ("odd", "problem"),
    [
        pytest.param({"spec": {}}, "not a valid InitPipeline: KeyError: 'template'", id="template"),
        pytest.param(
            {"status": {"run": {"number": 0}}},
            "status.run.number: Input should be greater than or equal to 1",
            id="status of another version",
        ),
        pytest.param(
            {"status": {"history": 1}}, "status.history: Input should be a valid tuple", id="list"
        ),
    ],
)
async def test_pipeline_that_cannot_be_read_is_kept_as_such_and_logged_once(
    shell: Shell, caplog: pytest.LogCaptureFixture, odd: Raw, problem: str
) -> None:
    for version in (1, 2):
        assert await shell.tell(PIPELINE, "MODIFIED", {**pipeline().raw(), **odd}, version)
    known = shell.cache.pipelines.get(KEY)
    assert isinstance(known, UnreadablePipeline)
    assert known.problem == problem
    [record] = caplog.records
    assert (record.message, record.exc_info) == ("object cannot be read", None)
    assert vars(record)["pipeline"] == str(KEY)
    assert shell.unreadable.seen[Kind.PIPELINE] == 2
    assert await shell.tell(PIPELINE, "MODIFIED", pipeline().raw(), version=3)
    assert isinstance(shell.cache.pipelines.get(KEY), Pipeline)


async def test_pod_that_cannot_be_read_is_forgotten_and_queues_its_pipeline(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    """So that no decision is made from what it was before."""
    await shell.tell(POD, "ADDED", running_pod().raw())
    odd = {**running_pod().raw(), "spec": "none"}
    assert await shell.tell(POD, "MODIFIED", odd, version=2)
    assert not shell.known(POD)
    assert shell.unreadable.seen[Kind.POD] == len(caplog.records) == 1


class TestSettings:
    """Each line of it was learnt the hard way."""

    @pytest.fixture
    def settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        handlers.configure(settings)
        return settings

    def test_kopf_posts_no_events(self, settings: kopf.OperatorSettings) -> None:
        assert not settings.posting.enabled

    def test_no_foreign_peer_pauses_it(self, settings: kopf.OperatorSettings) -> None:
        assert settings.peering.standalone

    def test_no_other_kopf_operators_finalizer_is_touched(
        self, settings: kopf.OperatorSettings
    ) -> None:
        assert settings.persistence.finalizer.startswith(names.GROUP)

    def test_it_needs_no_permission_to_watch_crds(self, settings: kopf.OperatorSettings) -> None:
        assert settings.scanning.disabled

    def test_no_watch_is_quiet_for_ever(self, settings: kopf.OperatorSettings) -> None:
        server, client = settings.watching.server_timeout, settings.watching.client_timeout
        assert server is not None
        assert client is not None
        assert server < client < 600, "the server ends a watch first, and the client if it cannot"

    def test_lists_come_in_pages(self, settings: kopf.OperatorSettings) -> None:
        assert settings.watching.chunk_size

    def test_idle_workers_go_soon_and_nobody_waits_for_one(
        self, settings: kopf.OperatorSettings
    ) -> None:
        assert settings.queueing.idle_timeout <= 0.1
        assert settings.queueing.worker_limit is None

    def test_an_outage_is_waited_for_however_long(self, settings: kopf.OperatorSettings) -> None:
        backoffs = settings.networking.error_backoffs
        assert isinstance(backoffs, Iterable)
        for _ in range(2):  # each request begins anew
            delays = list(itertools.islice(backoffs, 1000))
            assert delays[0] == 1
            assert max(delays) == delays[-1] == 30

    def test_it_does_not_hang_for_long_while_it_ends(self, settings: kopf.OperatorSettings) -> None:
        timeout = settings.process.ultimate_exiting_timeout
        assert timeout is not None
        assert timeout <= 30, "Kubernetes' own patience"

    def test_storages_copy_and_write_nothing(self, settings: kopf.OperatorSettings) -> None:
        essence = kopf.BodyEssence()
        progress = settings.persistence.progress_storage
        diffbase = settings.persistence.diffbase_storage
        assert progress.clear(essence=essence) is essence
        assert diffbase.fetch(body=kopf.Body(essence)) is None
        assert not diffbase.build(body=kopf.Body(essence))
