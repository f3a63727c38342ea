"""``kubectl initpipeline``: the plugin. Each subcommand is a module that adds itself."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from initpipeline import __version__
from initpipeline.core.facts import UnreadableError
from initpipeline.plugin.commands import (
    explain,
    history,
    logs,
    plan,
    rerun,
    status,
    suspend,
    timeline,
    wrap,
)
from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.options import EXIT_CODES, VALUED, Subparsers
from initpipeline.plugin.session import Session
from initpipeline.plugin.terminal import console, discard_stdout, prepare_streams


class Subcommand(Protocol):
    """What a module of a subcommand has."""

    def add(self, subparsers: Subparsers) -> None:
        """Add its parser, with its handler: see options.command."""


SUBCOMMANDS: Final[tuple[Subcommand, ...]] = (
    status,
    logs,
    history,
    timeline,
    explain,
    rerun,
    suspend,
    plan,
    wrap,
)

_EPILOG = f"""\
examples:
  kubectl initpipeline status -A               what needs a person comes first
  kubectl initpipeline status shop --watch     live, step by step
  kubectl initpipeline explain shop            why it is in its state, and what you can do
  kubectl initpipeline logs shop -f            all steps, one after the other
  kubectl initpipeline rerun shop --wait       again, until it is Ready
  kubectl initpipeline plan -f shop.yaml       what applying this file would do

{EXIT_CODES}
Colours are for terminals only; NO_COLOR turns them off. kubectl completes names of InitPipelines,
steps and contexts where its own completion is set up (kubectl completion --help).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; argparse ends the process itself with 2 for a usage not understood."""
    if arguments is None:
        signal.signal(signal.SIGTERM, _end)
    prepare_streams()
    options = parse(sys.argv[1:] if arguments is None else arguments)
    with tempfile.TemporaryDirectory(prefix="kubectl-initpipeline-") as keys:
        return _handle(Session(options, console(), console(stderr=True), Path(keys)))


def _end(number: int, _: object) -> None:
    """Not without tidying up: there may be keys in files."""
    sys.exit(128 + number)


def _handle(session: Session) -> int:
    try:
        code: int = session.options.handler(session)
        session.out.file.flush()
    except PluginError as error:
        return session.fail(error)
    except UnreadableError as error:
        return session.fail(PluginError(f"this version of the plugin cannot read it: {error}"))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        discard_stdout()  # The reader has had enough, as head(1) has.
        return 0
    except OSError as error:
        discard_stdout()
        return session.fail(PluginError(f"cannot write the output: {error.strerror or error}"))
    return code


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Options may come anywhere, also between positionals, as with kubectl."""
    parser, commands = build()
    position = command_position(arguments, list(commands))
    if position is None:
        return parser.parse_args(arguments)
    before, after = arguments[:position], arguments[position + 1 :]
    return commands[arguments[position]].parse_intermixed_args([*before, *after])


def command_position(arguments: Sequence[str], commands: Sequence[str]) -> int | None:
    """Where the subcommand is; None: there is none."""
    for position, word in enumerate(arguments):
        if position and arguments[position - 1] in VALUED:
            continue
        if not word.startswith("-"):
            return position if word in commands else None
    return None


def build() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and those of the subcommands by name."""
    parser = argparse.ArgumentParser(
        prog="kubectl initpipeline",
        description="InitPipelines: a Pod's init containers as a pipeline, with runs and history.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for module in SUBCOMMANDS:
        module.add(subparsers)
    return parser, dict(subparsers.choices)
