"""Defines the options, arguments and exit codes that the subcommands share."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from initpipeline.plugin.cluster import wait
from initpipeline.plugin.session import Session

Handler = Callable[[Session], int]
"""Runs a subcommand and returns its exit code. Raises PluginError."""

VALUED: Final = ("-n", "--namespace", "--context", "--kubeconfig", "-o", "--output")
"""Options of all subcommands that take a value."""

TABLE: Final = ("table", "json", "yaml")
WIDE: Final = ("table", "wide", "json", "yaml")

_EXIT_CODES: Final = """\
exit codes:
  0    success
  1    {failure}
  2    invalid usage
  3    the cluster cannot be used: check kubeconfig, connection, RBAC and CRD
  4    {missing}
{timeout}\
  130  interrupted by Ctrl-C
"""


def exit_codes(
    failure: str, *, missing: str = "the InitPipeline does not exist", times_out: bool = False
) -> str:
    """Returns the exit codes of a subcommand. ``failure`` is the meaning of 1, ``missing`` that of
    4. ``times_out``: the subcommand has --timeout."""
    timeout = "  124  --timeout has passed\n" if times_out else ""
    return _EXIT_CODES.format(failure=failure, missing=missing, timeout=timeout)


EXIT_CODES: Final = exit_codes("the API server refused the request")
"""The exit codes of a subcommand that fails only if its requests do."""


class Subparsers(Protocol):
    """The result of argparse's ``add_subparsers``."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Adds a subcommand and returns its parser."""


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
    all_namespaces: bool = True,
    connects: bool = True,
) -> argparse.ArgumentParser:
    """Adds a subcommand with the shared options and returns its parser.

    ``outputs`` are the values of -o; the first is the default. ``completes`` gives the kind of each
    positional argument for shell completion: "pipeline", "step" or "file"; the last one repeats.
    ``all_namespaces`` adds -A, for subcommands that list InitPipelines or find them by name.
    If ``connects`` is False, the subcommand sends no requests: it accepts the options that choose
    the cluster, because aliases may set them, and its help omits them.
    """
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{examples}\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_cluster_options(all_namespaces, connects, named="pipeline" in completes)],
    )
    if outputs:
        parser.add_argument(
            "-o",
            "--output",
            choices=outputs,
            default=outputs[0],
            help=f"output format (default: {outputs[0]})",
        )
    parser.set_defaults(handler=handler, completes=tuple(completes))
    return parser


def name_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the NAME of one InitPipeline."""
    parser.add_argument("name", metavar="NAME", help="name of the InitPipeline")


def names_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the NAMEs of one or more InitPipelines."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="names of the InitPipelines")


def wait_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --wait and --timeout."""
    parser.add_argument("--wait", action="store_true", help="wait for the result and show progress")
    wait.add_timeout_option(parser, of="--wait, for all NAMEs together")


def _cluster_options(
    all_namespaces: bool, connects: bool, *, named: bool
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group(
        "cluster and namespace, as in kubectl" if connects else "namespace"
    )
    group.add_argument(
        "-n",
        "--namespace",
        metavar="NAME",
        help="namespace (default: that of the context)"
        if connects
        else "namespace in the commands of the notes, if the manifest has none",
    )
    if all_namespaces:
        group.add_argument(
            "-A",
            "--all-namespaces",
            action="store_true",
            help="all namespaces" + ("; a NAME must be in only one of them" if named else ""),
        )
    for option, value, help_text in (
        ("--context", "NAME", "context of the kubeconfig"),
        ("--kubeconfig", "FILE", "kubeconfig file (default: $KUBECONFIG)"),
    ):
        group.add_argument(option, metavar=value, help=help_text if connects else argparse.SUPPRESS)
    return parser
