"""Properties that hold for every object that a user may write."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, Final

from initpipeline.api.models import INT32_MAX
from initpipeline.core.compact import compact
from initpipeline.core.decide import decide
from initpipeline.core.errors import UnreadableError
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.patch import merge_patch
from initpipeline.core.pod import Pod
from initpipeline.core.status_size import MOST_BYTES
from initpipeline.core.text import is_plain
from initpipeline.core.unreadable import (
    UnreadablePipeline,
    error_conditions,
    read_pipeline,
    unreadable_conditions,
)
from initpipeline.plugin.cluster.client import Kind
from initpipeline.plugin.dashboard import pages
from initpipeline.plugin.dashboard.live import Entry, Store
from initpipeline.runtime.responses import readable_line
from tests.builders import pipeline
from tests.fuzz import objects, schema
from tests.unit.core.simulation import SimulatedPipeline

ROUNDS: Final = 3
"""Reconciles of the same facts after which nothing is written any more."""

STATUS: Final = schema.schema_of("status")
SPEC: Final = schema.schema_of("spec")


def check_pipeline(random: Random) -> None:
    """Check that the pipeline is read or reported, and that the status is valid and stable."""
    raw = objects.pipeline_object(random)
    read = read_pipeline(raw)
    if isinstance(read, UnreadablePipeline):
        _check_report(read, raw)
        return
    stored = {"spec": SPEC, "status": STATUS}
    if any(any(schema.errors(raw.get(field, {}), stored[field])) for field in stored):
        return  # The API server would not have stored it.
    pod = random.choice([None, objects.pod_object(random)])
    _check_decision(read.hashed(), None if pod is None else _pod_or_none(pod), raw)


def check_pod(random: Random) -> None:
    """Check the same for a valid pipeline and a hostile Pod."""
    raw = objects.pod_object(random)
    pod = _pod_or_none(raw)
    if pod is None:
        return
    assert Pod.from_api(compact(raw)) == pod
    created = SimulatedPipeline(pipeline()).reconcile(None).pipeline
    _check_decision(created.build(), pod, created.raw())


def check_line(random: Random) -> None:
    """Check that the line is valid JSON, and that its object is read or refused as unreadable."""
    line = objects.watch_line(random)
    event = json.loads(asyncio.run(readable_line(line)))
    raw = event["object"]
    if "template" in (raw.get("spec") or {}):
        read_pipeline(raw)
    else:
        _pod_or_none(raw)


def check_page(random: Random) -> None:
    """Check that the dashboard shows a stored pipeline and its Pod, in plain text."""
    if random.random() < 0.8:
        return  # A page takes ten times as long as the other checks.
    raw, pod = objects.pipeline_object(random), objects.pod_object(random)
    stored = {"spec": SPEC, "status": STATUS}
    if any(any(schema.errors(raw.get(field, {}), stored[field])) for field in stored):
        return  # The API server would not have stored it.
    store = Store(now=lambda: objects.NOW)
    store.replace(Kind.PIPELINES, [Entry.read(raw)])
    store.replace(Kind.PODS, [pod])
    for key, entry in store.pipelines.items():
        shown = [pages.row(entry, objects.NOW).html, *pages.sections(store, key).values()]
        assert all(map(is_plain, shown))


CHECKS: Final[dict[str, Callable[[Random], None]]] = {
    "pipeline": check_pipeline,
    "pod": check_pod,
    "line": check_line,
    "page": check_page,
}


def _pod_or_none(raw: dict[str, Any]) -> Pod | None:
    try:
        return Pod.from_api(raw)
    except UnreadableError as error:
        problem = str(error)
    assert "\n" not in problem
    return None


def _is_the_pods(error: str) -> bool:
    """Return whether the API server would have refused the same error in the Pod.

    It validates the types of a Pod's container statuses. But it accepts times in a Pod that it
    refuses in a custom resource.
    """
    return error.startswith("status.initContainerStatuses") and "not a date-time" not in error


def _check_report(unreadable: UnreadablePipeline, raw: dict[str, Any]) -> None:
    conditions = unreadable_conditions(unreadable, objects.NOW)
    assert conditions is not None
    assert not list(schema.errors(conditions, STATUS["properties"]["conditions"]))
    after = read_pipeline({**raw, "status": {"conditions": conditions}})
    if isinstance(after, UnreadablePipeline) and after.problem == unreadable.problem:
        assert unreadable_conditions(after, objects.NOW) is None, "written again and again"


def _check_decision(pipeline: Pipeline, pod: Pod | None, raw: dict[str, Any]) -> None:
    facts = Facts(pipeline, pod)
    decision = decide(facts, objects.NOW)
    if pipeline.deleting:
        return
    status = decision.status.to_api()
    for _ in range(ROUNDS):
        errors = [error for error in schema.errors(status, STATUS) if not _is_the_pods(error)]
        assert not errors, errors[:3]
        assert len(json.dumps(status)) < MOST_BYTES
        if status.get("run", {}).get("number") == INT32_MAX:
            return  # The last number that there is: the pipeline is reported as unreadable now.
        facts = replace(facts, pipeline=Pipeline.from_api({**raw, "status": status}))
        before, status = status, decide(facts, objects.NOW).status.to_api()
        written = merge_patch(before, status)
        if not written:
            break
    assert not written, f"never comes to rest: {written}"
    conditions = error_conditions(pipeline, ValueError("x" * 5000), objects.NOW)
    assert conditions is None or not list(
        schema.errors(conditions, STATUS["properties"]["conditions"])
    )
