"""The load generator's API client, on asyncio."""

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from tests.bench.errors import BenchError

REQUEST_SECONDS: Final = 30.0
IDLE_SECONDS: Final = 300.0
WATCHES: Final = 2


@dataclass(frozen=True)
class Connection:
    """Sends requests to one API server."""

    session: aiohttp.ClientSession
    server: str

    async def get(self, path: str) -> dict[str, Any]:
        """Return the document at that path."""
        async with self.session.get(self.server + path) as answer:
            return dict(json.loads(await _body(answer, "GET", path)))

    async def create(self, path: str, body: bytes) -> None:
        """POST a manifest, given as JSON."""
        await self._send("POST", path, body, "application/json")

    async def merge(self, path: str, patch: Mapping[str, Any]) -> None:
        """PATCH an object. Lists are replaced."""
        await self._send("PATCH", path, json.dumps(patch).encode(), "application/merge-patch+json")

    async def delete(self, path: str, options: Mapping[str, Any]) -> None:
        """DELETE an object, with these DeleteOptions."""
        await self._send("DELETE", path, json.dumps(options).encode(), "application/json")

    async def _send(self, method: str, path: str, body: bytes, content: str) -> None:
        headers = {"Content-Type": content}
        url = self.server + path
        async with self.session.request(method, url, data=body, headers=headers) as answer:
            await _body(answer, method, path)

    async def open(self, connections: int) -> None:
        """Open this number of connections in advance, since a TLS handshake is expensive."""
        await asyncio.gather(*(self.get("/version") for _ in range(connections)))


@asynccontextmanager
async def connect(kubeconfig: Path, parallel: int) -> AsyncIterator[Connection]:
    """Connect as the kubeconfig's user, for ``parallel`` concurrent requests plus the watches."""
    cluster, user = _read(kubeconfig)
    connector = aiohttp.TCPConnector(
        limit=parallel + WATCHES, keepalive_timeout=IDLE_SECONDS, ssl=_context(cluster, user)
    )
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    agent = {"User-Agent": "initpipeline-bench"}
    # Without trust_env, aiohttp ignores the proxies of the environment.
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=agent, trust_env=False
    ) as session:
        yield Connection(session, cluster["server"])


def _read(kubeconfig: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the cluster and the user of a kubeconfig."""
    document = yaml.safe_load(kubeconfig.read_text())
    return document["clusters"][0]["cluster"], document["users"][0]["user"]


def _context(cluster: dict[str, str], user: dict[str, str]) -> ssl.SSLContext:
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as pair:  # OpenSSL reads client certificates from files only
        pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n")
        pair.write(base64.b64decode(user["client-key-data"]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return context


async def _body(answer: aiohttp.ClientResponse, method: str, path: str) -> bytes:
    body = await answer.read()
    if answer.status >= 400:
        message = body.decode(errors="replace")[:300]
        raise BenchError(f"{method} {path} failed with {answer.status}: {message}")
    return body
