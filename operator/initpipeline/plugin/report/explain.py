"""Builds the report of ``explain`` from the operator's decision about the same facts. Pure.

The report has the state of the pipeline and its reason, what happens next and when, the limits that
apply, and what a user can do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.core import log_tails, run_limits, runs
from initpipeline.core.decide import Decision, decide
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.observation import observe
from initpipeline.core.pod import Pod
from initpipeline.core.pod_restarts import restarts_in_run
from initpipeline.core.pod_steps import Step
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.forecast import action_text, forecast, is_retried
from initpipeline.plugin.report.formatting import Line, Mode, Moment
from initpipeline.plugin.report.remedies import Remedy, remedies
from initpipeline.plugin.report.summary import headline, summary

OPERATOR_TIMEOUT_SECONDS: Final = 6.0
"""A running operator acts on a change within this time."""


@dataclass(frozen=True, slots=True)
class ActiveLimit:
    """A limit that applies to the current state."""

    name: str
    message: str
    """What the limit allows, and how much of it is used."""
    at: datetime | None = None
    """When it is exceeded. None: it does not depend on the time."""

    def line(self, now: datetime) -> Line:
        """Returns the message, with the time."""
        at = (", at ", Moment(self.at, Mode.UNTIL)) if self.at else ()
        return Line(now, self.message, *at)


@dataclass(frozen=True, slots=True)
class Report:
    """What ``explain`` shows about a pipeline."""

    reported: Pipeline
    """The pipeline as it was read, with the last status that the operator wrote."""
    pipeline: Pipeline
    """The pipeline with the status of the decision, which a running operator writes next. If the
    operator reports that it fails on this pipeline, the same as ``reported``."""
    pod: Pod | None
    """The Pod with the name of the pipeline, with any owner. None: there is no such Pod."""
    now: datetime
    """The time for which the report was made. All texts of a view refer to it."""
    next: tuple[str, ...]
    """What happens next, in order."""
    limits: tuple[ActiveLimit, ...]
    remedies: tuple[Remedy, ...]
    pending: tuple[str, ...]
    """Actions that follow from the facts, and that the operator has not carried out."""
    overdue: tuple[str, ...]
    """The pending actions that a running operator carries out immediately. If they stay, no
    operator is running."""


def report(facts: Facts, now: datetime, flags: str = "") -> Report:
    """Returns the report about the facts and the operator's decision.

    ``flags`` are the flags with which kubectl finds the pipeline.
    """
    decision = decide(log_tails.as_reported(facts), now)
    status = facts.pipeline.status if _failed_on(facts.pipeline) else decision.status
    pipeline = replace(facts.pipeline, status=status)
    limits = tuple(_limits(facts, pipeline))
    lines = forecast(facts, pipeline, decision, [one.at for one in limits], now)
    return Report(
        reported=facts.pipeline,
        pipeline=pipeline,
        pod=facts.pod,
        now=now,
        next=tuple(lines),
        limits=limits,
        remedies=tuple(remedies(pipeline, flags, facts.pod)),
        pending=(*_unwritten(facts, decision), *_not_done(facts, decision)),
        overdue=_overdue(facts, decision),
    )


def absence(current: Report, seconds: float) -> str:
    """Returns the message that the operator does not appear to be running, since an action has been
    overdue for this time."""
    return Line(
        current.now,
        "The operator does not appear to be running, or does not watch this namespace. Check its "
        "Pods: kubectl get pods -n initpipeline-system, or -n with the namespace in which the "
        "operator is installed.\nAfter ",
        Moment(current.now - timedelta(seconds=seconds), Mode.FOR),
        f' it still has to do this: {" and ".join(current.overdue)}. "What happens next" is what a '
        "running operator would do.",
    )


def _unwritten(facts: Facts, decision: Decision) -> tuple[str, ...]:
    """Returns the change of status that the operator has not written yet. The operator defers the
    first status until the first report on the new Pod. That is not a pending change."""
    if decision.defer_status and facts.pod is not None:
        return ()
    before, after = facts.pipeline.status, decision.status
    number = before.run.number if before.run else 0
    if after.run is not None and after.run.number != number:
        return (f"start run {after.run.number} ({after.run.trigger})",)
    if decision.patch:
        return (f"set the status to {_summary_text(after)}",)
    return ()


def _not_done(facts: Facts, decision: Decision) -> tuple[str, ...]:
    """Returns the creation or deletion that the operator has not carried out yet."""
    if decision.action is None or is_retried(facts.pipeline.status, decision):
        return ()
    return (action_text(decision, facts.pipeline),)


def _overdue(facts: Facts, decision: Decision) -> tuple[str, ...]:
    """Returns the pending actions if status does not reflect a change, although the API server has
    notified the operator of it. It does not notify the operator of a Pod without the operator's
    label.

    A Pod that has not been created or deleted yet is not enough: if status agrees with the facts,
    the operator has observed them, and the API server may refuse its request. Another message is
    not enough either: it may come from another version of the operator.
    """
    before, after = facts.pipeline.status, decision.status
    spec = facts.pipeline.generation != before.observed_generation
    request = runs.pending_token(facts.pipeline, before) and not facts.pipeline.policies.suspend
    whole = before.omitted is None
    watched = facts.pod is None or facts.pod.labelled
    observed = watched and _outline(before, whole) != _outline(after, whole)
    excused = facts.pipeline.deleting or _failed_on(facts.pipeline)
    if excused or not (spec or request or observed):
        return ()
    return (*_unwritten(facts, decision), *_not_done(facts, decision))


def _outline(status: InitPipelineStatus, whole: bool) -> tuple[object, ...]:
    """Returns the part of status that is the same in all versions of the operator.

    ``whole``: include the mirror, which the operator omits if the InitPipeline is too large.
    """
    run = status.run
    run_key = (run.number, run.result, run.pod_uid) if run else None
    return run_key, status.init_container_statuses if whole else (), summary(status)


def _failed_on(pipeline: Pipeline) -> bool:
    """Returns whether the operator reports that it fails on this pipeline. It is then running, but
    does not act on the pipeline."""
    stalled = pipeline.status.condition(ConditionType.STALLED)
    return stalled is not None and stalled.reason == Reason.RECONCILE_ERROR


def _summary_text(status: InitPipelineStatus) -> str:
    reason = formatting.ready_reason(status)
    return f"{headline(status)} ({reason})" if reason else headline(status)


def _limits(facts: Facts, pipeline: Pipeline) -> Iterator[ActiveLimit]:
    """Yields the limits that apply, those with a time first."""
    policies, status, run, pod = pipeline.policies, pipeline.status, pipeline.status.run, facts.pod
    current = None
    if run is not None and pod is not None and pod.uid == run.pod_uid and not run.completion_time:
        observation = observe(pod, run)
        current = None if run.initialized_time else observation.current_step
        for limit in run_limits.applicable(policies, run, observation):
            field, seconds = limit.exceeded.limit, limit.exceeded.value
            of = f' of "{limit.exceeded.step}"' if field != run_limits.DEADLINE else ""
            yield ActiveLimit(f"{field}{of}", f"the run fails after {seconds} s", limit.at)
    if current is not None and run is not None:
        yield from _restarts(pipeline, run, current)
    if policies.backoff_limit or status.failed_runs:
        yield ActiveLimit("backoffLimit", f"at most {_failed(policies.backoff_limit, status)}")


def _restarts(pipeline: Pipeline, run: Run, current: Step) -> Iterator[ActiveLimit]:
    allowed = pipeline.policies.of_step(current.container.name).max_restarts
    if allowed is None or current.status is None:
        return
    count = restarts_in_run(run, current.status)
    yield ActiveLimit(
        f'maxRestarts of "{current.container.name}"',
        f"at most {formatting.count(allowed, 'restart')} in a run: {count} so far",
    )


def _failed(limit: int, status: InitPipelineStatus) -> str:
    failed = f"{formatting.count(status.failed_runs, 'run')} failed since the count was last reset"
    return f"{formatting.count(limit, 'retry', 'retries')}: {failed}"
