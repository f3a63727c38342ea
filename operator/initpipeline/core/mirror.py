"""The Pod's init containers in the words of the kubelet, for a resource that outlives the Pod."""

from collections.abc import Mapping
from typing import Any

from initpipeline.core.facts import Container, Pod


def init_container_statuses(pod: Pod) -> tuple[dict[str, Any], ...]:
    """The kubelet's words in the order of the spec, and a placeholder where it has said nothing.

    Without nulls, which the API writes for an unset time and prunes from a custom resource: what
    was written would never be what comes back.
    """
    statuses = {status.name: _without_nulls(status.raw) for status in pod.init_container_statuses}
    return tuple(statuses.get(c.name) or placeholder(c) for c in pod.init_containers)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def placeholder(container: Container) -> dict[str, Any]:
    """What the kubelet itself reports of an init container whose turn has not come."""
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "started": False,
        "state": {"waiting": {"reason": "PodInitializing"}},
    }
