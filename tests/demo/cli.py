"""The command line of the demo."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tests.cluster.cluster import DEFAULT_NAME
from tests.cluster.errors import ClusterError
from tests.cluster.plan import valid_name
from tests.cluster.progress import Progress
from tests.demo import place, program
from tests.demo.errors import DemoError, UsageError
from tests.demo.place import Place
from tests.demo.view import View

DESCRIPTION: Final = """\
Play a pipeline of four steps on a real Kubernetes: bring the cluster up, start the operator, apply
manifests/examples/demo.yaml, and break its Pod in three ways. Each change is shown, and each claim
is checked. The cluster and the operator are left running.
"""
EPILOG: Final = """\
environment:
  CLUSTER=current   use the present kubeconfig context, in place of a cluster on this machine;
                    without it, no kubeconfig but the cluster's own is read

Exit codes: 0 all is as claimed, 1 something is not, 2 misused, 130 Ctrl-C.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    options = _parser().parse_args(arguments)
    try:
        find_place = _place(options.name, os.environ.get("CLUSTER", ""))
        with View() as view:
            program.run(find_place, view)
    except (DemoError, ClusterError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # "... | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _place(name: str, cluster: str) -> Callable[[Progress], Place]:
    if cluster not in ("", "current"):
        raise UsageError(
            f"CLUSTER={cluster}: the only value is current, for the present kubeconfig context"
        )
    return place.current if cluster else partial(place.own, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.demo",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--name", type=_name, default=DEFAULT_NAME, help="of the cluster: %(default)s"
    )
    return parser


def _name(text: str) -> str:
    try:
        return valid_name(text)
    except ClusterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
