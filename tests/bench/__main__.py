"""``python -m tests.bench``: the command line."""

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from tests.bench import report, reruns, scale
from tests.bench.errors import BenchError
from tests.bench.machine import Machine
from tests.bench.measurement import Failure, Measurement, measure_all
from tests.bench.options import Options
from tests.bench.peers import PEERS
from tests.bench.publish import publish
from tests.bench.reruns import Reruns
from tests.bench.result import Result
from tests.bench.scale import Scale
from tests.bench.workloads import Form
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Lines

DESCRIPTION: Final = """\
Compare InitPipelines with Jobs: create some of each, with the same Pod of three init containers.
Each measurement has a new control plane on this machine, with simulated nodes. The rate limits of
the other controllers are raised, so that only CPU limits them.

The ratios are meaningful, since all are measured within minutes on the same machine. On two cores
the benchmark takes about six minutes, after Kubernetes and kwok have been built once.
"""
ALL: Final[Mapping[str, Any]] = {
    "objects": [200, 2000],
    "rate": 5,
    "alone": 50,
    "reruns": 20,
    "scale": [100, 1000, 10_000],
    "peers": list(PEERS),
}
EPILOG: Final = """\
examples:
  python -m tests.bench                        two rounds of both forms
  python -m tests.bench --form pod --rounds 5  only the creation of Pods, in more rounds
  python -m tests.bench --all --rounds 5 --json bench.json
                                               everything, in two hours
  python -m tests.bench --from bench.json --publish

Progress is written to standard error, the tables to standard output.
Exit codes: 0 measured, 1 an object did not finish in time or the cluster failed, 2 invalid usage,
130 Ctrl-C. If a measurement fails, the others continue. --json is written after each.
tests/bench/README.md describes the method and the tables.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    try:
        result = Result.load(options.source) if options.source else _measured(options)
        report.show(result)
        for file in publish(result) if options.publish else ():
            print(f"wrote {file}", file=sys.stderr)
    except (BenchError, ClusterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the cluster has been removed", file=sys.stderr)
        return 130
    return 1 if result.failures else 0


def _measured(arguments: argparse.Namespace) -> Result:
    """Measure, and write the result after each measurement."""
    options = _options(arguments)
    measurements: list[Measurement] = []
    latencies: list[Reruns] = []
    scales: list[Scale] = []
    failures: list[Failure] = []
    date = datetime.now(UTC).date().isoformat()
    versions = {PEERS[key].workload.name: PEERS[key].version for key in options.peers}
    result = Result(
        date, Machine.here(versions), options, measurements, latencies, scales, failures
    )
    progress = Lines()
    for measured in measure_all(options, progress):
        if isinstance(measured, Failure):
            failures.append(measured)
        else:
            measurements.append(measured)
        if arguments.json:
            result.write(arguments.json)
    for latency in reruns.measure_all(options, progress):
        latencies.extend(latency)
        if arguments.json:
            result.write(arguments.json)
    for start in scale.measure_all(options, progress):
        scales.append(start)
        if arguments.json:
            result.write(arguments.json)
    return result


def options_of(*arguments: str) -> Options:
    """Return what these arguments select."""
    return _options(_parser().parse_args(arguments))


def _options(arguments: argparse.Namespace) -> Options:
    chosen = {name: value for name, value in vars(arguments).items() if value is not None}
    default = ALL if arguments.all else {"objects": [200]}
    values: dict[str, Any] = {name: chosen.get(name, default.get(name)) for name in Options.names()}
    values |= {name: tuple(values[name] or ()) for name in ("objects", "scale", "peers")}
    return Options(**values)


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
        nargs="+",
        metavar="N",
        help="numbers of objects in a burst (default: 200)",
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
        "--rate",
        type=_count,
        metavar="N",
        help="also measure the objects of the smallest burst, created at N a second",
    )
    parser.add_argument(
        "--alone",
        type=_count,
        nargs="?",
        const=50,
        metavar="N",
        help="also measure N objects that arrive one at a time (default: %(const)s)",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        action=_ConstIfEmpty,
        const=list(PEERS),
        choices=list(PEERS),
        help="also measure Tekton and Argo Workflows, or only the one that is named",
    )
    parser.add_argument(
        "--rest-seconds",
        type=_count,
        default=20,
        metavar="N",
        help="duration of the measurement at rest (default: %(default)s)",
    )
    parser.add_argument(
        "--reruns",
        type=_count,
        nargs="?",
        const=20,
        metavar="N",
        help="also measure N re-runs for each trigger (default: %(const)s)",
    )
    parser.add_argument(
        "--scale",
        type=_count,
        nargs="*",
        metavar="N",
        action=_ConstIfEmpty,
        const=[100, 10_000],
        help="also measure a start of the operator with N InitPipelines at rest (default: 100 and "
        "10000)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="measure everything: bursts of 200 and 2000, --rate 5, --alone, --reruns, --scale and "
        "--peers",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write all measurements to this file"
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="measure nothing: read what --json has written",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write the tables and a plot to docs/benchmarks.md and docs/benchmarks.svg",
    )
    return parser


class _ConstIfEmpty(argparse.Action):
    """Without a value, the option has the value ``const``."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        _option: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, list(values or self.const))


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to 100000")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
