"""The command line's words, the same in each subcommand, and what completion knows of them."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from initpipeline.plugin.session import Session

Handler = Callable[[Session], int]
"""Carries out a subcommand. Returns the exit code; raises PluginError."""

VALUED: Final = ("-n", "--namespace", "--context", "--kubeconfig", "-o", "--output")
"""Options of all subcommands that take a value."""

TABLE: Final = ("table", "json", "yaml")
WIDE: Final = ("table", "wide", "json", "yaml")

EXIT_CODES: Final = """\
exit codes:
  0    done
  1    it failed, was given up or is Stalled, or the API server refused
  2    the command line is not valid
  3    the cluster cannot be used: kubeconfig, connection, permission, CRD
  4    no such InitPipeline, step or run
  124  timed out
  130  ended by Ctrl-C
"""


class Subparsers(Protocol):
    """What argparse's ``add_subparsers`` returns."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Add a subcommand."""


def command(
    subparsers: Subparsers,
    name: str,
    handler: Handler,
    *,
    summary: str,
    description: str,
    examples: str,
    outputs: Sequence[str] = (),
    completes: Sequence[str] = (),
    codes: str = EXIT_CODES,
) -> argparse.ArgumentParser:
    """A subcommand with the options that all have.

    ``outputs`` are the values of -o, the first the default. ``completes`` says for each positional
    what it names: "pipeline", "step" or "file"; the last one repeats.
    """
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{examples}\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common()],
    )
    if outputs:
        parser.add_argument(
            "-o",
            "--output",
            choices=outputs,
            default=outputs[0],
            help=f"how to print it (default: {outputs[0]})",
        )
    parser.set_defaults(handler=handler, completes=tuple(completes))
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    where = common.add_argument_group("which cluster and namespace, as with kubectl")
    where.add_argument("-n", "--namespace", metavar="NAME", help="default: the context's")
    where.add_argument(
        "-A",
        "--all-namespaces",
        action="store_true",
        help="all namespaces: list them all, or find a name in whichever it is",
    )
    where.add_argument("--context", metavar="NAME", help="a context of the kubeconfig")
    where.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG")
    return common
