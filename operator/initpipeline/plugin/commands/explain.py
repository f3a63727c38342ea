"""Implements ``explain``, which shows why an InitPipeline is in its state and what happens next."""

import time
from typing import Final

from initpipeline.api.reasons import EventReason
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.pod import Pod
from initpipeline.plugin.options import TABLE, Subparsers, command, name_argument
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.explain import (
    OPERATOR_TIMEOUT_SECONDS,
    Report,
    absence,
    report,
)
from initpipeline.plugin.report.pod_events import PodWarning, warnings
from initpipeline.plugin.report.summary import summary
from initpipeline.plugin.session import Session, Target
from initpipeline.plugin.views import explain as view

POLL_SECONDS: Final = 0.5

_EXAMPLES = """\
  # Explain the state of an InitPipeline
  kubectl initpipeline explain shop

  # Print the commands that may help
  kubectl initpipeline explain shop -o json | jq -r '.whatYouCanDo[].command'
"""

_TIMEOUT = f"{OPERATOR_TIMEOUT_SECONDS:g}"
_DESCRIPTION = f"""\
Explain why an InitPipeline is in its state, what happens next and when, which limits apply, and
what you can do. explain reads the InitPipeline and its Pod and makes the same decision as the
operator. If the Pod is not Ready, explain also shows warnings from the events of the Pod, such as a
missing volume or a failing probe.

The API server notifies the operator of each change of the spec or the Pod, and of rerun requests.
explain waits up to {_TIMEOUT} seconds until the status reflects such a change, and otherwise
reports that the operator does not appear to be running. An operator that waits, for example for a
quota, counts as running."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "explain",
        run,
        summary="Explain the state, what happens next and what you can do",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["pipeline"],
    )
    name_argument(parser)


def run(session: Session) -> int:
    target = session.target(session.options.name)
    current, absent = _report(session, target)
    pod_warnings = _warnings(session, target, current.pipeline)
    if session.wants_data:
        session.show_data(view.data(current, absent, pod_warnings))
    else:
        session.show(view.view(current, absent, pod_warnings))
    return 0


def _warnings(session: Session, target: Target, pipeline: Pipeline) -> tuple[PodWarning, ...]:
    """Returns the warnings from the events of the Pod. Empty if the Pod is Ready, since they have
    no effect any more."""
    uid = pipeline.status.pod_uid
    if uid is None or summary(pipeline.status) == "Ready":
        return ()
    with session.progress("reading the events of the Pod"):
        events = session.cluster.list_events(target.namespace, uid)
    return warnings(events, formatting.state_message(pipeline.status))


def _report(session: Session, target: Target) -> tuple[Report, str | None]:
    """Returns the report, and a message if the operator does not appear to be running.

    While the operator has overdue actions, the InitPipeline is read again: a running operator
    performs them within OPERATOR_TIMEOUT_SECONDS.
    """
    with session.progress(f"reading {target.name} and checking that the operator acts on it"):
        started = time.monotonic()
        facts, current = _read(session, target)
        version = facts.pipeline.resource_version
        while current.overdue and facts.pipeline.resource_version == version:
            waited = time.monotonic() - started
            if waited > OPERATOR_TIMEOUT_SECONDS:
                if _status_not_written(session, facts):
                    return current, None
                return current, absence(current, waited)
            session.pause(POLL_SECONDS)
            facts, current = _read(session, target)
    return current, None


def _read(session: Session, target: Target) -> tuple[Facts, Report]:
    pipeline = Pipeline.from_api(session.cluster.get_pipeline(target.namespace, target.name))
    raw_pod = session.cluster.find_pod(target.namespace, target.name)
    facts = Facts(pipeline, None if raw_pod is None else Pod.from_api(raw_pod))
    return facts, report(facts, session.cluster.now(), session.flags(target))


def _status_not_written(session: Session, facts: Facts) -> bool:
    """Returns whether the operator has reported, in an event, that it cannot write the status.
    Prints that event as a note."""
    pipeline = facts.pipeline
    events = session.cluster.list_events(pipeline.namespace, pipeline.uid)
    matching = [one for one in events if one.get("reason") == EventReason.STATUS_NOT_WRITTEN]
    if matching:
        message = formatting.one_line(matching[-1].get("message") or "")
        session.note(f"the operator reports: {message}")
    return bool(matching)
