"""The state of the demo's pipeline and its Pod at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from initpipeline.api.models import Condition, InitPipelineStatus
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType


@dataclass(frozen=True)
class Snapshot:
    """The last observed states."""

    name: str
    pipeline: Raw | None = None
    pod: Raw | None = None

    @cached_property
    def status(self) -> InitPipelineStatus:
        """The pipeline's status. It is empty until the operator has written it."""
        return InitPipelineStatus.model_validate((self.pipeline or {}).get("status") or {})

    @property
    def number(self) -> int:
        """The number of the current run. 0 before the first."""
        return self.status.run.number if self.status.run else 0

    def is_true(self, type_: ConditionType) -> bool:
        """Return whether this condition of the pipeline is True."""
        condition = self.status.condition(type_)
        return condition is not None and condition.status == "True"

    @property
    def ready(self) -> bool:
        """Whether the current run is initialized and its Pod is Ready."""
        return self.is_true(ConditionType.INITIALIZED) and self.is_true(ConditionType.READY)

    @property
    def explanation(self) -> Condition | None:
        """The most informative condition: Stalled, else Reconciling, else Ready."""
        types = (ConditionType.STALLED, ConditionType.RECONCILING, ConditionType.READY)
        return next(filter(None, map(self.status.condition, types)), None)

    def container(self, name: str) -> Raw:
        """Return the Pod's status of a container. Return {} until the kubelet has reported it."""
        status = (self.pod or {}).get("status", {})
        every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        return next((one for one in every if one["name"] == name), {})


@dataclass(frozen=True)
class Row:
    """A line of the demo's table."""

    run: str
    trigger: str
    init: str
    step: str
    reason: str
    pod: str
    message: str

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Row":
        """Return the row of this snapshot: the pipeline's status, and the Pod's as in kubectl."""
        status, explanation = snapshot.status, snapshot.explanation
        return cls(
            run=str(snapshot.number or "-"),
            trigger=status.run.trigger if status.run else "-",
            init=status.init_progress or "-",
            step=status.current_step or "-",
            reason=explanation.reason if explanation else "-",
            pod=pod_status(snapshot.pod),
            message=explanation.message if explanation else "no status yet",
        )


def pod_status(pod: Raw | None) -> str:
    """Return the column STATUS of `kubectl get pods`."""
    if pod is None:
        return "(no Pod)"
    status = pod.get("status", {})
    ended = status.get("phase") in {"Succeeded", "Failed"}
    if "deletionTimestamp" in pod["metadata"] and not ended:
        return "Terminating"
    reason = _init_reason(pod) or ""
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    # Like kubectl: if the condition Initialized stays True, it hides running init containers.
    if not reason or conditions.get("Initialized") == "True":
        reason = _app_reason(status) or reason
    return reason or status.get("reason") or status.get("phase", "Unknown")


def _init_reason(pod: Raw) -> str | None:
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


def _app_reason(status: Raw) -> str | None:
    for one in status.get("containerStatuses", ()):
        state: Mapping[str, Any] = one.get("state", {})
        stopped: Mapping[str, Any] = state.get("waiting") or state.get("terminated") or {}
        if stopped.get("reason"):
            return str(stopped["reason"])
    return None
