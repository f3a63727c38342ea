"""Defines the colours of all views."""

from typing import Final

from initpipeline.plugin.report.summary import GOOD_REASONS, is_failure

GOOD: Final = "green"
BAD: Final = "red"
BUSY: Final = "yellow"
QUIET: Final = "dim"


def of_reason(reason: str) -> str:
    """Returns the colour of a reason of a condition: GOOD, BUSY while progress is made, or BAD."""
    if is_failure(reason):
        return BAD
    return GOOD if reason in GOOD_REASONS else BUSY
