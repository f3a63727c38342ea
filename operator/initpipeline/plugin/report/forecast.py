"""What happens next to a pipeline, and who does it. Pure."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from initpipeline.api.reasons import ConditionType, Reason, RerunPolicy, RerunStrategy, Result
from initpipeline.core import admission
from initpipeline.core.decide import CreatePod, Decision, DeletePipeline, DeletePod
from initpipeline.core.facts import Facts, Pipeline, Pod
from initpipeline.core.kubelet_reasons import IMAGE_NEVER_PULLED, INVALID_IMAGE_NAME
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.summary import short_forecast

_BACK_OFF = re.compile(r"back-off ((?:\d+h)?(?:\d+m)?(?:\d+s)?) restarting")
"""The kubelet's own word for how long it waits."""


def forecast(facts: Facts, pipeline: Pipeline, decision: Decision, now: datetime) -> Iterator[str]:
    """In the order in which it happens. ``pipeline`` has the status that was decided."""
    if pipeline.deleting:
        yield "it is being deleted, and its Pod with it: nothing else happens to it"
        return
    status, run = pipeline.status, pipeline.status.run
    reason = formatting.ready_reason(status)
    retried = is_retried(reason, decision)
    if retried:
        yield (
            "the operator retries the creation of the Pod after growing delays of up to 5 min, and "
            "at once when this InitPipeline changes"
        )
    elif reason == Reason.NAME_CONFLICT and isinstance(decision.action, CreatePod):
        yield f"the name is free now: the operator is to {action_text(decision, pipeline)}"
    elif decision.action is not None:
        yield f"the operator is to {action_text(decision, pipeline)}"
    elif reason == Reason.POD_TERMINATING and run is not None and run.pod_uid is None:
        yield f"the operator creates the Pod of run {run.number} once the old one is gone"
    yield from _by_others(reason, facts, pipeline, now)
    if status.next_run_time is not None and run is not None:
        at = formatting.moment(status.next_run_time, now)
        yield f"run {run.number + 1} starts at {at}; a person's request does not wait"
    elif reason == Reason.NAME_CONFLICT and facts.pod is not None:
        yield "the operator creates the Pod within seconds after the name is free"
    elif not retried:
        yield from _if_nobody_acts(pipeline, now, facts.pod)
    if decision.wake_at is not None and decision.wake_at != status.next_run_time:
        at = formatting.moment(decision.wake_at, now)
        yield f"the operator looks again at {at}, or as soon as anything changes"


def is_retried(reason: str, decision: Decision) -> bool:
    """Returns whether the API server refused the Pod and the operator retries its creation. Only
    another attempt shows whether the API server still refuses it."""
    return reason in admission.REASONS and isinstance(decision.action, CreatePod)


def _by_others(reason: str, facts: Facts, pipeline: Pipeline, now: datetime) -> Iterator[str]:
    """What the kubelet or the scheduler does by itself."""
    step = f'"{pipeline.status.current_step}"'
    match reason:
        case Reason.STEP_BACK_OFF | Reason.STEP_FAILED if _restarts_step(facts, pipeline):
            yield f"the kubelet starts {step} again{_back_off_words(facts, pipeline, now)}"
        case Reason.IMAGE_PULL_FAILED:
            yield _next_pull(facts)
        case Reason.CONTAINER_CONFIG_ERROR:
            yield "the kubelet tries again every few seconds, and goes on once nothing is missing"
        case Reason.POD_UNSCHEDULABLE:
            yield "the scheduler tries again whenever a node or another Pod changes"
        case Reason.POD_PENDING if _gated(facts):
            yield "the scheduler leaves the Pod alone until its scheduling gates are removed"
        case Reason.NODE_NOT_READY:
            yield (
                "if the node reports again, the Pod's state is updated; if not, the control "
                "plane deletes the Pod, by default after 5 min"
            )
        case Reason.STEP_PENDING | Reason.POD_PENDING if pipeline.status.pod_uid:
            yield "the scheduler and the kubelet are getting the Pod ready"


def _next_pull(facts: Facts) -> str:
    pod = facts.pod
    every = (*pod.init_container_statuses, *pod.container_statuses) if pod else ()
    reasons = {status.waiting_reason for status in every}
    if INVALID_IMAGE_NAME in reasons:
        return "the kubelet cannot pull an image of this name: nothing happens until it is changed"
    if IMAGE_NEVER_PULLED in reasons:
        return "the kubelet goes on once the node has the image: imagePullPolicy is Never"
    return "the kubelet pulls the image again, after growing delays of up to 5 min"


def _gated(facts: Facts) -> bool:
    scheduled = facts.pod.condition("PodScheduled") if facts.pod else None
    return scheduled is not None and scheduled.reason == "SchedulingGated"


def _restarts_step(facts: Facts, pipeline: Pipeline) -> bool:
    pod = facts.pod
    if pod is None or pod.ended:
        return False
    name = pipeline.status.current_step
    return any(c.after_exit(1) for c in pod.init_containers if c.name == name)


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
    about = f"at about {formatting.moment(at, now)}" if at > now else "at any moment"
    return f" {about} (a back-off of {formatting.span(wait)}{'' if said else ', by default'})"


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


def _if_nobody_acts(pipeline: Pipeline, now: datetime, pod: Pod | None) -> Iterator[str]:
    status, run, policies = pipeline.status, pipeline.status.run, pipeline.policies
    reason = formatting.ready_reason(status)
    ttl = policies.ttl_seconds_after_finished
    if status.condition(ConditionType.STALLED):
        yield (
            "the Pod is created once the spec is corrected"
            if reason == Reason.INVALID_TEMPLATE
            else "no run follows by itself: it needs a person"
        )
    elif status.condition(ConditionType.SUSPENDED):
        yield "no run starts until it is resumed"
    elif run is not None and run.result is Result.SUCCEEDED:
        yield "nothing: all containers of the Pod ended well"
    elif run is None or run.initialized_time is None:
        yield (
            f"in their order: {short_forecast(pipeline, now, pod)}"
            if run
            else "the first run starts"
        )
        return
    else:
        yield _when_it_runs_again(pipeline)
    if ttl is not None and run is not None and run.completion_time is not None:
        at = formatting.moment(run.completion_time + timedelta(seconds=ttl), now)
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


def action_text(decision: Decision, pipeline: Pipeline) -> str:
    """What the operator is to do."""
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
