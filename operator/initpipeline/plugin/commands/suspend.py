"""Implements ``suspend``, which deletes the Pod and starts no more runs."""

from initpipeline.plugin.cluster import wait
from initpipeline.plugin.options import (
    TABLE,
    Subparsers,
    command,
    exit_codes,
    names_argument,
    wait_arguments,
)
from initpipeline.plugin.report import wait_results
from initpipeline.plugin.session import Session, Target, resource

_EXAMPLES = """\
  # Suspend an InitPipeline and wait until its Pod is deleted
  kubectl initpipeline suspend shop --wait

  # Suspend two InitPipelines of a namespace
  kubectl initpipeline suspend shop api -n team-a
"""

_DESCRIPTION = """\
Set spec.suspend to true. The operator deletes the Pod and starts no run until you resume the
InitPipeline. The history is kept. If a GitOps tool sets spec.suspend, change it in git: otherwise
the next sync undoes this change.

With --wait, the exit code is 0 when the Pod is deleted, 1 if the InitPipeline is resumed or becomes
Stalled, and 124 after --timeout."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "suspend",
        run,
        summary="Delete the Pod and start no more runs",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["pipeline"],
        codes=exit_codes(
            "with --wait: the InitPipeline is Stalled or resumed; or the API server refused the "
            "request",
            times_out=True,
        ),
    )
    names_argument(parser)
    wait_arguments(parser)


def run(session: Session) -> int:
    return set_suspend(session, True, "suspended", wait_results.suspended)


def set_suspend(session: Session, value: bool, participle: str, check: wait.Check) -> int:
    """Sets spec.suspend of the named InitPipelines, and waits for them with --wait.

    Returns the exit code. ``participle`` describes the change in the output.
    """
    targets = session.targets(session.options.names)
    for target in targets:
        _set_one(session, target, value, participle)
    if not session.options.wait:
        return 0
    checks = dict.fromkeys(targets, check)
    return wait.wait_for_all(session, checks, session.options.timeout)


def _set_one(session: Session, target: Target, value: bool, participle: str) -> None:
    before = session.read(target)
    if bool(before["spec"].get("suspend")) is value:
        session.show_change(before, f"{resource(target)} already {participle}")
        return
    with session.progress(f"changing {target.name}"):
        patch = {"spec": {"suspend": value}}
        changed = session.cluster.patch_pipeline(target.namespace, target.name, patch)
    session.show_change(changed, f"{resource(target)} {participle}")
