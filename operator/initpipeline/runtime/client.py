"""One login for everything: the official client finds the cluster and the credentials, carries the
operator's requests, and Kopf is given the same connection for its watches.

Requests go through the client's transport as plain dicts. Its typed methods would walk each body
twice and build models that nobody reads, which costs more than the request.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, Self

import aiohttp
import kopf
from kubernetes.aio import client, config

from initpipeline import __version__
from initpipeline.runtime.errors import ConnectionFailed, LoginError, api_error

USER_AGENT = f"initpipeline/{__version__}"

HOME_KUBECONFIG = os.path.expanduser("~/.kube/config")  # noqa: PTH111 - the client takes strings

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


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
                config_file=kubeconfig or HOME_KUBECONFIG,
                client_configuration=configuration,
                persist_config=False,
            )
    except (config.ConfigException, OSError, ValueError) as error:
        raise LoginError(
            f"no usable cluster configuration ({_one_line(error)}): set KUBECONFIG to a kubeconfig "
            "with a current context, or run in a Pod with a service account"
        ) from error
    # The pool's default of 100 connections would make requests of a burst wait for each other.
    configuration.connection_pool_maxsize = 512
    return configuration


async def connection_info(configuration: client.Configuration) -> kopf.ConnectionInfo:
    """The same connection, as Kopf takes it."""
    header = await _authorization(configuration)
    scheme, _, token = (header or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


class ApiClient:
    """Requests to the API server: a method, a path, JSON in and JSON out."""

    def __init__(self, configuration: client.Configuration, timeout_seconds: float) -> None:
        self._configuration = configuration
        self._timeout = timeout_seconds
        self._transport = client.ApiClient(configuration).rest_client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    @property
    def server(self) -> str:
        return str(self._configuration.host)

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
        if authorization := await _authorization(self._configuration):
            headers["Authorization"] = authorization
        url = self._configuration.host + path
        try:
            response = await self._transport.request(
                method, url, headers=headers, body=body, _request_timeout=self._timeout
            )
            # Client 36 has read the answer and raised for an error; 37 has done neither.
            code, data = response.status, response.data
            if data is None:
                data = await response.read()
        except client.ApiException as error:
            code, data = error.status, error.body
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConnectionFailed(_one_line(error)) from error
        document = _parse(data)
        if code >= 400:
            raise api_error(code, document)
        return document


async def _authorization(configuration: client.Configuration) -> str | None:
    """The Authorization header; asked anew each time, since tokens expire and are refreshed."""
    token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    if token:
        return str(token)
    if configuration.username:
        return str(configuration.get_basic_auth_token())
    return None


def _parse(data: bytes | str | None) -> dict[str, Any]:
    try:
        document = json.loads(data or b"{}")
    except ValueError:
        # A proxy's answer, not the API server's.
        text = data.decode(errors="replace") if isinstance(data, bytes) else str(data)
        return {"message": text[:200]}
    return document if isinstance(document, dict) else {"message": str(document)[:200]}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
