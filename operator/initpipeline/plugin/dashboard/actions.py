"""Computes what an action changes, and what the operator would then do."""

import copy
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from initpipeline.api.names import RERUN_ANNOTATION
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.plugin.report.plan import plan


class Action(StrEnum):
    """What a user can start from the page."""

    RERUN = "rerun"
    SUSPEND = "suspend"
    RESUME = "resume"


def patch(action: Action, token: str) -> Mapping[str, Any]:
    """Returns the merge patch of an action. ``token`` identifies a requested run."""
    if action is Action.RERUN:
        return {"metadata": {"annotations": {RERUN_ANNOTATION: token}}}
    return {"spec": {"suspend": action is Action.SUSPEND}}


def preview(action: Action, raw: Mapping[str, Any], facts: Facts, now: datetime) -> list[str]:
    """Returns what the operator would do after the action, with its own decision."""
    if action is not Action.RERUN and facts.pipeline.policies.suspend is (action is Action.SUSPEND):
        return [f"nothing, it is already {'suspended' if action is Action.SUSPEND else 'resumed'}"]
    changed = copy.deepcopy(dict(raw))
    if action is Action.RERUN:
        changed["metadata"].setdefault("annotations", {})[RERUN_ANNOTATION] = "preview"
    else:
        changed["spec"]["suspend"] = action is Action.SUSPEND
        changed["metadata"]["generation"] = facts.pipeline.generation + 1
    planned = plan(facts, Facts(Pipeline.from_api(changed), facts.pod), now)
    nothing = [] if planned.interrupts else ["no run is interrupted"]
    return [*nothing, *planned.consequences]
