"""The result of one run of the benchmark: the measurements and their circumstances."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.bench.errors import BenchError
from tests.bench.machine import Machine
from tests.bench.measurement import Failure, Measurement
from tests.bench.options import Options
from tests.bench.reruns import Reruns
from tests.bench.scale import Scale
from tests.bench.workloads import Form

BUSY_CORES: Final = 0.2


@dataclass(frozen=True)
class Result:
    """All measurements of one run, with their circumstances."""

    date: str
    """The day on which it began, in UTC."""
    machine: Machine
    options: Options
    measurements: Sequence[Measurement]
    reruns: Sequence[Reruns] = field(default_factory=list)
    scales: Sequence[Scale] = field(default_factory=list)
    failures: Sequence[Failure] = field(default_factory=list)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Return the result that write() has written to the file.

        Raise BenchError if the file has another content.
        """
        try:
            return cls._read(json.loads(file.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{file} is not a result of this version: {error!r}") from error

    @classmethod
    def _read(cls, document: dict[str, Any]) -> Self:
        options = dict(document["options"])
        options["form"] = options["form"] and Form(options["form"])
        options["objects"] = tuple(options["objects"])
        options["peers"] = tuple(options["peers"])
        options["scale"] = tuple(options["scale"])
        return cls(
            document["date"],
            Machine(**document["machine"]),
            Options(**options),
            [Measurement.read(one) for one in document["measurements"]],
            [Reruns(**one) for one in document["reruns"]],
            [Scale(**one) for one in document["scales"]],
            [Failure.read(one) for one in document["failures"]],
        )

    def write(self, file: Path) -> None:
        """Write everything as JSON."""
        file.write_text(json.dumps(asdict(self), indent=2) + "\n")

    def circumstances(self) -> Iterator[str]:
        """Yield sentences about the machine, and about what may have distorted the figures."""
        options, measured = self.options, self.measurements
        yield f"{self.date}. {self.machine.sentence()}"
        yield (
            f"Bursts by {options.parallel} parallel requests; {options.rounds} round(s). Median "
            "[minimum-maximum] over the rounds. The ratio is InitPipeline divided by the workload "
            "to its left, computed within each round."
        )
        for failure in self.failures:
            yield f"FAILED: {failure}"
        if not measured:
            return
        share = max(one.generator_cpu_share for one in measured)
        late = max(one.generator_late_p99_ms for one in measured)
        yield (
            f"Load generator, at worst: {share:.0%} of a core, {late:.0f} ms late (p99). All times "
            "may be wrong by that amount."
        )
        least = min(one.neighbours_cores for one in measured)
        most = max(one.neighbours_cores for one in measured)
        yield (
            f"Other processes on this machine kept {least:.1f} to {most:.1f} cores busy"
            + ("." if most < BUSY_CORES else ". They increase all figures, especially latencies.")
        )
        saturated = sum(one.generator_saturated for one in measured)
        if saturated:
            yield (
                f"WARNING: in {saturated} of {len(measured)} measurements the load generator was "
                "saturated. It may have limited the figures, not the controller."
            )
