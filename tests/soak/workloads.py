"""The InitPipelines of the soak."""

from typing import Any, Final

from initpipeline.api.raw import Raw
from tests import templates
from tests.api_client import manifest
from tests.cluster.kwok import LABEL, MARK

HISTORY_LIMIT: Final = 100
"""The largest, so that history shows all runs."""

GRACE: Final[dict[str, Any]] = {"terminationGracePeriodSeconds": 1}
"""Without grace, the API server removes a Pod before its containers have ended."""


def pipeline(name: str, version: str, *, real: bool) -> Raw:
    """Return the InitPipeline of this name, with this version of its template."""
    number = int(name[1:])
    spec: dict[str, Any] = {
        "template": template(name, version, real=real),
        "runHistoryLimit": HISTORY_LIMIT,
        "backoffLimit": 1,
    }
    if real and number % 4 == 2:
        spec["rerunStrategy"] = "InPlace"
    return manifest(name, spec)


def template(name: str, version: str, *, real: bool) -> dict[str, Any]:
    """Return the Pod template of a pipeline. Each version starts another run."""
    number = int(name[1:])
    return _real(number, version) if real else _fake(number, version)


def _real(number: int, version: str) -> dict[str, Any]:
    steps = [
        templates.container("one", "sleep 0.5", env=[{"name": "VERSION", "value": version}]),
        templates.container("two", "sleep 0.5"),
    ]
    match number % 4:
        case 1:
            steps.insert(1, templates.sidecar("proxy"))
        case 3 if number % 8 == 7:
            # Fails once per version, which ends the run, and stays so after one retry.
            steps[1] = templates.container("two", "sleep 0.5; exit 3")
            return templates.template(*steps, **GRACE, restartPolicy="Never")
    return templates.template(*steps, **GRACE)


def _fake(number: int, version: str) -> dict[str, Any]:
    names = ["one", "two", "three"][: 2 + number % 2]
    containers = [{"name": name, "image": "soak.test/step:1"} for name in names]
    containers[0]["image"] = f"soak.test/step:{version}"
    return {
        "metadata": {"labels": {"app": "soak"}},
        "spec": {
            # The Pods of every fifth pipeline succeed. Those of the others stay Ready.
            "restartPolicy": "Never" if number % 5 == 4 else "Always",
            "initContainers": containers,
            "containers": [{"name": "app", "image": "soak.test/app:1"}],
            "nodeSelector": LABEL,
            "tolerations": [{"key": MARK, "operator": "Exists"}],
        },
    }
