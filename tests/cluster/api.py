"""The few API requests that are needed to start a cluster, with the standard library alone.

Tests use the official client (tests/api_client.py). This module must not use it: the machine's own
Python, which runs `python -m tests.cluster` in a checkout without installation (decision 0011),
does not have that package.
"""

import http.client
import json
import ssl
import urllib.parse
from dataclasses import dataclass
from typing import Any, Final

from tests.cluster.certificates import Pair
from tests.cluster.errors import ClusterError

TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Api:
    """An API server, accessed as one user."""

    host: str
    port: int
    authority: Pair
    user: Pair

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the object at that path. None if it does not exist or the server is not up yet."""
        try:
            status, body = self._request("GET", path)
        except (OSError, http.client.HTTPException):
            return None
        if status != http.client.OK:
            return None
        answer: dict[str, Any] = json.loads(body)
        return answer

    def ready(self) -> bool:
        """Return whether the API server reports that it is ready."""
        return answers(f"https://{self.host}:{self.port}/readyz", self._context())

    def create(self, path: str, manifest: dict[str, Any]) -> None:
        """Create an object, unless it exists. An existing object is not changed."""
        status, body = self._request("POST", path, json.dumps(manifest))
        if status not in (http.client.CREATED, http.client.CONFLICT):
            raise ClusterError(f"cannot create at {path}: {status} {body.decode()[:300]}")

    def delete(self, path: str, uid: str) -> None:
        """Delete an object immediately. An object with another UID remains."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        status, body = self._request("DELETE", path, json.dumps(options))
        if status not in (http.client.OK, http.client.NOT_FOUND, http.client.CONFLICT):
            raise ClusterError(f"cannot delete {path}: {status} {body.decode()[:300]}")

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=TIMEOUT_SECONDS, context=self._context()
        )
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self.user.certificate, self.user.key)
        return context


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Return whether a server answers 200. Without a context its certificate is not verified."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_SECONDS)
    if parts.scheme == "https":
        # Components sign their own certificates. Only their health is requested here.
        trusting = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(
            parts.netloc, timeout=TIMEOUT_SECONDS, context=context or trusting
        )
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
