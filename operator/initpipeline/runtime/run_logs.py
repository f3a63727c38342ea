"""Writes the log lines about runs. Each has the fields by which a run can be followed."""

import logging
from typing import Any

from initpipeline.api.models import RunFacts
from initpipeline.api.reasons import Trigger
from initpipeline.core.facts import Pipeline, PipelineMetadata
from initpipeline.core.run_events import RunEvent
from initpipeline.core.run_ids import run_id, trace_id
from initpipeline.core.run_log import lines_between
from initpipeline.runtime.keys import Key

logger = logging.getLogger(__name__)


def fields_of(
    pipeline: PipelineMetadata, run: int | None, trigger: Trigger | str | None = None
) -> dict[str, Any]:
    """Returns the fields of each line about a run. If ``run`` is None, the line is about the
    pipeline, not about a run. If ``trigger`` is None, the trigger is not known."""
    fields: dict[str, Any] = {"pipeline": str(Key.of(pipeline))}
    if run is not None:
        fields["run"] = run
        fields["run_id"] = run_id(pipeline.namespace, pipeline.name, run)
        fields["trace_id"] = f"{trace_id(pipeline.uid, run):032x}"
    if trigger is not None:
        fields["trigger"] = str(trigger)
    return fields


def about(pipeline: PipelineMetadata, run: RunFacts | None) -> dict[str, Any]:
    """Returns the fields of a line about the current run. ``run`` None: the pipeline has none."""
    if run is None:
        return fields_of(pipeline, None)
    return fields_of(pipeline, run.number, run.trigger)


def status_written(before: Pipeline, after: Pipeline, events: tuple[RunEvent, ...]) -> None:
    """Log what a status write changed about runs. ``events`` are those of the write. Never
    raises."""
    if not logger.isEnabledFor(logging.INFO):
        return
    try:
        lines = lines_between(before.status, after.status, events)
    except Exception:
        fields = fields_of(after, None)
        logger.exception("log lines of a status write failed", extra=fields)
        return
    for line in lines:
        fields = fields_of(after, line.run, line.trigger) | dict(line.fields)
        if line.step is not None:
            fields["step"] = line.step
        logger.info(line.message, extra=fields)
