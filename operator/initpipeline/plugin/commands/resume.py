"""Implements ``resume``, which starts a run after ``suspend``."""

from initpipeline.plugin.commands.suspend import set_suspend
from initpipeline.plugin.options import (
    TABLE,
    Subparsers,
    command,
    exit_codes,
    names_argument,
    wait_arguments,
)
from initpipeline.plugin.report import wait_results
from initpipeline.plugin.session import Session

_EXAMPLES = """\
  # Resume an InitPipeline and wait until it is Ready
  kubectl initpipeline resume shop --wait

  # Resume two InitPipelines of a namespace
  kubectl initpipeline resume shop api -n team-a
"""

_DESCRIPTION = """\
Set spec.suspend to false. The operator starts a new run with the current template.

With --wait, the exit code is 0 when the run is Ready, 1 if the InitPipeline becomes Stalled or is
suspended again, and 124 after --timeout."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "resume",
        run,
        summary="Start a run after suspend",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["pipeline"],
        codes=exit_codes(
            "with --wait: the InitPipeline is Stalled or suspended; or the API server refused the "
            "request",
            times_out=True,
        ),
    )
    names_argument(parser)
    wait_arguments(parser)


def run(session: Session) -> int:
    return set_suspend(session, False, "resumed", wait_results.ready_stalled_or_suspended)
