"""The load generator's connection to the API server: asyncio, and one process of its own."""

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
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
    """Requests to one API server."""

    session: aiohttp.ClientSession
    server: str

    async def get(self, path: str) -> dict[str, Any]:
        """The document at that path."""
        async with self.session.get(self.server + path) as answer:
            return dict(json.loads(await _body(answer, "GET", path)))

    async def create(self, path: str, body: bytes) -> None:
        """POST a manifest, JSON already."""
        headers = {"Content-Type": "application/json"}
        async with self.session.post(self.server + path, data=body, headers=headers) as answer:
            await _body(answer, "POST", path)

    async def open(self, connections: int) -> None:
        """So many connections at once, to be kept: a TLS handshake costs more than a request."""
        await asyncio.gather(*(self.get("/version") for _ in range(connections)))


@asynccontextmanager
async def connect(kubeconfig: Path, parallel: int) -> AsyncIterator[Connection]:
    """Up to ``parallel`` requests at once, besides the watches, as a kubeconfig's user."""
    cluster, user = _read(kubeconfig)
    connector = aiohttp.TCPConnector(
        limit=parallel + WATCHES, keepalive_timeout=IDLE_SECONDS, ssl=_context(cluster, user)
    )
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    agent = {"User-Agent": "initpipeline-bench"}
    # Without trust_env: no proxy of the environment is ever asked.
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=agent, trust_env=False
    ) as session:
        yield Connection(session, cluster["server"])


def _read(kubeconfig: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Its cluster and its user."""
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
        said = body.decode(errors="replace")[:300]
        raise BenchError(f"{method} {path} was answered {answer.status}: {said}")
    return body
