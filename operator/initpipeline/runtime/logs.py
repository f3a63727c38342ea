"""Configures logging. A log line is a constant message with fields, as text or as JSON."""

import logging
import re
import sys
from collections.abc import Iterator
from typing import Final, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

from initpipeline.core.text import escaped

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OF_WATCHES = ("request_cancel_callback", "closing of asynchronous generator")
"""The message of asyncio names the callback of a cancelled request, or the generator of a watch
that was cancelled while Kopf handled one of its events."""
_WORD: Final = re.compile(r"""[^\s"=\\]+""")
"""Matches a value that needs no quotes."""
_NAMES = {"levelname": "level", "name": "logger"}


def configure(
    form: Literal["auto", "plain", "json"], level: str, stream: TextIO = sys.stderr
) -> None:
    """Send the log lines of all libraries to this stream. The form ``auto`` is plain on a terminal,
    and JSON otherwise."""
    plain = form == "plain" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_plain() if plain else _json())
    handler.addFilter(_without_framework_traceback)
    logging.captureWarnings(True)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Below warning, they log each request, watch and handler. The operator's lines suffice.
    for noisy in ("kopf", "kubernetes", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


def _without_framework_traceback(record: logging.LogRecord) -> bool:
    """Returns whether to log the record. Removes the traceback from Kopf's records, except at level
    debug: Kopf logs one for each failed watch, although its message has the cause."""
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        return True
    if record.name.startswith("kopf"):
        record.exc_info = record.exc_text = None
    # Those of _OF_WATCHES fail if a watch of Kopf is cancelled at an unusual moment. The watch ends
    # nevertheless.
    return record.name != "asyncio" or not any(name in record.getMessage() for name in _OF_WATCHES)


class PlainFormatter(logging.Formatter):
    """Formats a record as text: ``12:00:01 INFO    run started pipeline=default/demo run=1``

    Names and messages of users and of containers cannot begin a line, send a control sequence to
    the terminal, or look like another field: values are quoted and escaped as needed.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in vars(record).items() if k not in _STANDARD and k[0] != "_"}
        first = logging.makeLogRecord(
            vars(record)
            | {"msg": _on_one_line(record.getMessage()), "args": None}
            | {"exc_info": None, "exc_text": None, "stack_info": None}
        )
        values = (f"{key}={_value(value)}" for key, value in fields.items())
        line = " ".join([super().format(first), *values])
        return "\n".join([line, *self._details(record)])

    def _details(self, record: logging.LogRecord) -> Iterator[str]:
        """Yields the lines of the traceback, indented, so that none looks like another record."""
        text = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        for part in filter(None, (text, record.stack_info)):
            yield from (f"    {_on_one_line(line)}" for line in part.split("\n"))


def _on_one_line(text: str) -> str:
    """Returns the text with an escape for each line break, control character, and character that
    reorders text."""
    return escaped(text.replace("\n", "\\n").replace("\t", "\\t"))


def _value(value: object) -> str:
    """Returns the value of a field, in quotes if it has spaces, quotes or the like."""
    text = str(value)
    if text and _WORD.fullmatch(text) and text == _on_one_line(text):
        return text
    return '"' + _on_one_line(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _plain() -> logging.Formatter:
    return PlainFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


def _json() -> logging.Formatter:
    fields = "%(levelname)s %(name)s %(message)s"
    return JsonFormatter(fields, rename_fields=_NAMES, timestamp="time")
