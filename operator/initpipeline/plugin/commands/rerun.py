"""Implements ``rerun``, which requests a new run."""

import secrets
from datetime import datetime
from functools import partial

from initpipeline.api.names import RERUN_ANNOTATION
from initpipeline.plugin.cluster import wait
from initpipeline.plugin.options import (
    TABLE,
    Subparsers,
    command,
    exit_codes,
    names_argument,
    wait_arguments,
)
from initpipeline.plugin.report.wait_results import Milestone, rerun_result
from initpipeline.plugin.session import Session, Target, resource

_EXAMPLES = """\
  # Run all init containers again
  kubectl initpipeline rerun shop

  # Run them again, and run a test if the new Pod becomes Ready
  kubectl initpipeline rerun shop --wait --timeout 5m && ./smoke-test

  # Wait only until the init containers of both InitPipelines have succeeded
  kubectl initpipeline rerun shop api --wait --for initialized
"""

_DESCRIPTION = f"""\
Request a new run of all init containers, by setting the annotation {RERUN_ANNOTATION}
to a new token. The operator deletes the Pod, even if the InitPipeline is Ready, Stalled or in
back-off, and creates the new Pod when the old one is gone. If the InitPipeline is suspended, the
request waits until you resume it. Users can start five runs of an InitPipeline without
delay, then one every ten seconds. If this delays the run, --wait shows when the run starts.

With --wait, the exit code is 0 when the requested run is Ready (or initialized, with --for), and 1
if the InitPipeline is Stalled or suspended, or another request or a new template has ended the run.
After --timeout, the exit code is 124, and the run continues. A retry within backoffLimit, or a run
after the loss of the Pod, counts as the requested run."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "rerun",
        run,
        summary="Start a new run of all init containers",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["pipeline"],
        codes=exit_codes(
            "with --wait: see above; or the API server refused the request", times_out=True
        ),
    )
    names_argument(parser)
    wait_arguments(parser)
    parser.add_argument(
        "--for",
        dest="milestone",
        type=Milestone,
        choices=list(Milestone),
        default=Milestone.READY,
        metavar="ready|initialized",
        help="what --wait waits for (default: ready)",
    )


def run(session: Session) -> int:
    targets = session.targets(session.options.names)
    tokens = {target: _request(session, target) for target in targets}
    if not session.options.wait:
        return 0
    check = partial(rerun_result, milestone=session.options.milestone)
    checks = {target: partial(check, token=token) for target, token in tokens.items()}
    return wait.wait_for_all(session, checks, session.options.timeout)


def new_token(now: datetime) -> str:
    """Returns a token that no other request has. Tokens sort by time."""
    return f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"


def _request(session: Session, target: Target) -> str:
    token = new_token(session.cluster.now())
    with session.progress(f"requesting a run of {target.name}"):
        patch = {"metadata": {"annotations": {RERUN_ANNOTATION: token}}}
        changed = session.cluster.patch_pipeline(target.namespace, target.name, patch)
    session.show_change(changed, f"{resource(target)} rerun requested ({token})")
    return token
