"""Requests to the API server, sent to a local HTTP server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import kmock as mock
import pytest
import yaml
from kubernetes.aio import client

from initpipeline import __version__
from initpipeline.core.facts import COMPACT
from initpipeline.runtime.client import (
    JSON,
    MERGE_PATCH,
    ApiClient,
    load_configuration,
    whole_seconds,
)
from initpipeline.runtime.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    ConnectionFailed,
    LoginError,
    NotFoundError,
)

NOWHERE = "http://127.0.0.1:1"
TOKEN = "BearerToken"


async def unguarded(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    return await handler(request)


def configuration(server: str, token: str | None = None) -> client.Configuration:
    made = client.Configuration(host=server)
    if token:
        made.api_key[TOKEN] = f"Bearer {token}"
    return made


def only(server: mock.RawHandler) -> mock.Request:
    """Returns the only request that the server received."""
    [request] = server
    return request


@pytest.fixture
def server(kmock: mock.RawHandler) -> str:
    """Returns the address of the mock of an API server."""
    return str(kmock.url).rstrip("/")


@pytest.fixture
async def api(server: str) -> AsyncIterator[ApiClient]:
    async with ApiClient(configuration(server), timeout_seconds=5) as api:
        yield api


def event(version: int) -> bytes:
    """Returns a line of a watch."""
    raw = {"type": "ADDED", "object": {"metadata": {"resourceVersion": str(version)}}}
    return json.dumps(raw).encode()


class TestWatch:
    """A watch: a response of many lines."""

    async def read(self, api: ApiClient) -> list[Any]:
        return [document async for document in api.watch("/things?watch=1", "application/json", 9)]

    async def test_each_line_is_parsed_as_a_document(
        self, api: ApiClient, kmock: mock.RawHandler
    ) -> None:
        kmock["get /things"] << event(1) + b"\n\n" + event(2)
        assert await self.read(api) == [json.loads(event(1)), json.loads(event(2))]

    async def test_watch_request_has_its_headers(
        self, api: ApiClient, kmock: mock.RawHandler
    ) -> None:
        kmock["get /things"] << b""
        assert await self.read(api) == []
        assert only(kmock).headers["Accept"] == "application/json"
        assert only(kmock).headers["User-Agent"] == f"initpipeline/{__version__}"

    async def test_line_of_a_megabyte_is_parsed(
        self, api: ApiClient, kmock: mock.RawHandler
    ) -> None:
        large = json.loads(event(1))
        large["object"]["a"] = "x" * 1_000_000
        kmock["get /things"] << json.dumps(large).encode() + b"\n" + event(2)
        assert await self.read(api) == [large, json.loads(event(2))]

    async def test_an_error_has_code_and_status(
        self, api: ApiClient, kmock: mock.RawHandler
    ) -> None:
        kmock["get /things"] << 410 << {"kind": "Status", "message": "too old"}
        with pytest.raises(ApiError) as raised:
            await self.read(api)
        assert str(raised.value) == "410: too old"

    @pytest.mark.parametrize("line", [b"<html>log in</html>", b"{}", b'{"type":"ADDED"}'])
    async def test_line_without_an_event_is_a_failed_connection(
        self, api: ApiClient, kmock: mock.RawHandler, line: bytes
    ) -> None:
        kmock["get /things"] << line + b"\n"
        with pytest.raises(ConnectionFailed):
            await self.read(api)

    async def test_error_event_has_code_and_status(
        self, api: ApiClient, kmock: mock.RawHandler
    ) -> None:
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        kmock["get /things"] << (json.loads(event(1)), {"type": "ERROR", "object": status})
        received = api.watch("/things?watch=1", JSON, 9)
        assert await anext(received) == json.loads(event(1))
        with pytest.raises(ApiError, match="410: too old") as raised:
            await anext(received)
        assert (raised.value.code, raised.value.status["reason"]) == (410, "Expired")

    @pytest.mark.parametrize(
        ("header", "seconds"), [("7", 7), ("", 0), ("-1", 0), ("Thu, 26 Nov 2026", 0), ("9" * 9, 0)]
    )
    async def test_error_has_the_delay_that_the_api_server_requests(
        self, api: ApiClient, kmock: mock.RawHandler, header: str, seconds: int
    ) -> None:
        kmock["get /things"] << 429 << mock.headers({"Retry-After": header})
        for request in (self.read(api), api.page("/things?limit=5")):
            with pytest.raises(ApiError) as raised:
                await request
            assert raised.value.retry_seconds == seconds

    async def test_line_of_ten_thousand_levels_is_parsed(
        self, api: ApiClient, kmock: mock.RawHandler
    ) -> None:
        """Users can write such managedFields."""
        deep = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
        line = event(1).replace(b'"metadata": {', b'"metadata": {"managedFields":' + deep + b",")
        kmock["get /things"] << line + b"\n" + event(2)
        first, second = await self.read(api)
        assert (first["type"], second) == ("ADDED", json.loads(event(2)))

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param([event(1) + b"\n"], id="between two lines"),
            pytest.param([event(1) + b'\n{"b', b'":'], id="in the middle of a line"),
        ],
    )
    async def test_cut_connection_ends_the_watch_after_the_last_whole_line(
        self, sent: list[bytes]
    ) -> None:
        """The caller resumes it, as it does after the API server has ended it."""

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for part in sent:
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
            writer.transport.abort()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            async with ApiClient(configuration(f"http://127.0.0.1:{port}"), 5) as api:
                assert await self.read(api) == [json.loads(event(1))]

    async def test_silent_connection_ends_the_watch(
        self, server: str, kmock: mock.RawHandler
    ) -> None:
        """Later than the API server would have ended it. The event arrives before, on a busy
        machine as well."""
        kmock["get /things"] << (event(1) + b"\n", ...)
        async with ApiClient(configuration(server), timeout_seconds=1) as api:
            found = [document async for document in api.watch("/things?watch=1", JSON, 0)]
        assert found == [json.loads(event(1))]

    async def test_watch_that_is_closed_closes_its_connection(self) -> None:
        closed = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = event(1) + b"\n"
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            while await reader.read(1000):
                pass
            closed.set()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            async with ApiClient(configuration(f"http://127.0.0.1:{port}"), 5) as api:
                received = api.watch("/things?watch=1", JSON, 300)
                assert await anext(received) == json.loads(event(1))
                await received.aclose()
                async with asyncio.timeout(5):
                    await closed.wait()

    async def test_refused_connection_is_a_failed_connection(self) -> None:
        async with ApiClient(configuration(NOWHERE), timeout_seconds=5) as api:
            with pytest.raises(ConnectionFailed):
                await self.read(api)

    async def test_watch_has_the_token(self, server: str, kmock: mock.RawHandler) -> None:
        kmock["get /things"] << b""
        async with ApiClient(configuration(server, "secret"), timeout_seconds=5) as api:
            assert await self.read(api) == []
        assert only(kmock).headers["Authorization"] == "Bearer secret"


class TestAnswer:
    async def test_json_response_is_returned(self, api: ApiClient, kmock: mock.RawHandler) -> None:
        kmock["get /thing"] << {"a": [1]}
        assert await api.request("GET", "/thing") == {"a": [1]}

    async def test_empty_response_is_a_failed_connection(
        self, api: ApiClient, kmock: mock.RawHandler
    ) -> None:
        kmock["delete /thing"] << b""
        with pytest.raises(ConnectionFailed, match="empty"):
            await api.request("DELETE", "/thing")

    @pytest.mark.parametrize("body", [b"{}", b"[]", b'{"metadata":{}}', b"1"])
    async def test_page_without_a_version_is_a_failed_connection(
        self, api: ApiClient, kmock: mock.RawHandler, body: bytes
    ) -> None:
        kmock["get /things"] << body
        with pytest.raises(ConnectionFailed):
            await api.page("/things?limit=5")

    @pytest.mark.parametrize(
        ("code", "reason", "error"),
        [
            pytest.param(404, "NotFound", NotFoundError, id="not found"),
            pytest.param(409, "Conflict", ConflictError, id="conflict"),
            pytest.param(409, "AlreadyExists", AlreadyExistsError, id="already exists"),
            pytest.param(400, "BadRequest", ApiError, id="bad request"),
            pytest.param(401, "Unauthorized", ApiError, id="unauthorized"),
            pytest.param(403, "Forbidden", ApiError, id="forbidden"),
            pytest.param(422, "Invalid", ApiError, id="invalid"),
            pytest.param(429, "TooManyRequests", ApiError, id="too many requests"),
            pytest.param(500, "InternalError", ApiError, id="internal error"),
            pytest.param(504, "Timeout", ApiError, id="the server's timeout"),
        ],
    )
    async def test_an_error_has_code_and_status(
        self,
        api: ApiClient,
        kmock: mock.RawHandler,
        code: int,
        reason: str,
        error: type[ApiError],
    ) -> None:
        kmock["get /thing"] << code << {"kind": "Status", "reason": reason, "message": "no"}
        with pytest.raises(ApiError) as raised:
            await api.request("GET", "/thing")
        assert type(raised.value) is error
        assert (raised.value.code, raised.value.status["reason"]) == (code, reason)
        assert str(raised.value) == f"{code}: no"

    @pytest.mark.parametrize(
        ("code", "body", "message"),
        [
            pytest.param(
                502, b"<html>\nbad gateway</html>", "502: <html> bad gateway</html>", id="page"
            ),
            pytest.param(503, b"", "503: no message", id="nothing"),
            pytest.param(500, b'"oops"', "500: oops", id="JSON that is not an object"),
            pytest.param(500, b"\xff\xfe", "500: \ufffd\ufffd", id="bytes that are not text"),
        ],
    )
    async def test_error_of_a_proxy_is_reported_in_one_line(
        self, api: ApiClient, kmock: mock.RawHandler, code: int, body: bytes, message: str
    ) -> None:
        kmock["get /thing"] << code << body
        with pytest.raises(ApiError) as raised:
            await api.request("GET", "/thing")
        assert str(raised.value) == message

    @pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", b'"ok"'])
    async def test_success_that_is_not_from_an_api_server_is_a_failed_connection(
        self, api: ApiClient, kmock: mock.RawHandler, body: bytes
    ) -> None:
        kmock["get /thing"] << body
        with pytest.raises(ConnectionFailed, match="not from an API server"):
            await api.request("GET", "/thing")


class TestNoAnswer:
    async def test_refused_connection_is_reported(self) -> None:
        async with ApiClient(configuration(NOWHERE), 5) as api:
            with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1"):
                await api.request("GET", "/thing")

    async def test_time_out_raises_connection_failed(
        self, server: str, kmock: mock.RawHandler
    ) -> None:
        never = asyncio.Event()
        kmock["get /thing"] << never.wait
        async with ApiClient(configuration(server), timeout_seconds=0.05) as api:
            with pytest.raises(ConnectionFailed):
                await api.request("GET", "/thing")
        never.set()

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(b"", id="closes the connection"),
            pytest.param(b"SSH-2.0-OpenSSH\r\n", id="another protocol"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", id="ends early"),
        ],
    )
    async def test_broken_response_is_reported(self, sent: bytes) -> None:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(sent)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            async with ApiClient(configuration(f"http://127.0.0.1:{port}"), 5) as api:
                with pytest.raises(ConnectionFailed):
                    await api.request("GET", "/thing")

    async def test_server_without_tls_is_reported(self, server: str) -> None:
        secure = server.replace("http://", "https://")
        async with ApiClient(configuration(secure), 5) as api:
            with pytest.raises(ConnectionFailed):
                await api.request("GET", "/thing")

    async def test_invalid_address_is_reported(self) -> None:
        async with ApiClient(configuration("nonsense"), 5) as api:
            with pytest.raises(ConnectionFailed):
                await api.request("GET", "/thing")

    async def test_watch_without_readable_credentials_is_a_connection_error(
        self, server: str
    ) -> None:
        """Kopf retries only connection errors."""

        def unreadable(_: object) -> None:
            raise OSError("no token file")

        made = configuration(server)
        made.refresh_api_key_hook = unreadable
        async with (
            ApiClient(made, 5) as api,
            api.for_watches(unguarded).aiohttp_session as session,
        ):
            with pytest.raises(aiohttp.ClientConnectionError, match="no token file"):
                await session.get(f"{server}/thing")

    async def test_unreadable_credentials_are_reported(self, server: str) -> None:
        def unreadable(_: object) -> None:
            raise OSError("no token file")

        made = configuration(server)
        made.refresh_api_key_hook = unreadable
        async with ApiClient(made, 5) as api:
            with pytest.raises(ConnectionFailed, match="no token file"):
                await api.request("GET", "/thing")


class TestRequest:
    async def test_request_has_the_user_agent(self, api: ApiClient, kmock: mock.RawHandler) -> None:
        kmock["get /thing"] << {}
        await api.request("GET", "/thing")
        assert only(kmock).headers["User-Agent"] == f"initpipeline/{__version__}"

    async def test_large_answer_is_compacted(self, api: ApiClient, kmock: mock.RawHandler) -> None:
        """In a thread: as Python values an object takes ten times the memory of its JSON."""
        template = {"spec": {"containers": [{"name": "app", "args": ["x"] * 100_000}]}}
        kmock["get /thing"] << {"metadata": {"name": "demo"}, "spec": {"template": template}}
        found = await api.request("GET", "/thing")
        assert found["spec"]["template"] is None
        assert len(found[COMPACT]["template"]) < 10_000

    async def test_request_has_a_body_of_its_content_type(
        self, api: ApiClient, kmock: mock.RawHandler
    ) -> None:
        kmock["patch /thing"] << {}
        await api.request("PATCH", "/thing", {"a": None}, MERGE_PATCH)
        assert only(kmock).headers["Content-Type"] == MERGE_PATCH
        assert json.loads(only(kmock).body) == {"a": None}

    async def test_request_has_its_accept_header(
        self, api: ApiClient, kmock: mock.RawHandler
    ) -> None:
        kmock["get /thing"] << {}
        await api.request("GET", "/thing", accept="application/json;as=Table")
        assert only(kmock).headers["Accept"] == "application/json;as=Table"

    @pytest.mark.parametrize(
        ("token", "sent"),
        [
            pytest.param("Bearer abc", "Bearer abc", id="token"),
            pytest.param("Bearer abc\n", "Bearer abc", id="token of a file with a final newline"),
            pytest.param("Basic dTpw", "Basic dTpw", id="name and password"),
            pytest.param(None, None, id="none"),
        ],
    )
    async def test_request_has_the_credentials(
        self, server: str, kmock: mock.RawHandler, token: str | None, sent: str | None
    ) -> None:
        kmock["get /thing"] << {}
        made = configuration(server)
        if token:
            made.api_key[TOKEN] = token
        async with ApiClient(made, 5) as api:
            await api.request("GET", "/thing")
        assert only(kmock).headers.get("Authorization") == sent

    async def test_token_is_read_for_each_request(
        self, server: str, kmock: mock.RawHandler
    ) -> None:
        """Tokens of service accounts are replaced while the process runs."""
        kmock["get /thing"] << {}
        tokens = iter(["one", "two"])

        def refresh(made: client.Configuration) -> None:
            made.api_key[TOKEN] = f"Bearer {next(tokens)}"

        made = configuration(server)
        made.refresh_api_key_hook = refresh
        async with ApiClient(made, 5) as api:
            await api.request("GET", "/thing")
            await api.request("GET", "/thing")
        sent = [request.headers["Authorization"] for request in kmock]
        assert sent == ["Bearer one", "Bearer two"]


class TestExpiredCredentials:
    """The server accepts only the token "new"."""

    @pytest.fixture(autouse=True)
    def guarded(self, kmock: mock.RawHandler) -> None:
        status = {"reason": "Unauthorized", "message": "Unauthorized"}
        kmock["get /thing", mock.headers({"Authorization": "Bearer new"})] << {"ok": True}
        kmock["get /thing"] << 401 << status

    @staticmethod
    def login(server: str, token: str | None) -> tuple[Callable[[], Awaitable[Any]], list[None]]:
        times: list[None] = []

        async def load() -> client.Configuration:
            times.append(None)
            if token is None:
                raise LoginError("no kubeconfig any more")
            return configuration(server, token)

        return load, times

    async def test_refused_request_is_repeated_after_a_new_login(self, server: str) -> None:
        login, _ = self.login(server, "new")
        async with ApiClient(configuration(server, "old"), 5, login) as api:
            assert await api.request("GET", "/thing") == {"ok": True}

    async def test_request_with_a_deadline_is_not_repeated_after_it(
        self, server: str, kmock: mock.RawHandler
    ) -> None:
        """The login took the time. The API server would end the request after the deadline."""
        login, _ = self.login(server, "new")

        async def slow() -> client.Configuration:
            await asyncio.sleep(0.95)
            return await login()

        async with ApiClient(configuration(server, "old"), 5, slow) as api:
            with pytest.raises(ConnectionFailed, match="no time is left"):
                await api.request("GET", "/thing", left=lambda: 1.9)
        assert len(kmock) == 1

    async def test_pause_while_the_deadline_is_read_counts(
        self, monkeypatch: pytest.MonkeyPatch, server: str, kmock: mock.RawHandler
    ) -> None:
        """A process that is paused right before it sends a write sends nothing afterwards."""
        loop, paused = asyncio.get_running_loop(), 0.0
        time = loop.time

        def left() -> float:
            nonlocal paused
            paused = 60.0
            return 11.5

        monkeypatch.setattr(loop, "time", lambda: time() + paused)
        async with ApiClient(configuration(server), 5) as api:
            with pytest.raises(ConnectionFailed):
                await api.request("POST", "/thing", left=left)
        assert len(kmock) == 0

    async def test_login_ends_with_the_deadline_of_the_request(self, server: str) -> None:
        async def stuck() -> client.Configuration:
            return await asyncio.get_running_loop().create_future()

        async with ApiClient(configuration(server, "old"), 5, stuck) as api:
            async with asyncio.timeout(10):
                with pytest.raises(ConnectionFailed):
                    await api.request("GET", "/thing", left=lambda: 1.0)

    @pytest.mark.parametrize(("seconds", "sent"), [(1.9, "1s"), (12.9, "12s")])
    async def test_deadline_is_sent_in_whole_seconds(
        self, server: str, kmock: mock.RawHandler, seconds: float, sent: str
    ) -> None:
        async with ApiClient(configuration(server, "new"), 5) as api:
            await api.request("GET", "/thing?a=b", left=lambda: seconds)
        assert dict(only(kmock).params) == {"a": "b", "timeout": sent}

    @pytest.mark.parametrize(("left", "sent"), [(13.0, 13), (12.995, 13), (12.98, 12), (0.98, 0)])
    def test_timeout_of_the_server_is_rounded_down(self, left: float, sent: int) -> None:
        assert whole_seconds(left) == sent

    async def test_one_login_serves_all_requests(self, server: str) -> None:
        login, times = self.login(server, "new")
        async with ApiClient(configuration(server, "old"), 5, login) as api:
            await api.request("GET", "/thing")
            await asyncio.gather(*(api.request("GET", "/thing") for _ in range(5)))
        assert len(times) == 1

    @pytest.mark.parametrize(("token", "code"), [("new", 200), ("old", 401), (None, 401)], ids=str)
    async def test_refused_watch_is_repeated_after_a_new_login(
        self, server: str, token: str | None, code: int
    ) -> None:
        """Kopf gets a session that never has to be replaced."""
        login, _ = self.login(server, token)
        async with ApiClient(configuration(server, "old"), 5, login) as api:
            session = api.for_watches(unguarded).aiohttp_session
            async with session, session.get(f"{server}/thing") as response:
                assert response.status == code

    async def test_watch_has_the_current_token(self, server: str) -> None:
        login, times = self.login(server, "new")
        async with ApiClient(configuration(server, "old"), 5, login) as api:
            await api.request("GET", "/thing")
            session = api.for_watches(unguarded).aiohttp_session
            async with session, session.get(f"{server}/thing") as response:
                assert response.status == 200
        assert len(times) == 1

    @pytest.mark.parametrize("token", ["old", None], ids=["the same again", "none"])
    async def test_failed_login_returns_the_error(self, server: str, token: str | None) -> None:
        login, _ = self.login(server, token)
        async with ApiClient(configuration(server, "old"), 5, login) as api:
            with pytest.raises(ApiError, match="401: Unauthorized"):
                await api.request("GET", "/thing")


def kubeconfig(**user: object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


class TestLogin:
    @pytest.fixture(autouse=True)
    def outside(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run outside of a Pod, and without a kubeconfig."""
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr("initpipeline.runtime.client.HOME_KUBECONFIG", "/nonexistent/config")

    @staticmethod
    def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object) -> Path:
        path = tmp_path / "kubeconfig"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        monkeypatch.setenv("KUBECONFIG", str(path))
        return path

    async def test_kubeconfig_is_loaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.write(tmp_path, monkeypatch, kubeconfig(token="abc"))
        made = await load_configuration()
        assert (made.host, made.api_key[TOKEN]) == ("https://api.example:6443", "Bearer abc")

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param("", id="empty"),
            pytest.param("[]", id="a list"),
            pytest.param("just text", id="text"),
            pytest.param("{", id="broken YAML"),
            pytest.param("\x00", id="bytes that are not text"),
            pytest.param({"kind": "Config"}, id="no current context"),
            pytest.param({**kubeconfig(), "current-context": "y"}, id="unknown context"),
            pytest.param({**kubeconfig(), "clusters": []}, id="unknown cluster"),
            pytest.param({**kubeconfig(), "clusters": "x"}, id="clusters of another type"),
            pytest.param(kubeconfig(**{"client-certificate": "absent"}), id="no certificate"),
            pytest.param(kubeconfig(**{"client-certificate-data": "x"}), id="broken base64"),
            pytest.param(kubeconfig(tokenFile="absent"), id="no token file"),
        ],
    )
    async def test_unusable_kubeconfig_is_reported_in_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
    ) -> None:
        self.write(tmp_path, monkeypatch, content)
        with pytest.raises(LoginError, match="set KUBECONFIG") as raised:
            await load_configuration()
        assert "\n" not in str(raised.value)

    async def test_missing_kubeconfig_is_reported_with_its_path(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("KUBECONFIG", raising=False)
        with pytest.raises(LoginError, match="/nonexistent/config"):
            await load_configuration()

    async def test_invalid_certificate_is_reported_in_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = {"client-certificate-data": "bm8=", "client-key-data": "bm8="}
        self.write(tmp_path, monkeypatch, kubeconfig(**data))
        with pytest.raises(LoginError, match="set KUBECONFIG") as raised:
            ApiClient(await load_configuration(), 5)
        assert "\n" not in str(raised.value)

    async def test_tls_server_name_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = kubeconfig(token="abc")
        content["clusters"][0]["cluster"]["tls-server-name"] = "other"
        self.write(tmp_path, monkeypatch, content)
        with pytest.raises(LoginError, match=r"tls-server-name .*: remove it"):
            await load_configuration()
