"""Pod templates of the tests. They use busybox only."""

from typing import Any

IMAGE = "busybox:1.36"


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    """Return a container that runs a shell script."""
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


def sidecar(name: str, script: str, **more: Any) -> dict[str, Any]:
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
