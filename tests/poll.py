"""Wait for a condition that can only be polled."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

INTERVAL_SECONDS = 0.05


class PollTimeoutError(Exception):
    """The condition did not become true in time."""


def poll_until(
    condition: Callable[[], T],
    timeout: float,
    what: str,
    *,
    state: Callable[[], Any] | None = None,
    error: Callable[[str], Exception] = PollTimeoutError,
) -> T:
    """Call `condition` until it returns a true value, and return that value.

    After `timeout` seconds, raise `error` with a message that names `what` was waited for and
    shows the last `state`. A condition that can no longer become true should raise an exception.
    It ends the wait at once.
    """
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise error(_message(timeout, what, state))
        time.sleep(INTERVAL_SECONDS)
    return result


def poll_until_stable(value: Callable[[], T], quiet: float, timeout: float, what: str) -> T:
    """Call `value` until it has returned equal values for `quiet` seconds, and return the last.

    Raise PollTimeoutError after `timeout` seconds.
    """
    last, since = value(), time.monotonic()

    def stable() -> bool:
        nonlocal last, since
        if (current := value()) != last:
            last, since = current, time.monotonic()
        return time.monotonic() - since >= quiet

    poll_until(stable, timeout, what, state=lambda: last)
    return last


def _message(timeout: float, what: str, state: Callable[[], Any] | None) -> str:
    last = f"; last state: {state()}" if state else ""
    return f"not within {timeout:g} s: {what}{last}"
