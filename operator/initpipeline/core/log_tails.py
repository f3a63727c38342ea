"""Keeps what containers print out of status, if spec.logTails or the operator's option requires it.

The kubelet puts the end of a failed container's log, or the text that the container wrote to its
terminationMessagePath, into the message of its termination. All texts about a failure are derived
from that message. So it is replaced in the facts, before anything is decided.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from initpipeline.api.models import Cause, Exceeded, FailedStep, InitPipelineStatus, Run, RunRecord
from initpipeline.api.reasons import LogTails
from initpipeline.core import lenient
from initpipeline.core.evolve import evolve
from initpipeline.core.facts import ContainerStatus, Facts, Pod, Terminated
from initpipeline.core.failures import MOST_IN_MESSAGE
from initpipeline.core.kubelet_reasons import START_ERROR
from initpipeline.core.mirror import mirrored
from initpipeline.core.text import clip_start

OMITTED: Final = "log tails are switched off"
"""What status has in place of a termination message."""

_RECOGNIZABLE: Final = 24
"""Characters by which the beginning of a message is found in a text that was clipped."""

_RunT = TypeVar("_RunT", Run, RunRecord)


def are_omitted(facts: Facts) -> bool:
    """Returns whether the pipeline omits log tails. A value that only a newer version knows counts
    as Omit, because a text that was stored cannot be withdrawn from backups."""
    return facts.pipeline.policies.log_tails is not LogTails.RECORD


def required(facts: Facts) -> Facts:
    """Returns the facts as if spec.logTails were Omit, for the operator's option."""
    pipeline = facts.pipeline
    policies = evolve(pipeline.policies, log_tails=LogTails.OMIT)
    return replace(facts, pipeline=replace(pipeline, policies=policies))


def as_reported(facts: Facts) -> Facts:
    """Returns the facts as the operator treats them, for the plugin, which does not know the
    operator's option. The mirror shows whether the operator omits termination messages."""
    return required(facts) if _were_omitted(facts.pipeline.status) else facts


def _were_omitted(status: InitPipelineStatus) -> bool:
    ends = (end for one in mirrored(status) for end in (one.terminated, one.last_terminated))
    return any(end is not None and end.message == OMITTED for end in ends)


def omitted(facts: Facts) -> Facts:
    """Returns the facts without termination messages. They are replaced in the last status, too.

    The message of a container that could not be started is kept: the container runtime wrote it,
    and the container printed nothing.
    """
    pipeline = facts.pipeline
    pods = [pod for pod in (facts.pod, facts.gone) if pod is not None]
    tails = sorted({*_tails(pipeline.status), *_tails_of(pods)}, key=len, reverse=True)
    return replace(
        facts,
        pipeline=replace(pipeline, status=_status(pipeline.status, tails)),
        pod=facts.pod and _pod(facts.pod),
        gone=facts.gone and _pod(facts.gone),
    )


def _pod(pod: Pod) -> Pod:
    return replace(
        pod,
        init_container_statuses=tuple(map(_container, pod.init_container_statuses)),
        container_statuses=tuple(map(_container, pod.container_statuses)),
    )


def _container(status: ContainerStatus) -> ContainerStatus:
    raw = _raw(status.raw)
    return status if raw is status.raw else ContainerStatus.from_api(raw)


def _raw(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the v1.ContainerStatus, or a copy without termination messages."""
    changes = {}
    for key in ("state", "lastState"):
        state = lenient.mapping(status.get(key))
        if _printed(Terminated.from_api(state)):
            changes[key] = {**state, "terminated": {**state["terminated"], "message": OMITTED}}
    return {**status, **changes} if changes else status


def _printed(end: Terminated | None) -> bool:
    """Returns whether the container may have printed the message, or has failed without one."""
    if end is None or end.reason == START_ERROR or end.message == OMITTED:
        return False
    return bool(end.message or end.exit_code)


def _tails_of(pods: list[Pod]) -> Iterator[str]:
    """Yields the termination messages in these Pods that may be in a text of status."""
    for pod in pods:
        for status in pod.all_statuses:
            yield from _of_container(status)


def _of_container(status: ContainerStatus) -> Iterator[str]:
    for end in (status.terminated, status.last_terminated):
        if end is not None and end.message and _printed(end):
            yield clip_start(end.message)


def _tails(status: InitPipelineStatus) -> Iterator[str]:
    """Yields the termination messages that the status has."""
    for container in mirrored(status):
        yield from _of_container(container)
    for run in (*([status.run] if status.run else ()), *status.history):
        found: list[Cause | FailedStep | None] = [run.cause]
        if isinstance(run, Run):
            found.append(run.in_place_cause)
        else:
            found.append(run.failed_step)
        for one in found:
            if one is not None and one.message and _is_tail(one):
                yield one.message
        if run.exceeded is not None and run.exceeded.termination_message not in (None, OMITTED):
            yield run.exceeded.termination_message or ""


def _is_tail(end: Cause | FailedStep) -> bool:
    return end.message not in (None, OMITTED) and end.reason != START_ERROR


def _status(status: InitPipelineStatus, tails: list[str]) -> InitPipelineStatus:
    return evolve(
        status,
        init_container_statuses=tuple(dict(_raw(raw)) for raw in status.init_container_statuses),
        run=_run(status.run, tails) if status.run else None,
        history=tuple(_run(record, tails) for record in status.history),
    )


def _run(run: _RunT, tails: list[str]) -> _RunT:
    changes: dict[str, Any] = {"cause": _end(run.cause), "exceeded": _exceeded(run.exceeded)}
    if isinstance(run, Run):
        changes["in_place_cause"] = _end(run.in_place_cause)
    else:
        changes["failed_step"] = _end(run.failed_step)
    changes["message"] = _text(run.message, tails)
    return run.model_copy(update=changes)


_EndT = TypeVar("_EndT", Cause, FailedStep)


def _end(end: _EndT | None) -> _EndT | None:
    if end is None or not _is_tail(end):
        return end
    return end.model_copy(update={"message": OMITTED})


def _exceeded(exceeded: Exceeded | None) -> Exceeded | None:
    if exceeded is None or exceeded.termination_message is None:
        return exceeded
    return evolve(exceeded, termination_message=OMITTED)


def _text(text: str | None, tails: list[str]) -> str | None:
    """Returns the text without these messages. A text ends with at most the last MOST_IN_MESSAGE
    bytes of a message, and may have been clipped at its end."""
    for tail in tails if text else ():
        shown = clip_start(tail, MOST_IN_MESSAGE)
        text = (text or "").replace(f": {shown}", f": {OMITTED}")
        start = text.find(f": {shown[:_RECOGNIZABLE]}") if len(shown) > _RECOGNIZABLE else -1
        if start >= 0:
            text = f"{text[:start]}: {OMITTED}"
    return text
