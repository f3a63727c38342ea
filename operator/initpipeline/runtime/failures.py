"""Counts requests that fail again and again, so that status reports them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from initpipeline.runtime.errors import ApiError, ConnectionFailed, LeaseExpiring
from initpipeline.runtime.keys import Key

IN_A_ROW: Final = 2
"""Status reports a failure after this many in a row. A single one is not worth a write."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failure of a request."""

    times: int
    """How many requests have failed in a row."""
    code: int | None
    """The HTTP code. None: there was no answer."""
    error: str


class Failures:
    """Counts the requests of one kind that have failed in a row, for each pipeline."""

    def __init__(self) -> None:
        self._failed: dict[Key, Failure] = {}

    @contextmanager
    def counted(self, key: Key, *answers: type[ApiError]) -> Iterator[None]:
        """Counts the request within the context. The exceptions ``answers`` are no failures."""
        try:
            yield
        except LeaseExpiring:
            raise  # The request was not sent.
        except answers:
            self.forget(key)
            raise
        except (ApiError, ConnectionFailed) as error:
            before = self._failed.get(key)
            code = error.code if isinstance(error, ApiError) else None
            self._failed[key] = Failure(before.times + 1 if before else 1, code, str(error))
            raise
        self.forget(key)

    def last(self, key: Key) -> Failure | None:
        """Returns the last failure. None: fewer than IN_A_ROW requests have failed."""
        failure = self._failed.get(key)
        return failure if failure and failure.times >= IN_A_ROW else None

    def forget(self, key: Key) -> None:
        self._failed.pop(key, None)
