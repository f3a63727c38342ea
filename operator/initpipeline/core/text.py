"""Makes text of other programs safe to show: no control sequences, limited length."""

import re
from typing import Final

from initpipeline.api.names import MAX_MESSAGE_LENGTH

_SEQUENCE: Final = re.compile(
    r"""
      (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])   # OSC (titles, hyperlinks), DCS, SOS, PM, APC ...
        (?:[^\x07\x1b\x80-\x9f]*+(?:\x07|\x1b\\|\x9c))?   # ... up to the terminator, if it has one
    | (?:\x1b\[|\x9b)[0-?]*+[\ -/]*+[@-~]?   # CSI: colours, moves of the cursor; may be cut short
    | \x1b[\ -/]*+[0-~]?                     # others, such as the choice of a character set
    """,
    re.VERBOSE,
)
"""A control sequence of ECMA-48. Each alternative is linear: it has one way to match."""

_BREAK: Final = re.compile("\r++\n?|[\r\v\f\x85\u2028\u2029]")
"""A line break on some terminals. Several CR in a row count as one, because they only redraw the
line."""

_CONTROLS: Final = "\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""C0, DEL, C1, and the characters that reorder text (UAX #9). HT, LF, VT, FF and CR are left out:
tabs and newlines are safe, and ``plain`` replaces the other line breaks."""

_SURROGATES: Final = "\ud800-\udfff"
"""Lone surrogates: an undecodable byte of an argument, or half of a pair."""

_CONTROL: Final = re.compile(f"[{_CONTROLS}]")
_SURROGATE: Final = re.compile(f"[{_SURROGATES}]")
_UNSAFE: Final = re.compile(f"[{_CONTROLS}\r\v\f\u2028\u2029{_SURROGATES}]")
"""A character that is unsafe on a terminal."""


def plain(text: str) -> str:
    """Returns the text without control sequences, control characters and bidirectional overrides.

    Line breaks of any kind become ``\\n``. Tabs are kept. If the text consists only of control
    characters, they are returned as escapes (``\\u001b[0m``).
    """
    if not _UNSAFE.search(text):
        return text
    cleaned = _SEQUENCE.sub("", text)
    cleaned = _CONTROL.sub("", _BREAK.sub("\n", cleaned))
    cleaned = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", cleaned)
    return cleaned if cleaned.strip() or not text.strip() else escaped(text)


def escaped(text: str) -> str:
    """Returns the text with an escape for each character that is unsafe on a terminal. The escapes
    are valid in a JSON string and in a double-quoted YAML scalar."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def is_plain(text: str) -> bool:
    """Returns whether the text has no character that is unsafe on a terminal. Newlines and tabs are
    safe."""
    return not _UNSAFE.search(text)


def clip(text: str, limit: int = MAX_MESSAGE_LENGTH) -> str:
    """Returns the plain text, at most ``limit`` bytes of UTF-8, with a mark if it was cut."""
    data = plain(text).strip().encode()
    if len(data) <= limit:
        return data.decode()
    mark = " ..."
    return data[: limit - len(mark)].decode(errors="ignore") + mark


def clip_start(text: str, limit: int = MAX_MESSAGE_LENGTH) -> str:
    """Returns the plain text like ``clip``, but cuts its start. The last lines of a log have the
    error."""
    data = plain(text).strip().encode()
    if len(data) <= limit:
        return data.decode()
    mark = "... "
    return mark + data[len(mark) - limit :].decode(errors="ignore")
