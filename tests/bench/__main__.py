"""``python -m tests.bench``: the command line."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from tests.bench.errors import BenchError
from tests.bench.measurement import Options, measure_all
from tests.bench.report import Report
from tests.bench.workloads import Form
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Lines

DESCRIPTION: Final = """\
Compare InitPipelines with Jobs: create a burst of each, with the same Pod of three init containers.
Each burst runs on a new control plane on this machine, with simulated nodes. The rate limits of the
Job controller are raised, so that only CPU limits it.

The ratios are meaningful, since both are measured within minutes on the same machine. On two cores
the benchmark takes about six minutes, after Kubernetes and kwok have been built once.
"""
EPILOG: Final = """\
examples:
  python -m tests.bench                        two rounds of both forms
  python -m tests.bench --form pod --rounds 5  only the creation of Pods, in more rounds
  python -m tests.bench --objects 2000 --json bench.json

Progress is written to standard error, the table to standard output.
Exit codes: 0 measured, 1 an object did not finish in time or the cluster failed, 2 invalid usage,
130 Ctrl-C. tests/bench/README.md describes the method and the table.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    chosen = Options(options.objects, options.parallel, options.rest_seconds)
    forms = [options.form] if options.form else list(Form)
    try:
        measurements = measure_all(forms, options.rounds, chosen, Lines())
        report = Report(measurements, chosen)
        report.print()
        if options.json:
            report.write(options.json)
    except (BenchError, ClusterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the cluster has been removed", file=sys.stderr)
        return 130
    return 0


def _end(_number: int, _frame: object) -> NoReturn:
    """Exit like after Ctrl-C, so that the cluster is removed."""
    raise SystemExit(128 + signal.SIGTERM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds",
        type=_count,
        default=2,
        metavar="N",
        help="number of measurements of each kind (default: %(default)s)",
    )
    parser.add_argument(
        "--objects",
        type=_count,
        default=200,
        metavar="N",
        help="number of objects in a burst (default: %(default)s)",
    )
    parser.add_argument(
        "--parallel",
        type=_count,
        default=50,
        metavar="N",
        help="number of parallel requests that create the objects (default: %(default)s)",
    )
    parser.add_argument(
        "--form",
        type=Form,
        choices=list(Form),
        help="pod: measure until the Pod is created; life: until the Pod has completed, and at "
        "rest (default: both)",
    )
    parser.add_argument(
        "--rest-seconds",
        type=_count,
        default=20,
        metavar="N",
        help="duration of the measurement at rest (default: %(default)s)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write all measurements to this file"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to 100000")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
