"""Defines the colours of all views."""

from typing import Final

from initpipeline.api.reasons import Reason

GOOD: Final = "green"
BAD: Final = "red"
BUSY: Final = "yellow"
QUIET: Final = "dim"

_GOOD_REASONS: Final = frozenset({Reason.POD_READY, Reason.POD_SUCCEEDED, Reason.INITIALIZED})
_BUSY_REASONS: Final = frozenset(
    {
        Reason.POD_PENDING,
        Reason.STEP_PENDING,
        Reason.STEP_RUNNING,
        Reason.CONTAINERS_NOT_READY,
        Reason.POD_TERMINATING,
        Reason.SUSPENDED,
        Reason.RATE_LIMITED,
    }
)


def of_reason(reason: str) -> str:
    """Returns the colour of a reason of a condition: GOOD, BUSY while progress is made, or BAD."""
    if reason in _GOOD_REASONS:
        return GOOD
    return BUSY if reason in _BUSY_REASONS or not reason else BAD
