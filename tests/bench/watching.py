"""One watch: every change of a kind, with the time at which it was told."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from tests.bench.connection import Connection
from tests.bench.errors import BenchError

SERVER_SECONDS: Final = 600
REOPEN_SECONDS: Final = 0.05

Told = Callable[[dict[str, Any], float], None]
"""Called with the object and the time (monotonic clock, seconds) of each change."""


async def current_version(connection: Connection, path: str) -> str:
    """The collection's resource version now: where a watch of it begins."""
    listed = await connection.get(f"{path}?limit=1")
    return str(listed["metadata"]["resourceVersion"])


async def watch(connection: Connection, path: str, version: str, told: Told) -> None:
    """Tell every change after that version, until cancelled.

    A watch that ends, and some do in silence, goes on where it was: nothing is missed.
    """
    while True:
        version = await _one_watch(connection, path, version, told)
        await asyncio.sleep(REOPEN_SECONDS)


async def _one_watch(connection: Connection, path: str, version: str, told: Told) -> str:
    url = f"{connection.server}{path}?watch=1&resourceVersion={version}"
    url += f"&timeoutSeconds={SERVER_SECONDS}"
    rest = b""
    try:
        async with connection.session.get(url, timeout=aiohttp.ClientTimeout()) as answer:
            if answer.status != 200:
                raise BenchError(f"the watch of {path} was answered {answer.status}")
            async for chunk in answer.content.iter_any():
                now = time.monotonic()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    version = _tell(path, json.loads(line), now, told)
    except aiohttp.ClientError:
        pass  # the connection broke: go on from the last version
    return version


def _tell(path: str, event: dict[str, Any], now: float, told: Told) -> str:
    if event["type"] == "ERROR":
        raise BenchError(f"the watch of {path} cannot go on: {event['object'].get('message')}")
    told(event["object"], now)
    return str(event["object"]["metadata"]["resourceVersion"])
