"""Watch a collection, and report each change with the time at which it arrived."""

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

OnChange = Callable[[dict[str, Any], float], None]
"""Called for each change, with the object and the time in seconds of the monotonic clock."""


async def current_version(connection: Connection, path: str) -> str:
    """Return the present resource version of a collection, at which a watch can begin."""
    listed = await connection.get(f"{path}?limit=1")
    return str(listed["metadata"]["resourceVersion"])


async def watch(connection: Connection, path: str, version: str, on_change: OnChange) -> None:
    """Report every change after that version, until cancelled.

    A watch that ends is resumed from the last version, so that no change is lost.
    """
    while True:
        version = await _one_watch(connection, path, version, on_change)
        await asyncio.sleep(REOPEN_SECONDS)


async def _one_watch(connection: Connection, path: str, version: str, on_change: OnChange) -> str:
    url = f"{connection.server}{path}?watch=1&resourceVersion={version}"
    url += f"&timeoutSeconds={SERVER_SECONDS}"
    rest = b""
    try:
        async with connection.session.get(url, timeout=aiohttp.ClientTimeout()) as answer:
            if answer.status != 200:
                raise BenchError(f"the watch of {path} failed with {answer.status}")
            async for chunk in answer.content.iter_any():
                now = time.monotonic()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    version = _report(path, json.loads(line), now, on_change)
    except aiohttp.ClientError:
        pass  # the connection is broken: resume from the last version
    return version


def _report(path: str, event: dict[str, Any], now: float, on_change: OnChange) -> str:
    if event["type"] == "ERROR":
        raise BenchError(f"the watch of {path} failed: {event['object'].get('message')}")
    on_change(event["object"], now)
    return str(event["object"]["metadata"]["resourceVersion"])
