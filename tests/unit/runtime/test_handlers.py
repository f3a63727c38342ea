"""Watch events of InitPipelines queue them. Kopf itself never writes, pauses or hangs."""

import itertools
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import kopf
import pytest

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.core.decide import decide
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.unreadable import UnreadablePipeline
from initpipeline.runtime import handlers
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.errors import OperatorError
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from tests.builders import at, pipeline, running_pod
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, RecordingQueue

RUNNING = pipeline().with_status(
    decide(Facts(pipeline().build(), running_pod().build()), at(100)).status
)


class Handlers:
    """The handler of watch events, with a cache and a queue."""

    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pipelines = Cache.empty().pipelines
        self.queue = RecordingQueue(clock)
        self._handlers: dict[str, Callable[..., Awaitable[None]]] = {}

        def on_event(*selector: str, registry: object) -> Callable[[Any], Any]:
            assert registry is not None, "a handler of all operators of the process"
            return lambda function: self._handlers.setdefault(selector[-1], function)

        monkeypatch.setattr(kopf.on, "event", on_event)
        handle = partial(handlers.handle_pipeline, self.pipelines, self.queue, UnreadableObjects())
        handlers.register(kopf.OperatorRegistry(), handle)
        assert set(self._handlers) == {names.PLURAL}, "Kopf watches another kind"

    async def send(self, type_: str | None, raw: Raw, version: int = 1) -> bool:
        """Send a watch event. Returns whether it queued the pipeline."""
        self.queue.forget()
        raw["metadata"]["resourceVersion"] = str(version)
        await self._handlers[names.PLURAL](event={"type": type_, "object": raw}, extra="Kopf's")
        return self.queue.requeued

    @property
    def known(self) -> bool:
        """Whether the pipeline is stored."""
        return self.pipelines.get(KEY) is not None


@pytest.fixture
def shell(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Handlers:
    return Handlers(clock, monkeypatch)


class TestEvent:
    @pytest.mark.parametrize("type_", [None, "ADDED", "MODIFIED"], ids=str)
    async def test_new_object_is_stored_and_queued(
        self, shell: Handlers, type_: str | None
    ) -> None:
        """Kopf sets no type for objects of the first list."""
        assert await shell.send(type_, pipeline().raw())
        assert shell.known

    async def test_event_of_own_write_queues_nothing(self, shell: Handlers) -> None:
        await shell.send("ADDED", pipeline().raw())
        assert not await shell.send("MODIFIED", pipeline().raw())

    async def test_repeated_list_queues_nothing(self, shell: Handlers) -> None:
        """After 410 Gone, Kopf lists all objects again."""
        await shell.send("ADDED", pipeline().raw(), version=5)
        assert not await shell.send(None, pipeline().raw(), version=5)

    async def test_deleted_object_is_removed_and_queued(self, shell: Handlers) -> None:
        await shell.send("ADDED", pipeline().raw())
        assert await shell.send("DELETED", pipeline().raw(), version=2)
        assert not shell.known

    async def test_last_state_of_deleted_pipeline_is_not_kept(self, shell: Handlers) -> None:
        await shell.send("ADDED", pipeline().raw())
        await shell.send("DELETED", pipeline().raw(), version=7)
        assert shell.pipelines.gone(KEY) is None

    async def test_deletion_of_unknown_object_queues_nothing(self, shell: Handlers) -> None:
        assert not await shell.send("DELETED", pipeline().raw())

    async def test_deletion_of_unreadable_object_removes_it(self, shell: Handlers) -> None:
        """Otherwise an unreadable object would never be removed."""
        await shell.send("ADDED", pipeline().raw())
        raw = {"metadata": pipeline().raw()["metadata"], "status": "odd"}
        assert await shell.send("DELETED", raw, version=2)


async def test_unreadable_pipeline_is_logged_once(
    shell: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    for version in (1, 2):
        raw = {**pipeline().raw(), "spec": {}}
        assert await shell.send("MODIFIED", raw, version)
    assert isinstance(shell.pipelines.get(KEY), UnreadablePipeline)
    [record] = [one for one in caplog.records if one.message == "object cannot be read"]
    assert vars(record)["error"] == "not a valid InitPipeline: KeyError: 'template'"


async def test_echo_of_a_write_that_was_answered_queues_nothing(shell: Handlers) -> None:
    await shell.send("ADDED", pipeline().raw())
    written = pipeline().raw()
    written["metadata"]["resourceVersion"] = "2"
    assert shell.pipelines.replace(KEY, Pipeline.from_api(written))
    assert not await shell.send("MODIFIED", pipeline().raw(), version=2)


class Listed:
    """What stores and queues the pipelines of Kopf's lists."""

    def __init__(self, clock: Clock, namespaces: Iterable[str | None] = (None,)) -> None:
        self.clock = clock
        self.pipelines, self.queue = Cache.empty().pipelines, RecordingQueue(clock)
        self.faults: list[OperatorError] = []
        self._listed = handlers.ListedPipelines(
            self.pipelines, self.queue, UnreadableObjects(), namespaces, self.faults.append
        )

    def handle(self, raw: Raw) -> bool:
        """Pass on a pipeline. Returns whether it was queued."""
        self.queue.forget()
        self._listed.handle(raw)
        return self.queue.requeued

    def queue_all(self) -> bool:
        """Start to lead. Returns whether the pipeline was queued."""
        self.queue.forget()
        self._listed.queue_all()
        return self.queue.requeued

    def pods_listed(self, namespace: str | None) -> bool:
        """Report a list of Pods. Returns whether the pipeline was queued."""
        self.queue.forget()
        self._listed.pods_listed(namespace)
        return self.queue.requeued


class TestListed:
    @pytest.fixture
    def listed(self, clock: Clock) -> Listed:
        return Listed(clock)

    async def test_pipeline_without_run_is_queued_at_once(self, listed: Listed) -> None:
        assert listed.handle(pipeline().raw())
        assert listed.pipelines.is_packed(KEY)
        assert not listed.pods_listed(None)

    async def test_unreadable_pipeline_is_queued_at_once(self, listed: Listed) -> None:
        assert listed.handle(pipeline().with_template({"spec": {"containers": [{}]}}).raw())

    async def test_pipeline_with_run_waits_for_list_of_pods(self, listed: Listed) -> None:
        assert not listed.handle(RUNNING.raw())
        assert listed.pipelines.is_packed(KEY)
        assert listed.pods_listed(None)
        assert not listed.pods_listed(None)

    async def test_new_leader_queues_all_but_those_that_wait_for_the_pods(
        self, listed: Listed
    ) -> None:
        assert listed.handle(pipeline().raw())
        assert listed.queue_all()
        assert not Listed(listed.clock).queue_all(), "there is no pipeline"

    async def test_new_leader_does_not_queue_a_pipeline_whose_pod_is_not_listed(
        self, listed: Listed
    ) -> None:
        listed.handle(RUNNING.raw())
        assert not listed.queue_all()
        listed.pods_listed(None)
        assert listed.queue_all()

    async def test_pipeline_with_run_waits_for_pods_of_all_namespaces(self, clock: Clock) -> None:
        listed = Listed(clock, ("a", "b"))
        assert not listed.handle(RUNNING.raw())
        assert not listed.pods_listed("a")
        assert listed.pods_listed("b")

    async def test_pipeline_with_run_is_queued_when_pods_are_known(self, listed: Listed) -> None:
        listed.pods_listed(None)
        assert listed.handle(RUNNING.raw())

    async def test_stored_version_is_not_queued(self, listed: Listed) -> None:
        listed.handle(pipeline().raw())
        assert not listed.handle(pipeline().raw())

    async def test_object_without_metadata_is_logged(
        self, listed: Listed, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert not listed.handle({"metadata": {}})
        assert "pipeline cannot be stored" in caplog.text


class TestKnownEvent:
    """Events that Kopf need not get, because the handler would ignore them."""

    @pytest.mark.parametrize(
        ("type_", "version", "known"),
        [
            pytest.param("MODIFIED", "2", True, id="own write"),
            pytest.param("ADDED", "1", True, id="older version"),
            pytest.param("MODIFIED", "3", False, id="newer version"),
            pytest.param("DELETED", "2", False, id="deletion"),
        ],
    )
    async def test_event_is_known_if_the_version_is_stored(
        self, shell: Handlers, type_: str, version: str, known: bool
    ) -> None:
        await shell.send("ADDED", pipeline().raw(), version=2)
        raw = pipeline().raw()
        raw["metadata"]["resourceVersion"] = version
        assert handlers.is_known(shell.pipelines, {"type": type_, "object": raw}) is known

    @pytest.mark.parametrize("type_", ["ADDED", "BOOKMARK", "ERROR"])
    def test_event_of_no_stored_pipeline_is_not_known(self, shell: Handlers, type_: str) -> None:
        event = {"type": type_, "object": pipeline().raw()}
        assert not handlers.is_known(shell.pipelines, event)


class TestSettings:
    """Each setting prevents a fault that was observed."""

    @pytest.fixture
    def settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        handlers.configure(settings)
        return settings

    def test_kopf_does_not_post_events(self, settings: kopf.OperatorSettings) -> None:
        assert not settings.posting.enabled

    def test_foreign_peering_object_does_not_pause_the_operator(
        self, settings: kopf.OperatorSettings
    ) -> None:
        assert settings.peering.standalone

    def test_finalizers_of_other_kopf_operators_are_not_changed(
        self, settings: kopf.OperatorSettings
    ) -> None:
        assert settings.persistence.finalizer.startswith(names.GROUP)

    def test_crds_are_not_watched(self, settings: kopf.OperatorSettings) -> None:
        assert settings.scanning.disabled

    def test_silent_watch_is_ended(self, settings: kopf.OperatorSettings) -> None:
        server, client = settings.watching.server_timeout, settings.watching.client_timeout
        assert server is not None
        assert client is not None
        assert server < client < 600, "the server ends a watch first, and the client if it cannot"

    def test_lists_are_requested_in_pages(self, settings: kopf.OperatorSettings) -> None:
        assert settings.watching.chunk_size

    def test_idle_workers_end_soon(self, settings: kopf.OperatorSettings) -> None:
        assert settings.queueing.idle_timeout <= 0.1
        assert settings.queueing.worker_limit is None

    def test_outage_is_retried_without_limit(self, settings: kopf.OperatorSettings) -> None:
        backoffs = settings.networking.error_backoffs
        assert isinstance(backoffs, Iterable)
        for _ in range(2):  # for each request
            delays = list(itertools.islice(backoffs, 1000))
            assert delays[0] == 1
            assert max(delays) == delays[-1] == 30

    def test_hanging_shutdown_is_limited(self, settings: kopf.OperatorSettings) -> None:
        timeout = settings.process.ultimate_exiting_timeout
        assert timeout is not None
        assert timeout <= 30, "longer than a Pod's default grace period"

    def test_storages_neither_copy_nor_write(self, settings: kopf.OperatorSettings) -> None:
        essence = kopf.BodyEssence()
        progress = settings.persistence.progress_storage
        diffbase = settings.persistence.diffbase_storage
        assert progress.clear(essence=essence) is essence
        assert diffbase.fetch(body=kopf.Body(essence)) is None
        assert not diffbase.build(body=kopf.Body(essence))
