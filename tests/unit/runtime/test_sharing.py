"""A replica with ``--shards``: its watch of InitPipelines, and the list of a shard."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, cast

import aiohttp
import pytest
from yarl import URL

from initpipeline.api.raw import Raw
from initpipeline.runtime.buckets import selector
from initpipeline.runtime.errors import ConnectionFailed
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.selection import Selection
from initpipeline.runtime.settings import Settings
from initpipeline.runtime.share import Share
from tests.builders import pipeline
from tests.unit.runtime.clock import Clock

PATH: Final = "/apis/initpipeline.dev/v1alpha1/initpipelines"


class Watch:
    """An open watch of Kopf, and its request."""

    def __init__(self, selector: str, path: str = PATH) -> None:
        self.url = URL(f"http://api{path}").with_query(watch="true", labelSelector=selector)
        self.closed = False

    def close(self) -> None:
        self.closed = True


class TestSelection:
    @pytest.fixture
    def selection(self) -> Selection:
        return Selection([PATH])

    @staticmethod
    def opened(selection: Selection, selector: str, path: str = PATH) -> Watch:
        watch = Watch(selector, path)
        request = cast(aiohttp.ClientRequest, watch)
        selection.opened(request, cast(aiohttp.ClientResponse, watch))
        return watch

    @staticmethod
    async def is_open(selection: Selection) -> bool:
        """Returns whether the watches have the present selector."""
        waiting = asyncio.create_task(selection.wait())
        await asyncio.sleep(0)
        return waiting.done() or not waiting.cancel()

    def test_requests_get_the_present_selector(self, selection: Selection) -> None:
        for one in ("", "bucket in (1)", "bucket in (1,2)"):
            selection.change(one)
            request = Watch("")
            selection.apply(cast(aiohttp.ClientRequest, request))
            assert request.url.query["labelSelector"] == one

    def test_list_of_nothing_is_that_of_the_cache(self, selection: Selection) -> None:
        """For another list the API server may read and decode all objects."""
        selection.change(selector([], 4))
        request = Watch("")
        request.url = request.url.with_query(limit="500")
        selection.apply(cast(aiohttp.ClientRequest, request))
        assert request.url.query["resourceVersion"] == "0"
        selection.change(selector([1], 4))
        request.url = request.url.with_query(limit="500")
        selection.apply(cast(aiohttp.ClientRequest, request))
        assert "resourceVersion" not in request.url.query

    async def test_change_cuts_the_watch_and_waits_for_the_next(self, selection: Selection) -> None:
        selection.change("bucket in (1)")
        first = self.opened(selection, "bucket in (1)")
        assert await self.is_open(selection)
        assert not selection.was_cut(PATH)
        selection.change("bucket in (1,2)")
        assert first.closed
        assert not await self.is_open(selection)
        assert [selection.was_cut(PATH), selection.was_cut(PATH)] == [True, False]
        second = self.opened(selection, "bucket in (1,2)")
        assert not second.closed
        assert await self.is_open(selection)

    async def test_watch_requested_before_the_change_is_cut(self, selection: Selection) -> None:
        selection.change("bucket in (1)")
        assert self.opened(selection, "").closed
        assert not await self.is_open(selection)

    async def test_each_namespace_must_be_watched(self) -> None:
        selection = Selection([PATH, "/other"])
        selection.change("x")
        self.opened(selection, "x")
        assert not await self.is_open(selection)
        self.opened(selection, "x", "/other")
        assert await self.is_open(selection)


class Pages(Gateway):
    """Lists pipelines, each in a page of its own."""

    def __init__(self, raws: list[Raw]) -> None:
        self.raws = raws
        self.failing = 0
        """The number of lists that fail after their first page."""
        self.next_page = asyncio.Semaphore(100)
        """A test can hold back the next page."""

    async def list_pipelines(self, namespace: str | None) -> AsyncIterator[Raw]:
        assert namespace is None
        for number, raw in enumerate(self.raws):
            await self.next_page.acquire()
            if number and self.failing:
                self.failing -= 1
                raise ConnectionFailed("reset")
            yield {"metadata": {"resourceVersion": "50"}, "items": [raw]}


def named(name: str, version: int = 1) -> Raw:
    raw = pipeline().raw()
    raw["metadata"] |= {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return raw


class TestList:
    """A shard is listed while its watch is already open."""

    @pytest.fixture
    def gateway(self) -> Pages:
        return Pages([named("a"), named("b"), named("c")])

    @pytest.fixture
    def share(self, gateway: Pages, clock: Clock) -> Share:
        def failed(error: Exception) -> None:
            raise error

        settings = Settings.model_construct(workers=1)
        return Share(settings, 1, gateway, lambda: True, failed, clock)

    @staticmethod
    def stored(share: Share) -> set[str]:
        return {key.name for key in share._pipelines.all_keys()}

    async def test_all_are_stored_and_queued(self, share: Share) -> None:
        await share.list_pipelines()
        assert self.stored(share) == {"a", "b", "c"}
        queued = set()
        for _ in range(3):
            key = await share.queue.get()
            queued.add(key.name)
            share.queue.done(key)
        assert queued == {"a", "b", "c"}

    async def test_deletion_during_the_list_is_kept(self, share: Share, gateway: Pages) -> None:
        """The list is of an older version than the event."""
        gateway.next_page = asyncio.Semaphore(1)
        listing = asyncio.create_task(share.list_pipelines())
        while self.stored(share) != {"a"}:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for name in ("a", "c"):
            share.handle({"type": "DELETED", "object": named(name, 60)})
        for _ in gateway.raws:
            gateway.next_page.release()
        await listing
        assert self.stored(share) == {"b"}

    async def test_failed_list_is_repeated(
        self, share: Share, gateway: Pages, clock: Clock
    ) -> None:
        gateway.failing = 1
        listing = asyncio.create_task(share.list_pipelines())
        for _ in range(5):
            await clock.advance(1)
        await listing
        assert self.stored(share) == {"a", "b", "c"}

    async def test_pipeline_of_another_shard_is_forgotten(self, share: Share) -> None:
        await share.list_pipelines()
        share.forget(named("b", 70))
        assert self.stored(share) == {"a", "c"}
