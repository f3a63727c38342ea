"""Take the measurements: one workload and one case on one control plane each."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.bench import generator
from tests.bench.arrival import Arrival, Pace
from tests.bench.connection import Connection, connect
from tests.bench.environment import BenchEnv, prepared
from tests.bench.errors import BenchError
from tests.bench.generator import Batch
from tests.bench.generator_load import GeneratorLoad
from tests.bench.neighbours import Neighbours
from tests.bench.options import Case, Options
from tests.bench.request_counts import RequestCounts
from tests.bench.timeline import Timeline
from tests.bench.workloads import Form, Workload
from tests.cluster import audit
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Progress

WARM_UP: Final = Arrival(Pace.BURST, 20)
"""A burst before the measured objects, so that caches are filled."""
WARM_UP_SECONDS: Final = 60.0
TRAILING_SECONDS: Final = 4.0
"""The measurement continues after the last object, to include deferred work of a controller."""
QUIET_CPU_MS: Final = 100.0
"""If the API server uses less CPU than this in one second, it is idle."""
QUIET_WITHIN_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Measurement:
    """The result of a measurement. figures.py lists the keys of the figures."""

    workload: str
    case: Case
    round: int
    figures: Mapping[str, float]
    requests_per_object: Mapping[str, float]
    """Number of requests by verb and resource."""
    errors: Mapping[str, int]
    """Number of failed requests except 409, by HTTP code, verb and resource."""
    generator_cpu_share: float
    generator_late_p99_ms: float
    generator_saturated: bool
    neighbours_cores: float
    """How many cores other processes kept busy meanwhile."""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Return the measurement of a document that dataclasses.asdict() returned."""
        return cls(**{**document, "case": _case(document["case"])})


@dataclass(frozen=True)
class Failure:
    """A measurement that failed. Its round has no ratio."""

    workload: str
    case: Case
    round: int
    message: str

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Return the failure of a document that dataclasses.asdict() returned."""
        return cls(**{**document, "case": _case(document["case"])})

    def __str__(self) -> str:
        """Return a line for the user."""
        case = f"{self.case.form}, {self.case.arrival.title}"
        return f"{self.workload}, {case}, round {self.round}: {self.message}"


def _case(document: Mapping[str, Any]) -> Case:
    arrival = document["arrival"] | {"pace": Pace(document["arrival"]["pace"])}
    return Case(Form(document["form"]), Arrival(**arrival))


def measure_all(options: Options, progress: Progress) -> Iterator[Measurement | Failure]:
    """Take and yield all measurements. The first raises BenchError or ClusterError if it fails.

    The workloads alternate, so that a change of the machine's load affects all of them.
    """
    order = [
        (case, number, side)
        for case in options.cases()
        for number in range(1, options.rounds + 1)
        for side in options.workloads()
    ]
    for position, (case, number, side) in enumerate(order, 1):
        progress(f"{position} of {len(order)}: {side.name}, {case.form}, {case.arrival.title}")
        try:
            yield _measure(side, case, number, options, progress)
        except (BenchError, ClusterError) as error:
            if position == 1:  # most probably, all would fail
                raise
            progress(f"  failed: {error}")
            yield Failure(side.name, case, number, str(error))


def _measure(
    workload: Workload, case: Case, number: int, options: Options, progress: Progress
) -> Measurement:
    with prepared(workload, case.form, progress) as env:
        return asyncio.run(_Session(env, workload, case, number, options, progress).run())


@dataclass(frozen=True)
class _Span:
    """CPU usage and requests since the beginning of a span of time."""

    env: BenchEnv
    user: str
    controller_ms: float
    api_server_ms: float
    offset: int

    @classmethod
    def begin(cls, env: BenchEnv, user: str) -> "_Span":
        """Begin a span now."""
        controller, api_server = env.controller.cpu_ms(), env.api_server.cpu_ms()
        return cls(env, user, controller, api_server, env.cluster.audit_log.stat().st_size)

    def controller_cpu_ms(self) -> float:
        return self.env.controller.cpu_ms() - self.controller_ms

    def api_server_cpu_ms(self) -> float:
        return self.env.api_server.cpu_ms() - self.api_server_ms

    def counts(self) -> RequestCounts:
        return RequestCounts.of(audit.requests(self.env.cluster.audit_log, self.offset), self.user)


@dataclass(frozen=True)
class _Session:
    env: BenchEnv
    workload: Workload
    case: Case
    number: int
    options: Options
    progress: Progress

    async def run(self) -> Measurement:
        async with connect(self.env.cluster.kubeconfig, self.options.parallel) as connection:
            await generator.run(connection, self._batch("warm-up", WARM_UP, WARM_UP_SECONDS))
            await asyncio.sleep(TRAILING_SECONDS)
            await self._quiet()
            span = _Span.begin(self.env, self.workload.user)
            neighbours = Neighbours.begin(self.env.all())
            timeline, load = await self._measured_batch(connection)
            busy = neighbours.cores()
            await asyncio.sleep(TRAILING_SECONDS)
            figures = timeline.latencies() | self._costs(span)
            if self.case.arrival.pace is Pace.BURST:
                figures |= timeline.throughput()
            counts = span.counts()
            figures |= self._requests(counts)
            if self.case.rests:
                figures |= await self._at_rest()
        return self._measurement(figures, counts, load, busy)

    def _batch(self, prefix: str, arrival: Arrival, deadline: float) -> Batch:
        parallel = self.options.parallel
        return Batch(self.workload, self.case.form, prefix, arrival, parallel, deadline)

    async def _measured_batch(self, connection: Connection) -> tuple[Timeline, GeneratorLoad]:
        arrival, deadline = self.case.arrival, self.case.deadline_seconds
        goal = _GOALS[self.case.form]
        self.progress(f"  {arrival.objects} {self.workload.name}s, each until {goal}")
        return await generator.run(connection, self._batch("bench", arrival, deadline))

    async def _quiet(self) -> None:
        """Wait until the API server has finished the work of its start, the CRD and the warm-up."""
        deadline = time.monotonic() + QUIET_WITHIN_SECONDS
        used = self.env.api_server.cpu_ms()
        while time.monotonic() < deadline:
            await asyncio.sleep(1)
            before, used = used, self.env.api_server.cpu_ms()
            if used - before < QUIET_CPU_MS:
                return
        self.progress("  the API server is still busy: measuring nevertheless")

    def _costs(self, span: _Span) -> dict[str, float]:
        objects = self.case.arrival.objects
        return {
            "controller_cpu_ms": span.controller_cpu_ms() / objects,
            "api_server_cpu_ms": span.api_server_cpu_ms() / objects,
            "controller_mib": self.env.controller.resident_mib(),
        }

    def _requests(self, counts: RequestCounts) -> dict[str, float]:
        objects = self.case.arrival.objects
        by_verb = {f"{verb}_requests": count / objects for verb, count in counts.by_verb.items()}
        return {
            **by_verb,
            "requests": counts.total / objects,
            "own_writes": own_writes(counts.by_kind, self.workload) / objects,
            "conflicts": float(counts.conflicts),
            "other_errors": float(counts.other_errors.total()),
        }

    async def _at_rest(self) -> dict[str, float]:
        self.progress(f"  measuring at rest for {self.options.rest_seconds:.0f} s")
        span = _Span.begin(self.env, self.workload.user)
        await asyncio.sleep(self.options.rest_seconds)
        windows_per_minute = 60 / self.options.rest_seconds
        return {
            "rest_controller_cpu_ms": span.controller_cpu_ms() * windows_per_minute,
            "rest_api_server_cpu_ms": span.api_server_cpu_ms() * windows_per_minute,
            "rest_requests": span.counts().total * windows_per_minute,
        }

    def _measurement(
        self,
        figures: dict[str, float],
        counts: RequestCounts,
        load: GeneratorLoad,
        neighbours_cores: float,
    ) -> Measurement:
        objects = self.case.arrival.objects
        return Measurement(
            workload=self.workload.name,
            case=self.case,
            round=self.number,
            figures=figures,
            requests_per_object={kind: n / objects for kind, n in counts.by_kind.most_common()},
            errors=dict(counts.other_errors),
            generator_cpu_share=load.cpu_share,
            generator_late_p99_ms=load.late_p99_ms,
            generator_saturated=load.saturated,
            neighbours_cores=neighbours_cores,
        )


def own_writes(by_kind: Counter[str], workload: Workload) -> int:
    """Return the number of writes to the workload's own objects and their status."""
    plural = workload.path.rpartition("/")[2]
    paths = (plural, f"{plural}/status")
    return sum(by_kind[f"{verb} {path}"] for verb in ("patch", "update") for path in paths)


_GOALS: Final = {
    Form.POD: "its Pod exists",
    Form.LIFE: "its status reports that its Pod has completed",
}
