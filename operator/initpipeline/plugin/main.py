"""Runs ``kubectl initpipeline``: parses the command line and calls the subcommand's handler."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from initpipeline import __version__
from initpipeline.core.errors import UnreadableError
from initpipeline.plugin import signals
from initpipeline.plugin.commands import (
    dashboard,
    explain,
    history,
    logs,
    plan,
    rerun,
    resume,
    status,
    suspend,
    timeline,
    wrap,
)
from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.options import VALUED, Subparsers
from initpipeline.plugin.session import Session
from initpipeline.plugin.terminal import console, discard_stdout, prepare_streams


class Subcommand(Protocol):
    """A module of ``plugin.commands``."""

    def add(self, subparsers: Subparsers) -> None:
        """Adds the parser and the handler of the subcommand, with ``options.command``."""


SUBCOMMANDS: Final[tuple[Subcommand, ...]] = (
    status,
    logs,
    history,
    timeline,
    explain,
    rerun,
    suspend,
    resume,
    plan,
    dashboard,
    wrap,
)

_EPILOG = """\
examples:
  # List all InitPipelines; those that need attention come first
  kubectl initpipeline status -A

  # Watch one until it is Ready, Stalled or suspended
  kubectl initpipeline status shop --watch

  # Explain its state, what happens next and what you can do
  kubectl initpipeline explain shop

  # Print the logs of all steps and follow them
  kubectl initpipeline logs shop -f

  # Start a new run and wait until the Pod is Ready
  kubectl initpipeline rerun shop --wait

  # Show what applying a file would do
  kubectl initpipeline plan -f shop.yaml

exit codes:
  0    success
  1    failure: a run failed, an InitPipeline is Stalled or suspended, or the API server refused the
       request; plan: the operator would do something
  2    invalid usage
  3    the cluster cannot be used: check kubeconfig, connection, RBAC and CRD
  4    the InitPipeline, step or run does not exist
  5    plan: the API server would refuse an InitPipeline or its Pod
  124  timed out
  130  interrupted by Ctrl-C

Output to a terminal is coloured, unless NO_COLOR is set. If shell completion of kubectl is set up
(kubectl completion --help), it completes InitPipelines, steps, namespaces and contexts.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the subcommand and returns its exit code. argparse exits with 2 on invalid usage."""
    if arguments is None:
        signals.exit_by_exception()
    prepare_streams()
    options = parse(sys.argv[1:] if arguments is None else arguments)
    with tempfile.TemporaryDirectory(prefix="kubectl-initpipeline-") as key_directory:
        return _handle(Session(options, console(), console(stderr=True), Path(key_directory)))


def _handle(session: Session) -> int:
    try:
        code: int = session.options.handler(session)
        session.out.file.flush()
    except PluginError as error:
        return session.fail(error)
    except UnreadableError as error:
        return session.fail(
            PluginError(f"this version of the plugin cannot read the object: {error}")
        )
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        discard_stdout()  # The reader has closed the pipe, as head(1) does.
        return 0
    except OSError as error:
        discard_stdout()
        return session.fail(PluginError(f"cannot write the output: {error.strerror or error}"))
    return code


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line. As in kubectl, options may be at any position, even before
    the subcommand and between positional arguments."""
    parser, commands = build()
    position = command_position(arguments, list(commands))
    if position is None:
        return parser.parse_args(arguments)
    before, after = arguments[:position], arguments[position + 1 :]
    return commands[arguments[position]].parse_intermixed_args([*before, *after])


def command_position(arguments: Sequence[str], commands: Sequence[str]) -> int | None:
    """Returns the index of the subcommand in the arguments. None: the first positional argument is
    not a subcommand, or there is no positional argument."""
    for position, argument in enumerate(arguments):
        if position and arguments[position - 1] in VALUED:
            continue
        if not argument.startswith("-"):
            return position if argument in commands else None
    return None


def build() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Returns the parser of the program, and those of the subcommands by name."""
    parser = argparse.ArgumentParser(
        prog="kubectl initpipeline",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Show and control InitPipelines, which run the init containers of a Pod as a "
        "pipeline.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    # Without prog, the usage of each subcommand starts with the usage above.
    subparsers = parser.add_subparsers(
        prog=parser.prog, required=True, metavar="COMMAND ...", title="commands"
    )
    for module in SUBCOMMANDS:
        module.add(subparsers)
    return parser, dict(subparsers.choices)
