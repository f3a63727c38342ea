"""``history``: the runs that were."""

from initpipeline.core.facts import Pipeline
from initpipeline.plugin.options import TABLE, Subparsers, command
from initpipeline.plugin.session import Session
from initpipeline.plugin.views import history as view

_EXAMPLES = """\
  kubectl initpipeline history shop
  kubectl initpipeline history shop -o json | jq '.[] | select(.result == "Failed")'
"""

_DESCRIPTION = """\
The runs of an InitPipeline, newest first: what triggered each, how it ended, how long its init
containers took, and at which step it failed with what last words. What its spec.runHistoryLimit
does not keep is not known."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "history",
        run,
        summary="the runs of a pipeline, with trigger, result and failed step",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["pipeline"],
    )
    parser.add_argument("name", metavar="NAME", help="an InitPipeline")


def run(session: Session) -> int:
    status = Pipeline.from_api(session.read(session.target(session.options.name))).status
    if session.for_a_program:
        session.show_data(view.data(status))
    elif view.runs(status):
        session.show(view.table(status, session.cluster.now()))
    else:
        session.note("no run has started yet")
    return 0
