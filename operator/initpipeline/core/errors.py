"""The error for an object of the API that cannot be read."""

import contextlib
from collections.abc import Iterator


class UnreadableError(ValueError):
    """An object holds a value that cannot be read. The message is one line: the field and why."""


@contextlib.contextmanager
def unreadable_as_error(kind: str) -> Iterator[None]:
    """Turns an exception in the ``with`` block into an UnreadableError about an object of this
    kind."""
    try:
        yield
    except UnreadableError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        message = " ".join(str(error).split())[:200]
        raise UnreadableError(f"not a valid {kind}: {type(error).__name__}: {message}") from error
    except RecursionError as error:
        raise UnreadableError(f"not a valid {kind}: it is nested too deeply") from error
