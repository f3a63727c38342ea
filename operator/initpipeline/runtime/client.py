"""One login for everything: the official client finds the cluster and the credentials, carries the
operator's requests, and Kopf's watches use the same credentials.

Requests go through the client's transport as plain dicts. Its typed methods would walk each body
twice and build models that nobody reads, which costs more than the request.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
import kopf
import yaml
from kubernetes.aio import client, config

from initpipeline import __version__
from initpipeline.runtime import documents
from initpipeline.runtime.errors import ConnectionFailed, LoginError, api_error, one_line

USER_AGENT = f"initpipeline/{__version__}"

HOME_KUBECONFIG = os.path.expanduser("~/.kube/config")  # noqa: PTH111 - the client takes strings

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

CHUNK_BYTES = 2**16


async def load_configuration() -> client.Configuration:
    """$KUBECONFIG, else the Pod's service account, else ~/.kube/config: controller-runtime's order.

    Raises LoginError where none of them can be used.
    """
    configuration = client.Configuration()
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
        raise _unusable("tls-server-name is set, which its watches cannot heed")
    # The pool's default of 100 connections would make requests of a burst wait for each other.
    configuration.connection_pool_maxsize = 512
    return configuration


_UNREADABLE = (
    config.ConfigException,
    OSError,
    ValueError,
    yaml.YAMLError,
    # What the client's loader stumbles over in a file that is no kubeconfig at all.
    AttributeError,
    LookupError,
    TypeError,
)


def _existing(paths: str) -> str:
    """At least one of them: the client would go on with no configuration at all."""
    if any(Path(path).expanduser().exists() for path in paths.split(os.pathsep) if path):
        return paths
    raise FileNotFoundError(f"there is no file {paths}")


def _unusable(why: BaseException | str) -> LoginError:
    return LoginError(
        f"no usable cluster configuration ({one_line(why)}): set KUBECONFIG to a kubeconfig "
        "with a current context, or run in a Pod with a service account"
    )


class ApiClient:
    """Requests to the API server: a method, a path, JSON in and JSON out.

    Credentials expire, and are replaced where they were read from: a request that is refused for
    them logs in anew, and is tried once more.
    """

    def __init__(
        self,
        configuration: client.Configuration,
        timeout_seconds: float,
        login: Callable[[], Awaitable[client.Configuration]] = load_configuration,
    ) -> None:
        self._configuration = configuration
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._transport = _transport(configuration)
        self._login = login
        self._logging_in = asyncio.Lock()
        self._reading: aiohttp.ClientSession | None = None
        self._page_sizes: dict[str, documents.PageSize] = {}
        """By the path of the list."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            await self._reading.close()
        await self._transport.close()

    @property
    def server(self) -> str:
        return str(self._configuration.host)

    def for_watches(self) -> kopf.AiohttpSession:
        """The same login for Kopf. With credentials of its own it would close its connections when
        these expire, and a watch that is just being opened then fails for good."""
        return kopf.AiohttpSession(server=self.server, aiohttp_session=self._session())

    def _reader(self) -> aiohttp.ClientSession:
        """Returns the session for the operator's own lists and watches."""
        if self._reading is None:
            self._reading = self._session()
        return self._reading

    def _session(self) -> aiohttp.ClientSession:
        """Returns a session without a limit of connections, whose requests carry the present
        credentials."""
        configuration = self._configuration
        connection = kopf.ConnectionInfo(
            server=self.server,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=connection.as_ssl_context()),
            proxy=configuration.proxy,
            trust_env=True,
            middlewares=(self._in_pages, self._authorize),
            response_class=documents.Response,
        )

    async def _in_pages(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Replaces the limit of a list request, so that pages have a bounded size."""
        if request.method != "GET" or "limit" not in request.url.query:
            return await handler(request)
        size = self._page_sizes.setdefault(request.url.path, documents.PageSize())
        return await documents.in_pages(request, handler, size)

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Carries the present credentials; where they are refused, logs in anew and tries again."""
        used = self._configuration
        response = await handler(await _authorized(request, used))
        if response.status == 401 and await self._logged_in_anew(used):
            response.release()
            response = await handler(await _authorized(request, self._configuration))
        return response

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> dict[str, Any]:
        """The answer's body. Raises ApiError for an error, ConnectionFailed for no answer."""
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": USER_AGENT}
        used = self._configuration
        code, document = await self._send(method, path, headers, body)
        if code == 401 and await self._logged_in_anew(used):
            code, document = await self._send(method, path, headers, body)
        if code >= 400:
            raise api_error(code, document)
        return document

    async def page(self, path: str, accept: str = JSON) -> dict[str, Any]:
        """Returns a page of a list. Its ``limit`` is replaced by one that fits the objects' size.

        Raises ApiError for an error, ConnectionFailed for no answer.
        """
        headers = {"Accept": accept, "User-Agent": USER_AGENT}
        try:
            async with self._reader().get(
                self._configuration.host + path, headers=headers, timeout=self._timeout
            ) as response:
                code, data = response.status, await response.read()
        except _NO_ANSWER as error:
            raise ConnectionFailed(one_line(error)) from error
        document = await asyncio.to_thread(_parse, code, data)
        if code >= 400:
            raise api_error(code, document)
        return document

    async def watch(self, path: str, accept: str, seconds: int) -> AsyncGenerator[dict[str, Any]]:
        """Yields the events of a watch, which the API server ends after ``seconds``. Raises
        ApiError for an error, ConnectionFailed if the connection breaks."""
        headers = {"Accept": accept, "User-Agent": USER_AGENT}
        timeout = aiohttp.ClientTimeout(total=seconds + (self._timeout.total or 0))
        try:
            async with self._reader().get(
                self.server + path, headers=headers, timeout=timeout
            ) as response:
                code = response.status
                if code >= 400:
                    raise api_error(code, _parse(code, await response.read()))
                # Whole lines, whatever the size of a chunk: see documents.Response.
                async for line in response.content.iter_chunked(CHUNK_BYTES):
                    if line.strip():
                        yield _parse(code, line)
        except _NO_ANSWER as error:
            raise ConnectionFailed(one_line(error)) from error

    async def _send(
        self, method: str, path: str, headers: dict[str, str], body: Mapping[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        try:
            authorization = await _authorization(self._configuration)
            response = await self._transport.request(
                method,
                self._configuration.host + path,
                headers={**headers, "Authorization": authorization} if authorization else headers,
                body=body,
                _request_timeout=self._timeout,
            )
            # Client 36 has read the answer and raised for an error; 37 has done neither.
            code, data = response.status, response.data
            if data is None:
                data = await response.read()
        except client.ApiException as error:
            code, data = error.status, error.body
        except _NO_ANSWER as error:
            raise ConnectionFailed(one_line(error)) from error
        return code, _parse(code, data)

    async def _logged_in_anew(self, refused: client.Configuration) -> bool:
        """Whether there are other credentials now than those that were refused."""
        async with self._logging_in:
            if self._configuration is not refused:
                return True  # Another request did it meanwhile.
            try:
                configuration = await self._login()
                transport = _transport(configuration)
            except LoginError:
                return False
            replaced, self._transport = self._transport, transport
            self._configuration = configuration
            await replaced.close()
            return True


_NO_ANSWER = (
    aiohttp.ClientError,
    config.ConfigException,
    OSError,
    TimeoutError,
    # Of connections that another request's login has just replaced.
    AssertionError,
    RuntimeError,
)


def _transport(configuration: client.Configuration) -> Any:
    """Connections with these credentials. Raises LoginError where the certificates are none."""
    try:
        return client.ApiClient(configuration).rest_client
    except (OSError, ValueError) as error:
        raise _unusable(error) from error


async def _authorization(configuration: client.Configuration) -> str | None:
    """The Authorization header; asked anew each time, since tokens expire and are refreshed."""
    token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    if token:
        return str(token).strip()  # A token that was read from a file may end with its last line.
    if configuration.username:
        return str(configuration.get_basic_auth_token())
    return None


async def _authorized(
    request: aiohttp.ClientRequest, configuration: client.Configuration
) -> aiohttp.ClientRequest:
    try:
        authorization = await _authorization(configuration)
    except (config.ConfigException, OSError) as error:
        raise aiohttp.ClientConnectionError(f"no credentials: {one_line(error)}") from error
    if authorization:
        request.headers["Authorization"] = authorization
    return request


def _parse(code: int, data: bytes | str | None) -> dict[str, Any]:
    """Raises ConnectionFailed where somebody else answered, say a proxy or a login page."""
    try:
        raw = data.encode() if isinstance(data, str) else data
        document = documents.decode(raw or b"{}")
    except ValueError:
        document = data.decode(errors="replace") if isinstance(data, bytes) else data
    if isinstance(document, dict):
        return document
    text = one_line(str(document))[:200]
    if code < 400:
        raise ConnectionFailed(f"the answer is not an API server's: {text}")
    return {"message": text}
