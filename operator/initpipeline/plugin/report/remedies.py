"""Lists what a user can do about the state of a pipeline. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from initpipeline.api.models import Run
from initpipeline.api.reasons import FAULTS, ConditionType, Reason, Result
from initpipeline.core import admission, conditions, run_limits
from initpipeline.core.facts import Pipeline
from initpipeline.core.mirror import mirrored
from initpipeline.core.pod import Pod
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.summary import summary


@dataclass(frozen=True, slots=True)
class Remedy:
    """A command that a user can run."""

    command: str
    effect: str
    """What the command does, as a verb phrase."""


def remedies(pipeline: Pipeline, flags: str, pod: Pod | None) -> Iterator[Remedy]:
    """Yields the commands that may help in this state, the most useful first.

    ``flags`` are the flags with which kubectl finds the pipeline. ``pod`` is the Pod with the name
    of the pipeline, with any owner.
    """
    name, status = pipeline.name, pipeline.status
    run, terminating = status.run, pod is not None and pod.deleting
    match formatting.stalled_reason(status):
        case Reason.RECONCILE_ERROR:
            yield Remedy(
                "kubectl logs -n initpipeline-system -l app.kubernetes.io/name=initpipeline "
                f"--prefix --tail=-1{_cluster(flags)}",
                "read the error that one of the operator's replicas logged, and report it",
            )
            yield Remedy(
                f"kubectl get ipl {name}{flags} -o yaml",
                "attach it to the report, without what is confidential",
            )
            return
        case Reason.POD_TERMINATING if pod is not None:
            yield from _of_stuck_pod(pod, name, flags)
        case _ if conditions.failed_deletion(status):
            yield from _of_failed_deletion(flags)
        case _:
            yield from _of_reason(pipeline, flags, pod)
    if pipeline.deleting:
        return
    yield from _of_in_place(pipeline, flags)
    if pipeline.policies.suspend:
        when = "; its Pod is created when the old Pod is gone" if terminating else ""
        yield Remedy(f"kubectl initpipeline resume {name}{flags}", f"start a run{when}")
        return
    if run is None:
        return
    yield from _of_exceeded_limit(pipeline, run, flags)
    yield from _rerun(pipeline, run, flags, terminating=terminating)
    if status.condition(ConditionType.RECONCILING):
        yield Remedy(
            f"kubectl initpipeline suspend {name}{flags}",
            "delete the Pod and start no more runs" if status.pod_uid else "start no more runs",
        )


def _of_exceeded_limit(pipeline: Pipeline, run: Run, flags: str) -> Iterator[Remedy]:
    if run.exceeded is None or run.completion_time is None:
        return
    limit = run.exceeded
    of = f' of "{limit.step}"' if limit.limit != run_limits.DEADLINE else ""
    yield Remedy(
        f"kubectl edit ipl {pipeline.name}{flags}",
        f"raise {limit.limit}{of} above {limit.value}; this starts another run",
    )


def _rerun(pipeline: Pipeline, run: Run, flags: str, *, terminating: bool) -> Iterator[Remedy]:
    """Yields the request of another run, if it would start one before something else happens."""
    status, reason = pipeline.status, formatting.ready_reason(pipeline.status)
    if reason == Reason.NAME_CONFLICT or (terminating and run.completion_time is None):
        return
    if run.completion_time is None and conditions.failed_deletion(status):
        return
    if formatting.is_rate_limited(status) or admission.refusal_of_spec(pipeline) is not None:
        return
    soon = status.next_run_time is not None or reason in admission.REASONS
    ready = summary(status) == "Ready"
    why = ", without waiting" if soon else ", even though the Pod is Ready" if ready else ""
    yield Remedy(
        f"kubectl initpipeline rerun {pipeline.name}{flags}",
        f"start run {run.number + 1} now{why}",
    )


def _of_reason(pipeline: Pipeline, flags: str, pod: Pod | None) -> Iterator[Remedy]:
    name, status = pipeline.name, pipeline.status
    edit = f"kubectl edit ipl {name}{flags}"
    fix = Remedy(edit, "fix the template; this starts a new run")
    describe = Remedy(f"kubectl describe pod {name}{flags}", "show the Pod and its events")
    run, reason = status.run, formatting.ready_reason(status)
    ended = run is not None and run.result in FAULTS
    if run is not None and ended and reason != Reason.SUSPENDED:
        yield from _of_ended_run(pipeline, run, flags, pod)
        return
    match reason:
        case Reason.STEP_FAILED | Reason.STEP_BACK_OFF:
            yield from _logs(pipeline, flags)
            yield fix
        case Reason.STEP_RUNNING:
            yield from _logs(pipeline, flags)
        case Reason.POD_TERMINATING if pod is not None and pod.deleting:
            yield Remedy(
                f"kubectl describe pod {name}{flags}",
                "see when its grace period ends, and whether finalizers block the deletion",
            )
        case reason if reason in admission.NOT_CREATED:
            yield from _of_refusal(pipeline, flags)
        case Reason.NODE_NOT_READY:
            node = status.node_name
            command = f"kubectl describe node {node}{_cluster(flags)}"
            yield Remedy(command, "see when the node last reported")
        case Reason.CONTAINER_FAILED | Reason.CONTAINERS_NOT_READY:
            yield Remedy(
                f"kubectl logs {name}{flags} --all-containers", "read the logs of its containers"
            )
            yield describe
        case (
            Reason.POD_PENDING
            | Reason.POD_UNSCHEDULABLE
            | Reason.IMAGE_PULL_FAILED
            | Reason.CONTAINER_CONFIG_ERROR
            | Reason.STEP_PENDING
        ) if status.pod_uid:
            yield describe
            yield fix


def _of_ended_run(pipeline: Pipeline, run: Run, flags: str, pod: Pod | None) -> Iterator[Remedy]:
    """Yields the commands that show why a run failed or was lost, and what to change."""
    name, status = pipeline.name, pipeline.status
    edit = f"kubectl edit ipl {name}{flags}"
    if run.result is Result.LOST:
        yield Remedy(f"kubectl initpipeline history {name}{flags}", "see why each Pod was lost")
        if formatting.stalled_reason(status) == Reason.POD_LOST:
            yield Remedy(edit, "set rerunPolicy to OnPodLoss or OnRestart; this starts a new run")
        return
    yield from _evidence(pipeline, run, flags, pod)
    if status.next_run_time is not None:
        yield Remedy(edit, f"{_correction(run)}; this starts a new run")
    else:
        yield Remedy(
            edit,
            f"{_correction(run)}, or raise backoffLimit to {status.failed_runs} or more; either "
            "starts a new run",
        )


def _evidence(pipeline: Pipeline, run: Run, flags: str, pod: Pod | None) -> Iterator[Remedy]:
    """Yields the command that shows the cause of a failed run."""
    name = pipeline.name
    events = f"kubectl events --for pod/{name}{flags}"
    of_pod = run.reason in {Reason.POD_FAILED, Reason.POD_EVICTED}
    if of_pod and pod is not None and pod.uid == run.pod_uid:
        yield Remedy(f"kubectl describe pod {name}{flags}", "show the Pod and its events")
    elif of_pod:
        yield Remedy(events, "see the events of the Pod, which the API server keeps for an hour")
    elif _has_started(pipeline):
        yield from _logs(pipeline, flags)
    else:
        yield Remedy(events, "see why the step has not started")


def _correction(run: Run) -> str:
    """Returns what to change in the template after a failed run, as a verb phrase."""
    match run.reason:
        case Reason.POD_EVICTED:
            return "raise the exceeded limit in the template, or let the containers write less"
        case Reason.POD_DEADLINE_EXCEEDED:
            return "raise activeDeadlineSeconds in the template"
        case _:
            return "fix the template"


def _of_stuck_pod(pod: Pod, name: str, flags: str) -> Iterator[Remedy]:
    """Yields what helps if a Pod does not terminate. A request for another run does not."""
    node, cluster = pod.node_name, _cluster(flags)
    if pod.finalizers:
        yield Remedy(
            f"kubectl get pod {name}{flags} -o jsonpath='{{.metadata.finalizers}}'",
            "see which finalizers block the deletion; check the controllers that remove them",
        )
        return
    force = f"kubectl delete pod {name}{flags} --grace-period=0 --force"
    if node is None:
        yield Remedy(force, "remove the Pod, which is not on a node")
        return
    yield Remedy(
        f"kubectl describe node {node}{cluster}",
        "see whether the node is down; if it is up, check its kubelet",
    )
    yield Remedy(
        f"kubectl taint node {node}{cluster} "
        "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
        "only if the node is shut down for good: remove all its Pods, and detach their volumes",
    )
    yield Remedy(
        force,
        "only if the node is down for good: otherwise two Pods may run at the same time",
    )


def _of_failed_deletion(flags: str) -> Iterator[Remedy]:
    yield Remedy(
        "kubectl auth can-i delete pods --as=system:serviceaccount:initpipeline-system:initpipeline"
        f"{flags}",
        "see whether the operator may delete Pods; if not, apply its roles again",
    )
    yield Remedy(
        "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations,"
        f"validatingadmissionpolicies{_cluster(flags)}",
        "see which webhooks and policies may refuse the deletion",
    )


def _of_refusal(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    name, status = pipeline.name, pipeline.status
    edit = f"kubectl edit ipl {name}{flags}"
    match formatting.ready_reason(status):
        case Reason.INVALID_TEMPLATE if admission.refusal_of_spec(pipeline) is not None:
            yield Remedy(edit, "fix the spec; the operator then creates the Pod")
        case Reason.INVALID_TEMPLATE:
            yield Remedy(edit, "fix the template; this starts a new run")
            yield _limit_ranges(flags)
        case Reason.POD_FORBIDDEN:
            yield Remedy(
                edit,
                "fix the template; this starts a new run. Or create what the message names, or "
                "ask an administrator to allow it",
            )
            if _by_limit_range(formatting.state_message(status)):
                yield _limit_ranges(flags)
        case Reason.POD_REQUEST_FAILED:
            yield Remedy(
                f"kubectl get --raw=/readyz?verbose{_cluster(flags)}",
                "see whether the API server and etcd are ready",
            )
            yield Remedy(
                "kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations"
                f"{_cluster(flags)}",
                "see which webhooks get the Pod; one that is slow delays or fails the request",
            )
        case Reason.QUOTA_REQUIRES_RESOURCES:
            yield Remedy(edit, "add the requests or limits in the message; this starts a new run")
            yield _limit_ranges(flags)
        case Reason.QUOTA_EXCEEDED:
            yield Remedy(
                f"kubectl describe quota{flags}",
                "see what is used; free resources or raise the quota",
            )
        case Reason.NAME_CONFLICT:
            yield Remedy(
                f"kubectl describe pod {name}{flags}",
                "show its owner (Controlled By); once the Pod is gone, the operator creates one",
            )


def _limit_ranges(flags: str) -> Remedy:
    return Remedy(
        f"kubectl describe limitrange{flags}",
        "see the defaults, minimums and maximums that the namespace sets for containers",
    )


def _by_limit_range(message: str) -> bool:
    """Returns whether a LimitRange refuses the Pod, by the message of the LimitRanger plugin."""
    return any(part in message for part in ("usage per ", "limit to request ratio per "))


def _of_in_place(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    condition = pipeline.status.condition(ConditionType.IN_PLACE_UNAVAILABLE)
    match condition.reason if condition else None:
        case Reason.IN_PLACE_UNSUPPORTED:
            yield Remedy(
                f"kubectl edit ipl {pipeline.name}{flags}",
                "set rerunStrategy to Recreate. Or upgrade the cluster: in-place restarts need "
                "Kubernetes 1.36, and the next run tries them again",
            )
        case Reason.IN_PLACE_TOO_OFTEN:
            yield Remedy(
                f"kubectl initpipeline history {pipeline.name}{flags}",
                "see what caused each run",
            )


def _has_started(pipeline: Pipeline) -> bool:
    """Returns whether the current step has started, or whether that is unknown."""
    status = pipeline.status
    current = next((one for one in mirrored(status) if one.name == status.current_step), None)
    return current is None or current.ever_started


def _cluster(flags: str) -> str:
    """Returns the flags without the namespace, which is the last one."""
    return flags.partition(" -n ")[0]


def _logs(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    step = pipeline.status.current_step
    command = f"kubectl initpipeline logs {pipeline.name}"
    if step:
        yield Remedy(f"{command} {step}{flags}", "read the log of the step")
    else:
        yield Remedy(f"{command}{flags}", "read the logs of the steps")
