"""Print the result as a table, and write it as JSON."""

import json
import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.figures import FIGURES, Figure
from tests.bench.measurement import Measurement, Options
from tests.bench.stats import Spread
from tests.bench.workloads import JOB, PIPELINE, Form
from tests.cluster.build import KUBERNETES_VERSION

TITLES: Final = {
    Form.POD: "From the object to its Pod, which stays unscheduled",
    Form.LIFE: "From the object to the completion of its Pod, simulated by fake nodes",
}
NONE: Final = "-"
PLAIN_WIDTH: Final = 120
BUSY_CORES: Final = 0.2


class Report:
    """The measurements of one run of the benchmark."""

    def __init__(self, measurements: Sequence[Measurement], options: Options) -> None:
        self._measurements = measurements
        self._options = options

    def print(self) -> None:
        """Print to standard output: with lines on a terminal, else in plain columns."""
        console = Console(highlight=False, markup=False, emoji=False)
        if not console.is_terminal:
            console.width = PLAIN_WIDTH
        for form in self._forms():
            console.print()
            console.print(_table(form, self._sides(form), console.is_terminal))
            console.print()
            for line in self._requests(form):
                console.print(line, soft_wrap=True)
        console.print()
        for line in self._conditions():
            console.print(line, soft_wrap=True)

    def write(self, file: Path) -> None:
        """Write all measurements with their circumstances as JSON."""
        document = {
            "machine": _machine(),
            "options": asdict(self._options),
            "measurements": [asdict(one) for one in self._measurements],
        }
        file.write_text(json.dumps(document, indent=2) + "\n")

    def _forms(self) -> list[Form]:
        return [form for form in Form if any(one.form is form for one in self._measurements)]

    def _sides(self, form: Form) -> Mapping[str, list[Measurement]]:
        return {
            side.name: [
                one for one in self._measurements if (one.form, one.workload) == (form, side.name)
            ]
            for side in (PIPELINE, JOB)
        }

    def _requests(self, form: Form) -> Iterator[str]:
        """Yield lines with the number of requests and errors of each kind."""
        for name, measurements in self._sides(form).items():
            kinds: Counter[str] = Counter()
            errors: Counter[str] = Counter()
            for one in measurements:
                kinds.update(one.requests_per_object)
                errors.update(one.errors)
            counts = (f"{kind} {n / len(measurements):.2f}" for kind, n in kinds.most_common())
            yield f"{name}, requests per object: {', '.join(counts)}"
            if errors:
                yield f"{name}, errors in all rounds: " + ", ".join(
                    f"{kind}: {n}" for kind, n in errors.most_common()
                )

    def _conditions(self) -> Iterator[str]:
        machine, options = _machine(), self._options
        rounds = max(len(self._sides(form)[PIPELINE.name]) for form in self._forms())
        yield (
            f"{options.objects} objects per burst by {options.parallel} parallel requests, "
            f"{rounds} round(s); Kubernetes {machine['kubernetes']}, Python {machine['python']}, "
            f"{machine['cores']} cores for all processes. Median [minimum-maximum] over the "
            "rounds. The ratio is computed within each round."
        )
        share = max(one.generator_cpu_share for one in self._measurements)
        late = max(one.generator_late_p99_ms for one in self._measurements)
        yield (
            f"Load generator, at worst: {share:.0%} of a core, {late:.0f} ms late (p99). All times "
            "may be wrong by that amount."
        )
        least, most = _range([one.neighbours_cores for one in self._measurements])
        yield (
            f"Other processes on this machine kept {least:.1f} to {most:.1f} cores busy"
            + ("." if most < BUSY_CORES else ". They increase all figures, especially latencies.")
        )
        saturated = sum(one.generator_saturated for one in self._measurements)
        if saturated:
            yield (
                f"WARNING: in {saturated} of {len(self._measurements)} measurements the load "
                "generator was saturated. It may have limited the figures, not the controller."
            )


def _table(form: Form, sides: Mapping[str, list[Measurement]], lines: bool) -> Table:
    table = Table(
        title=TITLES[form],
        title_justify="left",
        box=box.SIMPLE_HEAD if lines else None,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for column in (PIPELINE.name, JOB.name, f"{PIPELINE.name} / {JOB.name}"):
        table.add_column(column, justify="right", no_wrap=True)
    ours, theirs = sides[PIPELINE.name], sides[JOB.name]
    for figure in FIGURES:
        row = _row(figure, ours, theirs)
        if row:
            table.add_row(figure.title, *row)
    return table


def _row(
    figure: Figure, ours: Sequence[Measurement], theirs: Sequence[Measurement]
) -> tuple[str, str, str] | None:
    """Return the cells of a row. None if the row is omitted."""
    left, right = _values(figure, ours), _values(figure, theirs)
    measured = left or right
    if not measured or not (figure.always or any(left) or any(right)):
        return None
    ratios = [a / b for a, b in zip(left, right, strict=False) if b]
    return (
        _cell(left, figure.decimals),
        _cell(right, figure.decimals),
        _cell(ratios, 2),
    )


def _values(figure: Figure, measurements: Sequence[Measurement]) -> list[float]:
    values = [one.figures.get(figure.key, figure.absent) for one in measurements]
    return [value for value in values if value is not None]


def _cell(values: Sequence[float], decimals: int) -> str:
    if not values:
        return NONE
    spread = Spread.of(values)
    median = f"{spread.median:,.{decimals}f}"
    if len(values) == 1:
        return median
    return f"{median} [{spread.low:,.{decimals}f}-{spread.high:,.{decimals}f}]"


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _machine() -> dict[str, object]:
    return {
        "kubernetes": KUBERNETES_VERSION,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
