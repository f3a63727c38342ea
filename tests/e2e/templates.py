"""Pod templates of the tests: only busybox, and nothing that takes longer than it must."""

from typing import Any

IMAGE = "busybox:1.36"


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    """A container that runs a shell script."""
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


def sidecar(name: str, script: str, **more: Any) -> dict[str, Any]:
    """An init container that goes on running beside what comes after it."""
    return container(name, script, restartPolicy="Always", **more)


def template(*init: dict[str, Any], app: str = "exec sleep 3600", **spec: Any) -> dict[str, Any]:
    """A Pod of these init containers and one app container, which goes when it is told to."""
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
    """What most tests need: two init containers that each take about a second."""
    return template(container("one", "sleep 0.5"), container("two", "sleep 0.5"), **spec)


def deployment(name: str, pod: dict[str, Any]) -> dict[str, Any]:
    """A Deployment of Pods of a template of these, as somebody may have it in a file."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": pod["metadata"]["labels"]}, "template": pod},
    }
