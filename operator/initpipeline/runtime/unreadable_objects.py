"""Counts objects that cannot be read, and logs each once: a watch reports an object many times."""

import logging
from collections import Counter, OrderedDict
from typing import Final

from initpipeline.runtime.gateway import Key, Kind

logger = logging.getLogger(__name__)

REMEMBERED: Final = 1024
"""The most objects that are remembered as logged. Beyond that, the one that was reported least
recently is forgotten and logged again."""


class UnreadableObjects:
    """Objects that cannot be read."""

    def __init__(self) -> None:
        self.seen: Counter[Kind] = Counter()
        """By kind, how often an object could not be read since the operator started."""
        self._logged: OrderedDict[tuple[Kind, Key], str] = OrderedDict()

    def note(self, kind: Kind, key: Key, problem: str) -> None:
        """Count an object that cannot be read. Logs it unless it was logged for the same reason."""
        self.seen[kind] += 1
        before = self._logged.pop((kind, key), None)
        self._logged[kind, key] = problem
        if len(self._logged) > REMEMBERED:
            self._logged.popitem(last=False)
        if problem != before:
            fields = {"pipeline": str(key), "kind": kind.value, "error": problem}
            logger.error("object cannot be read", extra=fields)
