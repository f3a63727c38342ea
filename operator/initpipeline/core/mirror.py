"""The mirror: the copy of the Pod's initContainerStatuses in the InitPipeline's status.

It remains when the Pod is gone.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from initpipeline.api.models import InitPipelineStatus
from initpipeline.core.container_status import ContainerStatus
from initpipeline.core.containers import Container
from initpipeline.core.kubelet_reasons import POD_INITIALIZING
from initpipeline.core.pod import Pod

_TIMES: Final = frozenset({"startedAt", "finishedAt"})
_STORABLE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9:]{5})"
)
"""A time that the CRD's schema accepts. A Pod may have years of five digits."""


def init_container_statuses(pod: Pod) -> tuple[dict[str, Any], ...]:
    """Returns the status of each init container, in the order of the spec. A container without a
    status gets a placeholder.

    Null fields are left out: the API server prunes them from a custom resource, so the stored
    status would differ from the written one at each reconcile. Times that the CRD's schema does not
    accept are left out: because of one of them, the API server would refuse the whole status.
    """
    statuses = {status.name: _storable(status.raw) for status in pod.init_container_statuses}
    return tuple(statuses.get(c.name) or placeholder(c) for c in pod.init_containers)


def _storable(fields: Mapping[str, Any]) -> dict[str, Any]:
    stored: dict[str, Any] = {}
    for key, value in fields.items():
        if key in _TIMES and not (isinstance(value, str) and _STORABLE.fullmatch(value)):
            continue
        if isinstance(value, dict):
            stored[key] = _storable(value)
        elif isinstance(value, list):
            stored[key] = [_storable(one) if isinstance(one, dict) else one for one in value]
        elif value is not None:
            stored[key] = value
    return stored


def mirrored(status: InitPipelineStatus) -> tuple[ContainerStatus, ...]:
    """Returns the init containers as last mirrored. After the Pod is gone, nothing else reports
    them."""
    return tuple(map(ContainerStatus.from_api, status.init_container_statuses))


def placeholder(container: Container) -> dict[str, Any]:
    """Returns the status that the kubelet reports for an init container that has not started."""
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "started": False,
        "state": {"waiting": {"reason": POD_INITIALIZING}},
    }
