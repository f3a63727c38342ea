"""``rerun``: run all init containers again."""

import argparse
import secrets
from datetime import datetime
from functools import partial

from initpipeline.api.names import RERUN_ANNOTATION
from initpipeline.plugin.cluster import wait
from initpipeline.plugin.options import TABLE, Subparsers, command
from initpipeline.plugin.report.wait_results import Milestone, rerun_result
from initpipeline.plugin.session import Session, Target, resource

_EXAMPLES = """\
  kubectl initpipeline rerun shop
  kubectl initpipeline rerun shop --wait --timeout 5m && ./smoke-test
  kubectl initpipeline rerun shop api --wait --for initialized
"""

_DESCRIPTION = f"""\
Asks for a new run: sets the annotation {RERUN_ANNOTATION} to a token that was never used. The
run starts at once, with a new Pod, whatever state the InitPipeline is in; while it is suspended the
request waits.

With --wait, the exit code is
  0    the run that answers the request is Ready (or initialized, with --for)
  1    it failed and was given up, or another request, a new template or suspend came between
  124  --timeout is over; the run goes on
A retry that backoffLimit allows, and a run after the loss of the Pod, count as the same run."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "rerun",
        run,
        summary="run all init containers again",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["pipeline"],
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="InitPipelines")
    add_wait(parser)
    parser.add_argument(
        "--for",
        dest="goal",
        type=Milestone,
        choices=list(Milestone),
        default=Milestone.READY,
        metavar="ready|initialized",
        help="what --wait waits for (default: ready)",
    )


def add_wait(parser: argparse.ArgumentParser) -> None:
    """--wait and --timeout."""
    parser.add_argument("--wait", action="store_true", help="wait, and show how it goes")
    wait.add_timeout_option(parser, of="--wait, for all together")


def run(session: Session) -> int:
    targets = list(session.each(session.options.names))
    tokens = {target: _request(session, target) for target in targets}
    if not session.options.wait:
        return 0
    goal = session.options.goal
    checks = {target: partial(rerun_result, token=tokens[target], goal=goal) for target in targets}
    return wait.wait_for_all(session, checks, session.options.timeout)


def new_token(now: datetime) -> str:
    """Sorts by time, and two people in one microsecond have different ones."""
    return f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"


def _request(session: Session, target: Target) -> str:
    token = new_token(session.cluster.now())
    with session.progress(f"asking for a run of {target.name}"):
        change = {"metadata": {"annotations": {RERUN_ANNOTATION: token}}}
        changed = session.cluster.patch_pipeline(target.namespace, target.name, change)
    session.changed(changed, f"{resource(target)} rerun requested ({token})")
    return token
