"""Conditions as API conventions and kstatus want them: metav1.Condition, a list-map by type."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from initpipeline.api.models import Condition, InitPipelineStatus
from initpipeline.api.reasons import ConditionType
from initpipeline.core.explanations import Explanation


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the conditions are to say."""

    initialized: bool
    initialized_why: Explanation
    ready: bool
    ready_why: Explanation
    reconciling: Explanation | None = None
    stalled: Explanation | None = None
    suspended: Explanation | None = None


def conditions(
    before: InitPipelineStatus, outlook: Outlook, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """All but the first two are absent unless they hold, as kstatus wants them."""
    said: list[tuple[ConditionType, bool, Explanation]] = [
        (ConditionType.INITIALIZED, outlook.initialized, outlook.initialized_why),
        (ConditionType.READY, outlook.ready, outlook.ready_why),
    ]
    if outlook.reconciling:
        said.append((ConditionType.RECONCILING, True, outlook.reconciling))
    if outlook.stalled:
        said.append((ConditionType.STALLED, True, outlook.stalled))
    if outlook.suspended:
        said.append((ConditionType.SUSPENDED, True, outlook.suspended))
    return tuple(
        _condition(before.condition(type_), type_, holds, why, generation, now)
        for type_, holds, why in said
    )


def with_rerun_in_place(
    status: InitPipelineStatus,
    before: InitPipelineStatus,
    obstacle: Explanation | None,
    generation: int,
    now: datetime,
) -> InitPipelineStatus:
    """The status with the condition RerunInPlace: False for this obstacle; None: absent."""
    type_ = ConditionType.RERUN_IN_PLACE
    said = tuple(condition for condition in status.conditions if condition.type != type_)
    if obstacle is not None:
        said += (_condition(before.condition(type_), type_, False, obstacle, generation, now),)
    return status.model_copy(update={"conditions": said})


def _condition(
    before: Condition | None,
    type_: ConditionType,
    holds: bool,
    why: Explanation,
    generation: int,
    now: datetime,
) -> Condition:
    """A transition time moves only when the status does."""
    value: Literal["True", "False"] = "True" if holds else "False"
    since = before.last_transition_time if before and before.status == value else now
    return Condition(
        type=type_,
        status=value,
        observed_generation=generation,
        last_transition_time=since,
        reason=why.reason,
        message=why.message,
    )
