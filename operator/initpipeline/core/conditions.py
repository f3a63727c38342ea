"""Conditions by API conventions and kstatus: metav1.Condition, a list-map by type."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from initpipeline.api.models import Condition, InitPipelineStatus
from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.core.evolve import evolve
from initpipeline.core.explanations import Explanation

_OWN: Final = frozenset(type_.value for type_ in ConditionType)


@dataclass(frozen=True, slots=True)
class ConditionInputs:
    """What the conditions report. A condition without an explanation is absent."""

    initialized: bool
    initialized_why: Explanation
    ready: bool
    ready_why: Explanation
    reconciling: Explanation | None = None
    stalled: Explanation | None = None
    suspended: Explanation | None = None


def conditions(
    before: InitPipelineStatus, inputs: ConditionInputs, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Returns the conditions. Initialized and Ready are always present. The others are absent
    unless True; kstatus expects that of Reconciling and Stalled. The conditions that other
    controllers set follow unchanged."""
    rows: list[tuple[ConditionType, bool, Explanation]] = [
        (ConditionType.INITIALIZED, inputs.initialized, inputs.initialized_why),
        (ConditionType.READY, inputs.ready, inputs.ready_why),
    ]
    if inputs.reconciling:
        rows.append((ConditionType.RECONCILING, True, inputs.reconciling))
    if inputs.stalled:
        rows.append((ConditionType.STALLED, True, inputs.stalled))
    if inputs.suspended:
        rows.append((ConditionType.SUSPENDED, True, inputs.suspended))
    own = tuple(
        _condition(before.condition(type_), type_, holds, why, generation, now)
        for type_, holds, why in rows
    )
    return own + tuple(one for one in before.conditions if not is_own(one.type))


def is_own(type_: str) -> bool:
    """Returns whether this version of the operator sets conditions of this type. It keeps all
    others: another controller or a newer version of the operator has written them."""
    return type_ in _OWN


def failed_deletion(status: InitPipelineStatus) -> Condition | None:
    """Returns the condition that reports a failed deletion. None: no condition does."""
    types = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
    found = filter(None, map(status.condition, types))
    return next((one for one in found if one.reason == Reason.DELETION_FAILED), None)


def of_generation(before: InitPipelineStatus, generation: int) -> tuple[Condition, ...]:
    """Returns the conditions as last written, but the operator's own have this
    observedGeneration."""
    return tuple(
        evolve(one, observed_generation=generation) if is_own(one.type) else one
        for one in before.conditions
    )


def with_condition(
    status: InitPipelineStatus,
    before: InitPipelineStatus,
    type_: ConditionType,
    why: Explanation | None,
    generation: int,
    now: datetime,
) -> InitPipelineStatus:
    """Returns the status in which this condition is True, with this explanation. If there is no
    explanation, the condition is absent. ``before`` has the last transition time."""
    if why is None and status.condition(type_) is None:
        return status
    others = tuple(condition for condition in status.conditions if condition.type != type_)
    if why is not None:
        others += (_condition(before.condition(type_), type_, True, why, generation, now),)
    return evolve(status, conditions=others)


def _condition(
    before: Condition | None,
    type_: ConditionType,
    holds: bool,
    why: Explanation,
    generation: int,
    now: datetime,
) -> Condition:
    """Returns the condition. Its transition time changes only if its status does."""
    value = "True" if holds else "False"
    since = before.last_transition_time if before and before.status == value else now
    return Condition(
        type=type_,
        status=value,
        observed_generation=generation,
        last_transition_time=since,
        reason=why.reason,
        message=why.message,
    )
