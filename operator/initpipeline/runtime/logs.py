"""Configures logging. A log line is a constant message with fields, as text or as JSON."""

import logging
import sys
from typing import Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
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
    # Kopf's callback for a cancelled request fails if its watch has ended in the meantime.
    return not (record.name == "asyncio" and "request_cancel_callback" in record.getMessage())


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
