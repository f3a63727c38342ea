"""The faults. Each class is one fault, and its fields are the parameters."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

CHUNKS_PER_SECOND = 10


class Exchange(Protocol):
    """A request of a client, and what can be done with it."""

    async def relay(self) -> web.StreamResponse:
        """Send the request to the API server, and its response to the client."""

    async def body(self) -> tuple[int, Mapping[str, str], bytes]:
        """Send the request to the API server. Returns the response's code, headers and body."""

    async def begin(self, code: int, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send the head of a response to the client."""

    def reset(self) -> web.StreamResponse:
        """Reset the client's connection (RST)."""


class Watch(Protocol):
    """An open watch of a client."""

    async def send(self, line: bytes) -> None:
        """Send a line to the client."""

    def reset(self) -> web.StreamResponse:
        """Reset the client's connection (RST)."""


class Fault(ABC):
    """A fault of a request that has just arrived."""

    @abstractmethod
    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Respond to the request with the fault."""


class WatchFault(ABC):
    """A fault of a watch. It also affects watches that were open before it was injected."""

    @abstractmethod
    async def interrupt(self, watch: Watch) -> bool:
        """Inject the fault. Returns whether the watch goes on."""


@dataclass(frozen=True)
class Latency(Fault):
    """The request is sent to the API server late."""

    seconds: float

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        await asyncio.sleep(self.seconds)
        return await exchange.relay()


@dataclass(frozen=True)
class Reset(Fault):
    """The connection is reset, and the API server does not receive the request."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        return exchange.reset()


@dataclass(frozen=True)
class LostResponse(Fault):
    """The API server carries out the request, but the connection is reset before the response."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        await exchange.body()
        return exchange.reset()


@dataclass(frozen=True)
class Unanswered(Fault):
    """The connection is half-open: it stays up, and nothing is ever answered."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        await asyncio.Event().wait()
        return exchange.reset()


@dataclass(frozen=True)
class Answer(Fault):
    """The proxy answers in place of the API server, by default with a metav1.Status."""

    code: int
    message: str = "injected"
    reason: str = ""
    retry_after: str | int | None = None
    body: bytes | None = None
    content_type: str = "application/json"

    async def respond(self, _: Exchange) -> web.StreamResponse:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        body = _status(self.code, self.message, self.reason) if self.body is None else self.body
        return web.Response(
            status=self.code, body=body, headers=headers, content_type=self.content_type
        )


@dataclass(frozen=True)
class Truncated(Fault):
    """The API server carries out the request, and the connection ends within the response's body.

    With ``ends_well``, the response's length is that of the part, as if it were the whole body.
    """

    share: float = 0.5
    ends_well: bool = False

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        code, headers, body = await exchange.body()
        part = body[: int(len(body) * self.share)]
        length = str(len(part) if self.ends_well else len(body))
        response = await exchange.begin(code, {**headers, "Content-Length": length})
        await response.write(part)
        if not self.ends_well:
            await asyncio.sleep(0.05)  # A reset would discard what the client has not read.
            return exchange.reset()
        await response.write_eof()
        return response


@dataclass(frozen=True)
class Slow(Fault):
    """The body of the response arrives slowly."""

    bytes_per_second: int

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        code, headers, body = await exchange.body()
        response = await exchange.begin(code, {**headers, "Content-Length": str(len(body))})
        size = max(1, self.bytes_per_second // CHUNKS_PER_SECOND)
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            await asyncio.sleep(1 / CHUNKS_PER_SECOND)
        await response.write_eof()
        return response


@dataclass(frozen=True)
class Cut(WatchFault):
    """The connection of the watch ends: by the end of the response, or by a reset."""

    by_reset: bool = False

    async def interrupt(self, watch: Watch) -> bool:
        if self.by_reset:
            watch.reset()
        return False


@dataclass(frozen=True)
class Silence(WatchFault):
    """The watch stays open, and no event or bookmark ever arrives: the connection is half-open."""

    async def interrupt(self, _: Watch) -> bool:
        await asyncio.Event().wait()
        return False


@dataclass(frozen=True)
class Insert(WatchFault):
    """A line is inserted into the watch. With ``ends``, the watch then ends."""

    line: bytes
    ends: bool = False

    async def interrupt(self, watch: Watch) -> bool:
        await watch.send(self.line)
        return not self.ends


def error_event(code: int, message: str = "injected", reason: str = "") -> Insert:
    """Returns an ERROR event, after which the API server ends a watch."""
    event = {"type": "ERROR", "object": json.loads(_status(code, message, reason))}
    return Insert(json.dumps(event).encode() + b"\n", ends=True)


def _status(code: int, message: str, reason: str) -> bytes:
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason or _REASONS.get(code, ""),
        "code": code,
    }
    return json.dumps(status).encode()


_REASONS = {
    403: "Forbidden",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
