"""The rounds: both sides in turn, so that what drifts on the machine drifts for both."""

from collections.abc import Sequence
from typing import Final

from tests.bench.measurement import Measurement, Options, measure
from tests.bench.workloads import JOB, PIPELINE, Form
from tests.cluster.progress import Progress

SIDES: Final = (JOB, PIPELINE)


def run(
    forms: Sequence[Form], rounds: int, options: Options, progress: Progress
) -> list[Measurement]:
    """All measurements, in the order in which they were made."""
    order = [(form, side) for form in forms for _ in range(rounds) for side in SIDES]
    measurements = []
    for number, (form, side) in enumerate(order, 1):
        progress(f"{number} of {len(order)}: {side.name}, {form}")
        measurements.append(measure(side, form, options, progress))
    return measurements
