"""The Pod's init containers in the words of the kubelet, for a resource that outlives the Pod."""

import re
from collections.abc import Mapping
from typing import Any, Final

from initpipeline.core.facts import Container, Pod

_TIMES: Final = frozenset({"startedAt", "finishedAt"})
_STORABLE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9:]{5})"
)
"""A time that the CRD's schema accepts. A Pod may have years of five digits."""


def init_container_statuses(pod: Pod) -> tuple[dict[str, Any], ...]:
    """The kubelet's words in the order of the spec, and a placeholder where it has said nothing.

    Without nulls, which the API writes for an unset time and prunes from a custom resource: what
    was written would never be what comes back. And without times that a custom resource cannot
    have, for which the whole status would be refused.
    """
    statuses = {status.name: _storable(status.raw) for status in pod.init_container_statuses}
    return tuple(statuses.get(c.name) or placeholder(c) for c in pod.init_containers)


def _storable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _storable(inner) for key, inner in value.items() if _is_storable(key, inner)}
    return [_storable(item) for item in value] if isinstance(value, list) else value


def _is_storable(key: str, value: Any) -> bool:
    return value is not None and (key not in _TIMES or _STORABLE.fullmatch(str(value)) is not None)


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
