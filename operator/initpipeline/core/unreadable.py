"""Conditions of pipelines that the operator cannot read or cannot reconcile.

A pipeline is unreadable if another version of the CRD stored it, or if another client wrote its
status. The operator does not know what it asks for then, so it only reports that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from initpipeline.api.models import Condition, format_time
from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.api.times import parse_time
from initpipeline.core import lenient
from initpipeline.core.facts import Pipeline, UnreadableError
from initpipeline.core.text import clip

_SHOWN = (
    (ConditionType.INITIALIZED, "False"),
    (ConditionType.READY, "False"),
    (ConditionType.STALLED, "True"),
)


@dataclass(frozen=True, slots=True)
class UnreadablePipeline:
    """An InitPipeline that cannot be read: its identity, and why."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool
    problem: str
    """The field, and what is wrong with it."""
    conditions: tuple[Mapping[str, Any], ...]
    """As they are stored, not validated."""


def read_pipeline(raw: Mapping[str, Any]) -> Pipeline | UnreadablePipeline:
    """Returns the pipeline, not yet ``hashed``, or why it cannot be read.

    Raises UnreadableError for an object that lacks the metadata that the API server sets on every
    object.
    """
    try:
        return Pipeline.from_api_unhashed(raw)
    except UnreadableError as error:
        problem = str(error)
    try:
        metadata = raw["metadata"]
        return UnreadablePipeline(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            generation=metadata["generation"],
            deleting=bool(metadata.get("deletionTimestamp")),
            problem=problem,
            conditions=tuple(
                lenient.mappings(lenient.mapping(raw.get("status")).get("conditions"))
            ),
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise UnreadableError(problem) from error


def unreadable_conditions(
    pipeline: UnreadablePipeline, now: datetime
) -> list[dict[str, Any]] | None:
    """Returns the conditions that report an unreadable pipeline. None: it has them already."""
    message = clip(f"{pipeline.problem}: correct it, or run the operator's version that wrote it")
    before = {lenient.text(one.get("type")): one for one in pipeline.conditions}
    reported = [
        _condition(before.get(type_, {}), type_, status, Reason.UNREADABLE, message, pipeline, now)
        for type_, status in _SHOWN
    ]
    return None if list(pipeline.conditions) == reported else reported


def error_conditions(
    pipeline: Pipeline, error: BaseException, now: datetime
) -> list[dict[str, Any]] | None:
    """Returns the pipeline's conditions with Stalled for an exception in the operator.

    None: an exception of this type is reported already. A message that differs at each retry is
    not written each time.
    """
    before = pipeline.status.condition(ConditionType.STALLED)
    kind = type(error).__name__
    if before and before.reason == Reason.RECONCILE_ERROR and f" {kind}: " in before.message:
        return None
    words = " ".join(str(error).split())
    message = clip(f"the operator failed on this InitPipeline, and retries: {kind}: {words}")
    stalled = _condition(
        before.to_api() if before else {},
        ConditionType.STALLED,
        "True",
        Reason.RECONCILE_ERROR,
        message,
        pipeline,
        now,
    )
    others = [c for c in pipeline.status.conditions if c.type != ConditionType.STALLED]
    return [*(condition.to_api() for condition in others), stalled]


def _condition(
    before: Mapping[str, Any],
    type_: ConditionType,
    status: str,
    reason: Reason,
    message: str,
    pipeline: Pipeline | UnreadablePipeline,
    now: datetime,
) -> dict[str, Any]:
    since = parse_time(before.get("lastTransitionTime")) if before.get("status") == status else None
    return Condition.model_validate(
        {
            "type": type_.value,
            "status": status,
            "observedGeneration": pipeline.generation,
            "lastTransitionTime": format_time(since or now),
            "reason": reason.value,
            "message": message,
        }
    ).to_api()
