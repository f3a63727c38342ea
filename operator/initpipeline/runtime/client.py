"""The connection to the API server: credentials, requests, lists and watches.

The official client finds the cluster and the credentials. Requests are sent with aiohttp, which
Kopf's watch uses as well: for each request, the official client's transport looks up proxies and
``~/.netrc`` in a thread, which costs more than the request itself.

Requests and responses are dicts.
"""

import asyncio
import math
import os
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self, cast
from urllib.request import getproxies

import aiohttp
import yaml

from initpipeline import __version__
from initpipeline.core.compact import compact
from initpipeline.core.encoding import decode, encode
from initpipeline.runtime import responses
from initpipeline.runtime.errors import ConnectionFailed, LoginError, api_error, one_line
from initpipeline.runtime.lean_imports import Configuration, config, kopf
from initpipeline.runtime.meter import Meter

USER_AGENT = f"initpipeline/{__version__}"

HOME_KUBECONFIG = os.path.expanduser("~/.kube/config")  # noqa: PTH111 - the client takes strings

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA_EVENTS = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

CHUNK_BYTES = 2**16

CLOCK_TICK = 0.01
"""In seconds. It is added before a time-out is rounded down to whole seconds. Some microseconds of
the time-out have passed by then, and 12 s must not be sent as 11 s."""

STEADY_CONNECTIONS = 8
"""The most requests at a time that do not count as a burst."""

IDLE_SECONDS, BURST_IDLE_SECONDS = 15.0, 1.0
"""Seconds until an idle connection is closed: one opened outside a burst, and one of a burst."""

WATCH_SECONDS = 5 * 60
"""The duration after which the API server ends a watch."""

SILENT_SECONDS = 90.0
"""A watch without an event for longer is opened again: its connection may be dead. The API server
sends a bookmark every minute."""


async def load_configuration() -> Configuration:
    """Returns the configuration from $KUBECONFIG, or else from the Pod's service account, or else
    from ~/.kube/config. controller-runtime has the same order.

    Raises LoginError if it cannot be used.
    """
    configuration = Configuration()
    kubeconfig = os.environ.get("KUBECONFIG")
    try:
        if not kubeconfig and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(
                config_file=_existing(kubeconfig or HOME_KUBECONFIG),
                client_configuration=configuration,
                persist_config=False,
            )
    except _UNREADABLE as error:
        raise _unusable(error) from error
    if configuration.tls_server_name:
        raise LoginError(
            "tls-server-name is set in the kubeconfig, which the operator's watches do not support:"
            " remove it, and set server to a name that the API server's certificate has"
        )
    return configuration


_UNREADABLE = (
    config.ConfigException,
    OSError,
    ValueError,
    yaml.YAMLError,
    # The client's loader raises these if the file is not a kubeconfig.
    AttributeError,
    LookupError,
    TypeError,
)


def _existing(paths: str) -> str:
    """Returns the paths. Raises FileNotFoundError if no file exists, because the client would
    continue without a configuration."""
    if any(Path(path).expanduser().exists() for path in paths.split(os.pathsep) if path):
        return paths
    raise FileNotFoundError(f"there is no file {paths}")


def _unusable(why: BaseException) -> LoginError:
    return LoginError(
        f"no usable cluster configuration ({one_line(why)}): correct it, or set KUBECONFIG to a "
        "kubeconfig with a current context, or run in a Pod with a service account"
    )


class ApiClient:
    """Sends requests to the API server, and renews the credentials.

    Credentials expire, and their source may have newer ones. If the API server refuses them, the
    client loads them again and repeats the request once.
    """

    def __init__(
        self,
        configuration: Configuration,
        timeout_seconds: float,
        login: Callable[[], Awaitable[Configuration]] = load_configuration,
        observe: Callable[[str], None] = lambda _: None,
        meter: Meter | None = None,
    ) -> None:
        """``observe`` gets the Date header of each response to the operator's own requests, except
        watches."""
        self._observe = observe
        self._meter = meter
        self._configuration = configuration
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._tls = _tls(configuration)
        """The TLS settings of the operator's own requests."""
        self._kopf_tls = _tls(configuration)
        self._login = login
        self._logging_in = asyncio.Lock()
        self._running = 0
        """The number of requests that wait for a response, without watches."""
        self._open: dict[bool, aiohttp.ClientSession] = {}
        self._page_sizes: dict[tuple[str, str | None], responses.PageSize] = {}
        """The size of a page, by the path of the list and the Accept header."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._open.values():
            await session.close()

    @property
    def server(self) -> str:
        return str(self._configuration.host)

    def for_watches(self, guard: aiohttp.ClientMiddlewareType) -> kopf.AiohttpSession:
        """Returns a session for Kopf that renews its credentials. ``guard`` gets all its requests.

        If Kopf had the credentials itself, it would close its connections when they expire. A watch
        that is being opened at that moment would then fail, and Kopf would not retry it.
        """
        # Each connection serves one request. A connection that was opened with an expired client
        # certificate is not used again.
        connector = aiohttp.TCPConnector(limit=0, ssl=self._kopf_tls, force_close=True)
        session = self._new_session(connector, guard, self._authorize)
        return kopf.AiohttpSession(server=self.server, aiohttp_session=session)

    def _session(self) -> aiohttp.ClientSession:
        """Returns the session for the operator's own requests. Those of a burst have another one,
        which closes its connections soon.

        A connector uses its connections in turn. So a few requests a second would keep all
        connections of a burst open, each with a quarter of a megabyte for TLS.
        """
        burst = self._running > STEADY_CONNECTIONS
        if burst not in self._open:
            seconds = BURST_IDLE_SECONDS if burst else IDLE_SECONDS
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=seconds)
            self._open[burst] = self._new_session(connector)
        return self._open[burst]

    def _new_session(
        self, connector: aiohttp.TCPConnector, *middlewares: aiohttp.ClientMiddlewareType
    ) -> aiohttp.ClientSession:
        # With trust_env, aiohttp looks up the proxies of the environment in a thread, for each
        # request.
        return aiohttp.ClientSession(
            connector=connector,
            proxy=self._configuration.proxy,
            trust_env=bool(getproxies().keys() - {"no"}),
            middlewares=(*middlewares, self._in_pages, *((self._metered,) if self._meter else ())),
            response_class=responses.Response,
        )

    async def _metered(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request, and record it."""
        assert self._meter is not None
        loop = asyncio.get_running_loop()
        started_at, code = loop.time(), "<error>"
        try:
            response = await handler(request)
            code = str(response.status)
            return response
        finally:
            seconds = loop.time() - started_at
            self._meter.request(request.method, request.url.path, code, seconds)

    async def _in_pages(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request. If it is a list, its limit is replaced by one that bounds the size of the
        page."""
        limit = request.url.query.get("limit")
        if request.method != "GET" or limit in (None, str(responses.NO_PAGE)):
            return await handler(request)
        form = (request.url.path, request.headers.get("Accept"))
        size = self._page_sizes.setdefault(form, responses.PageSize())
        return await responses.in_pages(request, handler, size)

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request of Kopf like ``_response``."""

        async def send() -> aiohttp.ClientResponse:
            return await handler(await _with_authorization(request, self._configuration))

        return await self._with_renewal(send)

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        left: Callable[[], float] = lambda: math.inf,
    ) -> dict[str, Any]:
        """Send a request, and return the body of the response. Raises ApiError if the API server
        returns an error, ConnectionFailed if there is no response.

        ``left`` returns the seconds after which the request must have ended. If they are finite,
        the API server and the client end it by then, even if credentials are loaded meanwhile.
        """
        headers = {"Accept": accept, "Content-Type": content_type}
        code, data, delay = await self._answer(method, path, headers, body, left)
        if len(data) > responses.LARGE:
            document = await asyncio.to_thread(_parse_compact, code, data)
        else:
            document = _parse(code, data)
        if code >= 400:
            raise api_error(code, document, delay)
        return document

    async def is_ready(self) -> bool:
        """Returns whether the API server has started. If it refuses the credentials, it has
        started. By default, RBAC lets each client request this. Raises ConnectionFailed if there
        is no response."""
        code, _, _ = await self._answer("GET", "/readyz", {})
        return code < 500

    async def page(self, path: str, accept: str = JSON) -> dict[str, Any]:
        """Returns a page of a list. The ``limit`` in the path is replaced by one that bounds the
        page's size. Raises like ``request``."""
        code, data, delay = await self._answer("GET", path, {"Accept": accept})
        document = await asyncio.to_thread(_parse, code, data)
        if code >= 400:
            raise api_error(code, document, delay)
        try:
            return responses.page_of(document)
        except ValueError as error:
            raise ConnectionFailed(one_line(error)) from error

    async def watch(
        self, path: str, accept: str, seconds: int, opened: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[dict[str, Any]]:
        """Yields the events of a watch, which the API server ends after ``seconds``. The watch also
        ends if its connection is cut, or silent for SILENT_SECONDS. ``opened`` is called when the
        API server has accepted the watch.

        Raises ApiError if the API server returns an error, as its response or as an event, and
        ConnectionFailed if there is no response.
        """
        most = self._timeout.total or 0
        timeout = aiohttp.ClientTimeout(
            total=seconds + most, sock_connect=most, sock_read=SILENT_SECONDS
        )
        is_open = False
        try:
            async with await self._response(
                "GET", path, {"Accept": accept}, timeout=timeout
            ) as response:
                code = response.status
                if code >= 400:
                    status = _parse(code, await response.read())
                    raise api_error(code, status, retry_seconds(response))
                is_open = True
                opened()
                lines = cast(responses.Lines, response.content)
                async for line in lines.raw(CHUNK_BYTES):
                    if line.strip():
                        yield _not_error(await _parsed_line(line))
        except NO_ANSWER as error:
            if not is_open:
                raise ConnectionFailed(one_line(error)) from error

    async def _answer(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: Mapping[str, Any] | None = None,
        left: Callable[[], float] = lambda: math.inf,
    ) -> tuple[int, bytes, int]:
        """Returns the code and the body of the response, and the delay before a retry that it
        requests, in seconds. Raises ConnectionFailed if there is no response."""
        data = None if body is None else encode(body)
        options = {"data": data, "timeout": self._timeout}
        # The time is read first. If the process is paused after that, the request ends earlier.
        now = asyncio.get_running_loop().time()
        end = now + left()
        self._running += 1
        try:
            async with (
                asyncio.timeout_at(end if end < math.inf else None),
                await self._response(method, path, headers, end, **options) as response,
            ):
                self._observe(response.headers.get("Date", ""))
                return response.status, await response.read(), retry_seconds(response)
        except NO_ANSWER as error:
            raise ConnectionFailed(one_line(error)) from error
        finally:
            self._running -= 1

    async def _response(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        end: float = math.inf,
        **options: Any,
    ) -> aiohttp.ClientResponse:
        """Send a request. ``end`` is the loop's time at which the API server must have ended it."""
        return await self._with_renewal(
            lambda: self._response_once(method, path, headers, end, **options)
        )

    async def _with_renewal(
        self, send: Callable[[], Awaitable[aiohttp.ClientResponse]]
    ) -> aiohttp.ClientResponse:
        """Send a request. If the API server refuses the credentials, or its certificate is not
        trusted, load the credentials and the authority again, and repeat the request once."""
        used = self._configuration
        try:
            response = await send()
        except aiohttp.ClientConnectorCertificateError:
            if not await self._renewed(used):
                raise
            return await send()
        if response.status == 401 and await self._renewed(used):
            response.release()
            response = await send()
        return response

    async def _response_once(
        self, method: str, path: str, headers: dict[str, str], end: float, **options: Any
    ) -> aiohttp.ClientResponse:
        headers = {**headers, "User-Agent": USER_AGENT}
        authorization = await _authorization(self._configuration)
        if authorization:
            headers["Authorization"] = authorization
        if end < math.inf:
            # The API server starts to count when the request arrives. It takes 0 for no time-out.
            seconds = whole_seconds(end - asyncio.get_running_loop().time())
            if seconds < 1:
                raise TimeoutError("not sent, because no time is left")
            path = with_query(path, f"timeout={seconds}s")
        # A connection is used again only for requests with the same TLS settings.
        return await self._session().request(
            method, self.server + path, headers=headers, ssl=self._tls, **options
        )

    async def _renewed(self, refused: Configuration) -> bool:
        """Load the credentials again, unless another request has done so. Returns whether there are
        other credentials than the refused ones."""
        async with self._logging_in:
            if self._configuration is not refused:
                return True
            try:
                configuration = await self._login()
                tls = _tls(configuration)
                _load_files(self._kopf_tls, configuration)
            except LoginError:
                return False
            self._configuration, self._tls = configuration, tls
            return True


NO_ANSWER = (
    aiohttp.ClientError,
    config.ConfigException,
    OSError,
    TimeoutError,
)


def with_query(path: str, query: str) -> str:
    """Returns the path with this query, after the one that it has already."""
    return f"{path}{'&' if '?' in path else '?'}{query}"


def whole_seconds(left: float) -> int:
    """Returns the time-out to send to the API server, which accepts whole seconds. ``left`` is the
    time in seconds until the request must have ended."""
    return math.floor(left + CLOCK_TICK)


def _tls(configuration: Configuration) -> ssl.SSLContext:
    """Returns the TLS settings of all connections. Raises LoginError if a certificate cannot be
    read."""
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    except OSError as error:  # ssl.SSLError is one.
        raise _unusable(error) from error
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    _load_files(context, configuration)
    return context


def _load_files(context: ssl.SSLContext, configuration: Configuration) -> None:
    """Load the certificate authority and the client certificate, if there are any. Connections that
    are opened later use them, and trust the authorities that were loaded before as well. Raises
    LoginError if a file cannot be read."""
    try:
        if configuration.ssl_ca_cert:
            context.load_verify_locations(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
    except OSError as error:
        raise _unusable(error) from error


async def _authorization(configuration: Configuration) -> str | None:
    """Returns the Authorization header. None: there is no token and no password. The
    client must call this for each request, because tokens expire and are refreshed."""
    token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    if token:
        return str(token).strip()  # A token from a file may end with a newline.
    if configuration.username:
        return str(configuration.get_basic_auth_token())
    return None


async def _with_authorization(
    request: aiohttp.ClientRequest, configuration: Configuration
) -> aiohttp.ClientRequest:
    try:
        authorization = await _authorization(configuration)
    except (config.ConfigException, OSError) as error:
        raise aiohttp.ClientConnectionError(f"no credentials: {one_line(error)}") from error
    if authorization:
        request.headers["Authorization"] = authorization
    return request


def retry_seconds(response: aiohttp.ClientResponse) -> int:
    """Returns the delay before a retry that the API server requests. 0: it requests none."""
    after = response.headers.get("Retry-After", "")
    return int(after) if re.fullmatch(r"[0-9]{1,4}", after) else 0


async def _parsed_line(line: bytes) -> dict[str, Any]:
    """Returns the event. A large one is parsed in a thread. Raises ConnectionFailed if the line is
    no event."""
    try:
        if len(line) > responses.LARGE:
            return await asyncio.to_thread(responses.event_of, line)
        return responses.event_of(line)
    except ValueError as error:
        raise ConnectionFailed(one_line(error)) from error


def _not_error(event: dict[str, Any]) -> dict[str, Any]:
    """Returns the event. Raises ApiError if it reports an error, usually 410: the resource version
    is too old."""
    if event.get("type") != "ERROR":
        return event
    status = event["object"]
    raise api_error(int(status.get("code") or 0), status)


def _parse_compact(code: int, data: bytes) -> dict[str, Any]:
    """Returns the parsed body, compacted if it is an object."""
    return dict(compact(_parse(code, data)))


def _parse(code: int, data: bytes) -> dict[str, Any]:
    """Returns the parsed body. For an error that is not JSON, returns a metav1.Status with its
    text. Raises ConnectionFailed if a success is not JSON, because a proxy or a login page has
    answered."""
    if not data:
        if code < 400:
            raise ConnectionFailed("the response is empty")
        return {}
    try:
        document = decode(data)
    except ValueError:
        document = data.decode(errors="replace")
    if isinstance(document, dict):
        return document
    text = one_line(str(document))[:200]
    if code < 400:
        raise ConnectionFailed(f"the response is not from an API server: {text}")
    return {"message": text}
