"""Why a pipeline is where it is, what comes next and when, and what a person can do. Pure.

Nothing is guessed: it is the operator's own decision about the same facts, put into words.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.cli import words
from initpipeline.cli.prospects import action_words, is_retried, prospects
from initpipeline.cli.remedies import Remedy, remedies
from initpipeline.cli.standing import standing
from initpipeline.core import limits, observe
from initpipeline.core.decide import Decision
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.observe import Step
from initpipeline.core.patch import merge_patch


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that the present state is under."""

    name: str
    words: str
    at: datetime | None = None
    """When it is exceeded, where time alone does it."""


@dataclass(frozen=True, slots=True)
class Account:
    """The whole explanation."""

    pipeline: Pipeline
    """With the status that follows from the facts."""
    then: tuple[str, ...]
    limits: tuple[Limit, ...]
    remedies: tuple[Remedy, ...]
    undone: tuple[str, ...]
    """What the operator has yet to do about the facts. Where that stays, it is not running."""


def account(facts: Facts, decision: Decision, now: datetime, flags: str = "") -> Account:
    """Of what ``decide(facts, now)`` returned. ``flags`` are what a command about this pipeline
    needs besides its name."""
    pipeline = replace(facts.pipeline, status=decision.status)
    return Account(
        pipeline=pipeline,
        then=tuple(prospects(facts, pipeline, decision, now)),
        limits=tuple(_limits(facts, pipeline)),
        remedies=tuple(remedies(pipeline, flags)),
        undone=tuple(_undone(facts, decision)),
    )


def _undone(facts: Facts, decision: Decision) -> Iterator[str]:
    before, after = facts.pipeline.status, decision.status
    was = before.run.number if before.run else 0
    if after.run is not None and after.run.number != was:
        yield f"start run {after.run.number} ({after.run.trigger})"
    elif merge_patch(before.to_api(), after.to_api()):
        yield f"write to status that it is {_standing_words(after)}"
    if decision.action is not None and not is_retried(words.ready_reason(before), decision):
        yield action_words(decision, facts.pipeline)


def _standing_words(status: InitPipelineStatus) -> str:
    reason = words.ready_reason(status)
    where = standing(status)
    return f"{where} ({reason})" if reason else where


def _limits(facts: Facts, pipeline: Pipeline) -> Iterator[Limit]:
    policies, status, run, pod = pipeline.policies, pipeline.status, pipeline.status.run, facts.pod
    current = None
    if run is not None and pod is not None and pod.uid == run.pod_uid and not run.completion_time:
        steps = observe.steps(pod, run)
        current = None if run.initialized_time else observe.current(steps)
        for limit in limits.limits(policies, run, pod, steps):
            found = limit.exceeded
            of = f' of "{found.step}"' if found.limit != limits.DEADLINE else ""
            yield Limit(f"{found.limit}{of}", f"{found.value} s: then the run fails", limit.at)
    if current is not None and run is not None:
        yield from _restarts(pipeline, run, current)
    if policies.backoff_limit or status.failed_runs:
        yield Limit("backoffLimit", f"{policies.backoff_limit}: {_failed(status)}")


def _restarts(pipeline: Pipeline, run: Run, current: Step) -> Iterator[Limit]:
    allowed = pipeline.policies.of_step(current.container.name).max_restarts
    if allowed is None or current.status is None:
        return
    baselines = {b.name: b.restart_count for b in run.init_restart_baselines}
    count = current.status.restart_count - baselines.get(current.container.name, 0)
    yield Limit(
        f'maxRestarts of "{current.container.name}"',
        f"{allowed}: restarted {count} time{'' if count == 1 else 's'} in this run",
    )


def _failed(status: InitPipelineStatus) -> str:
    count = status.failed_runs
    return f"{count} run{'' if count == 1 else 's'} failed since a person last started one"
