"""The workloads: their manifests, and how their status reports the state of the Pod.

InitPipeline and Job have the same Pod: three init containers that run to completion, and one app
container. An Argo Workflow's Pod has the same, and two containers of Argo's executor. The steps of
a Tekton TaskRun are three app containers that run one after the other, after an init container.
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


class Form(StrEnum):
    """Which part of the life cycle is measured."""

    POD = "pod"
    """From the object to its Pod, which is never scheduled."""
    LIFE = "life"
    """From the object to the completion of its Pod, which a fake node simulates."""


@dataclass(frozen=True)
class Workload:
    """One of the kinds of objects that are compared."""

    name: str
    path: str
    """The API path of the collection."""
    user: str
    """The user name of its controller, as in the audit log."""
    manifest: Callable[[str, Form], dict[str, Any]]
    """Returns the manifest of the object with this name."""
    initialized: Callable[[Mapping[str, Any]], bool] | None
    """Whether the object's status reports that all init containers have succeeded.

    None: its status has no such field.
    """
    finished: Callable[[Mapping[str, Any]], bool]
    """Whether the object's status reports that the Pod has succeeded."""


def pod_initialized(status: Mapping[str, Any]) -> bool:
    """Return whether the Pod's status reports that all init containers have succeeded."""
    return condition(status, "Initialized").get("status") == "True"


def pod_finished(status: Mapping[str, Any]) -> bool:
    """Return whether the Pod's status reports that it has succeeded."""
    return status.get("phase") == "Succeeded"


def _pipeline(name: str, form: Form) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {"template": _template(form)},
    }


def _pipeline_initialized(status: Mapping[str, Any]) -> bool:
    return condition(status, ConditionType.INITIALIZED).get("status") == "True"


def _pipeline_finished(status: Mapping[str, Any]) -> bool:
    return condition(status, ConditionType.READY).get("reason") == Reason.POD_SUCCEEDED


def _job(name: str, form: Form) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": _template(form)},
    }


def _job_finished(status: Mapping[str, Any]) -> bool:
    # The Job controller counts the Pod as succeeded before it sets the condition Complete.
    complete = condition(status, "Complete").get("status") == "True"
    return complete or bool(status.get("succeeded"))


def _task_run(name: str, form: Form) -> dict[str, Any]:
    pod = {"schedulerName": "none"} if form is Form.POD else {}
    steps = [container(f"step-{number}") for number in range(STEPS)]
    for step in steps:
        step["computeResources"] = step.pop("resources")
    return {
        "apiVersion": "tekton.dev/v1",
        "kind": "TaskRun",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        # Tekton's webhook, which does not run, would set the defaults of all but the steps.
        "spec": {
            "serviceAccountName": "default",
            "timeout": "1h0m0s",
            "podTemplate": pod,
            "taskSpec": {"steps": steps},
        },
    }


def _task_run_finished(status: Mapping[str, Any]) -> bool:
    return condition(status, "Succeeded").get("status") == "True"


def _workflow(name: str, form: Form) -> dict[str, Any]:
    main = container("app")
    del main["name"]  # Argo Workflows calls it main
    spec: dict[str, Any] = {
        "entrypoint": "main",
        "templates": [
            {
                "name": "main",
                "metadata": {"labels": {"app": "bench"}},
                "initContainers": [container(f"step-{number}") for number in range(STEPS)],
                "container": main,
            }
        ],
    }
    if form is Form.POD:
        spec["schedulerName"] = "none"
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": spec,
    }


def _workflow_finished(status: Mapping[str, Any]) -> bool:
    return status.get("phase") == "Succeeded"


def _template(form: Form) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "initContainers": [container(f"step-{number}") for number in range(STEPS)],
        "containers": [container("app")],
    }
    if form is Form.POD:
        spec["schedulerName"] = "none"
    return {"metadata": {"labels": {"app": "bench"}}, "spec": spec}


def container(name: str) -> dict[str, Any]:
    """Return a container of realistic size. Fake nodes run nothing, but its bytes are sent."""
    return {
        "name": name,
        "image": "registry.test/bench/tool:1.0",
        "command": ["/bin/sh", "-c", f"echo {name} && exec /usr/local/bin/{name}"],
        "env": [{"name": "STAGE", "value": name}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }


def condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """Return the condition of that type. Empty if the status does not have it."""
    conditions = status.get("conditions") or ()
    return next((one for one in conditions if one["type"] == type_), {})


PIPELINE: Final = Workload(
    name="InitPipeline",
    path=f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/{names.PLURAL}",
    user="bench-operator",
    manifest=_pipeline,
    initialized=_pipeline_initialized,
    finished=_pipeline_finished,
)
JOB: Final = Workload(
    name="Job",
    path=f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs",
    user="system:serviceaccount:kube-system:job-controller",
    manifest=_job,
    initialized=None,
    finished=_job_finished,
)
TASK_RUN: Final = Workload(
    name="Tekton TaskRun",
    path=f"/apis/tekton.dev/v1/namespaces/{NAMESPACE}/taskruns",
    user="bench-tekton",
    manifest=_task_run,
    initialized=None,
    finished=_task_run_finished,
)
WORKFLOW: Final = Workload(
    name="Argo Workflow",
    path=f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows",
    user="bench-argo",
    manifest=_workflow,
    initialized=None,
    finished=_workflow_finished,
)
