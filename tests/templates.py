"""Pod templates of the tests. They use busybox only."""

from collections.abc import Mapping
from typing import Any, Final

IMAGE = "busybox:1.36"

SHARED: Final[Mapping[str, Any]] = {"volumeMounts": [{"name": "work", "mountPath": "/data"}]}
"""Fields of a container that mounts the volume of WORK at /data."""
WORK: Final[Mapping[str, Any]] = {"volumes": [{"name": "work", "emptyDir": {}}]}
"""Fields of a Pod's spec with an emptyDir, which survives restarts of containers."""


def container(name: str, script: str = "sleep 0.5", **more: Any) -> dict[str, Any]:
    """Return a container that runs a shell script."""
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


def sidecar(name: str, script: str = "exec sleep 3600", **more: Any) -> dict[str, Any]:
    """Return a sidecar: an init container with restartPolicy Always."""
    return container(name, script, restartPolicy="Always", **more)


def template(*init: dict[str, Any], app: str = "exec sleep 3600", **spec: Any) -> dict[str, Any]:
    """Return a Pod template of these init containers and an app container, without grace period."""
    return {
        "metadata": {"labels": {"app": "e2e"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "initContainers": list(init),
            "containers": [container("app", app)],
            **spec,
        },
    }


def two_steps(**spec: Any) -> dict[str, Any]:
    """Return a Pod template with two init containers that each take about a second."""
    return template(container("one", "sleep 0.5"), container("two", "sleep 0.5"), **spec)


def deployment(name: str, pod: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment with this Pod template."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": pod["metadata"]["labels"]}, "template": pod},
    }
