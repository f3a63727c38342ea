"""``python -m tests.bench``: the command line."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from tests.bench import program
from tests.bench.errors import BenchError
from tests.bench.measurement import Options
from tests.bench.report import Report
from tests.bench.workloads import Form
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Lines

DESCRIPTION: Final = """\
Measure InitPipelines beside Jobs: a burst of each, with the same Pod of three init containers, in
turn, each time on a new control plane of this machine whose fake nodes play the Pods' lives. The
Job controller has its limits raised, so that it is held back by CPU alone.

What counts are the ratios: both sides were measured within minutes on the same machine. On two
cores, all of it takes about six minutes, after Kubernetes and kwok were built once.
"""
EPILOG: Final = """\
examples:
  python -m tests.bench                        all of it: two rounds of both forms
  python -m tests.bench --form pod --rounds 5  only how fast Pods appear, with a better spread
  python -m tests.bench --objects 2000 --json bench.json

Progress goes to standard error, the table to standard output. A figure is never a failure: exit
codes are 0 measured, 1 an object did not finish in time or there was no cluster, 2 misused.
tests/bench/README.md tells the method and how to read the table.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    chosen = Options(options.objects, options.parallel, options.rest_seconds)
    forms = [options.form] if options.form else list(Form)
    try:
        measurements = program.run(forms, options.rounds, chosen, Lines())
        report = Report(measurements, chosen)
        report.print()
        if options.json:
            report.write(options.json)
    except (BenchError, ClusterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped by Ctrl-C: the cluster is down", file=sys.stderr)
        return 130
    return 0


def _end(_number: int, _frame: object) -> NoReturn:
    """As Ctrl-C does, so that the cluster goes down."""
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
        help="measure each side so often, in turn: %(default)s",
    )
    parser.add_argument(
        "--objects", type=_count, default=200, metavar="N", help="in a burst: %(default)s"
    )
    parser.add_argument(
        "--parallel",
        type=_count,
        default=50,
        metavar="N",
        help="requests at a time that create them: %(default)s",
    )
    parser.add_argument(
        "--form",
        type=Form,
        choices=list(Form),
        help="pod: from the object to its Pod; life: until the Pod has ended, and at rest. "
        "Default: both",
    )
    parser.add_argument(
        "--rest-seconds",
        type=_count,
        default=20,
        metavar="N",
        help="how long to look at both at rest: %(default)s",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write every measurement there"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100000")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
