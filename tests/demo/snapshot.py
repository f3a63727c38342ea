"""The demo's pipeline and its Pods at one moment, and what both say of themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from initpipeline.api.models import Condition, InitPipelineStatus
from initpipeline.api.reasons import ConditionType
from tests.demo.api import Object


@dataclass(frozen=True)
class Snapshot:
    """What the watches have told so far."""

    name: str
    pipeline: Object | None = None
    pods: Mapping[str, Object] = field(default_factory=dict)

    @cached_property
    def status(self) -> InitPipelineStatus:
        """The pipeline's status; an empty one before the operator's first word."""
        return InitPipelineStatus.model_validate((self.pipeline or {}).get("status") or {})

    @property
    def pod(self) -> Object | None:
        """The pipeline's Pod."""
        return self.pods.get(self.name)

    @property
    def number(self) -> int:
        """Of the current run; 0 before the first."""
        return self.status.run.number if self.status.run else 0

    def holds(self, type_: ConditionType) -> bool:
        """Whether that condition of the pipeline is True."""
        condition = self.status.condition(type_)
        return condition is not None and condition.status == "True"

    @property
    def settled(self) -> bool:
        """Whether the current run is initialized, and its Pod Ready."""
        return self.holds(ConditionType.INITIALIZED) and self.holds(ConditionType.READY)

    @property
    def explanation(self) -> Condition | None:
        """The condition that says most: what it needs, what is under way, or how it is."""
        types = (ConditionType.STALLED, ConditionType.RECONCILING, ConditionType.READY)
        return next(filter(None, map(self.status.condition, types)), None)

    def container(self, name: str) -> Object:
        """The Pod's status of one of its containers, init containers included; empty: none yet."""
        status = (self.pod or {}).get("status", {})
        found = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        return next((one for one in found if one["name"] == name), {})


@dataclass(frozen=True)
class Row:
    """A line of the live view."""

    run: str
    trigger: str
    init: str
    step: str
    reason: str
    pod: str
    message: str


def row(snapshot: Snapshot) -> Row:
    """The pipeline's own words beside those that kubectl has for its Pod."""
    status, explanation = snapshot.status, snapshot.explanation
    return Row(
        run=str(snapshot.number or "-"),
        trigger=status.run.trigger if status.run else "-",
        init=status.init_progress or "-",
        step=status.current_step or "-",
        reason=explanation.reason if explanation else "-",
        pod=pod_status(snapshot.pod),
        message=explanation.message if explanation else "the operator has not seen it yet",
    )


def pod_status(pod: Object | None) -> str:
    """What `kubectl get pods` shows in the column STATUS."""
    if pod is None:
        return "(no Pod)"
    status = pod.get("status", {})
    ended = status.get("phase") in {"Succeeded", "Failed"}
    if "deletionTimestamp" in pod["metadata"] and not ended:
        return "Terminating"
    said = _init(pod) or ""
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    # As kubectl does: an Initialized condition that stays True hides init containers at work.
    if not said or conditions.get("Initialized") == "True":
        said = _app(status) or said
    return said or status.get("reason") or status.get("phase", "Unknown")


def _init(pod: Object) -> str | None:
    total = len(pod["spec"].get("initContainers", ()))
    for done, one in enumerate(pod.get("status", {}).get("initContainerStatuses", ())):
        state: Mapping[str, Any] = one.get("state", {})
        ended, waiting = state.get("terminated"), state.get("waiting", {}).get("reason", "")
        if ended and ended["exitCode"] == 0:
            continue
        if ended:
            return f"Init:{ended.get('reason') or 'ExitCode:' + str(ended['exitCode'])}"
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{done}/{total}"
    return None


def _app(status: Object) -> str | None:
    for one in status.get("containerStatuses", ()):
        state: Mapping[str, Any] = one.get("state", {})
        stopped: Mapping[str, Any] = state.get("waiting") or state.get("terminated") or {}
        if stopped.get("reason"):
            return str(stopped["reason"])
    return None
