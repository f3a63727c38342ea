"""What must hold when no user acts and no fault is present."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.statuses import condition, reason_of

LEFT_TO_GARBAGE_COLLECTOR: Final = "Kubernetes' garbage collector has not removed its finalizer"


def unsettled(pipeline: Raw, pod: Raw | None) -> str:
    """Return what is still to happen to a pipeline. Empty: it is at rest."""
    metadata, spec, status = pipeline["metadata"], pipeline["spec"], pipeline.get("status", {})
    if "deletionTimestamp" in metadata:
        only = metadata.get("finalizers") == ["foregroundDeletion"] and pod is None
        return LEFT_TO_GARBAGE_COLLECTOR if only else "it is being deleted"
    if status.get("observedGeneration") != metadata["generation"]:
        return f"observedGeneration is {status.get('observedGeneration')}"
    if status.get("nextRunTime"):
        return f"the next run waits until {status['nextRunTime']}"
    if condition(status, "Reconciling")["status"] == "True":
        return f"Reconciling: {reason_of(pipeline, 'Reconciling')}"
    if spec.get("suspend"):
        suspended = condition(status, "Suspended")["status"] == "True"
        return "" if suspended and pod is None else "it is not suspended yet"
    if token := unanswered_token(pipeline):
        return f"no run has started for the token {token}"
    if pod is not None and _steps(spec["template"]["spec"]) != _steps(pod["spec"]):
        return f"the Pod has other steps than the template: {_steps(pod['spec'])}"
    return next(_differences(status, pod), "")


def _steps(spec: Raw) -> list[tuple[Any, ...]]:
    """Return the fields of the init containers that the soak changes."""
    return [
        (step["name"], step["image"], [one["value"] for one in step.get("env", [])])
        for step in spec["initContainers"]
    ]


def unanswered_token(pipeline: Raw) -> str:
    """Return the rerun token for which no run has started. Empty: each token has a run."""
    status = pipeline.get("status", {})
    token = str(pipeline["metadata"].get("annotations", {}).get(names.RERUN_ANNOTATION, ""))
    answered = {status.get("lastRerunToken"), *(one.get("token") for one in _runs(status))}
    return "" if token in answered else token


def _runs(status: Mapping[str, Any]) -> list[Raw]:
    current = status.get("run")
    return [*([current] if current else []), *status.get("history", [])]


def _differences(status: Mapping[str, Any], pod: Raw | None) -> Iterator[str]:
    """Yield what status reports otherwise than the Pod."""
    run = status.get("run", {})
    if condition(status, "Stalled")["status"] == "True":
        if pod is not None and pod["status"]["phase"] not in ("Succeeded", "Failed"):
            yield "it is Stalled, and its Pod runs"
        return
    if condition(status, "Ready")["status"] != "True":
        yield f"Ready is {condition(status, 'Ready')}"
    if condition(status, "Initialized")["status"] != "True":
        yield f"Initialized is {condition(status, 'Initialized')}"
    if pod is None:
        if run.get("result") != "Succeeded":
            yield f"run {run.get('number')} has no Pod"
        return
    if run.get("podUID") != pod["metadata"]["uid"]:
        yield f"the Pod is {pod['metadata']['uid']}, that of the run {run.get('podUID')}"
    mirrored = _by_name(status.get("initContainerStatuses", []))
    reported = _by_name(pod["status"].get("initContainerStatuses", []))
    for name in sorted({*mirrored, *reported}):
        if mirrored.get(name) != reported.get(name):
            yield f"step {name} is {reported.get(name)}, status mirrors {mirrored.get(name)}"


def _by_name(statuses: list[Raw]) -> dict[str, Any]:
    """Return the statuses by name, without null fields: an absent field means the same."""
    return {one["name"]: _without_nulls(one) for one in statuses}


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(part) for key, part in value.items() if part is not None}
