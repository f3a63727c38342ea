"""Logs objects that cannot be read, each once."""

import logging
from collections import OrderedDict
from typing import Final

from initpipeline.runtime.keys import Key, Kind

logger = logging.getLogger(__name__)

REMEMBERED: Final = 1024
"""Maximum number of objects that are remembered as logged. If there are more, the one that a watch
reported least recently is forgotten. It is logged again when a watch next reports it."""


class UnreadableObjects:
    """Logs each unreadable object once, although the watches report it many times."""

    def __init__(self) -> None:
        self._logged: OrderedDict[tuple[Kind, Key], str] = OrderedDict()

    def note(self, kind: Kind, key: Key, problem: str) -> None:
        """Log an object that cannot be read, unless it was logged for the same problem."""
        before = self._logged.pop((kind, key), None)
        self._logged[kind, key] = problem
        if len(self._logged) > REMEMBERED:
            self._logged.popitem(last=False)
        if problem != before:
            fields = {"pipeline": str(key), "kind": kind.value, "error": problem}
            logger.error("object cannot be read", extra=fields)
