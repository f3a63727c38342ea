"""What a kubelet reports about the Pods of the fake node, which has none.

The state of a Pod is exact, and lasts until the test changes it.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from initpipeline.api.models import format_time
from initpipeline.api.raw import Raw

Report = Callable[[Raw], Raw]
"""Returns the status of a Pod."""

NODE: Final = "upgrade-fake"
"""The node of these Pods. Their template names it, so no scheduler is needed."""


def running(step: int) -> Report:
    """Report that this step runs, and that those before it have succeeded."""
    return _at_step(step, lambda _: {"running": {"startedAt": _now()}})


def waiting(step: int, reason: str) -> Report:
    """Report that this step cannot start."""
    waits = {"waiting": {"reason": reason, "message": f"{reason} in a test"}}
    return _at_step(step, lambda _: waits, created=False)


def failed(step: int) -> Report:
    """Report that this step has failed. The kubelet has not restarted it yet."""
    return _at_step(step, lambda id_: {"terminated": _ended(id_, 1)})


def in_back_off(step: int) -> Report:
    """Report that this step has failed three times, and waits to be restarted."""
    waits = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}

    def report(pod: Raw) -> Raw:
        status = _at_step(step, lambda _: waits)(pod)
        current = status["initContainerStatuses"][step]
        last = {"terminated": _ended(current["containerID"], 1)}
        current |= {"restartCount": 3, "lastState": last}
        return status

    return report


def failed_pod(pod: Raw) -> Raw:
    """Report that the first step has failed for good."""
    return {**failed(0)(pod), "phase": "Failed"}


def ready(pod: Raw) -> Raw:
    """Report that all containers run, and that the Pod is Ready."""
    apps = _statuses(pod, "containers", lambda _: {"running": {"startedAt": _now()}}, ready=True)
    return {**_initialized(pod), "phase": "Running", "containerStatuses": apps} | _ready("True")


def succeeded(pod: Raw) -> Raw:
    """Report that all containers have succeeded."""
    apps = _statuses(pod, "containers", lambda id_: {"terminated": _ended(id_, 0)})
    return {**_initialized(pod), "phase": "Succeeded", "containerStatuses": apps} | _ready("False")


def _initialized(pod: Raw) -> Raw:
    done = _statuses(pod, "initContainers", lambda id_: {"terminated": _ended(id_, 0)}, ready=True)
    return {"initContainerStatuses": done}


def _ready(status: str) -> Raw:
    return {"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": _now()}]}


def _at_step(step: int, state: Callable[[str], Raw], *, created: bool = True) -> Report:
    def report(pod: Raw) -> Raw:
        steps = _initialized(pod)["initContainerStatuses"]
        current = steps[step] | {"ready": False, "state": state(steps[step]["containerID"])}
        rest = [
            {**one, "ready": False, "containerID": "", "state": PENDING}
            for one in steps[step + 1 :]
        ]
        if not created:
            current["containerID"] = ""
        return {"phase": "Pending", "initContainerStatuses": [*steps[:step], current, *rest]}

    return report


PENDING: Final = {"waiting": {"reason": "PodInitializing"}}


def _statuses(
    pod: Raw, field: str, state: Callable[[str], Raw], *, ready: bool = False
) -> list[dict[str, Any]]:
    """Return a status for each container, with a state that may have its ID."""
    uid = pod["metadata"]["uid"]
    return [
        {
            "name": one["name"],
            "image": one["image"],
            "imageID": "",
            "restartCount": 0,
            "started": ready,
            "ready": ready,
            "containerID": f"fake://{uid}-{one['name']}",
            "state": state(f"fake://{uid}-{one['name']}"),
        }
        for one in pod["spec"][field]
    ]


def _ended(container: str, code: int) -> Raw:
    return {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "startedAt": _now(),
        "finishedAt": _now(),
        "containerID": container,
    }


def _now() -> str:
    return format_time(datetime.now(UTC))
