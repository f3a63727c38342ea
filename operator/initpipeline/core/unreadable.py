"""Conditions of pipelines that the operator cannot read or cannot reconcile.

A pipeline can be unreadable if it was stored while another version of the CRD was installed, or if
another client wrote its status. The desired state is then unknown, so the operator only reports the
problem.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from initpipeline.api.models import Condition, format_time
from initpipeline.api.reasons import ConditionType, Reason
from initpipeline.api.times import parse_time
from initpipeline.core import conditions, lenient
from initpipeline.core.errors import UnreadableError
from initpipeline.core.explanations import Explanation
from initpipeline.core.facts import Pipeline, PipelineMetadata, pipeline_metadata
from initpipeline.core.text import clip

_CONDITIONS = (
    (ConditionType.INITIALIZED, "False"),
    (ConditionType.READY, "False"),
    (ConditionType.STALLED, "True"),
)
"""The type and status of the conditions of an unreadable pipeline."""


@dataclass(frozen=True, slots=True)
class UnreadablePipeline(PipelineMetadata):
    """An InitPipeline whose spec or status cannot be read."""

    problem: str
    """The field, and what is wrong with it."""
    conditions: tuple[Mapping[str, Any], ...]
    """The stored conditions, not validated."""


def read_pipeline(
    raw: Mapping[str, Any], before: PipelineMetadata | None = None
) -> Pipeline | UnreadablePipeline:
    """Returns the pipeline, not yet ``hashed``, or an UnreadablePipeline.

    ``before`` is the pipeline before the write, if ``raw`` is the answer to a status write. Raises
    UnreadableError if the metadata that the API server sets is missing.
    """
    known = before if isinstance(before, Pipeline) else None
    try:
        return Pipeline.from_api_unhashed(raw, known)
    except UnreadableError as error:
        problem = str(error)
    try:
        return UnreadablePipeline(
            **pipeline_metadata(raw),
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
    """Returns the conditions to write for an unreadable pipeline. None: they are already set."""
    message = clip(
        f"{pipeline.problem}: correct the field, or run the operator version that wrote it"
    )
    before = {lenient.text(one.get("type")): one for one in pipeline.conditions}
    reported = [
        _condition(before.get(type_, {}), type_, status, message, pipeline, now)
        for type_, status in _CONDITIONS
    ]
    reported += [condition.to_api() for condition in _of_others(pipeline.conditions)]
    return None if list(pipeline.conditions) == reported else reported


def _of_others(stored: Iterable[Mapping[str, Any]]) -> Iterator[Condition]:
    """Yields the conditions that another controller or a newer version of the operator has
    written. One that the API server would refuse is left out."""
    for raw in stored:
        with contextlib.suppress(ValidationError):
            condition = Condition.model_validate(raw)
            if not conditions.is_own(condition.type):
                yield condition


def error_conditions(
    pipeline: Pipeline, error: BaseException, now: datetime
) -> list[dict[str, Any]] | None:
    """Returns the pipeline's conditions, with Stalled=True for an exception in the operator.

    None: the condition already reports an exception of this type. The message of an exception may
    differ at each retry, so it is not compared: otherwise each retry would write status.
    """
    before = pipeline.status.condition(ConditionType.STALLED)
    kind = type(error).__name__
    if before and before.reason == Reason.RECONCILE_ERROR and f" {kind}: " in before.message:
        return None
    details = " ".join(str(error).split())
    message = (
        "the operator failed to reconcile this InitPipeline, and retries. Open an issue with the "
        f"error in its log: {kind}: {details}"
    )
    status = conditions.with_condition(
        pipeline.status,
        pipeline.status,
        ConditionType.STALLED,
        Explanation(Reason.RECONCILE_ERROR, message),
        pipeline.generation,
        now,
    )
    return [condition.to_api() for condition in status.conditions]


def _condition(
    before: Mapping[str, Any],
    type_: ConditionType,
    status: str,
    message: str,
    pipeline: UnreadablePipeline,
    now: datetime,
) -> dict[str, Any]:
    """Returns the condition. ``before`` is the stored one, which is not validated."""
    since = parse_time(before.get("lastTransitionTime")) if before.get("status") == status else None
    return Condition.model_validate(
        {
            "type": type_.value,
            "status": status,
            "observedGeneration": pipeline.generation,
            "lastTransitionTime": format_time(since or now),
            "reason": Reason.UNREADABLE.value,
            "message": message,
        }
    ).to_api()
