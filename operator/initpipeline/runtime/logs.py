"""Configures logging. A log line is a constant message with fields, as text or as JSON."""

import logging
import sys
from typing import Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OF_WATCHES = ("request_cancel_callback", "closing of asynchronous generator")
"""The message of asyncio names the callback of a cancelled request, or the generator of a watch
that was cancelled while Kopf handled one of its events."""
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
    # Both fail if a watch of Kopf is cancelled at an unusual moment. The watch ends nevertheless.
    return record.name != "asyncio" or not any(name in record.getMessage() for name in _OF_WATCHES)


class PlainFormatter(logging.Formatter):
    """Formats a record as text: ``12:00:01 INFO    run started pipeline=default/demo run=1``"""

    def format(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in vars(record).items() if k not in _STANDARD and k[0] != "_"}
        line = super().format(record)
        return " ".join([line, *(f"{key}={value}" for key, value in fields.items())])


def _plain() -> logging.Formatter:
    return PlainFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


def _json() -> logging.Formatter:
    fields = "%(levelname)s %(name)s %(message)s"
    return JsonFormatter(fields, rename_fields=_NAMES, timestamp="time")
