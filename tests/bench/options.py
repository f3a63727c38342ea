"""What to measure: the user's choices, and the cases that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from tests.bench.arrival import Arrival, Pace
from tests.bench.peers import PEERS
from tests.bench.workloads import JOB, PIPELINE, Form, Workload


@dataclass(frozen=True)
class Case:
    """What is measured for all workloads: one table of the report."""

    form: Form
    arrival: Arrival

    @property
    def title(self) -> str:
        """The heading of the table."""
        return f"{_TITLES[self.form]}: {self.arrival.title}"

    @property
    def deadline_seconds(self) -> float:
        """The timeout of the batch: several times what the slowest workload needs on two cores."""
        return 60 + 0.25 * self.arrival.objects + self.arrival.seconds

    @property
    def rests(self) -> bool:
        """Whether the objects are also measured at rest."""
        return self.form is Form.LIFE and self.arrival.pace is Pace.BURST


_TITLES = {
    Form.POD: "From the object to its Pod, which stays unscheduled",
    Form.LIFE: "From the object to the completion of its Pod, simulated by fake nodes",
}


@dataclass(frozen=True)
class Options:
    """The user's choices."""

    rounds: int
    objects: Sequence[int]
    """The sizes of bursts."""
    parallel: int
    rest_seconds: float
    form: Form | None = None
    """The only form to measure. None: both."""
    rate: float | None = None
    """Objects per second of a steady arrival. None: not measured."""
    alone: int | None = None
    """Number of objects that arrive one at a time. None: not measured."""
    reruns: int | None = None
    """Number of runs per trigger whose latency is measured. None: not measured."""
    scale: Sequence[int] = ()
    """Numbers of InitPipelines at rest with which the operator is started."""
    peers: Sequence[str] = ()
    """Further workloads, by their keys in PEERS."""

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the choices."""
        return [field.name for field in fields(cls)]

    def cases(self) -> list[Case]:
        """Return the cases to measure."""
        forms = [self.form] if self.form else list(Form)
        cases = [Case(form, Arrival(Pace.BURST, count)) for form in forms for count in self.objects]
        if self.rate and Form.LIFE in forms:
            cases.append(Case(Form.LIFE, Arrival(Pace.STEADY, min(self.objects), self.rate)))
        if self.alone and Form.POD in forms:
            cases.append(Case(Form.POD, Arrival(Pace.ALONE, self.alone)))
        return cases

    def workloads(self) -> list[Workload]:
        """Return the workloads in the order in which they are measured in each round."""
        return [JOB, PIPELINE, *(PEERS[key].workload for key in self.peers)]
