"""How the client reaches the API server: TLS, client certificates, proxies."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp.web
import kmock as mock
import pytest
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from initpipeline.runtime.client import BURST_IDLE_SECONDS, STEADY_CONNECTIONS, ApiClient
from initpipeline.runtime.errors import ApiError, ConnectionFailed
from tests.cluster.certificates import Authority

FAR = "http://api.example:6443"
"""An address that only a proxy can resolve."""


async def unguarded(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    return await handler(request)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxies of this machine from the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def proxy(kmock: mock.RawHandler) -> str:
    """Returns the address of a proxy that answers the requests itself."""
    kmock["get"] << {"from": "proxy"}
    return str(kmock.url).rstrip("/")


async def get(configuration: client.Configuration) -> object:
    async with ApiClient(configuration, timeout_seconds=5) as api:
        return await api.request("GET", "/thing")


class TestProxy:
    """A proxy between the operator and the API server."""

    async def test_proxy_of_the_environment_is_used(
        self, proxy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        assert await get(client.Configuration(host=FAR)) == {"from": "proxy"}

    async def test_proxy_of_the_kubeconfig_precedes_the_environment(
        self, proxy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        configuration = client.Configuration(host=FAR)
        configuration.proxy = proxy
        assert await get(configuration) == {"from": "proxy"}

    async def test_credentials_in_the_address_of_the_proxy_are_sent_to_it(
        self, proxy: str, kmock: mock.RawHandler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", proxy.replace("http://", "http://user:word@"))
        assert await get(client.Configuration(host=FAR)) == {"from": "proxy"}
        [request] = kmock
        assert request.headers["Proxy-Authorization"] == aiohttp.encode_basic_auth("user", "word")

    async def test_host_in_no_proxy_is_reached_directly(
        self, proxy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await get(client.Configuration(host=proxy)) == {"from": "proxy"}

    async def test_watches_of_kopf_use_the_proxy(
        self, proxy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        async with ApiClient(client.Configuration(host=FAR), timeout_seconds=5) as api:
            session = api.for_watches(unguarded).aiohttp_session
            async with session, session.get(f"{FAR}/thing") as response:
                assert await response.json() == {"from": "proxy"}


class TestThreads:
    """A thread for each request would cost more than the request."""

    async def test_small_request_uses_no_thread(
        self, proxy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with ApiClient(client.Configuration(host=proxy), timeout_seconds=5) as api:
            await api.request("GET", "/thing")  # The first one resolves the host in a thread.

            def refuse(*_: object) -> None:
                raise AssertionError("a request used a thread")

            monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
            assert await api.request("GET", "/thing") == {"from": "proxy"}


class _CountingServer:
    """A server that answers when as many requests wait as ``answer_at``."""

    def __init__(self) -> None:
        self.answer_at = 1
        self.open: set[asyncio.Transport] = set()
        self._waiting: list[asyncio.Event] = []

    async def handle(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        assert isinstance(request.transport, asyncio.Transport)
        self.open.add(request.transport)
        answered = asyncio.Event()
        self._waiting.append(answered)
        if len(self._waiting) >= self.answer_at:
            while self._waiting:
                self._waiting.pop().set()
        await answered.wait()
        return aiohttp.web.json_response({})

    def connections(self) -> int:
        self.open = {one for one in self.open if not one.is_closing()}
        return len(self.open)


class TestConnections:
    """Of the operator's own requests."""

    async def test_connections_of_a_burst_are_closed_although_requests_continue(self) -> None:
        server, burst = _CountingServer(), 5 * STEADY_CONNECTIONS
        application = aiohttp.web.Application()
        application.router.add_get("/thing", server.handle)
        async with (
            TestServer(application) as listening,
            ApiClient(client.Configuration(host=str(listening.make_url(""))), 30) as api,
        ):
            server.answer_at = burst
            await asyncio.gather(*(api.request("GET", "/thing") for _ in range(burst)))
            assert server.connections() == burst
            server.answer_at = 1
            end = asyncio.get_running_loop().time() + 10 * BURST_IDLE_SECONDS
            while server.connections() > STEADY_CONNECTIONS:
                assert asyncio.get_running_loop().time() < end, server.connections()
                for _ in range(STEADY_CONNECTIONS):
                    await api.request("GET", "/thing")
                await asyncio.sleep(BURST_IDLE_SECONDS / 10)


class TestClientCertificate:
    """The server accepts only the client certificate of the user "new"."""

    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        authority = Authority(tmp_path)
        authority.establish()
        return authority

    @pytest.fixture
    async def server(self, authority: Authority) -> AsyncIterator[str]:
        """Returns the address of a server that requires client certificates."""

        async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
            assert request.transport is not None
            certificate = request.transport.get_extra_info("peercert")
            user = dict(part[0] for part in certificate["subject"])["commonName"]
            return aiohttp.web.json_response({"user": user}, status=200 if user == "new" else 401)

        pair = authority.server("server", [IPv4Address("127.0.0.1")])
        tls = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=str(authority.pair.certificate)
        )
        tls.load_cert_chain(pair.certificate, pair.key)
        tls.verify_mode = ssl.CERT_REQUIRED
        application = aiohttp.web.Application()
        application.router.add_get("/thing", answer)
        runner = aiohttp.web.AppRunner(application)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()

    @staticmethod
    def configuration(server: str, authority: Authority, user: str) -> client.Configuration:
        pair = authority.client(user)
        configuration = client.Configuration(host=server)
        configuration.ssl_ca_cert = str(authority.pair.certificate)
        configuration.cert_file, configuration.key_file = str(pair.certificate), str(pair.key)
        return configuration

    def api(self, server: str, authority: Authority, user: str, next_user: str) -> ApiClient:
        async def login() -> client.Configuration:
            return self.configuration(server, authority, next_user)

        return ApiClient(self.configuration(server, authority, user), 5, login)

    async def test_certificate_is_presented(self, server: str, authority: Authority) -> None:
        async with self.api(server, authority, "new", "old") as api:
            assert await api.request("GET", "/thing") == {"user": "new"}

    async def test_refused_request_is_repeated_with_a_renewed_certificate(
        self, server: str, authority: Authority
    ) -> None:
        async with self.api(server, authority, "old", "new") as api:
            assert await api.request("GET", "/thing") == {"user": "new"}

    async def test_refused_watch_of_kopf_is_repeated_with_a_renewed_certificate(
        self, server: str, authority: Authority
    ) -> None:
        async with self.api(server, authority, "old", "new") as api:
            session = api.for_watches(unguarded).aiohttp_session
            async with session, session.get(f"{server}/thing") as response:
                assert await response.json() == {"user": "new"}

    async def test_requests_on_many_connections_get_the_renewed_certificate(
        self, server: str, authority: Authority
    ) -> None:
        async with self.api(server, authority, "old", "new") as api:
            answers = await asyncio.gather(*(api.request("GET", "/thing") for _ in range(20)))
        assert answers == [{"user": "new"}] * 20

    async def test_refused_certificate_is_an_error(self, server: str, authority: Authority) -> None:
        async with self.api(server, authority, "old", "older") as api:
            with pytest.raises(ApiError, match="401"):
                await api.request("GET", "/thing")

    async def test_server_of_another_authority_is_a_failed_connection(
        self, server: str, authority: Authority, tmp_path: Path
    ) -> None:
        other = Authority(tmp_path / "other")
        other.folder.mkdir()
        other.establish()
        configuration = self.configuration(server, authority, "new")
        configuration.ssl_ca_cert = str(other.pair.certificate)
        with pytest.raises(ConnectionFailed, match="certificate"):
            await get(configuration)

    async def test_server_is_not_verified_if_the_kubeconfig_allows_that(
        self, server: str, authority: Authority
    ) -> None:
        configuration = self.configuration(server, authority, "new")
        configuration.ssl_ca_cert, configuration.verify_ssl = None, False
        assert await get(configuration) == {"user": "new"}
