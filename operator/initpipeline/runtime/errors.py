"""What can go wrong between the operator and the API.

OperatorError           ends the process with one line for a person
  LoginError            no usable credentials or address
ApiError                the API server answered with an error
  NotFoundError         404: the object is gone
  ConflictError         409: it is not as it was when it was read
  AlreadyExistsError    409: there is one of this name
  TooLargeError         the object would be larger than the cluster can store
ConnectionFailed        no answer at all
"""

from collections.abc import Mapping
from typing import Any


class OperatorError(Exception):
    """Ends the process; its text is one line that says what to do."""


class LoginError(OperatorError):
    """No usable credentials or address of a cluster."""


class ConnectionFailed(Exception):  # noqa: N818 - the name says what happened
    """No answer from the API server: refused, reset, timed out."""


class ApiError(Exception):
    """The API server's answer was an error."""

    def __init__(self, code: int, status: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {one_line(status.get('message') or 'no message')}")
        self.code = code
        self.status = status


class NotFoundError(ApiError):
    """The object is gone, or never was."""


class ConflictError(ApiError):
    """The object is not as it was when it was read."""


class AlreadyExistsError(ApiError):
    """There is an object of this name."""


class TooLargeError(ApiError):
    """The object, or the request, is larger than the API server or etcd accepts."""


_TOO_LARGE = ("request is too large", "Request entity too large", "message larger than max")
"""Parts of the messages of etcd, of the API server, and of the connection between them."""


def api_error(code: int, status: Mapping[str, Any]) -> ApiError:
    """The exception for an HTTP code and the metav1.Status that came with it."""
    if code == 404:
        return NotFoundError(code, status)
    if code == 409:
        exists = status.get("reason") == "AlreadyExists"
        return (AlreadyExistsError if exists else ConflictError)(code, status)
    if code == 413 or any(words in str(status.get("message")) for words in _TOO_LARGE):
        return TooLargeError(code, status)
    return ApiError(code, status)


def one_line(text: object) -> str:
    """For a line of log or of stderr; an error without words is told by its type."""
    return " ".join(str(text).split()) or type(text).__name__
