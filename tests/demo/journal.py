"""Record what was observed during each run, for claims about the past."""

from dataclasses import dataclass, field

from initpipeline.api.models import RunRecord
from initpipeline.api.reasons import ConditionType, Reason
from tests.demo.observer import OperatorRestarted
from tests.demo.snapshot import Snapshot

FAILURES = frozenset({Reason.STEP_FAILED, Reason.STEP_BACK_OFF})


@dataclass
class Observed:
    """What was observed during one run."""

    uninitialized: bool = False
    """The condition Initialized was False."""
    failures: set[str] = field(default_factory=set)
    """The messages about failed steps."""
    operator_down: bool = False
    """The operator was down for some time, so that it may have missed states."""


class Journal:
    """Records each change of the pipeline."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        """Observations that must never occur."""
        self._runs: dict[int, Observed] = {}
        self._last = 0
        self._history: dict[int, RunRecord] = {}

    def run(self, number: int) -> Observed:
        """Return what was observed during that run."""
        return self._runs.setdefault(number, Observed())

    def changed(self, snapshot: Snapshot) -> None:
        """Record this state."""
        if snapshot.number:
            self._record_run(snapshot)
            self._record_history(snapshot)

    def settled(self, snapshot: Snapshot) -> None:
        """Do nothing."""

    def operator_restarted(self, _event: OperatorRestarted, snapshot: Snapshot) -> None:
        """Record that the operator may have missed the end of this run, or the next run."""
        for number in (snapshot.number, snapshot.number + 1):
            self.run(number).operator_down = True

    def _record_run(self, snapshot: Snapshot) -> None:
        number, run = snapshot.number, self.run(snapshot.number)
        if number not in (self._last, self._last + 1):
            self.violations.append(f"run {number} followed run {self._last}")
        self._last = number
        initialized = snapshot.status.condition(ConditionType.INITIALIZED)
        if initialized and initialized.status == "False":
            run.uninitialized = True
            if initialized.reason in FAILURES:
                run.failures.add(initialized.message)

    def _record_history(self, snapshot: Snapshot) -> None:
        history = snapshot.status.history
        records = {record.number: record for record in history}
        if len(records) != len(history):
            self.violations.append("the history contains a run twice")
        for number, record in self._history.items():
            if records.get(number) != record:
                self.violations.append(f"the history of run {number} changed after its end")
        self._history = records
