"""What a person can do about the state of a pipeline. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.core import admission, run_limits
from initpipeline.core.facts import Pipeline
from initpipeline.plugin.report import formatting
from initpipeline.plugin.report.summary import summary


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that a person can do."""

    command: str
    effect: str


def remedies(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    """What helps in this state, the most likely first. ``flags`` are what a command about the
    pipeline needs besides its name."""
    name, status = pipeline.name, pipeline.status
    run = status.run
    yield from _of_reason(pipeline, flags)
    if pipeline.deleting:
        return
    if pipeline.policies.suspend:
        yield Remedy(f"kubectl initpipeline resume {name}{flags}", "start a run")
        return
    if run is None:
        return
    if run.exceeded is not None and run.completion_time is not None:
        limit = run.exceeded
        of = f' of "{limit.step}"' if limit.limit != run_limits.DEADLINE else ""
        yield Remedy(
            f"kubectl edit ipl {name}{flags}",
            f"raise {limit.limit}{of} over {limit.value}: another run starts then",
        )
    reason = formatting.ready_reason(status)
    if reason != Reason.NAME_CONFLICT and admission.refusal_of_spec(pipeline) is None:
        soon = status.next_run_time is not None or reason in admission.REASONS
        at_work = summary(status) == "Ready"
        why = ", without the wait" if soon else ", at work or not" if at_work else ""
        yield Remedy(
            f"kubectl initpipeline rerun {name}{flags}", f"start run {run.number + 1} now{why}"
        )
    if status.condition(ConditionType.RECONCILING):
        yield Remedy(
            f"kubectl initpipeline suspend {name}{flags}",
            "delete the Pod and try no more" if status.pod_uid else "try no more",
        )


def _of_reason(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    name, status = pipeline.name, pipeline.status
    edit = f"kubectl edit ipl {name}{flags}"
    correct = Remedy(edit, "correct the template: a run starts then")
    look = Remedy(f"kubectl describe pod {name}{flags}", "see its events")
    stalled = status.condition(ConditionType.STALLED)
    if stalled is not None and stalled.reason == Reason.BACKOFF_LIMIT_EXCEEDED:
        yield from _logs(pipeline, flags)
        yield Remedy(
            edit,
            "correct the template, which starts a run; or raise backoffLimit to "
            f"{status.failed_runs} or more, which allows another",
        )
        return
    match formatting.ready_reason(status):
        case Reason.STEP_FAILED | Reason.STEP_BACK_OFF:
            yield from _logs(pipeline, flags)
            yield correct
        case Reason.STEP_RUNNING | Reason.RERUN_BACK_OFF:
            yield from _logs(pipeline, flags)
        case reason if reason in admission.NOT_CREATED:
            yield from _of_refusal(pipeline, flags)
        case Reason.NODE_NOT_READY:
            node = status.node_name
            yield Remedy(f"kubectl describe node {node}", "see since when it has not reported")
        case Reason.CONTAINER_FAILED | Reason.CONTAINERS_NOT_READY:
            yield Remedy(f"kubectl logs {name}{flags} --all-containers", "read what it says")
            yield look
        case (
            Reason.POD_PENDING
            | Reason.POD_UNSCHEDULABLE
            | Reason.IMAGE_PULL_FAILED
            | Reason.CONTAINER_CONFIG_ERROR
            | Reason.STEP_PENDING
        ) if status.pod_uid:
            yield look
            yield correct


def _of_refusal(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    name, status = pipeline.name, pipeline.status
    edit = f"kubectl edit ipl {name}{flags}"
    match formatting.ready_reason(status):
        case Reason.INVALID_TEMPLATE if admission.refusal_of_spec(pipeline) is not None:
            yield Remedy(edit, "correct the spec: the operator creates the Pod then")
        case Reason.INVALID_TEMPLATE:
            yield Remedy(edit, "correct the template: a run starts then")
            yield _limit_ranges(flags)
        case Reason.POD_FORBIDDEN:
            yield Remedy(
                edit,
                "correct the template: a run starts then; or create, or have an administrator "
                "allow, what the message names",
            )
            if _by_limit_range(formatting.ready_message(status)):
                yield _limit_ranges(flags)
        case Reason.QUOTA_REQUIRES_RESOURCES:
            yield Remedy(
                edit, "add the requests or limits that the message names: a run starts then"
            )
            yield _limit_ranges(flags)
        case Reason.QUOTA_EXCEEDED:
            yield Remedy(f"kubectl describe quota{flags}", "see what is used; free or raise it")
        case Reason.NAME_CONFLICT:
            yield Remedy(
                f"kubectl get pod {name}{flags} -o wide",
                "see who owns it; delete it: the operator creates its own Pod then",
            )


def _limit_ranges(flags: str) -> Remedy:
    return Remedy(
        f"kubectl describe limitrange{flags}",
        "see which defaults, minima and maxima the namespace sets for containers",
    )


def _by_limit_range(message: str) -> bool:
    """Returns whether a LimitRange refuses the Pod, by the message of the LimitRanger plugin."""
    return any(words in message for words in ("usage per ", "limit to request ratio per "))


def _logs(pipeline: Pipeline, flags: str) -> Iterator[Remedy]:
    step = pipeline.status.current_step
    named = f"{pipeline.name} {step}" if step else pipeline.name
    yield Remedy(f"kubectl initpipeline logs {named}{flags}", "read what the step says")
