"""Counts a controller's API requests from the audit log."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from tests.cluster.audit import Request


@dataclass
class RequestCounts:
    """Counts of one user's requests. A watch is counted when it ends. Requests for Leases are left
    out: the Job controller runs without leader election here."""

    by_verb: Counter[str] = field(default_factory=Counter)
    """Number of requests by verb: create, update, patch, delete, get, list, watch."""
    by_kind: Counter[str] = field(default_factory=Counter)
    """Number of requests by verb and resource, for example "patch pods/status"."""
    conflicts: int = 0
    """Number of requests that failed with 409."""
    other_errors: Counter[str] = field(default_factory=Counter)
    """Number of other failed requests by HTTP code, verb and resource."""

    @classmethod
    def of(cls, requests: Iterable[Request], user: str) -> "RequestCounts":
        """Count the requests of that user."""
        counts = cls()
        for request in requests:
            if request.user == user and request.resource != "leases":
                counts._enter(request)
        return counts

    @property
    def total(self) -> int:
        """The number of all requests."""
        return self.by_verb.total()

    def _enter(self, request: Request) -> None:
        resource = "/".join(part for part in (request.resource, request.subresource) if part)
        kind = f"{request.verb} {resource or 'other paths'}"
        self.by_verb[request.verb] += 1
        self.by_kind[kind] += 1
        if request.code == HTTPStatus.CONFLICT:
            self.conflicts += 1
        elif request.code >= HTTPStatus.BAD_REQUEST:
            self.other_errors[f"{request.code} {kind}"] += 1
