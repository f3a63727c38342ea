"""Computes what the operator would do after an InitPipeline is applied, with its own decision."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from initpipeline.api.models import InitPipelineStatus, Policies, Run
from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.core import admission, log_tails
from initpipeline.core.decide import Decision, DeletePipeline, DeletePod, decide
from initpipeline.core.facts import Facts
from initpipeline.core.template_changes import Change, changes
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.formatting import Line, Mode, Moment
from initpipeline.plugin.report.summary import UNTIL_RESUMED, step_started

NOTHING: Final = "nothing"
POLICY: Final = "policy"
RUN: Final = "run"
CREATE: Final = "create"
REFUSED: Final = "refused"

_EFFECTS: Final[Mapping[str, str]] = {
    "rerunPolicy": "applies to the next restart or Pod loss",
    "rerunStrategy": "applies to the next Pod",
    "backoffLimit": "applies when a run fails",
    "initDeadlineSeconds": "also applies to the current run until it is initialized",
    "initPolicies": "also apply to the current run until it is initialized",
    "suspend": "",
    "runHistoryLimit": "",
    "logTails": "applies at once; the terminationMessagePolicy changes with the next Pod",
    "ttlSecondsAfterFinished": "counts from the end of the last run",
}
"""The effect of a changed field of the spec. Empty if the effects of the plan already show it."""


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """A policy whose value changes."""

    field: str
    old: Any
    new: Any
    effect: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An object that the API server or the operator would refuse."""

    kind: str
    """InitPipeline or Pod."""
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying one InitPipeline would do."""

    namespace: str
    name: str
    created: bool = False
    run: int | None = None
    """Number of the run that starts. None if none does."""
    trigger: str | None = None
    retries: int | None = None
    """How many retries can follow that run, because it resets the count of failed runs. None: it
    does not, or there are no retries."""
    interrupts: Line | None = None
    """State of the current run, if the change ends it. None: no run ends."""
    changes: tuple[Change, ...] = ()
    """Changed fields of the template."""
    policies: tuple[PolicyChange, ...] = ()
    effects: tuple[str, ...] = ()
    """What else happens immediately."""
    same_pod: bool = False
    """The text of the template differs, but the API server would store the same Pod."""
    refused: tuple[Refused, ...] = ()
    unchecked: tuple[str, ...] = ()
    """What could not be checked, and why."""

    @property
    def consequences(self) -> tuple[str, ...]:
        """What happens to the runs and the Pod, in order."""
        run = (self._start,) if self.run is not None else ()
        if self.created:
            return (*run, *self.effects)
        ends = (self.interrupts.after("interrupts "),) if self.interrupts else ()
        return (*ends, *self.effects, *run)

    @property
    def _start(self) -> str:
        start = f"run {self.run} starts ({self.trigger})"
        if self.retries is None:
            return start
        retries = formatting.count(self.retries, "retry", "retries")
        return f"{start}, and if it fails, at most {retries} can follow"

    @property
    def kind(self) -> str:
        """One of NOTHING, POLICY, RUN, CREATE and REFUSED."""
        if self.refused:
            return REFUSED
        if self.created:
            return CREATE
        if self.run is not None:
            return RUN
        return POLICY if self.policies or self.effects or self.changes else NOTHING

    def to_api(self) -> dict[str, Any]:
        """Returns the plan for -o json and yaml."""
        plan: dict[str, Any] = {"namespace": self.namespace, "name": self.name, "plan": self.kind}
        if self.run is not None:
            plan["run"] = {"number": self.run, "trigger": self.trigger}
        if self.retries is not None:
            plan["run"]["retries"] = self.retries
        if self.interrupts:
            plan["interrupts"] = self.interrupts
        lists: dict[str, list[Any]] = {
            "changes": [{"path": c.path, "old": c.old, "new": c.new} for c in self.changes],
            "policies": [
                {"field": p.field, "old": p.old, "new": p.new, "effect": p.effect}
                for p in self.policies
            ],
            "effects": list(self.effects),
            "refused": [{"kind": r.kind, "message": r.message} for r in self.refused],
            "unchecked": list(self.unchecked),
        }
        return plan | {key: value for key, value in lists.items() if value}


def plan(live: Facts | None, applied: Facts, now: datetime) -> Plan:
    """Returns what the operator would do.

    ``live`` are the current facts. None: the InitPipeline does not exist yet. ``applied`` are the
    facts with the InitPipeline that the API server would store.
    """
    pipeline = applied.pipeline
    decision = decide(log_tails.as_reported(applied), now)
    wrong = admission.refusal_of_spec(pipeline)
    refused = (Refused("InitPipeline", wrong.message),) if wrong else ()
    run = decision.status.run
    if live is None:
        return Plan(
            pipeline.namespace,
            pipeline.name,
            created=True,
            run=run.number if run else None,
            trigger=run.trigger.value if run else None,
            effects=tuple(_first_effects(decision)),
            refused=refused,
        )
    before = decide(log_tails.as_reported(live), now)
    started = _started(live.pipeline.status.run, before.status.run, run)
    old, new = live.pipeline.template, pipeline.template
    differences = tuple(changes(old, new))
    ends = started or (_deletes(decision) and not _deletes(before))
    return Plan(
        pipeline.namespace,
        pipeline.name,
        run=started.number if started else None,
        trigger=started.trigger.value if started else None,
        retries=_retries(before, decision, pipeline.policies) if started else None,
        interrupts=_interrupted(live.pipeline.status, now) if ends else None,
        changes=differences,
        policies=tuple(_policy_changes(live.pipeline.policies, pipeline.policies)),
        effects=tuple(_effects(before, decision, bool(differences), started is not None, now)),
        same_pod=not differences and old != new,
        refused=refused if old != new or live.pipeline.policies != pipeline.policies else (),
    )


def _started(current: Run | None, otherwise: Run | None, run: Run | None) -> Run | None:
    """Returns the run that starts because of the change. None: the change starts no run.

    ``otherwise`` is the run that would exist without the change.
    """
    if run is None or (current is not None and run.number <= current.number):
        return None
    same = otherwise and (otherwise.number, otherwise.trigger) == (run.number, run.trigger)
    return None if same else run


def _deletes(decision: Decision) -> bool:
    return isinstance(decision.action, DeletePod)


def _policy_changes(old: Policies, new: Policies) -> Iterator[PolicyChange]:
    before, after = (
        one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in (old, new)
    )
    for field, effect in _EFFECTS.items():
        if before.get(field) != after.get(field):
            yield PolicyChange(field, before.get(field), after.get(field), effect)


def _first_effects(decision: Decision) -> Iterator[str]:
    ready = decision.status.condition(ConditionType.READY)
    if decision.status.run is None:
        yield UNTIL_RESUMED
    elif ready is not None and ready.reason == Reason.NAME_CONFLICT:
        yield f"the run waits: {ready.message}"


def _effects(
    before: Decision, after: Decision, changed: bool, started: bool, now: datetime
) -> Iterator[str]:
    """Yields what happens immediately, except for the start of a run."""
    yield from _effects_on_runs(before, after, changed, started, now)
    yield from _deletions(before, after, now)


def _effects_on_runs(
    before: Decision, after: Decision, changed: bool, started: bool, now: datetime
) -> Iterator[str]:
    run = after.status.run
    if _deletes(after) and not _deletes(before):
        yield "the Pod is deleted"
    if _is_suspended(after.status) and not _is_suspended(before.status):
        yield UNTIL_RESUMED
    if changed and _is_suspended(after.status):
        yield "the next run, when spec.suspend is false, has the new template"
    elif changed and run is not None and not started:
        yield f"run {run.number}, which starts in any case, has the new template"
    ended = before.status.run
    if run is not None and ended is not None and run.number == ended.number:
        suspended = _is_suspended(after.status)
        if run.completion_time is not None and ended.completion_time is None and not suspended:
            how = f": {run.message}" if run.message else ""
            yield f"run {run.number} ends ({run.result}){how}"
        if after.status.next_run_time and not before.status.next_run_time:
            at = Moment(after.status.next_run_time, Mode.UNTIL)
            yield Line(now, f"run {run.number + 1} starts at ", at)


def _deletions(before: Decision, after: Decision, now: datetime) -> Iterator[str]:
    kept = {record.number for record in after.status.history}
    dropped = [r.number for r in before.status.history if r.number not in kept]
    if dropped:
        runs = "the entry of run" if len(dropped) == 1 else "the entries of runs"
        yield f"status.history drops {runs} {', '.join(map(str, sorted(dropped)))}"
    if isinstance(after.action, DeletePipeline) and not isinstance(before.action, DeletePipeline):
        yield "the InitPipeline and its Pod are deleted"
    elif _rests(after) and after.wake_at and after.wake_at != before.wake_at:
        at = Moment(after.wake_at, Mode.UNTIL)
        yield Line(now, "the InitPipeline and its Pod are deleted at ", at)


def _retries(before: Decision, after: Decision, policies: Policies) -> int | None:
    """Returns how many retries can follow, if the count of failed runs is reset. None: it is not,
    or there are no retries."""
    reset = before.status.failed_runs > after.status.failed_runs
    return (policies.backoff_limit or None) if reset else None


def _rests(decision: Decision) -> bool:
    """Returns whether the last run has ended and none follows."""
    run = decision.status.run
    ended = run is not None and run.completion_time is not None
    return ended and decision.status.next_run_time is None and not _is_suspended(decision.status)


def _is_suspended(status: InitPipelineStatus) -> bool:
    return status.condition(ConditionType.SUSPENDED) is not None


def _interrupted(status: InitPipelineStatus, now: datetime) -> Line | None:
    """Returns the current run and its state. None: no run is in progress."""
    run = status.run
    if run is None or run.completion_time is not None:
        return None
    ready = status.condition(ConditionType.READY)
    if ready is not None and ready.status == "True":
        since = Moment(ready.last_transition_time, Mode.FOR)
        return Line(now, f"run {run.number}, Ready for ", since)
    if run.initialized_time is not None:
        return Line(now, f"run {run.number}, initialized but not Ready")
    if status.current_step is None:
        return Line(now, f"run {run.number}, whose Pod does not exist yet")
    step = f'run {run.number} at step "{status.current_step}"'
    started = step_started(status)
    if started is None:
        return Line(now, step)
    return Line(now, f"{step}, which has been running for ", Moment(started, Mode.FOR))
