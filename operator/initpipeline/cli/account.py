"""Why a pipeline is where it is, what comes next and when, and what a person can do. Pure.

Nothing is guessed: it is the operator's own decision about the same facts, put into words.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.api.reasons import ConditionType, Reason, RerunPolicy, RerunStrategy, Result
from initpipeline.cli.views import status as status_view
from initpipeline.cli.views import words
from initpipeline.core import limits, observe
from initpipeline.core.decide import CreatePod, Decision, DeletePipeline, DeletePod
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.observe import Step
from initpipeline.core.patch import merge_patch

REFUSALS = frozenset({Reason.POD_FORBIDDEN, Reason.QUOTA_EXCEEDED})
"""The API server says no to the Pod, and may say yes later. No look from outside can tell."""

_BACK_OFF = re.compile(r"back-off ((?:\d+h)?(?:\d+m)?(?:\d+s)?) restarting")
"""The kubelet's own word for how long it waits."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that the present state is under."""

    name: str
    words: str
    at: datetime | None = None
    """When it is exceeded, where time alone does it."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that a person can do."""

    command: str
    effect: str


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
    pipeline = _as_decided(facts.pipeline, decision.status)
    return Account(
        pipeline=pipeline,
        then=tuple(_then(facts, pipeline, decision, now)),
        limits=tuple(_limits(facts, pipeline)),
        remedies=tuple(_remedies(pipeline, flags)),
        undone=tuple(_undone(facts, decision)),
    )


def _as_decided(pipeline: Pipeline, status: InitPipelineStatus) -> Pipeline:
    return replace(pipeline, status=status)


def _undone(facts: Facts, decision: Decision) -> Iterator[str]:
    before, after = facts.pipeline.status, decision.status
    was = before.run.number if before.run else 0
    if after.run is not None and after.run.number != was:
        yield f"start run {after.run.number} ({after.run.trigger})"
    elif merge_patch(before.to_api(), after.to_api()):
        yield f"write to status that it is {_standing_words(after)}"
    refused = words.ready_reason(before) in REFUSALS
    if decision.action is not None and not (isinstance(decision.action, CreatePod) and refused):
        yield _action_words(decision, facts.pipeline)


def _standing_words(status: InitPipelineStatus) -> str:
    reason = words.ready_reason(status)
    standing = status_view.standing(status)
    return f"{standing} ({reason})" if reason else standing


def _action_words(decision: Decision, pipeline: Pipeline) -> str:
    run = decision.status.run
    match decision.action:
        case CreatePod():
            return f"create the Pod of run {run.number if run else 1}"
        case DeletePod():
            return f'delete the Pod "{pipeline.name}"'
        case DeletePipeline():
            ttl = pipeline.policies.ttl_seconds_after_finished
            return f"delete this InitPipeline: its ttlSecondsAfterFinished of {ttl} s is over"
        case None:
            return ""


def _then(facts: Facts, pipeline: Pipeline, decision: Decision, now: datetime) -> Iterator[str]:
    """In the order in which it happens."""
    if pipeline.deleting:
        yield "it is being deleted, and its Pod with it: nothing else happens to it"
        return
    status, run = pipeline.status, pipeline.status.run
    reason = words.ready_reason(status)
    if reason in REFUSALS and decision.action is not None:
        yield (
            "the operator asks the API server for the Pod again, after growing delays of up to "
            "5 min, and at once when this InitPipeline changes"
        )
    elif decision.action is not None:
        yield f"the operator is to {_action_words(decision, pipeline)}"
    elif reason == Reason.POD_TERMINATING and run is not None and run.pod_uid is None:
        yield f"the operator creates the Pod of run {run.number} once the old one is gone"
    yield from _by_others(reason, facts, pipeline, now)
    if status.next_run_time is not None and run is not None:
        at = words.moment(status.next_run_time, now)
        yield f"run {run.number + 1} starts at {at}; a person's request does not wait"
    elif reason not in REFUSALS:
        yield from _if_nobody_acts(pipeline, now)
    if decision.wake_at is not None and decision.wake_at != status.next_run_time:
        at = words.moment(decision.wake_at, now)
        yield f"the operator looks again at {at}, or as soon as anything changes"


def _by_others(reason: str, facts: Facts, pipeline: Pipeline, now: datetime) -> Iterator[str]:
    """What the kubelet or the scheduler does by itself."""
    step = f'"{pipeline.status.current_step}"'
    match reason:
        case Reason.STEP_BACK_OFF | Reason.STEP_FAILED if _restarts_containers(facts):
            yield f"the kubelet starts {step} again{_back_off_words(facts, pipeline, now)}"
        case Reason.IMAGE_PULL_FAILED:
            yield _next_pull(facts)
        case Reason.CONTAINER_CONFIG_ERROR:
            yield "the kubelet tries again every few seconds, and goes on once nothing is missing"
        case Reason.POD_UNSCHEDULABLE:
            yield "the scheduler tries again whenever a node or another Pod changes"
        case Reason.POD_PENDING if _gated(facts):
            yield "it is not scheduled until whoever set its scheduling gates has removed them"
        case Reason.STEP_PENDING | Reason.POD_PENDING if pipeline.status.pod_uid:
            yield "the scheduler and the kubelet are getting the Pod ready"


def _next_pull(facts: Facts) -> str:
    pod = facts.pod
    every = (*pod.init_container_statuses, *pod.container_statuses) if pod else ()
    reasons = {status.waiting_reason for status in every}
    if "InvalidImageName" in reasons:
        return "the kubelet cannot pull an image of such a name: nothing happens until it is mended"
    if "ErrImageNeverPull" in reasons:
        return "the kubelet goes on once the node has the image: imagePullPolicy is Never"
    return "the kubelet pulls the image again, after growing delays of up to 5 min"


def _gated(facts: Facts) -> bool:
    scheduled = facts.pod.condition("PodScheduled") if facts.pod else None
    return scheduled is not None and scheduled.reason == "SchedulingGated"


def _restarts_containers(facts: Facts) -> bool:
    pod = facts.pod
    return pod is not None and not pod.ended and pod.restart_policy != "Never"


def _back_off_words(facts: Facts, pipeline: Pipeline, now: datetime) -> str:
    """When: by the end of the last attempt, and by the kubelet's word or, where it has not said it
    yet, its default. It may be a little later."""
    statuses = facts.pod.init_container_statuses if facts.pod else ()
    current = next((s for s in statuses if s.name == pipeline.status.current_step), None)
    end = (current.terminated or current.last_terminated) if current else None
    if current is None or end is None or end.finished_at is None:
        return " after its back-off, which grows from 10 s to 5 min"
    said = _BACK_OFF.search((current.waiting or {}).get("message") or "")
    if said is None and current.restart_count == 0:
        return " at once"
    wait = _go_duration(said[1]) if said else _default_back_off(current.restart_count)
    at = end.finished_at + wait
    about = f"at about {words.moment(at, now)}" if at > now else "at any moment"
    return f" {about} (a back-off of {words.span(wait)}{'' if said else ', by default'})"


def _default_back_off(restarts: int) -> timedelta:
    """The kubelet's own, unless its configuration says otherwise: the first restart is at once, the
    second after 10 s, and so on."""
    doubled: timedelta = timedelta(seconds=10) * 2 ** min(restarts - 1, 10)
    return min(doubled, timedelta(minutes=5))


def _go_duration(text: str) -> timedelta:
    """Of Go's spelling: 1m20s."""
    units = {"h": "hours", "m": "minutes", "s": "seconds"}
    parts = re.findall(r"(\d+)([hms])", text)
    return timedelta(**{units[unit]: int(number) for number, unit in parts})


def _if_nobody_acts(pipeline: Pipeline, now: datetime) -> Iterator[str]:
    status, run, policies = pipeline.status, pipeline.status.run, pipeline.policies
    ttl = policies.ttl_seconds_after_finished
    if status.condition(ConditionType.STALLED):
        yield "no run follows by itself: it needs a person"
    elif status.condition(ConditionType.SUSPENDED):
        yield "no run starts until it is resumed"
    elif run is not None and run.result is Result.SUCCEEDED:
        yield "nothing: all containers of the Pod ended well"
    elif run is None or run.initialized_time is None:
        yield (
            f"in their order: {status_view.upcoming(pipeline, now)}"
            if run
            else "the first run starts"
        )
        return
    else:
        yield _when_it_runs_again(pipeline)
    if ttl is not None and run is not None and run.completion_time is not None:
        at = words.moment(run.completion_time + timedelta(seconds=ttl), now)
        yield f"this InitPipeline is deleted at {at} (ttlSecondsAfterFinished)"


def _when_it_runs_again(pipeline: Pipeline) -> str:
    policies = pipeline.policies
    how = "in place" if policies.rerun_strategy is RerunStrategy.IN_PLACE else "with a new Pod"
    causes = {
        RerunPolicy.ON_RESTART: f"an app container restarts ({how}), the Pod is lost, ",
        RerunPolicy.ON_POD_LOSS: "the Pod is lost, ",
        RerunPolicy.NEVER: "",
    }[policies.rerun_policy]
    return (
        f"all steps run again when {causes}the kubelet restarts the Pod, the template changes, or "
        "a person asks"
    )


def _limits(facts: Facts, pipeline: Pipeline) -> Iterator[Limit]:
    policies, status, run, pod = pipeline.policies, pipeline.status, pipeline.status.run, facts.pod
    current = None
    if run is not None and pod is not None and pod.uid == run.pod_uid and not run.completion_time:
        steps = observe.steps(pod, run.stale_container_ids)
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


def _remedies(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    """What helps in this state, the most likely first."""
    name, status = pipeline.name, pipeline.status
    run = status.run
    yield from _of_reason(pipeline, flags)
    if pipeline.deleting or run is None:
        return
    if pipeline.policies.suspend:
        yield Remedy(f"kubectl initpipeline resume {name}{flags}", "start a run")
        return
    if run.exceeded is not None and run.completion_time is not None:
        limit = run.exceeded
        of = f' of "{limit.step}"' if limit.limit != limits.DEADLINE else ""
        yield Remedy(
            f"kubectl edit ipl {name}{flags}",
            f"raise {limit.limit}{of} over {limit.value}: another run starts then",
        )
    if words.ready_reason(status) not in {Reason.INVALID_TEMPLATE, Reason.NAME_CONFLICT}:
        soon = status.next_run_time is not None
        at_work = status_view.standing(status) == "Ready"
        why = ", without the wait" if soon else ", at work or not" if at_work else ""
        yield Remedy(
            f"kubectl initpipeline rerun {name}{flags}", f"start run {run.number + 1} now{why}"
        )
    if status.condition(ConditionType.RECONCILING):
        yield Remedy(
            f"kubectl initpipeline suspend {name}{flags}", "delete the Pod and try no more"
        )


def _of_reason(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    name, status = pipeline.name, pipeline.status
    mend = Remedy(f"kubectl edit ipl {name}{flags}", "mend the template: a run starts then")
    stalled = status.condition(ConditionType.STALLED)
    if stalled is not None and stalled.reason == Reason.BACKOFF_LIMIT_EXCEEDED:
        yield from _logs(pipeline, flags)
        yield Remedy(
            f"kubectl edit ipl {name}{flags}",
            f"mend the template, which starts a run; or raise backoffLimit to {status.failed_runs} "
            "or more, which allows another",
        )
        return
    match words.ready_reason(status):
        case Reason.STEP_FAILED | Reason.STEP_BACK_OFF:
            yield from _logs(pipeline, flags)
            yield mend
        case Reason.STEP_RUNNING | Reason.RERUN_BACK_OFF:
            yield from _logs(pipeline, flags)
        case Reason.INVALID_TEMPLATE:
            yield mend
        case Reason.POD_FORBIDDEN:
            yield Remedy(
                f"kubectl edit ipl {name}{flags}",
                "mend the template: a run starts then; or create, or have allowed, what is missing",
            )
        case Reason.QUOTA_EXCEEDED:
            yield Remedy(f"kubectl describe quota{flags}", "see what is used; make room")
        case Reason.NAME_CONFLICT:
            yield Remedy(f"kubectl get pod {name}{flags} -o wide", "see whose it is; remove it")
        case Reason.CONTAINER_FAILED | Reason.CONTAINERS_NOT_READY:
            yield Remedy(f"kubectl logs {name}{flags} --all-containers", "read what it says")
            yield Remedy(f"kubectl describe pod {name}{flags}", "see its events")
        case (
            Reason.POD_PENDING
            | Reason.POD_UNSCHEDULABLE
            | Reason.IMAGE_PULL_FAILED
            | Reason.CONTAINER_CONFIG_ERROR
            | Reason.STEP_PENDING
        ) if status.pod_uid:
            yield Remedy(f"kubectl describe pod {name}{flags}", "see its events")
            yield mend


def _logs(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    step = pipeline.status.current_step
    named = f"{pipeline.name} {step}" if step else pipeline.name
    yield Remedy(f"kubectl initpipeline logs {named}{flags}", "read what the step says")
