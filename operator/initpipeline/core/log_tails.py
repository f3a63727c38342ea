"""Keeps what containers print out of status, if spec.logTails or the operator's option requires it.

The kubelet puts the end of a failed container's log, or the text that the container wrote to its
terminationMessagePath, into the message of its termination. All texts about a failure are derived
from that message. So it is replaced in the facts, before anything is decided.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from initpipeline.api.models import (
    Cause,
    Exceeded,
    FailedStep,
    InitPipelineStatus,
    Run,
    RunFacts,
    RunRecord,
)
from initpipeline.api.reasons import LogTails
from initpipeline.core import lenient
from initpipeline.core.container_status import ContainerStatus, Terminated
from initpipeline.core.evolve import evolve
from initpipeline.core.facts import Facts
from initpipeline.core.failures import replace_message
from initpipeline.core.kubelet_reasons import START_ERROR
from initpipeline.core.mirror import mirrored
from initpipeline.core.pod import Pod

OMITTED: Final = "log tails are switched off"
"""What status has in place of a termination message."""


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
    """Returns the facts without termination messages. They are replaced in the stored status, too.

    The message of a container that could not be started is kept: the container runtime wrote it,
    and the container printed nothing.
    """
    pipeline = facts.pipeline
    return replace(
        facts,
        pipeline=replace(pipeline, status=_status(pipeline.status)),
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
    printed = _printed(status.terminated) or _printed(status.last_terminated)
    return ContainerStatus.from_api(_raw(status.raw)) if printed else status


def _raw(status: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the v1.ContainerStatus without termination messages."""
    changes = {}
    for key in ("state", "lastState"):
        state = lenient.mapping(status.get(key))
        if _printed(Terminated.from_api(state)):
            changes[key] = {**state, "terminated": {**state["terminated"], "message": OMITTED}}
    return {**status, **changes}


def _printed(end: Terminated | None) -> bool:
    """Returns whether the container may have printed the message, or has failed without one."""
    if end is None or end.reason == START_ERROR:
        return False
    return bool(end.message or end.exit_code)


def _status(status: InitPipelineStatus) -> InitPipelineStatus:
    return evolve(
        status,
        init_container_statuses=tuple(map(_raw, status.init_container_statuses)),
        run=_run(status.run) if status.run else None,
        history=tuple(map(_record, status.history)),
    )


def _run(run: Run) -> Run:
    return evolve(
        run,
        cause=_end(run.cause),
        in_place_cause=_end(run.in_place_cause),
        exceeded=_exceeded(run.exceeded),
        message=_message(run),
    )


def _record(record: RunRecord) -> RunRecord:
    return evolve(
        record,
        cause=_end(record.cause),
        failed_step=_end(record.failed_step),
        exceeded=_exceeded(record.exceeded),
        message=_message(record),
    )


def _message(run: RunFacts) -> str | None:
    return run.message and replace_message(run.message, OMITTED)


_EndT = TypeVar("_EndT", Cause, FailedStep)


def _end(end: _EndT | None) -> _EndT | None:
    if end is None or end.message is None or end.reason == START_ERROR:
        return end
    return evolve(end, message=OMITTED)


def _exceeded(exceeded: Exceeded | None) -> Exceeded | None:
    if exceeded is None or exceeded.termination_message is None:
        return exceeded
    return evolve(exceeded, termination_message=OMITTED)
