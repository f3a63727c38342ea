"""Read the requests to the API server from its audit log."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request that the API server answered. It answers a watch when the watch ends."""

    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    user: str
    agent: str
    code: int

    @classmethod
    def of(cls, event: dict[str, Any]) -> "Request":
        """Return the request of an event of the log."""
        # A request for something other than a resource, such as /readyz, has no objectRef.
        reference = event.get("objectRef", {})
        return cls(
            verb=event["verb"],
            resource=reference.get("resource", ""),
            subresource=reference.get("subresource", ""),
            namespace=reference.get("namespace", ""),
            name=reference.get("name", ""),
            user=event["user"].get("username", ""),
            agent=event.get("userAgent", ""),
            code=event.get("responseStatus", {}).get("code", 0),
        )


def requests(log: Path, offset: int = 0) -> Iterator[Request]:
    """Yield the requests that ended since the log had `offset` bytes.

    `log.stat().st_size` is the present offset.
    """
    with log.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                return  # still being written
            event = json.loads(line)
            if event["stage"] == "ResponseComplete":
                yield Request.of(event)
