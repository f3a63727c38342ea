"""Judges each decision by the truth that the model knows and the operator can only infer.

A decision is judged by the truth at the Pod's version that it was made from, since the operator
cannot know what has happened after that. Earlier decisions are known from the status that they
wrote. Each part of that status was judged when it was decided.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from initpipeline.api.models import InitPipelineStatus, Run, RunRecord
from initpipeline.api.names import IN_PLACE
from initpipeline.api.reasons import (
    CONDITIONS,
    ConditionType,
    Reason,
    RerunPolicy,
    Result,
    Trigger,
)
from initpipeline.core import decide as core
from initpipeline.core.decide import Decision
from initpipeline.core.facts import Facts
from initpipeline.core.pod import Pod
from initpipeline.core.run_events import events_between
from tests.unit.model.cluster import Cluster
from tests.unit.model.kubelet import NODE, POD, Truth

NOTHING = Truth(1, None, frozenset(), False, False, False, {}, {})
KUBELET = {Trigger.POD_RESTARTED, Trigger.RESTARTED_IN_PLACE}
WITH_REASON = {Result.FAILED, Result.LOST}


@dataclass(frozen=True)
class Case:
    """A decision, the facts that it was made from, and the truth at that time."""

    facts: Facts
    decision: Decision
    now: datetime
    pod: Pod | None
    """The Pod of the run before the decision. If the Pod is gone: its last known state."""
    truth: Truth
    passes: int | None
    """Number of the pass that the run before the decision was, when it was last judged."""

    @property
    def before(self) -> InitPipelineStatus:
        return self.facts.pipeline.status

    @property
    def after(self) -> InitPipelineStatus:
        return self.decision.status

    @property
    def new_pass(self) -> bool:
        """Whether the kubelet has begun another pass, and the operator can recognize it."""
        run = self.before.run
        recognizable = run is not None and bool(run.completed_init_containers)
        return recognizable and self.passes is not None and self.truth.passes > self.passes


class Witness:
    """Takes the place of ``decide``, and judges each decision."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._passes: dict[str, int] = {}
        """Number of the pass, by the JSON of a run as written."""
        self.decisions = 0

    def decide(self, facts: Facts, now: datetime) -> Decision:
        decision = core.decide(facts, now)
        self.decisions += 1
        case = self._case(facts, decision, now)
        if decision.status.run is not None and not facts.pipeline.deleting:
            for judge in JUDGES:
                judge(case)
            self._remember(case)
        again = core.decide(facts, now)
        assert again == decision, "the same facts led to another decision"
        return decision

    def gone(self, uid: str) -> bool:
        pod = self._cluster.pod
        return pod is None or pod["metadata"]["uid"] != uid

    def _case(self, facts: Facts, decision: Decision, now: datetime) -> Case:
        run = facts.pipeline.status.run
        reported = (facts.pod, facts.gone if run and run.pod_uid else None)
        pod = next((pod for pod in reported if pod and _of(pod, facts, run)), None)
        truth = self._cluster.truths.get(pod.resource_version, NOTHING) if pod else NOTHING
        passes = self._passes.get(run.model_dump_json()) if run else None
        if run and run.pod_uid and (pod is None or pod is facts.gone):
            assert self.gone(run.pod_uid) or run.completion_time, (
                "the run was ended as lost, but its Pod exists"
            )
        return Case(facts, decision, now.replace(microsecond=0), pod, truth, passes)

    def _remember(self, case: Case) -> None:
        run = case.after.run
        assert run is not None
        if case.pod is not None and run.pod_uid == case.pod.uid and not run.completion_time:
            self._passes[run.model_dump_json()] = case.truth.passes


def _of(pod: Pod, facts: Facts, run: Run | None) -> bool:
    if pod.owner_uid != facts.pipeline.uid:
        return False
    if run is None:  # The Pod of the first run is created before status records the run.
        return pod.run is not None
    return pod.uid == run.pod_uid if run.pod_uid else pod.run == run.number


def new_records(case: Case) -> tuple[RunRecord, ...]:
    """Returns the runs that this decision ends, oldest first."""
    known = {record.number for record in case.before.history}
    run = case.before.run
    last = 0 if run is None else run.number - (run.completion_time is None)
    return tuple(
        r for r in reversed(case.after.history) if r.number not in known and r.number > last
    )


def numbers_rise_and_none_is_lost(case: Case) -> None:
    before, after = case.before.run, case.after.run
    assert after is not None
    if before is None:
        return
    assert after.number >= before.number, "the number of the run fell"
    begun = range(before.number, after.number + (after.completion_time is not None))
    limit = case.facts.pipeline.policies.run_history_limit
    kept = [record.number for record in case.after.history]
    assert kept == sorted(set(kept), reverse=True), f"history has the runs {kept}"
    assert len(kept) <= limit
    known = before.completion_time is not None
    must = [n for n in reversed(begun) if n != before.number or not known]
    assert set(must[:limit]) <= set(kept), f"of the runs {must} history has {kept}"


def no_result_is_invented(case: Case) -> None:
    for record in new_records(case):
        outcome = f"run {record.number} ended as {record.result}"
        assert RESULTS[record.result](case, record), f"{outcome}, which contradicts {case.truth}"
        if record.result in WITH_REASON:
            assert record.reason, f"{outcome} without a reason"
            assert record.message, f"{outcome} without a message"


def _initialized(case: Case, record: RunRecord) -> bool:
    run = case.before.run
    known = run is not None and run.number == record.number and run.initialized_time is not None
    return known or case.truth.initialized


def _superseded(case: Case, record: RunRecord) -> bool:
    run = case.before.run
    known = run is not None and run.number == record.number and run.initialized_time is not None
    return not known and not (case.truth.initialized and not case.new_pass)


def _unknown(case: Case, _: RunRecord) -> bool:
    run = case.before.run
    return case.new_pass and run is not None and run.initialized_time is None


def _lost(case: Case, record: RunRecord) -> bool:
    if record.pod_uid is None:
        return False
    if case.pod is None or case.pod is case.facts.gone or case.pod.uid != record.pod_uid:
        return True
    return case.pod.ended and not case.pod.deleting and case.truth.ended_by == NODE


def _succeeded(case: Case, _: RunRecord) -> bool:
    ended = case.pod is not None and case.pod.phase == "Succeeded" and not case.pod.deleting
    return ended and case.truth.initialized and case.truth.ended_by == POD


def _failed(case: Case, record: RunRecord) -> bool:
    if record.exceeded is not None:
        return _exceeded(case, record)
    pod = case.pod
    ended = pod is not None and pod.phase == "Failed" and not pod.deleting
    return ended and case.truth.ended_by == POD


def _exceeded(case: Case, record: RunRecord) -> bool:
    limit, pod = record.exceeded, case.pod
    if limit is None or pod is None or pod.deleting or case.truth.initialized:
        return False
    if limit.limit == "maxRestarts":
        return case.truth.failures[limit.step] > limit.value
    assert pod.created_at is not None
    assert not pod.scheduling_gated, "a deadline ran out behind a scheduling gate"
    return case.now >= pod.created_at + timedelta(seconds=limit.value)


RESULTS: dict[Result, Callable[[Case, RunRecord], bool]] = {
    Result.INITIALIZED: _initialized,
    Result.SUPERSEDED: _superseded,
    Result.UNKNOWN: _unknown,
    Result.LOST: _lost,
    Result.SUCCEEDED: _succeeded,
    Result.FAILED: _failed,
}


def every_end_is_recorded(case: Case) -> None:
    """Asserts that a run whose end the Pod shows is in history after this decision."""
    run, pod = case.before.run, case.pod
    if run is None or run.completion_time is not None:
        return
    ended = {record.number for record in new_records(case)}
    limit = case.facts.pipeline.policies.run_history_limit
    if case.after.run is not None and case.after.run.number == run.number:
        if case.after.run.completion_time is not None:
            ended.add(run.number)
    else:
        ended.add(run.number)
    if case.new_pass:
        assert run.number in ended, "another pass of the kubelet was not recorded"
    if pod is not None and pod.ended and not pod.deleting and limit:
        assert run.number in ended or new_records(case), f"a Pod that {pod.phase} ended no run"


def runs_start_for_a_cause(case: Case) -> None:
    run, before = case.after.run, case.before.run
    assert run is not None
    if before is not None and before.number == run.number:
        return
    records = new_records(case)
    ended = run.number - (before.number if before else 1)
    if ended > case.facts.pipeline.policies.run_history_limit:
        return  # History is too short for the results of the runs before it.
    previous = before.result if before and before.completion_time else None
    for began in (*records[1:], run) if before and not before.completion_time else (*records, run):
        assert STARTS[began.trigger](case, previous), (
            f"run {began.number} started as {began.trigger} after {previous}, true is {case.truth}"
        )
        previous = began.result


def _container_restarted(case: Case, _: Result | None) -> bool:
    judged = case.facts.pipeline.policies.rerun_policy is RerunPolicy.ON_RESTART
    restarted = case.truth.app_restarted or _restarted_in_place_twice(case)
    return judged and restarted and case.pod is not None and not case.pod.deleting


def _restarted_in_place_twice(case: Case) -> bool:
    """Returns whether the kubelet has begun at least two passes in this Pod by the operator's rules
    for in-place re-runs. If they follow closely, the operator replaces the Pod."""
    by_rules = case.pod is not None and case.pod.rerun_in_place == IN_PLACE
    return by_rules and case.truth.passes > 2 and case.truth.by is Trigger.RESTARTED_IN_PLACE


def _begun_by_kubelet(case: Case, by: Trigger) -> bool:
    """Returns whether the kubelet has begun the run for this trigger. Several unobserved passes
    count as one, with the trigger of either."""
    several = case.passes is not None and case.truth.passes > case.passes + 1
    return case.new_pass and (several or case.truth.by is by)


STARTS: dict[Trigger, Callable[[Case, Result | None], bool]] = {
    Trigger.CREATED: lambda case, _: case.before.run is None,
    Trigger.SPEC_CHANGED: lambda case, _: (
        case.before.template_hash != case.facts.pipeline.template_hash
    ),
    Trigger.REQUESTED: lambda case, _: case.facts.pipeline.rerun_token is not None,
    Trigger.RESUMED: lambda case, _: _resumed(case),
    Trigger.CONTAINER_RESTARTED: _container_restarted,
    Trigger.POD_LOST: lambda case, previous: previous is Result.LOST or _lost_now(case),
    Trigger.RETRY: lambda case, previous: (
        previous is Result.FAILED or any(r.result is Result.FAILED for r in new_records(case))
    ),
    Trigger.POD_RESTARTED: lambda case, _: case.new_pass and case.truth.by is Trigger.POD_RESTARTED,
    Trigger.RESTARTED_IN_PLACE: lambda case, _: _begun_by_kubelet(case, Trigger.RESTARTED_IN_PLACE),
}


def _resumed(case: Case) -> bool:
    """Returns whether the user has resumed the pipeline. If status records no run, the operator may
    have created the Pod before the user suspended the pipeline again."""
    created = case.before.run is None and case.pod is not None
    resumed = created or not case.facts.pipeline.policies.suspend
    return resumed and case.before.condition(ConditionType.SUSPENDED) is not None


def _lost_now(case: Case) -> bool:
    return any(record.result is Result.LOST for record in new_records(case))


def initialized_is_true(case: Case) -> None:
    """Asserts that Initialized is True if and only if all steps of the pass are done."""
    condition = case.after.condition(ConditionType.INITIALIZED)
    run = case.after.run
    if condition is None or run is None:
        return
    if condition.status == "True":
        assert run.initialized_time is not None
    if run.completion_time is not None or case.pod is None or run.pod_uid != case.pod.uid:
        return
    if condition.status == "True":
        plain = {c.name for c in case.pod.init_containers if not c.sidecar}
        assert plain <= case.truth.succeeded, f"Initialized, but true is {case.truth}"
    elif not case.pod.deleting and not _sidecar_is_down(case.pod):
        assert not case.truth.initialized, f"not Initialized, but true is {case.truth}"


def _sidecar_is_down(pod: Pod) -> bool:
    """Returns whether a sidecar is not running. The operator cannot know whether it has started
    before."""
    up = {status.name for status in pod.init_container_statuses if status.started}
    return any(c.sidecar and c.name not in up for c in pod.init_containers)


def conditions_agree(case: Case) -> None:
    conditions = {condition.type: condition for condition in case.after.conditions}
    if not conditions:
        return
    true = {type_ for type_, condition in conditions.items() if condition.status == "True"}
    for one, other in (
        ("Stalled", "Reconciling"),
        ("Stalled", "Ready"),
        ("Suspended", "Ready"),
        ("Suspended", "Initialized"),
    ):
        assert not {one, other} <= true, f"{one} and {other} at the same time"
    assert not ("Ready" in true and "Initialized" not in true), "Ready, but not Initialized"
    for condition in conditions.values():
        assert condition.reason, f"{condition.type} has no reason"
        assert condition.message, f"{condition.type} has no message"
        carriers = CONDITIONS[Reason(condition.reason)]
        assert condition.type in carriers, f"{condition.type} has the reason {condition.reason}"
    if case.after.next_run_time is not None:
        assert "Reconciling" in true, "the next run waits, but Reconciling is not True"


def events_are_few(case: Case) -> None:
    events = events_between(case.before, case.after)
    assert len(events) <= 6, f"one status write has the events {events}"


JUDGES = (
    events_are_few,
    numbers_rise_and_none_is_lost,
    no_result_is_invented,
    every_end_is_recorded,
    runs_start_for_a_cause,
    initialized_is_true,
    conditions_agree,
)
