"""Copies of immutable API models with some fields changed, checked by mypy.

pydantic's ``model_copy(update=...)`` takes any mapping: it drops a misspelled field and keeps a
value of the wrong type. Each TypedDict here lists the fields of one model that the operator
changes. A unit test compares names and types with the model.
"""

from datetime import datetime
from typing import Any, TypedDict, TypeVar, Unpack, overload

from initpipeline.api.models import (
    ApiModel,
    Cause,
    CompletedInitContainer,
    Condition,
    EffectiveResources,
    Exceeded,
    FailedStep,
    InitPipelineStatus,
    Policies,
    RestartBaseline,
    Run,
    RunningStep,
    RunRecord,
)
from initpipeline.api.reasons import LogTails, Result


class RunChanges(TypedDict, total=False):
    pod_uid: str | None
    initialized_time: datetime | None
    completion_time: datetime | None
    result: Result | None
    reason: str | None
    message: str | None
    cause: Cause | None
    exceeded: Exceeded | None
    completed_init_containers: tuple[CompletedInitContainer, ...]
    restart_baselines: tuple[RestartBaseline, ...]
    init_restart_baselines: tuple[RestartBaseline, ...]
    running_step: RunningStep | None
    scheduling_gated: bool
    ungated_time: datetime | None
    in_place_cause: Cause | None


class RunRecordChanges(TypedDict, total=False):
    cause: Cause | None
    exceeded: Exceeded | None
    message: str | None
    failed_step: FailedStep | None


class StatusChanges(TypedDict, total=False):
    observed_generation: int | None
    conditions: tuple[Condition, ...]
    pod_name: str | None
    pod_uid: str | None
    node_name: str | None
    run: Run | None
    init_progress: str | None
    current_step: str | None
    init_container_statuses: tuple[dict[str, Any], ...]
    omitted: str | None
    history: tuple[RunRecord, ...]
    failed_runs: int
    rerun_count: int
    next_run_time: datetime | None
    effective_resources: EffectiveResources | None
    last_rerun_token: str | None
    template_hash: str | None


class ConditionChanges(TypedDict, total=False):
    observed_generation: int | None


class ExceededChanges(TypedDict, total=False):
    termination_message: str | None


class PoliciesChanges(TypedDict, total=False):
    log_tails: LogTails


class CauseChanges(TypedDict, total=False):
    message: str | None


class FailedStepChanges(TypedDict, total=False):
    reason: str | None
    message: str | None


_M = TypeVar("_M", bound=ApiModel)


@overload
def evolve(model: Run, **changes: Unpack[RunChanges]) -> Run: ...
@overload
def evolve(model: RunRecord, **changes: Unpack[RunRecordChanges]) -> RunRecord: ...
@overload
def evolve(model: InitPipelineStatus, **changes: Unpack[StatusChanges]) -> InitPipelineStatus: ...
@overload
def evolve(model: Condition, **changes: Unpack[ConditionChanges]) -> Condition: ...
@overload
def evolve(model: Exceeded, **changes: Unpack[ExceededChanges]) -> Exceeded: ...
@overload
def evolve(model: Policies, **changes: Unpack[PoliciesChanges]) -> Policies: ...
@overload
def evolve(model: Cause, **changes: Unpack[CauseChanges]) -> Cause: ...
@overload
def evolve(model: FailedStep, **changes: Unpack[FailedStepChanges]) -> FailedStep: ...
def evolve(model: _M, **changes: Any) -> _M:
    """Returns a copy of the model with these fields changed. Does not validate the values."""
    return model.model_copy(update=changes)
