"""Describes what happens next to a pipeline: the action, its actor and its time. Pure."""

import re
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.reasons import ConditionType, Reason, RerunPolicy, RerunStrategy, Result
from initpipeline.core import admission, conditions
from initpipeline.core.decide import CreatePod, Decision, DeletePipeline, DeletePod, UngatePod
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.kubelet_reasons import IMAGE_NEVER_PULLED, INVALID_IMAGE_NAME
from initpipeline.core.pod import Pod
from initpipeline.core.pod_end import stuck_at
from initpipeline.core.run_limits import DEADLINE
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.formatting import Line, Mode, Moment
from initpipeline.plugin.report.summary import UNTIL_RESUMED, steps_in_order

_BACK_OFF = re.compile(r"back-off ((?:\d+h)?(?:\d+m)?(?:\d+s)?) restarting")
"""The duration in the kubelet's message for CrashLoopBackOff."""


def forecast(
    facts: Facts,
    pipeline: Pipeline,
    decision: Decision,
    limits: Collection[datetime | None],
    now: datetime,
) -> Iterator[str]:
    """Yields what happens next, in order. ``pipeline`` is facts.pipeline with the status that the
    report shows: usually that of the decision, not the one last written. ``limits`` are the times
    of the limits, which the report shows."""
    if pipeline.deleting:
        yield "the InitPipeline and its Pod are being deleted; nothing else happens"
        return
    status, run = pipeline.status, pipeline.status.run
    reason = formatting.ready_reason(status)
    if formatting.stalled_reason(status) == Reason.RECONCILE_ERROR:
        yield (
            "the operator retries with a back-off of up to 5 min, and does not act on this "
            "InitPipeline until that succeeds"
        )
        yield from _by_others(reason, facts, pipeline, now)
        return
    yield from _by_operator(reason, facts, pipeline, decision)
    yield from _by_others(reason, facts, pipeline, now)
    if status.next_run_time is not None and run is not None:
        limited = formatting.is_rate_limited(status)
        more = "" if limited else "; a run that you request does not wait"
        at = Moment(status.next_run_time, Mode.UNTIL)
        yield Line(now, f"run {run.number + 1} starts at ", at, more)
    elif reason == Reason.NAME_CONFLICT and facts.pod is not None:
        yield "the operator creates the Pod within seconds after the name is free"
    elif not is_retried(status, decision):
        yield from _without_user_action(facts, pipeline, now)
    if decision.wake_at is not None and decision.wake_at not in (status.next_run_time, *limits):
        yield from _at_wake(facts, pipeline, decision.wake_at, now)


def _at_wake(facts: Facts, pipeline: Pipeline, wake_at: datetime, now: datetime) -> Iterator[str]:
    """Yields what the operator does at this time if nothing changes earlier. Another line reports
    the end of ttlSecondsAfterFinished."""
    at, run = Moment(wake_at, Mode.UNTIL), pipeline.status.run
    if facts.pod is not None and wake_at == stuck_at(facts.pod):
        yield Line(now, "the InitPipeline becomes Stalled if the old Pod still exists at ", at)
    elif run is None or run.completion_time is None:
        yield Line(
            now, "the operator reconciles the InitPipeline at ", at, ", or when something changes"
        )


def is_retried(status: InitPipelineStatus, decision: Decision) -> bool:
    """Returns whether the operator retries to create a Pod that the API server refused, or a
    deletion that failed."""
    if isinstance(decision.action, CreatePod):
        return formatting.ready_reason(status) in admission.REASONS
    deletes = isinstance(decision.action, DeletePod | DeletePipeline)
    return deletes and conditions.failed_deletion(status) is not None


def _by_operator(
    reason: str, facts: Facts, pipeline: Pipeline, decision: Decision
) -> Iterator[str]:
    """Yields the operator's next action on the Pod."""
    if is_retried(pipeline.status, decision):
        created = isinstance(decision.action, CreatePod)
        what = "creation of the Pod" if created else "deletion"
        yield (
            f"the operator retries the {what}, with a back-off of up to 5 min and "
            "immediately when this InitPipeline changes"
        )
    elif reason == Reason.NAME_CONFLICT and isinstance(decision.action, CreatePod):
        yield f"the name is free now; the operator will {action_text(decision, pipeline)}"
    elif decision.action is not None:
        yield f"the operator will {action_text(decision, pipeline)}"
    elif facts.pod is not None and facts.pod.deleting:
        yield from _after_deletion(facts.pod, pipeline)


def _after_deletion(pod: Pod, pipeline: Pipeline) -> Iterator[str]:
    """Yields what the operator does when the terminating Pod no longer exists."""
    run, policies = pipeline.status.run, pipeline.policies
    gone = "is gone"
    if formatting.stalled_reason(pipeline.status) == Reason.POD_TERMINATING:
        confirmed = (
            "its finalizers are removed"
            if pod.finalizers
            else "the kubelet confirms that its containers have terminated"
            if pod.node_name
            else "the API server removes it"
        )
        gone = f"is gone: when {confirmed}, or when a user takes action"
    if pipeline.status.condition(ConditionType.SUSPENDED):
        yield f"the old Pod {gone}"
    elif run is None or run.completion_time is not None:
        return
    elif run.pod_uid is None:
        yield f"the operator creates the Pod of run {run.number} when the old Pod {gone}"
    elif policies.rerun_policy is RerunPolicy.NEVER:
        yield f"run {run.number} ends when its Pod {gone}"
        yield "then no run starts until a user requests one, because rerunPolicy is Never"
    else:
        yield f"run {run.number} ends when its Pod {gone}"
        yield f"then the operator starts run {run.number + 1}, after a back-off if one is due"


def _by_others(reason: str, facts: Facts, pipeline: Pipeline, now: datetime) -> Iterator[str]:
    """Yields what the kubelet, the scheduler or the control plane does."""
    step = f'"{pipeline.status.current_step}"'
    match reason:
        case Reason.STEP_BACK_OFF | Reason.STEP_FAILED if _restarts_step(facts, pipeline):
            yield Line(now, f"the kubelet starts {step} again ", *_back_off(facts, pipeline))
            yield from _without_limit(facts, pipeline)
        case _ if _fails_the_run(facts, pipeline):
            yield from _after_failure(step, pipeline)
        case Reason.STEP_RUNNING:
            yield from _without_limit(facts, pipeline)
        case Reason.IMAGE_PULL_FAILED:
            yield _next_pull(facts)
        case Reason.CONTAINER_CONFIG_ERROR:
            yield "the kubelet retries every few seconds, and continues when nothing is missing"
        case Reason.POD_UNSCHEDULABLE:
            yield "the scheduler retries when a node or another Pod changes"
        case Reason.POD_PENDING if _gated(facts):
            yield "the scheduler ignores the Pod until its scheduling gates are removed"
        case Reason.NODE_NOT_READY:
            yield (
                "if the node reports again, the kubelet updates the Pod; if not, the control "
                "plane deletes the Pod, by default after 5 min"
            )
        case Reason.STEP_PENDING | Reason.POD_PENDING if pipeline.status.pod_uid:
            yield "the scheduler and the kubelet prepare the Pod"


def _without_limit(facts: Facts, pipeline: Pipeline) -> Iterator[str]:
    """Yields that no limit of the current step fails the run. A run that does not fail does not
    count toward backoffLimit."""
    name, policies = pipeline.status.current_step, pipeline.policies
    containers = facts.pod.init_containers if facts.pod else ()
    if name is None or policies.init_deadline_seconds is not None:
        return
    if any(one.sidecar for one in containers if one.name == name):
        return
    policy = policies.of_step(name)
    running = formatting.ready_reason(pipeline.status) == Reason.STEP_RUNNING
    if running and not policies.has_time_limit(name):
        yield f'"{name}" runs until it exits: neither its timeoutSeconds nor {DEADLINE} is set'
    elif not running and policy.max_restarts is None:
        yield f'this repeats without limit: neither maxRestarts of "{name}" nor {DEADLINE} is set'


def _next_pull(facts: Facts) -> str:
    if _waits_for(INVALID_IMAGE_NAME, facts):
        return "the kubelet cannot pull an image with this name: correct it in the template"
    if _waits_for(IMAGE_NEVER_PULLED, facts):
        return "the kubelet continues when the node has the image, because imagePullPolicy is Never"
    return "the kubelet retries the image pull, with a back-off of up to 5 min"


def _waits_for(reason: str, facts: Facts) -> bool:
    """Returns whether a container of the Pod is waiting for this reason."""
    pod = facts.pod
    statuses = pod.all_statuses if pod else ()
    return any(status.waiting_reason == reason for status in statuses)


def _fails_the_run(facts: Facts, pipeline: Pipeline) -> bool:
    """Returns whether the current step has failed and the kubelet does not restart it."""
    status, run = pipeline.status, pipeline.status.run
    failed = formatting.ready_reason(status) == Reason.STEP_FAILED
    active = run is not None and run.completion_time is None
    return failed and active and not _restarts_step(facts, pipeline)


def _after_failure(step: str, pipeline: Pipeline) -> Iterator[str]:
    """Yields what follows when the kubelet does not restart the failed step."""
    run, limit = pipeline.status.run, pipeline.policies.backoff_limit
    number = run.number if run else 1
    yield f"the kubelet does not restart {step}: the Pod and run {number} fail"
    if pipeline.status.failed_runs < limit:
        yield f"then the operator starts run {number + 1}, after a back-off if one is due"
    else:
        yield f"then no run starts until a user takes action, because backoffLimit is {limit}"


def _gated(facts: Facts) -> bool:
    """Returns whether the Pod has scheduling gates."""
    scheduled = facts.pod.condition("PodScheduled") if facts.pod else None
    return scheduled is not None and scheduled.reason == "SchedulingGated"


def _restarts_step(facts: Facts, pipeline: Pipeline) -> bool:
    """Returns whether the kubelet restarts the current step after a failure. Exit code 1 stands for
    any failure."""
    pod = facts.pod
    if pod is None or pod.ended:
        return False
    name = pipeline.status.current_step
    return any(c.after_exit(1) for c in pod.init_containers if c.name == name)


def _back_off(facts: Facts, pipeline: Pipeline) -> tuple[str | Moment, ...]:
    """Returns the time of the kubelet's next restart of the step: the end of the last attempt plus
    the back-off. The kubelet may restart the step a little later. If the kubelet has not reported a
    back-off, its default is used."""
    statuses = facts.pod.init_container_statuses if facts.pod else ()
    current = next((s for s in statuses if s.name == pipeline.status.current_step), None)
    end = (current.terminated or current.last_terminated) if current else None
    if current is None or end is None or end.finished_at is None:
        return ("after a back-off of 10 s to 5 min",)
    reported = _BACK_OFF.search((current.waiting or {}).get("message") or "")
    if reported is None and current.restart_count == 0:
        return ("immediately",)
    wait = _go_duration(reported[1]) if reported else _default_back_off(current.restart_count)
    at = end.finished_at + wait
    source = "" if reported else ", the default"
    return Moment(at, Mode.ABOUT), f" (back-off {formatting.span(wait)}{source})"


def _default_back_off(restarts: int) -> timedelta:
    """Returns the kubelet's default back-off after this number of restarts: 10 s after the first,
    doubled after each further one, up to 5 min."""
    doubled: timedelta = timedelta(seconds=10) * 2 ** min(restarts - 1, 10)
    return min(doubled, timedelta(minutes=5))


def _go_duration(text: str) -> timedelta:
    """Parses a duration in Go's format, such as 1m20s."""
    units = {"h": "hours", "m": "minutes", "s": "seconds"}
    parts = re.findall(r"(\d+)([hms])", text)
    return timedelta(**{units[unit]: int(number) for number, unit in parts})


def _without_user_action(facts: Facts, pipeline: Pipeline, now: datetime) -> Iterator[str]:
    """Yields what happens to the pipeline if no user takes action."""
    status, run = pipeline.status, pipeline.status.run
    ttl = pipeline.policies.ttl_seconds_after_finished
    if status.condition(ConditionType.SUSPENDED):
        yield UNTIL_RESUMED
    elif run is None:
        yield "the operator starts the first run"
    elif run.completion_time is None:
        yield from _rest_of_run(facts, pipeline)
    elif run.result is Result.SUCCEEDED:
        yield "nothing: all containers of the Pod have succeeded"
    else:
        yield "no run starts until a user takes action"
    if ttl is not None and run is not None and run.completion_time is not None:
        at = Moment(run.completion_time + timedelta(seconds=ttl), Mode.UNTIL)
        yield Line(
            now, "the operator deletes this InitPipeline at ", at, " (ttlSecondsAfterFinished)"
        )


def _rest_of_run(facts: Facts, pipeline: Pipeline) -> Iterator[str]:
    """Yields what the rest of the current run does, or if it is initialized, what starts the next
    one."""
    reason, run = formatting.ready_reason(pipeline.status), pipeline.status.run
    of_run = run is not None and run.pod_uid is not None
    if reason == Reason.INVALID_TEMPLATE and facts.pod is None:
        yield "the operator creates the Pod when you fix the spec"
    elif reason == Reason.POD_TERMINATING and of_run:
        return  # This run ends with its Pod.
    elif run is not None and run.initialized_time is not None:
        yield _causes_of_next_run(pipeline)
    elif not _fails_the_run(facts, pipeline) and not _waits_for(INVALID_IMAGE_NAME, facts):
        yield f"in order: {steps_in_order(pipeline, facts.pod)}"


def _causes_of_next_run(pipeline: Pipeline) -> str:
    """Returns what starts the next run of a pipeline that is initialized."""
    policies = pipeline.policies
    how = "in place" if policies.rerun_strategy is RerunStrategy.IN_PLACE else "with a new Pod"
    causes = {
        RerunPolicy.ON_RESTART: f"an app container restarts ({how}), the Pod is lost, ",
        RerunPolicy.NEVER: "",
    }.get(policies.rerun_policy, "the Pod is lost, ")
    return (
        f"all steps run again when {causes}the kubelet restarts the Pod, the template changes, or "
        "a user requests a run"
    )


def action_text(decision: Decision, pipeline: Pipeline) -> str:
    """Returns the action of the decision as a verb phrase. Empty if there is no action."""
    run = decision.status.run
    match decision.action:
        case CreatePod():
            return f"create the Pod of run {run.number if run else 1}"
        case DeletePod():
            return f'delete the Pod "{pipeline.name}"'
        case UngatePod():
            return f'remove the scheduling gate of the Pod "{pipeline.name}"'
        case DeletePipeline():
            ttl = pipeline.policies.ttl_seconds_after_finished
            return f"delete this InitPipeline, because ttlSecondsAfterFinished ({ttl} s) has passed"
        case None:
            return ""
