"""Tables of the measurements, as text: the same for the terminal and for docs/benchmarks.md."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.figures import FIGURES, Figure
from tests.bench.measurement import Measurement
from tests.bench.options import Case
from tests.bench.reruns import Reruns
from tests.bench.result import Result
from tests.bench.scale import Scale
from tests.bench.stats import Spread
from tests.bench.workloads import JOB, PIPELINE

NONE: Final = "-"
RERUN_TITLE: Final = "Re-runs of InitPipelines: from the cause of the run"
RERUN_COLUMNS: Final = {
    "pod_p50_ms": "to its Pod, p50, ms",
    "pod_p99_ms": "p99",
    "recorded_p50_ms": "to the status, p50, ms",
    "recorded_p99_ms": "p99",
}
SCALE_TITLE: Final = "A start of the operator with InitPipelines at rest, and 20 new ones"
SCALE_ROWS: Final = (
    Figure("first_pod_s", "start -> first new Pod, s", 1),
    Figure("last_pod_s", "start -> all new Pods, s", 1),
    Figure("backlog_s", "start -> at rest, s", 1),
    Figure("start_cpu_ms", "CPU until then, ms", 0),
    Figure("start_cpu_per_pipeline_ms", "  per InitPipeline, ms", 2),
    Figure("start_requests", "API requests until then", 0),
    Figure("mib", "resident, MiB", 0),
    Figure("peak_mib", "  at its peak, MiB", 0),
    Figure("rest_cpu_percent", "at rest: CPU, % of a core", 2),
    Figure("rest_requests", "at rest: API requests", 0),
)

Row = Sequence[str]
"""The title of a row, and its values."""


@dataclass(frozen=True)
class Table:
    """A heading, the names of the columns, and the rows."""

    title: str
    header: Row
    rows: Sequence[Row]


def of(result: Result) -> list[Table]:
    """Return all tables of a result."""
    compared = [comparison(result.measurements, case) for case in cases(result.measurements)]
    further = [
        *([latencies(result.reruns)] if result.reruns else []),
        *([starts(result.scales)] if result.scales else []),
    ]
    return [*compared, *further]


def cases(measurements: Sequence[Measurement]) -> list[Case]:
    """Return the measured cases in their order."""
    return list(dict.fromkeys(one.case for one in measurements))


def sides(measurements: Sequence[Measurement], case: Case) -> dict[str, list[Measurement]]:
    """Return the measurements of a case by workload: InitPipeline, Job, then all others."""
    measured = [one for one in measurements if one.case == case]
    present = {one.workload for one in measured}
    order = dict.fromkeys([PIPELINE.name, JOB.name, *(one.workload for one in measured)])
    return {
        name: [one for one in measured if one.workload == name] for name in order if name in present
    }


def comparison(measurements: Sequence[Measurement], case: Case) -> Table:
    """Return the table of a case: each workload, and the ratio of InitPipeline to it."""
    ours, *others = sides(measurements, case).items()
    header = ["", ours[0], *(column for name, _ in others for column in (name, "ratio"))]
    rows = [
        [figure.title, *_row(figure, ours[1], [measured for _, measured in others])]
        for figure in FIGURES
        if _shown(figure, [one for one in measurements if one.case == case])
    ]
    return Table(case.title, header, rows)


def latencies(reruns: Sequence[Reruns]) -> Table:
    """Return the table of re-runs: a row for each trigger."""
    triggers = dict.fromkeys(one.trigger for one in reruns)
    rows = [
        [name, *_latencies([one for one in reruns if one.trigger == name])] for name in triggers
    ]
    return Table(RERUN_TITLE, ["trigger", *RERUN_COLUMNS.values()], rows)


def starts(scales: Sequence[Scale]) -> Table:
    """Return the table of starts: a column for each number of InitPipelines."""
    numbers = list(dict.fromkeys(one.pipelines for one in scales))

    def measured(figure: Figure, number: int) -> list[float]:
        return [one.figures[figure.key] for one in scales if one.pipelines == number]

    rows = [
        [figure.title, *(cell(measured(figure, n), figure.decimals) for n in numbers)]
        for figure in SCALE_ROWS
    ]
    return Table(SCALE_TITLE, ["InitPipelines at rest", *(f"{n:,}" for n in numbers)], rows)


def requests(measurements: Sequence[Measurement], case: Case) -> Iterator[str]:
    """Yield lines with the number of requests and errors of each kind."""
    for name, measured in sides(measurements, case).items():
        kinds: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        for one in measured:
            kinds.update(one.requests_per_object)
            errors.update(one.errors)
        counts = (f"{kind} {n / len(measured):.2f}" for kind, n in kinds.most_common())
        yield f"{name}, requests per object: {', '.join(counts)}"
        if errors:
            yield f"{name}, errors in all rounds: " + ", ".join(
                f"{kind}: {n}" for kind, n in errors.most_common()
            )


def values(figure: Figure, measurements: Sequence[Measurement]) -> dict[int, float]:
    """Return the values of a figure by round."""
    found = {one.round: one.figures.get(figure.key, figure.absent) for one in measurements}
    return {number: value for number, value in found.items() if value is not None}


def ratios(left: Mapping[int, float], right: Mapping[int, float]) -> list[float]:
    """Return the ratios within each round.

    A round is omitted if one of the workloads has no value, or if the divisor is 0.
    """
    return [value / right[number] for number, value in left.items() if right.get(number)]


def cell(measured: Sequence[float], decimals: int) -> str:
    """Return the median and, if there are several values, the lowest and the highest."""
    if not measured:
        return NONE
    spread = Spread.of(measured)
    median = f"{spread.median:,.{decimals}f}"
    if len(measured) == 1:
        return median
    return f"{median} [{spread.low:,.{decimals}f}-{spread.high:,.{decimals}f}]"


def _shown(figure: Figure, measurements: Sequence[Measurement]) -> bool:
    found = [value for one in measurements for value in values(figure, [one]).values()]
    return bool(found) and (figure.always or any(found))


def _row(
    figure: Figure, ours: Sequence[Measurement], others: Sequence[Sequence[Measurement]]
) -> Iterator[str]:
    left = values(figure, ours)
    yield cell(list(left.values()), figure.decimals)
    for measured in others:
        right = values(figure, measured)
        yield cell(list(right.values()), figure.decimals)
        yield cell(ratios(left, right), 2)


def _latencies(rounds: Sequence[Reruns]) -> Iterator[str]:
    for key in RERUN_COLUMNS:
        yield cell([one.figures[key] for one in rounds if key in one.figures], 0)
