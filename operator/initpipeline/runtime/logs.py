"""Log lines: a constant message and fields, for a person on a terminal and as JSON elsewhere."""

import logging
import sys
from typing import Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NAMES = {"levelname": "level", "name": "logger"}


def configure(
    form: Literal["auto", "plain", "json"], level: str, stream: TextIO = sys.stderr
) -> None:
    """Send all logging to this stream."""
    plain = form == "plain" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_plain() if plain else _json())
    handler.addFilter(_without_framework_traceback)
    logging.captureWarnings(True)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # A line per request, per watch and per handler says nothing that the operator's own lines do
    # not.
    for noisy in ("kopf", "kubernetes", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


def _without_framework_traceback(record: logging.LogRecord) -> bool:
    """Kopf tells each failed watch with a traceback of its own insides. The message says as much to
    a person; who looks for a fault asks for debug."""
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        return True
    if record.name.startswith("kopf"):
        record.exc_info = record.exc_text = None
    # A watch that ends while its request is under way trips over its own way of saying so.
    return not (record.name == "asyncio" and "request_cancel_callback" in record.getMessage())


class PlainFormatter(logging.Formatter):
    """``12:00:01 INFO    run started pipeline=default/demo run=1``"""

    def format(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in vars(record).items() if k not in _STANDARD and k[0] != "_"}
        line = super().format(record)
        return " ".join([line, *(f"{key}={value}" for key, value in fields.items())])


def _plain() -> logging.Formatter:
    return PlainFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


def _json() -> logging.Formatter:
    fields = "%(levelname)s %(name)s %(message)s"
    return JsonFormatter(fields, rename_fields=_NAMES, timestamp="time")
