"""What was seen on the way, run by run: a claim about a moment cannot be checked at the end."""

from dataclasses import dataclass, field

from initpipeline.api.models import RunRecord
from initpipeline.api.reasons import ConditionType, Reason
from tests.demo.snapshot import Snapshot
from tests.demo.world import Restarted

FAILURES = frozenset({Reason.STEP_FAILED, Reason.STEP_BACK_OFF})


@dataclass
class Seen:
    """What was seen of one run."""

    uninitialized: bool = False
    """The condition Initialized was False."""
    failures: set[str] = field(default_factory=set)
    """What was said of steps that failed."""
    unwatched: bool = False
    """The operator was away for some of the time, so that moments may have passed unseen."""


class Journal:
    """Takes note of each change of the pipeline."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.breaches: list[str] = []
        """What may never happen, and did."""
        self._runs: dict[int, Seen] = {}
        self._last = 0
        self._history: dict[int, RunRecord] = {}

    def run(self, number: int) -> Seen:
        """What was seen of that run."""
        return self._runs.setdefault(number, Seen())

    def moved(self, snapshot: Snapshot) -> None:
        """Note what this moment shows."""
        if snapshot.number:
            self._note_run(snapshot)
            self._note_history(snapshot)

    def show(self, snapshot: Snapshot) -> None:
        """Nothing to add."""

    def restarted(self, _event: Restarted, snapshot: Snapshot) -> None:
        """The operator may have been away at the end of this run and the beginning of the next."""
        for number in (snapshot.number, snapshot.number + 1):
            self.run(number).unwatched = True

    def _note_run(self, snapshot: Snapshot) -> None:
        number, seen = snapshot.number, self.run(snapshot.number)
        if number not in (self._last, self._last + 1):
            self.breaches.append(f"run {number} came after run {self._last}")
        self._last = number
        initialized = snapshot.status.condition(ConditionType.INITIALIZED)
        if initialized and initialized.status == "False":
            seen.uninitialized = True
            if initialized.reason in FAILURES:
                seen.failures.add(initialized.message)

    def _note_history(self, snapshot: Snapshot) -> None:
        history = snapshot.status.history
        told = {record.number: record for record in history}
        if len(told) != len(history):
            self.breaches.append("a run is twice in the history")
        for number, record in self._history.items():
            if told.get(number) != record:
                self.breaches.append(f"the history of run {number} was changed after its end")
        self._history = told
