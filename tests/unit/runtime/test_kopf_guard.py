"""What Kopf gets when the API server or the connection fails."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import kmock as mock
import pytest
from kubernetes.aio import client

from initpipeline.runtime import probes, retries
from initpipeline.runtime.client import ApiClient
from initpipeline.runtime.errors import ConnectionFailed
from initpipeline.runtime.kopf_guard import KopfGuard, Watched
from initpipeline.runtime.probes import End, Freshness
from initpipeline.runtime.responses import LARGE
from initpipeline.runtime.selection import Selection

GONE = b'{"type":"ERROR","object":{"kind":"Status","code":410}}\n'
WATCH = "/things?watch=true&resourceVersion=7"
LIST = "/things?limit=500"


class Lists:
    """The lists of the test."""

    def __init__(self) -> None:
        self.begun = 0
        self.objects: list[Any] = []
        self.ended: list[str] = []

    def begin(self) -> None:
        self.begun += 1

    def handle(self, raw: dict[str, Any]) -> None:
        self.objects.append(raw)

    def end(self, version: str) -> None:
        self.ended.append(version)

    async def resume(self, version: str) -> None:
        """Check the version: a watch can continue from any but "future"."""
        if version == "future":
            raise ConnectionFailed("went back")


class Kopf:
    """A client like Kopf. The path /things is watched."""

    def __init__(self, session: aiohttp.ClientSession, server: str, selection: Selection) -> None:
        self._session, self._server, self.selection = session, server, selection
        self.lists = Lists()
        self.seconds = 0.0
        self.ends: list[str] = []
        self.freshness = Freshness("things", lambda: self.seconds, self.ends.append)
        self.freshness.listed()

    async def get(self, path: str) -> aiohttp.ClientResponse:
        return await self._session.get(self._server + path)

    async def watch(self) -> list[bytes]:
        """Returns the lines of a watch."""
        response = await self.get(WATCH)
        return [line async for line in response.content.iter_chunked(1024)]

    @property
    def fails(self) -> bool:
        """Whether the watch has failed, and has not worked since."""
        self.seconds += probes.REFUSED_SECONDS + 1
        return "has been failing for" in (self.freshness.problem() or "")


@pytest.fixture
async def kopf(kmock: mock.RawHandler, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kopf]:
    monkeypatch.setattr(retries, "RETRY_SECONDS", (0.01,))
    server = str(kmock.url).rstrip("/")

    def is_known(event: Any) -> bool:
        return bool(event["object"]["metadata"].get("known"))

    async with ApiClient(client.Configuration(host=server), 5) as api:
        watched: dict[str, Watched] = {}
        selection = Selection(["/things"])
        guard = KopfGuard(watched, is_known, selection)
        session = api.for_watches(guard).aiohttp_session
        async with session:
            kopf = Kopf(session, server, selection)
            watched["/things"] = Watched(kopf.freshness, kopf.lists)
            yield kopf


def event(type_: str, version: Any = "1", **metadata: Any) -> bytes:
    metadata = {"resourceVersion": version, **metadata}
    return json.dumps({"type": type_, "object": {"metadata": metadata}}).encode() + b"\n"


def error(code: int) -> bytes:
    return json.dumps({"type": "ERROR", "object": {"code": code}}).encode() + b"\n"


class TestSelection:
    """A replica with ``--shards`` selects the objects of its shards."""

    async def test_requests_have_the_selector(self, kopf: Kopf, kmock: mock.RawHandler) -> None:
        kmock["get /things"] << event("BOOKMARK")
        kopf.selection.change("bucket in (1)")
        await kopf.watch()
        await asyncio.wait_for(kopf.selection.wait(), 5)
        (request,) = kmock
        assert request.params["labelSelector"] == "bucket in (1)"

    async def test_change_cuts_the_watch(self, kopf: Kopf, kmock: mock.RawHandler) -> None:
        """Kopf opens it again, because its connection has failed."""
        kmock["get /things"] << (event("BOOKMARK"), ...)
        kopf.selection.change("bucket in (1)")
        watch = asyncio.create_task(kopf.watch())
        await asyncio.wait_for(kopf.selection.wait(), 5)
        kopf.selection.change("bucket in (1,2)")
        with pytest.raises(aiohttp.ClientConnectionError):
            await asyncio.wait_for(watch, 5)


class TestWatch:
    async def test_event_that_the_cache_has_is_left_out(
        self, kopf: Kopf, kmock: mock.RawHandler
    ) -> None:
        kept = [event("ADDED"), event("BOOKMARK")]
        kmock["get /things"] << kept[0] + event("MODIFIED", known=True) + b"\n" + kept[1]
        assert await kopf.watch() == kept

    async def test_event_ends_a_failure(self, kopf: Kopf, kmock: mock.RawHandler) -> None:
        kmock["get /things"] << event("BOOKMARK")
        kopf.freshness.failed(End.REFUSED)
        await kopf.watch()
        assert not kopf.fails

    @pytest.mark.parametrize("code", [0, 400, 410, 500])
    async def test_error_event_makes_kopf_list_again(
        self, kopf: Kopf, kmock: mock.RawHandler, code: int
    ) -> None:
        kmock["get /things"] << error(code)
        assert await kopf.watch() == [GONE]
        assert kopf.fails

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param(error(429), id="the API server is unavailable"),
            pytest.param(b"garbage\n", id="no JSON"),
            pytest.param(b"x" * LARGE + b"xx\n", id="large and no JSON"),
            pytest.param(b'{"type":"ADDED","obj', id="part of an event"),
            pytest.param(b"{}\n", id="no type"),
            pytest.param(b"[]\n", id="no object"),
            pytest.param(b'{"type":"ADDED","object":{}}\n', id="no metadata"),
            pytest.param(b'{"type":"ERROR","object":1}\n', id="no status"),
            pytest.param(event("ADDED", "x"), id="no resource version"),
        ],
    )
    async def test_watch_ends_and_continues_from_the_last_event(
        self, kopf: Kopf, kmock: mock.RawHandler, line: bytes
    ) -> None:
        """Kopf does that after an error of the body."""
        kmock["get /things"] << line
        with pytest.raises(aiohttp.ClientPayloadError):
            await kopf.watch()
        assert kopf.fails

    @pytest.mark.parametrize("code", [400, 404, 410, 500])
    async def test_refused_watch_makes_kopf_list_again(
        self, kopf: Kopf, kmock: mock.RawHandler, code: int
    ) -> None:
        kmock["get /things"] << code
        assert await kopf.watch() == [GONE]
        assert kopf.fails

    async def test_watches_that_end_at_once_are_delayed(
        self, kopf: Kopf, kmock: mock.RawHandler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kmock["get /things"] << b""
        delays: list[float] = []

        async def record(seconds: float) -> None:
            delays.append(seconds)

        monkeypatch.setattr(retries, "RETRY_SECONDS", (1, 2))
        monkeypatch.setattr(asyncio, "sleep", record)
        for _ in range(4):
            await kopf.watch()
        assert [delay for delay in delays if delay] == [1, 2, 2]


class TestCause:
    """Why a watch must be opened again."""

    @pytest.mark.parametrize(
        ("line", "cause"),
        [
            pytest.param(event("ADDED"), End.ENDED, id="the API server ends it"),
            pytest.param(error(410), End.GONE, id="410"),
            pytest.param(error(500), End.REFUSED, id="500"),
            pytest.param(error(504), End.REFUSED, id="504"),
            pytest.param(b"garbage\n", End.UNREADABLE, id="no event"),
        ],
    )
    async def test_end_of_an_open_watch_is_counted_once(
        self, kopf: Kopf, kmock: mock.RawHandler, line: bytes, cause: str
    ) -> None:
        kmock["get /things"] << line
        for _ in range(2):
            with contextlib.suppress(aiohttp.ClientPayloadError):
                await kopf.watch()
        assert kopf.ends[0] == cause
        assert len(kopf.ends) == (1 if cause is End.ENDED else 2)

    @pytest.mark.parametrize(
        ("code", "cause"), [(410, End.GONE), (403, End.REFUSED), (503, End.REFUSED)]
    )
    async def test_refused_watch_is_counted(
        self, kopf: Kopf, kmock: mock.RawHandler, code: int, cause: str
    ) -> None:
        kmock["get /things"] << code
        with contextlib.suppress(aiohttp.ClientConnectionError):
            await kopf.watch()
        assert kopf.ends == [cause]

    async def test_response_without_a_list_is_unanswered(
        self, kopf: Kopf, kmock: mock.RawHandler
    ) -> None:
        kmock["get /things"] << b"<html>"
        with pytest.raises(aiohttp.ClientConnectionError):
            await kopf.get(LIST)
        assert kopf.ends == [End.UNANSWERED]

    async def test_watch_that_is_cut_for_another_selection_is_resharded(
        self, kopf: Kopf, kmock: mock.RawHandler
    ) -> None:
        kmock["get /things"] << (event("BOOKMARK"), ...)
        async with await kopf.get(WATCH):
            kopf.selection.change("bucket in (1)")
        async with await kopf.get(WATCH):
            assert kopf.ends == [End.RESHARDED]


class TestRequest:
    @pytest.mark.parametrize("path", [WATCH, LIST])
    @pytest.mark.parametrize("code", [429, 503, 504])
    async def test_unavailable_api_server_is_a_failed_connection(
        self, kopf: Kopf, kmock: mock.RawHandler, path: str, code: int
    ) -> None:
        """Kopf repeats the request."""
        kmock["get /things"] << code << {"message": "too busy"}
        with pytest.raises(aiohttp.ClientConnectionError, match=f"{code}: .*too busy"):
            await kopf.get(path)
        assert kopf.fails

    @pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 500])
    async def test_refused_list_is_a_failed_connection(
        self, kopf: Kopf, kmock: mock.RawHandler, code: int
    ) -> None:
        kmock["get /things"] << code << {"message": "no"}
        with pytest.raises(aiohttp.ClientConnectionError, match=f"{code}: .*no"):
            await kopf.get(LIST)
        assert kopf.fails

    async def test_refused_credentials_of_other_requests_are_a_failed_connection(
        self, kopf: Kopf, kmock: mock.RawHandler
    ) -> None:
        """Kopf would ask for a login otherwise, and end without one."""
        kmock["get /other"] << 401
        with pytest.raises(aiohttp.ClientConnectionError, match="401"):
            await kopf.get("/other")

    async def test_watch_that_cannot_continue_is_not_opened(
        self, kopf: Kopf, kmock: mock.RawHandler
    ) -> None:
        with pytest.raises(aiohttp.ClientConnectionError, match="went back"):
            await kopf.get("/things?watch=true&resourceVersion=future")
        assert not list(kmock)

    async def test_expired_page_makes_kopf_start_the_list_again(
        self, kopf: Kopf, kmock: mock.RawHandler
    ) -> None:
        kmock["get /things"] << 410 << {"message": "expired"}
        with pytest.raises(aiohttp.ClientPayloadError, match="410"):
            await kopf.get(f"{LIST}&continue=token")

    @pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"metadata":{}}', b'{"metad'])
    async def test_response_without_a_list_is_a_failed_connection(
        self, kopf: Kopf, kmock: mock.RawHandler, body: bytes
    ) -> None:
        kmock["get /things"] << body
        with pytest.raises(aiohttp.ClientConnectionError):
            await kopf.get(LIST)
        assert kopf.fails
        assert kopf.lists.ended == []

    async def test_wait_that_the_api_server_requests_is_limited(
        self, kopf: Kopf, kmock: mock.RawHandler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        delays: list[float] = []

        async def record(seconds: float) -> None:
            delays.append(seconds)

        monkeypatch.setattr(retries, "RETRY_SECONDS", (1, 30))
        kmock["get /things"] << 429 << {"Retry-After": "9999"}
        monkeypatch.setattr(asyncio, "sleep", record)
        with pytest.raises(aiohttp.ClientConnectionError):
            await kopf.get(LIST)
        assert 30 in delays


class TestList:
    @pytest.mark.parametrize("size", [1, LARGE], ids=["small", "large: parsed in a thread"])
    async def test_objects_are_passed_on_without_kopf(
        self, kopf: Kopf, kmock: mock.RawHandler, size: int
    ) -> None:
        page = {"metadata": {"resourceVersion": "7"}, "items": [{"a": 1}, {"b": "x" * size}]}
        kmock["get /things"] << page
        response = await kopf.get(LIST)
        assert await response.json() == {**page, "items": []}
        assert kopf.lists.objects == page["items"]
        assert kopf.lists.ended == ["7"]

    async def test_list_ends_with_its_last_page(self, kopf: Kopf, kmock: mock.RawHandler) -> None:
        metadata = {"resourceVersion": "7", "continue": "token"}
        kmock["get /things"] << {"metadata": metadata, "items": None}
        await kopf.get(LIST)
        await kopf.get(f"{LIST}&continue=token")
        assert (kopf.lists.begun, kopf.lists.ended) == (1, [])

    async def test_other_document_is_unchanged(self, kopf: Kopf, kmock: mock.RawHandler) -> None:
        kmock["get /thing"] << {"items": [1]}
        response = await kopf.get("/thing")
        assert await response.json() == {"items": [1]}
        assert kopf.lists.objects == []


async def test_task_that_has_lost_its_cancellation_ends_with_the_next_request(kopf: Kopf) -> None:
    """Kopf does so if it is cancelled while it closes a watch."""

    async def loses_the_cancellation() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Future()
        await kopf.get(LIST)

    task = asyncio.create_task(loses_the_cancellation())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kopf.lists.begun == 0
