"""What could not be read, counted, and logged once for each object: watches show an object again
and again."""

import logging
from collections import Counter, OrderedDict
from typing import Final

from initpipeline.runtime.gateway import Key, Kind

logger = logging.getLogger(__name__)

REMEMBERED: Final = 1024
"""Objects of which it is remembered that they were logged. Of more, the one that was seen least
recently is logged again."""


class Oddities:
    """Objects that cannot be read."""

    def __init__(self) -> None:
        self.seen: Counter[Kind] = Counter()
        """How often one of a kind could not be read, since the start."""
        self._logged: OrderedDict[tuple[Kind, Key], str] = OrderedDict()

    def note(self, kind: Kind, key: Key, problem: str) -> None:
        """An object cannot be read. Logged unless it was for the same reason."""
        self.seen[kind] += 1
        before = self._logged.pop((kind, key), None)
        self._logged[kind, key] = problem
        if len(self._logged) > REMEMBERED:
            self._logged.popitem(last=False)
        if problem != before:
            fields = {"pipeline": str(key), "kind": kind.value, "error": problem}
            logger.error("object cannot be read", extra=fields)
