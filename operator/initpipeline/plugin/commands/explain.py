"""``explain``: why it is in its state, what happens next and when, and what a person can do."""

import time
from typing import Final

from initpipeline.api.names import NAME_LABEL
from initpipeline.api.reasons import EventReason
from initpipeline.core.decide import decide
from initpipeline.core.facts import Facts, Pipeline, Pod
from initpipeline.plugin.options import TABLE, Subparsers, command
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.pod_events import PodWarning, warnings
from initpipeline.plugin.report.report import Report, report
from initpipeline.plugin.report.summary import summary
from initpipeline.plugin.session import Session, Target
from initpipeline.plugin.views import explain as view

PATIENCE_SECONDS: Final = 6.0
"""So long an operator that is running is given to do what it has to."""
LOOK_SECONDS: Final = 0.5

_EXAMPLES = """\
  kubectl initpipeline explain shop
  kubectl initpipeline explain shop -o json | jq -r '.whatYouCanDo[].command'
"""

_DESCRIPTION = f"""\
Read the InitPipeline and its Pod, and show by the operator's own decision: why it is in its state,
what happens next and when, which limits apply and how much is left of them, and what you can do. If
the Pod is not Ready, explain also shows the warnings in its events, such as a missing volume or a
failing probe.

The API server notifies the operator of each change of the spec, of requests and of the Pod. If
status does not reflect such a change for {PATIENCE_SECONDS:g} seconds, explain first reports that
the operator seems not to be running. An operator that waits, such as for a quota or a taken name,
counts as running."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "explain",
        run,
        summary="why it is in its state, what happens next, what you can do",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["pipeline"],
    )
    parser.add_argument("name", metavar="NAME", help="an InitPipeline")


def run(session: Session) -> int:
    target = session.target(session.options.name)
    found, absent = _report(session, target)
    warned = _warnings(session, target, found.pipeline)
    now = session.cluster.now()
    if session.for_a_program:
        session.show_data(view.data(found, now, absent, warned))
    else:
        session.show(view.view(found, now, absent, warned))
    return 0


def _warnings(session: Session, target: Target, pipeline: Pipeline) -> tuple[PodWarning, ...]:
    """Of a Pod that is not at work, since one that is had its troubles behind it."""
    uid = pipeline.status.pod_uid
    if uid is None or summary(pipeline.status) == "Ready":
        return ()
    with session.progress("reading the events of its Pod"):
        events = session.cluster.list_events(target.namespace, uid)
    return warnings(events, formatting.ready_message(pipeline.status))


def _report(session: Session, target: Target) -> tuple[Report, str | None]:
    """The report, and, where the operator leaves undone what it has to do, words about that."""
    with session.progress(f"looking at {target.name} and whether the operator acts on it"):
        began = time.monotonic()
        facts, found = _look(session, target)
        before = facts.pipeline.resource_version
        while found.overdue and facts.pipeline.resource_version == before:
            waited = time.monotonic() - began
            if waited > PATIENCE_SECONDS:
                return found, None if _status_not_written(session, facts) else _absent(
                    found, waited
                )
            session.pause(LOOK_SECONDS)
            facts, found = _look(session, target)
    return found, None


def _look(session: Session, target: Target) -> tuple[Facts, Report]:
    pipeline = Pipeline.from_api(session.cluster.get_pipeline(target.namespace, target.name))
    raw = session.cluster.find_pod(target.namespace, target.name)
    facts = Facts(pipeline, None if raw is None else Pod.from_api(raw))
    now = session.cluster.now()
    found = report(
        facts,
        decide(facts, now),
        now,
        session.flags(target),
        pod_watched=raw is None or NAME_LABEL in (raw["metadata"].get("labels") or {}),
    )
    return facts, found


def _status_not_written(session: Session, facts: Facts) -> bool:
    """Returns whether an event of the operator reports that it cannot write the status. Prints that
    event as a note."""
    pipeline = facts.pipeline
    events = session.cluster.list_events(pipeline.namespace, pipeline.uid)
    found = [one for one in events if one.get("reason") == EventReason.STATUS_NOT_WRITTEN]
    if found:
        session.note(f"the operator reports: {formatting.one_line(found[-1].get('message') or '')}")
    return bool(found)


def _absent(found: Report, waited: float) -> str:
    return (
        "The operator seems not to be running, or not to serve this namespace: for "
        f"{waited:.0f} s it did not {' and '.join(found.overdue)}. The rest of this output is what "
        "it would do. Check kubectl get pods -n initpipeline-system, or the namespace in which it "
        "is installed."
    )
