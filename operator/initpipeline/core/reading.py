"""Values as users and other controllers may have written them, read without an exception.

The API server checks types, but little of what a value means: it stores times that no calendar
has, negative restart counts, and annotations of any text. A value that cannot be read counts as
absent. Each reader takes time in proportion to the value's length.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from initpipeline.api.models import INT32_MAX
from initpipeline.api.names import MAX_IDENTIFIER_LENGTH
from initpipeline.core.text import plain


def number(value: object) -> int | None:
    """The positive int32 that ASCII digits give, as of a run; None: they give none."""
    if not isinstance(value, str) or len(value) > 10 or not (value.isascii() and value.isdigit()):
        return None
    found = int(value)
    return found if 1 <= found < INT32_MAX else None


def int32(value: object) -> int:
    """The integer, within 32 bits; 0: it is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return max(-INT32_MAX - 1, min(value, INT32_MAX))


def count(value: object) -> int:
    """The integer, within 0 and INT32_MAX; 0: it is none."""
    return max(int32(value), 0)


def text(value: object) -> str:
    """The text; "": it is none."""
    return value if isinstance(value, str) else ""


def identifier(value: object) -> str:
    """The text, at most MAX_IDENTIFIER_LENGTH characters long. The rest of a longer one is replaced
    by a digest of all of it, so that two of them are equal only if their texts were."""
    whole = text(value)
    if len(whole) <= MAX_IDENTIFIER_LENGTH:
        return whole
    digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:32]
    return f"{whole[: MAX_IDENTIFIER_LENGTH - len(digest) - 3]}...{digest}"


def reason(value: object) -> str:
    """The identifier that gives a reason. People read it, so it has no control characters."""
    return identifier(plain(text(value)))


def mapping(value: object) -> Mapping[str, Any]:
    """The object; empty: it is none."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: object) -> Iterator[Mapping[str, Any]]:
    """The objects in a list."""
    items = value if isinstance(value, list | tuple) else ()
    return (item for item in items if isinstance(item, Mapping))
