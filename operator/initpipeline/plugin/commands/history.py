"""Implements ``history``, which lists the runs of an InitPipeline."""

from initpipeline.core.facts import Pipeline
from initpipeline.plugin.options import TABLE, Subparsers, command, name_argument
from initpipeline.plugin.report.history import recorded_runs
from initpipeline.plugin.session import Session
from initpipeline.plugin.views import history as view

_EXAMPLES = """\
  # List the runs of an InitPipeline
  kubectl initpipeline history shop

  # Show the failed runs as JSON
  kubectl initpipeline history shop -o json | jq '.[] | select(.result == "Failed")'
"""

_DESCRIPTION = """\
List the runs of an InitPipeline, the newest first: what triggered each run, its result, how long
its init containers took, the step that failed and why. Status has the current run and the last
spec.runHistoryLimit runs before it; older runs are not recorded."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "history",
        run,
        summary="List the runs of an InitPipeline",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["pipeline"],
    )
    name_argument(parser)


def run(session: Session) -> int:
    status = Pipeline.from_api(session.read(session.target(session.options.name))).status
    if session.wants_data:
        session.show_data(view.data(status))
    elif recorded_runs(status):
        session.show(view.table(status, session.cluster.now()))
    else:
        session.note("no run has started yet")
    return 0
