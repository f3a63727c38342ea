"""What a controller asked of the API server, from the audit log."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from tests.cluster.audit import Request


@dataclass
class Ledger:
    """The requests of one user in one span of time. A watch is one when it ends."""

    by_verb: Counter[str] = field(default_factory=Counter)
    """How many, by verb: create, update, patch, delete, get, list, watch."""
    by_kind: Counter[str] = field(default_factory=Counter)
    """How many, by verb and resource, as in "patch pods/status"."""
    conflicts: int = 0
    """Answered 409, the other errors aside."""
    other_errors: Counter[str] = field(default_factory=Counter)
    """By HTTP code, verb and resource."""

    @classmethod
    def of(cls, requests: Iterable[Request], user: str) -> "Ledger":
        """Those of that user."""
        ledger = cls()
        for request in requests:
            if request.user == user:
                ledger._enter(request)
        return ledger

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_verb.total()

    def _enter(self, request: Request) -> None:
        resource = "/".join(part for part in (request.resource, request.subresource) if part)
        kind = f"{request.verb} {resource or 'something that is no resource'}"
        self.by_verb[request.verb] += 1
        self.by_kind[kind] += 1
        if request.code == HTTPStatus.CONFLICT:
            self.conflicts += 1
        elif request.code >= HTTPStatus.BAD_REQUEST:
            self.other_errors[f"{request.code} {kind}"] += 1
