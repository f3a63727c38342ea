"""Put the states of several watches into the order in which the API server stored them."""

import heapq
from collections.abc import Iterable, Iterator

from tests.soak.facts import Gap, Stored


class Merger:
    """Holds facts back until no watch can report an earlier one.

    Each watch reports its states in order, and bookmarks. So a state is complete up to the version
    that the slowest watch has reached.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self._reached = dict.fromkeys(sources, 0)
        self._waiting: list[tuple[int, int, Stored | Gap]] = []
        self._added = 0

    def add(self, fact: Stored | Gap) -> None:
        """Hold this fact back."""
        # The states of a list have versions before that of the list, which is that of the gap.
        self._added += 1
        heapq.heappush(self._waiting, (fact.version, self._added, fact))

    def reach(self, source: str, version: int) -> None:
        """Note that a watch has reported all states up to this version."""
        self._reached[source] = max(self._reached[source], version)

    def ready(self) -> Iterator[Stored | Gap]:
        """Yield, in order, the facts before which no watch can report another one."""
        complete = min(self._reached.values())
        while self._waiting and self._waiting[0][0] <= complete:
            yield heapq.heappop(self._waiting)[2]

    def rest(self) -> Iterator[Stored | Gap]:
        """Yield all other facts, in order."""
        while self._waiting:
            yield heapq.heappop(self._waiting)[2]
