"""The operator's exceptions.

OperatorError           ends the process with a message of one line, unless a caller handles it
  LoginError            there are no usable credentials, or no address of a cluster
  LeaseLost             this process has lost the Lease, and must not write any more
  HistoryLost           objects are older than before: the operator starts over
ApiError                the API server answered with an error
  NotFoundError         404: the object does not exist
  ConflictError         409: the object has changed since it was read
  AlreadyExistsError    409: an object with this name exists
  TooLargeError         the object is larger than the API server or etcd accepts
ConnectionFailed        the API server did not answer
  LeaseExpiring         a write was not sent, because the Lease may expire before it ends

The plugin has its own exceptions in plugin/errors.py, with the same names if they mean the same.
The two programs use different clients, and neither imports the other.
"""

from collections.abc import Mapping
from typing import Any, Final


class OperatorError(Exception):
    """Ends the process, unless a caller handles it. The message is one line: what is wrong and how
    to correct it."""


class LoginError(OperatorError):
    """There are no usable credentials, or there is no address of a cluster."""


class LeaseLost(OperatorError):  # noqa: N818 - an event, not an error of the program
    """The Lease was deleted, or another process has written to it, since this process held it."""


class HistoryLost(OperatorError):  # noqa: N818 - an event, not an error of the program
    """The API server has an older version of an object than it had before, as after a restore of
    etcd. What the operator has in memory is not the state of the cluster any more."""

    def __init__(self, what: str, before: int | str, now: int | str) -> None:
        super().__init__(
            f"the resource version of {what} went back from {before} to {now}, as after a restore "
            "of etcd"
        )


class ConnectionFailed(Exception):  # noqa: N818 - ConnectionError is Python's own
    """The API server did not answer: the connection was refused, reset or timed out."""


class LeaseExpiring(ConnectionFailed):
    """A write was not sent, because the Lease may expire before the write ends."""


class ApiError(Exception):
    """The API server answered with an error: an HTTP code and a metav1.Status."""

    def __init__(self, code: int, status: Mapping[str, Any], retry_seconds: int = 0) -> None:
        """``retry_seconds`` is the delay before a retry that the API server requests. 0: it
        requests none."""
        super().__init__(f"{code}: {one_line(status.get('message') or 'no message')}")
        self.code = code
        self.status = status
        self.retry_seconds = retry_seconds


class NotFoundError(ApiError):
    """404: the object, or its namespace, does not exist."""


class ConflictError(ApiError):
    """409: the object has changed since it was read."""


class AlreadyExistsError(ApiError):
    """409: an object with this name exists."""


class TooLargeError(ApiError):
    """The object, or the request, is larger than the API server or etcd accepts."""


_TOO_LARGE = ("request is too large", "Request entity too large", "message larger than max")
"""Parts of the messages of etcd, of the API server, and of their gRPC connection."""


def api_error(code: int, status: Mapping[str, Any], retry_seconds: int = 0) -> ApiError:
    """Returns the exception for an HTTP code and a metav1.Status."""
    kind = ApiError
    if code == 404:
        kind = NotFoundError
    elif code == 409:
        exists = status.get("reason") == "AlreadyExists"
        kind = AlreadyExistsError if exists else ConflictError
    elif code == 413 or any(part in str(status.get("message")) for part in _TOO_LARGE):
        kind = TooLargeError
    return kind(code, status, retry_seconds)


UNAVAILABLE: Final = frozenset({429, 502, 503, 504})
"""The API server cannot answer now. A watch continues after these codes, because a list would cost
more."""


def one_line(text: object) -> str:
    """Returns the text on one line. If it is empty, returns the name of the object's type."""
    return " ".join(str(text).split()) or type(text).__name__
