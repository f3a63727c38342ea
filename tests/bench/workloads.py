"""The two sides: what is created, and how its owner tells what became of its Pod.

Both get the same Pod: three init containers that run to completion, and one app container.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.reasons import ConditionType, Reason

NAMESPACE: Final = "default"
STEPS: Final = 3
PODS_PATH: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"

Status = Mapping[str, Any]


class Form(StrEnum):
    """How much of a life is measured."""

    POD = "pod"
    """From the object to its Pod, which no scheduler takes."""
    LIFE = "life"
    """From the object to the end of its Pod, which a fake node plays."""


@dataclass(frozen=True)
class Workload:
    """One side of the comparison."""

    name: str
    path: str
    """Of the collection, in the API."""
    user: str
    """Its controller's, as the audit log names it."""
    manifest: Callable[[str, Form], dict[str, Any]]
    """By the object's name."""
    says_initialized: Callable[[Status], bool] | None
    """Whether the owner's status says that all steps are done; None: it never says so."""
    says_finished: Callable[[Status], bool]
    """Whether the owner's status says that the Pod has ended well."""


def pod_initialized(status: Status) -> bool:
    """Whether the kubelet says that all steps are done."""
    return _condition(status, "Initialized").get("status") == "True"


def pod_finished(status: Status) -> bool:
    """Whether the kubelet says that the Pod has ended well."""
    return status.get("phase") == "Succeeded"


def _pipeline(name: str, form: Form) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {"template": _template(form)},
    }


def _pipeline_initialized(status: Status) -> bool:
    return _condition(status, ConditionType.INITIALIZED).get("status") == "True"


def _pipeline_finished(status: Status) -> bool:
    return _condition(status, ConditionType.READY).get("reason") == Reason.POD_SUCCEEDED


def _job(name: str, form: Form) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": _template(form)},
    }


def _job_finished(status: Status) -> bool:
    """The earlier of the two words that it has for it."""
    complete = _condition(status, "Complete").get("status") == "True"
    return complete or bool(status.get("succeeded"))


def _template(form: Form) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "initContainers": [_container(f"step-{number}") for number in range(STEPS)],
        "containers": [_container("app")],
    }
    if form is Form.POD:
        spec["schedulerName"] = "none"
    return {"metadata": {"labels": {"app": "bench"}}, "spec": spec}


def _container(name: str) -> dict[str, Any]:
    """As a small real one is: a fake node starts nothing of it, but its bytes travel."""
    return {
        "name": name,
        "image": "registry.test/bench/tool:1.0",
        "command": ["/bin/sh", "-c", f"echo {name} && exec /usr/local/bin/{name}"],
        "env": [{"name": "STAGE", "value": name}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }


def _condition(status: Status, type_: str) -> Mapping[str, Any]:
    conditions = status.get("conditions") or ()
    return next((one for one in conditions if one["type"] == type_), {})


PIPELINE: Final = Workload(
    name="InitPipeline",
    path=f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/{names.PLURAL}",
    user="bench-operator",
    manifest=_pipeline,
    says_initialized=_pipeline_initialized,
    says_finished=_pipeline_finished,
)
JOB: Final = Workload(
    name="Job",
    path=f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs",
    user="system:serviceaccount:kube-system:job-controller",
    manifest=_job,
    says_initialized=None,
    says_finished=_job_finished,
)
