"""Readers for values that users and other controllers write. They never raise an exception.

The API server checks the type of a field, but few other rules. For instance, it stores negative
restart counts. A value that cannot be read counts as absent. Each reader takes time in proportion
to the value's length.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from initpipeline.api.models import INT32_MAX
from initpipeline.api.names import MAX_IDENTIFIER_LENGTH
from initpipeline.core.text import plain


def run_number(value: object) -> int | None:
    """Returns the number of a run, from a string of ASCII digits. None: the string is not a number
    from 1 to INT32_MAX - 1."""
    if not isinstance(value, str) or len(value) > 10 or not (value.isascii() and value.isdigit()):
        return None
    run = int(value)
    return run if 1 <= run < INT32_MAX else None


def int32(value: object) -> int:
    """Returns the integer, limited to 32 bits. 0 if the value is not an integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return max(-INT32_MAX - 1, min(value, INT32_MAX))


def count(value: object) -> int:
    """Returns the integer, limited to 0 to INT32_MAX. 0 if the value is not an integer."""
    return max(int32(value), 0)


def text(value: object) -> str:
    """Returns the string. "" if the value is not a string."""
    return value if isinstance(value, str) else ""


def identifier(value: object) -> str:
    """Returns the string, shortened to MAX_IDENTIFIER_LENGTH characters: the end of a longer string
    is replaced by a digest of the whole, so that different strings have different results."""
    if not isinstance(value, str):
        return ""
    if len(value) <= MAX_IDENTIFIER_LENGTH:
        return value
    digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:32]
    return f"{value[: MAX_IDENTIFIER_LENGTH - len(digest) - 3]}...{digest}"


def reason(value: object) -> str:
    """Returns a reason as an identifier without control characters, safe on a terminal."""
    return identifier(plain(text(value)))


def mapping(value: object) -> Mapping[str, Any]:
    """Returns the JSON object. An empty one if the value is not an object."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> Iterator[Mapping[str, Any]]:
    """Yields the JSON objects in a list, and skips its other items."""
    items = value if isinstance(value, list | tuple) else ()
    return (item for item in items if isinstance(item, dict))
