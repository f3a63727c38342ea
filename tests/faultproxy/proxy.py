"""The proxy. It runs in a thread, so that a test can inject faults while clients send requests."""

import asyncio
import base64
import contextlib
import itertools
import re
import socket
import ssl
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

import aiohttp
import yaml
from aiohappyeyeballs import AddrInfoType
from aiohttp import web
from cryptography import x509
from multidict import CIMultiDict

from tests.cluster.certificates import Authority, Pair
from tests.faultproxy.faults import Fault, Silence, Unanswered, WatchFault
from tests.poll import poll_until

ADDRESS: Final = "127.0.0.1"
MAX_SEEN: Final = 100_000
"""The number of requests that are remembered."""
CALL_SECONDS: Final = 30.0
SHUTDOWN_SECONDS: Final = 0.1

_HOP_BY_HOP: Final = frozenset(
    {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}
)

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """A request that a client has sent."""

    method: str
    path: str
    """With the query."""
    watch: bool
    at: float
    """In seconds of the monotonic clock."""


@dataclass
class Rule:
    """A fault, and the requests that have it."""

    fault: Fault | WatchFault
    method: str = ""
    """Empty: any method."""
    path: str = ""
    """A regular expression that is searched in the path with its query."""
    watch: bool | None = None
    """Whether the request is a watch. None: any."""
    times: int | None = None
    """The number of requests that have the fault. None: all, until the rule is removed."""
    after: int = 0
    """The number of lines that a watch must have sent before it has the fault."""
    hits: int = 0
    """How many requests had the fault so far."""
    _interrupted: set[int] = field(default_factory=set)
    """The watches that had the fault."""

    def matches(self, seen: Seen) -> bool:
        """Returns whether the request has the fault."""
        return (
            (self.times is None or self.hits < self.times)
            and self.method in ("", seen.method)
            and self.watch in (None, seen.watch)
            and re.search(self.path, seen.path) is not None
        )

    def interrupts(self, exchange: "_Exchange", lines: int) -> bool:
        """Returns whether the watch has the fault now. Each watch has it once."""
        new = isinstance(self.fault, WatchFault) and exchange.number not in self._interrupted
        if not new or lines < self.after or not self.matches(exchange.seen):
            return False
        self._interrupted.add(exchange.number)
        return True


class FaultProxy:
    """Relays requests to the API server of a kubeconfig, and injects faults into them.

    Clients need a kubeconfig from ``kubeconfig``. The proxy has a certificate authority of its own.
    To the API server it presents the credentials of the client that has sent the request: its
    client certificate, or its token.
    """

    def __init__(self, folder: Path) -> None:
        """``folder`` is for certificates and kubeconfigs."""
        self._folder = folder
        self._authority = _authority(folder / "authority")
        self._port = _free_port()
        self._server = ""
        self._credentials: dict[str, dict[str, Any]] = {}
        """The kubeconfig's cluster and user, by the common name in the client's certificate. The
        empty name stands for clients without one."""
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        """The sockets of all connections."""
        self._rules: list[Rule] = []
        self._changed = asyncio.Event()
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self._servers: list[web.Server] = []
        """All that were started."""
        self.seen: deque[Seen] = deque(maxlen=MAX_SEEN)
        """The last requests, oldest first."""

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._call(self._close())
        # A transport closes its socket in a later iteration of the loop, which must still run.
        poll_until(lambda: not self._open(), CALL_SECONDS, "the proxy's connections are closed")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def server(self) -> str:
        """The URL for clients."""
        return f"https://{ADDRESS}:{self._port}"

    def start(self) -> None:
        """Accept connections."""
        self._call(self._start())

    def stop(self) -> None:
        """Close all connections, and refuse new ones, until ``start`` is called."""
        self._call(self._stop())

    def rotate_authority(self) -> None:
        """Serve with a certificate of a new authority. Clients do not trust it until they use a
        newer kubeconfig. All connections are closed."""
        self.stop()
        self._authority = _authority(self._folder / f"authority-{time.monotonic_ns()}")
        self.start()

    def kubeconfig(self, upstream: Path, name: str = "") -> Path:
        """Returns a kubeconfig with the user of ``upstream``, and the proxy as the server. All
        kubeconfigs must have the same API server. With the same name, the file is replaced."""
        content = yaml.safe_load(upstream.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._server = cluster["server"]
        self._credentials[_common_name(user)] = {"cluster": cluster, "user": user}
        self._call(self._trust())
        cluster = dict(cluster, server=self.server)
        authority = self._authority.pair.certificate.read_bytes()
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
        content["clusters"][0]["cluster"] = cluster
        path = self._folder / f"{name or upstream.stem}.kubeconfig"
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(yaml.safe_dump(content))
        new.rename(path)
        return path

    @contextlib.contextmanager
    def inject(
        self,
        fault: Fault | WatchFault,
        *,
        method: str = "",
        path: str = "",
        watch: bool | None = None,
        times: int | None = None,
        after: int = 0,
    ) -> Iterator[Rule]:
        """Inject the fault into matching requests within the context. The first rule that matches
        applies. Yields the rule, which counts its hits."""
        rule = Rule(fault, method, path, watch, times, after)
        self._call(self._set_rules([*self._rules, rule]))
        try:
            yield rule
        finally:
            self._call(self._set_rules([one for one in self._rules if one is not rule]))

    @contextlib.contextmanager
    def partition(self) -> Iterator[None]:
        """Within the context, all connections are half-open: watches are silent, and requests are
        not answered."""
        with self.inject(Silence()), self.inject(Unanswered()):
            yield

    def requests(self, method: str = "", path: str = "", watch: bool | None = None) -> list[Seen]:
        """Returns the matching requests, oldest first."""
        rule = Rule(Unanswered(), method, path, watch)
        return [seen for seen in tuple(self.seen) if rule.matches(seen)]

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    async def _set_rules(self, rules: list[Rule]) -> None:
        self._rules = rules
        self._changed.set()
        self._changed = asyncio.Event()

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        pair = self._authority.server("proxy", [IPv4Address(ADDRESS)])
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(pair.certificate, pair.key)
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        await self._trust()
        listener = _Listener(self._sockets)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, self._port))
        handlers = cast(web.Server, self._runner.server)
        self._servers.append(handlers)
        self._listener = await self._loop.create_server(
            handlers, sock=listener, ssl=self._tls, ssl_shutdown_timeout=SHUTDOWN_SECONDS
        )

    async def _stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            # asyncio leaves a connection open if its server closes just after it was accepted.
            for listener in self._listener.sockets:
                self._loop.remove_reader(listener.fileno())
            await asyncio.sleep(0)
            self._listener.close()
            await runner.cleanup()

    async def _close(self) -> None:
        # A cancelled request may still be opening its connection to the API server.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # A handshake may have ended after its server did.
        for protocol in (one for server in self._servers for one in server.connections):
            protocol.force_close()
        for session in self._sessions.values():
            await session.close()
        await self._loop.shutdown_asyncgens()

    def _open(self) -> list[socket.socket]:
        return [one for one in tuple(self._sockets) if one.fileno() != -1]

    async def _trust(self) -> None:
        """Accept the client certificates of the API server's clients."""
        for known in self._credentials.values():
            self._tls.load_verify_locations(cadata=_decoded(known["cluster"], _AUTHORITY).decode())

    def _session(self, name: str) -> aiohttp.ClientSession:
        """Returns the session of the user with this common name towards the API server."""
        if name not in self._sessions:
            known = self._credentials.get(name) or next(iter(self._credentials.values()))
            tls = ssl.create_default_context(cadata=_decoded(known["cluster"], _AUTHORITY).decode())
            if name in self._credentials and "client-certificate-data" in known["user"]:
                pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
                pair.certificate.write_bytes(_decoded(known["user"], "client-certificate-data"))
                pair.key.touch(mode=0o600)
                pair.key.write_bytes(_decoded(known["user"], "client-key-data"))
                tls.load_cert_chain(pair.certificate, pair.key)
            self._sessions[name] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=self._new_socket),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        return self._sessions[name]

    def _new_socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        new = socket.socket(family, kind, protocol)
        self._sockets.add(new)
        return new

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") in ("true", "1")
        seen = Seen(request.method, request.path_qs, watch, time.monotonic())
        self.seen.append(seen)
        exchange = _Exchange(self, request, seen, next(self._numbers))
        try:
            for rule in self._rules:
                if isinstance(rule.fault, Fault) and rule.matches(seen):
                    rule.hits += 1
                    return await rule.fault.respond(exchange)
            return await exchange.relay()
        except (aiohttp.ClientError, ConnectionError):  # The API server is down.
            return exchange.reset()

    async def open(self, request: web.Request) -> aiohttp.ClientResponse:
        """Send the request to the API server."""
        certificate = request.get_extra_info("peercert") or {}
        names = dict(pair for part in certificate.get("subject", ()) for pair in part)
        headers = _relayed(request.headers)
        return await self._session(names.get("commonName", "")).request(
            request.method,
            self._server + request.path_qs,
            headers=headers,
            data=await request.read() or None,
            allow_redirects=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent", "Content-Type"),
        )

    def interrupting(self, exchange: "_Exchange", lines: int) -> Rule | None:
        """Returns the rule whose fault the watch has now."""
        return next((rule for rule in self._rules if rule.interrupts(exchange, lines)), None)

    def changed(self) -> asyncio.Event:
        """Returns an event that is set when the rules change."""
        return self._changed


class _Listener(socket.socket):
    """A socket that adds the sockets of its connections to a set."""

    def __init__(self, accepted: "weakref.WeakSet[socket.socket]") -> None:
        super().__init__()
        self._accepted = accepted

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        self._accepted.add(connection)
        return connection, address


class _Exchange:
    """A request, and what faults can do with it."""

    def __init__(self, proxy: FaultProxy, request: web.Request, seen: Seen, number: int) -> None:
        self._proxy = proxy
        self._request = request
        self.number = number
        self._response: web.StreamResponse | None = None
        self.seen = seen

    async def relay(self) -> web.StreamResponse:
        if self.seen.watch:
            return await self._relay_watch()
        code, headers, body = await self.body()
        return web.Response(status=code, headers=headers, body=body)

    async def body(self) -> tuple[int, Mapping[str, str], bytes]:
        async with await self._proxy.open(self._request) as response:
            return response.status, _relayed(response.headers), await response.read()

    async def begin(self, code: int, headers: Mapping[str, str]) -> web.StreamResponse:
        self._response = web.StreamResponse(status=code, headers=headers)
        await self._response.prepare(self._request)
        return self._response

    async def send(self, line: bytes) -> None:
        assert self._response is not None
        await self._response.write(line)

    def reset(self) -> web.StreamResponse:
        transport = self._request.transport
        connection = None if transport is None else transport.get_extra_info("socket")
        if transport is not None and connection is not None:
            # With a linger time of 0, the kernel sends RST instead of FIN.
            now = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
            transport.abort()
        return self._response or web.Response()

    async def _relay_watch(self) -> web.StreamResponse:
        async with await self._proxy.open(self._request) as upstream:
            response = await self.begin(upstream.status, _relayed(upstream.headers))
            await self._send_lines(_lines(upstream))
        if not self._is_closed():
            await response.write_eof()
        return response

    async def _send_lines(self, lines: AsyncIterator[bytes]) -> None:
        """Send the lines to the client, and inject the faults of the watch."""
        for sent in itertools.count():
            line = asyncio.ensure_future(anext(lines, b""))
            try:
                if not await self._waited(line, sent) or not line.result():
                    return
            finally:
                line.cancel()
            await self.send(line.result())

    async def _waited(self, line: "asyncio.Future[bytes]", sent: int) -> bool:
        """Wait for the line, and inject the faults of the watch. Returns whether it goes on."""
        while True:
            while (rule := self._proxy.interrupting(self, sent)) is not None:
                rule.hits += 1
                if not await cast(WatchFault, rule.fault).interrupt(self):
                    return False
            if line.done():
                return True
            changed = asyncio.ensure_future(self._proxy.changed().wait())
            either: set[asyncio.Future[Any]] = {line, changed}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()

    def _is_closed(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yields the lines of the body, with their ends. Ends when the connection does."""
    begun = b""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async for chunk in response.content.iter_any():
            *whole, begun = (begun + chunk).split(b"\n")
            for line in whole:
                yield line + b"\n"


def _relayed(headers: Mapping[str, str]) -> "CIMultiDict[str]":
    """Returns the headers that a proxy relays."""
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP
    )


def _common_name(user: Mapping[str, str]) -> str:
    """Returns the common name in the user's certificate. Empty: the user has a token."""
    if "client-certificate-data" not in user:
        return ""
    certificate = x509.load_pem_x509_certificate(_decoded(user, "client-certificate-data"))
    [name] = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(name.value)


_AUTHORITY: Final = "certificate-authority-data"


def _decoded(section: Mapping[str, str], name: str) -> bytes:
    return base64.b64decode(section[name])


def _authority(folder: Path) -> Authority:
    folder.mkdir(parents=True)
    authority = Authority(folder)
    authority.establish()
    return authority


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])
