"""Makes output safe for a terminal, a pipe and any encoding. All output of the plugin except the
bytes of a log passes through this module."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final

import yaml
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from initpipeline.core.text import escaped, is_plain, plain

PLAIN_WIDTH: Final = 4000
"""Columns if the output is not a terminal: wide enough that no line wraps, since programs read
it."""


class SafeConsole(Console):
    """A console that removes control characters from text of the API server or of a file.

    rich keeps the colours and cursor movements of the plugin apart from text, in styles and control
    segments. An unsafe character in the text of a segment never comes from the plugin.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or is_plain(segment.text):
                yield segment
            else:
                yield Segment(_within_lines(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Re-raises BrokenPipeError. The caller decides what a closed pipe means."""
        raise


def console(*, stderr: bool = False) -> SafeConsole:
    """Returns a console with colours on a terminal only, and none if NO_COLOR is set. Brackets are
    text, not markup."""
    made = SafeConsole(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not made.is_terminal:
        made.width = PLAIN_WIDTH
    return made


def prepare_streams() -> None:
    """Makes stdout and stderr replace characters that their encoding cannot represent."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)


def discard_stdout() -> None:
    """Discards buffered output. Otherwise Python would raise an error at exit if the reader has
    closed the pipe."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        sys.stdout = None


def write_bytes(file: IO[str], data: bytes) -> None:
    """Writes the bytes unchanged and flushes the file."""
    file.flush()
    binary = getattr(file, "buffer", None)
    if binary is None:
        file.write(data.decode(errors="replace"))
    else:
        binary.write(data)
    file.flush()


def read_text(file: str) -> str:
    """Returns the text of a manifest file, or of standard input (``-``). Manifests are UTF-8 in any
    locale. Raises OSError, UnicodeDecodeError."""
    if file != "-":
        return Path(file).read_bytes().decode("utf-8-sig")
    binary = getattr(sys.stdin, "buffer", None)
    return sys.stdin.read() if binary is None else str(binary.read(), "utf-8-sig")


def to_json(data: Any, encoding: str) -> str:
    """Returns JSON that parses to the same data. Control characters, and those that the encoding
    cannot represent, are escaped."""
    return escaped(json.dumps(data, indent=2, ensure_ascii=not is_unicode(encoding)))


def to_yaml(data: Any, encoding: str) -> str:
    """Returns YAML that parses to the same data, escaped like ``to_json``."""
    plain_data = json.loads(json.dumps(data))  # Enumerations become strings.
    text = yaml.dump(
        plain_data, Dumper=_Dumper, sort_keys=False, allow_unicode=is_unicode(encoding)
    )
    return escaped(text.rstrip("\n"))


def is_unicode(encoding: str) -> bool:
    """Returns whether the encoding can represent all characters."""
    return encoding.lower().startswith("utf")


def _within_lines(text: str) -> str:
    """Returns the text without control characters. Newlines stay, other line breaks become
    spaces."""
    return "\n".join(plain(line).replace("\n", " ") for line in text.split("\n"))


class _Dumper(yaml.SafeDumper):
    """Quotes text with control characters, because only quoted YAML scalars have escapes."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if is_plain(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
