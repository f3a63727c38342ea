"""A client of the API server whose requests a test answers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from initpipeline.api.raw import Raw
from initpipeline.runtime.client import JSON, ApiClient


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of ``ApiClient.request``."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    content_type: str = JSON
    accept: str = JSON
    left: Callable[[], float] = lambda: math.inf


class StubClient(ApiClient):
    """Sends nothing. Subclasses answer."""

    def __init__(self) -> None: ...

    async def request(self, *arguments: Any, **options: Any) -> Raw:
        return await self.answer(Request(*arguments, **options))

    async def answer(self, request: Request) -> Raw:
        raise NotImplementedError
