"""Why a pipeline is where it is, what comes next and when, and what a person can do. Pure.

Nothing is guessed: it is the operator's own decision about the same facts, put into words.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.core import pod_steps, run_limits, runs
from initpipeline.core.decide import Decision
from initpipeline.core.facts import Facts, Pipeline, Pod
from initpipeline.core.patch import merge_patch
from initpipeline.core.pod_steps import Step
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.forecast import action_text, forecast, is_retried
from initpipeline.plugin.report.remedies import Remedy, remedies
from initpipeline.plugin.report.summary import summary


@dataclass(frozen=True, slots=True)
class ActiveLimit:
    """A limit that the present state is under."""

    name: str
    words: str
    at: datetime | None = None
    """When it is exceeded, where time alone does it."""


@dataclass(frozen=True, slots=True)
class Report:
    """The whole explanation."""

    pipeline: Pipeline
    """With the status that follows from the facts, unless the operator failed on them."""
    pod: Pod | None
    """The Pod of the pipeline's name, with any owner. None: there is none."""
    next: tuple[str, ...]
    limits: tuple[ActiveLimit, ...]
    remedies: tuple[Remedy, ...]
    pending: tuple[str, ...]
    """What the operator has yet to do about the facts."""
    overdue: tuple[str, ...]
    """Those of ``pending`` that a running operator does at once. If they stay, none is running."""


def report(
    facts: Facts, decision: Decision, now: datetime, flags: str = "", *, pod_watched: bool = True
) -> Report:
    """Returns the explanation of what ``decide(facts, now)`` returned.

    ``flags`` are what a command about this pipeline needs besides its name. ``pod_watched``: the
    API server notifies the operator of changes of ``facts.pod``.
    """
    status = facts.pipeline.status if _failed_on(facts.pipeline) else decision.status
    pipeline = replace(facts.pipeline, status=status)
    return Report(
        pipeline=pipeline,
        pod=facts.pod,
        next=tuple(forecast(facts, pipeline, decision, now)),
        limits=tuple(_limits(facts, pipeline)),
        remedies=tuple(remedies(pipeline, flags)),
        pending=(*_unwritten(facts, decision), *_not_done(facts, decision)),
        overdue=_overdue(facts, decision, pod_watched),
    )


def _unwritten(facts: Facts, decision: Decision) -> tuple[str, ...]:
    """Returns what the operator has not written to status although it follows from the facts."""
    before, after = facts.pipeline.status, decision.status
    was = before.run.number if before.run else 0
    if after.run is not None and after.run.number != was:
        return (f"start run {after.run.number} ({after.run.trigger})",)
    if merge_patch(before.to_api(), after.to_api()):
        return (f"write to status that it is {_summary_text(after)}",)
    return ()


def _not_done(facts: Facts, decision: Decision) -> tuple[str, ...]:
    reason = formatting.ready_reason(facts.pipeline.status)
    if decision.action is None or is_retried(reason, decision):
        return ()
    return (action_text(decision, facts.pipeline),)


def _overdue(facts: Facts, decision: Decision, pod_watched: bool) -> tuple[str, ...]:
    """Returns what proves, if it stays undone, that no operator is running: status does not reflect
    a change that the API server notifies the operator of.

    A Pod that is to be created or deleted is no proof. If status agrees with the facts, an operator
    has observed them, and may be waiting because the API server refuses its request. A message is
    no proof either: another version of the operator may word it differently.
    """
    before, after = facts.pipeline.status, decision.status
    spec = facts.pipeline.generation != before.observed_generation
    request = runs.pending_token(facts.pipeline, before) and not facts.pipeline.policies.suspend
    whole = before.omitted is None
    seen = pod_watched and _outline(before, whole) != _outline(after, whole)
    at_work = facts.pipeline.deleting or _failed_on(facts.pipeline)
    if at_work or not (spec or request or seen):
        return ()
    return (*_unwritten(facts, decision), *_not_done(facts, decision))


def _outline(status: InitPipelineStatus, whole: bool) -> tuple[object, ...]:
    """Returns the part of status that does not depend on the version of the operator. ``whole``:
    include what a status leaves out if the InitPipeline would be too large."""
    run = status.run
    of_run = (run.number, run.result, run.pod_uid) if run else None
    return of_run, status.init_container_statuses if whole else (), summary(status)


def _failed_on(pipeline: Pipeline) -> bool:
    """Returns whether the operator reports that it failed on this pipeline. It is running then, but
    does nothing else for the pipeline."""
    stalled = pipeline.status.condition(ConditionType.STALLED)
    return stalled is not None and stalled.reason == Reason.RECONCILE_ERROR


def _summary_text(status: InitPipelineStatus) -> str:
    reason = formatting.ready_reason(status)
    where = summary(status)
    return f"{where} ({reason})" if reason else where


def _limits(facts: Facts, pipeline: Pipeline) -> Iterator[ActiveLimit]:
    policies, status, run, pod = pipeline.policies, pipeline.status, pipeline.status.run, facts.pod
    current = None
    if run is not None and pod is not None and pod.uid == run.pod_uid and not run.completion_time:
        steps = pod_steps.steps(pod, run)
        current = None if run.initialized_time else pod_steps.current(steps)
        for limit in run_limits.limits(policies, run, pod, steps):
            found = limit.exceeded
            of = f' of "{found.step}"' if found.limit != run_limits.DEADLINE else ""
            yield ActiveLimit(
                f"{found.limit}{of}", f"{found.value} s: then the run fails", limit.at
            )
    if current is not None and run is not None:
        yield from _restarts(pipeline, run, current)
    if policies.backoff_limit or status.failed_runs:
        yield ActiveLimit("backoffLimit", f"{policies.backoff_limit}: {_failed(status)}")


def _restarts(pipeline: Pipeline, run: Run, current: Step) -> Iterator[ActiveLimit]:
    allowed = pipeline.policies.of_step(current.container.name).max_restarts
    if allowed is None or current.status is None:
        return
    baselines = {b.name: b.restart_count for b in run.init_restart_baselines}
    count = current.status.restart_count - baselines.get(current.container.name, 0)
    yield ActiveLimit(
        f'maxRestarts of "{current.container.name}"',
        f"{allowed}: restarted {count} time{'' if count == 1 else 's'} in this run",
    )


def _failed(status: InitPipelineStatus) -> str:
    count = status.failed_runs
    return f"{count} run{'' if count == 1 else 's'} failed since a person last started one"
