"""Limits the size of a status: etcd does not store an object above its limit.

The user's template takes up most of the object. If the rest is too small for the status, the status
leaves out the mirror, which the Pod has as well, and old runs.
"""

from typing import Final

from initpipeline.api.models import InitPipelineStatus
from initpipeline.core.facts import canonical_json

MOST_BYTES: Final = 1536 * 1024
"""etcd's limit of a request, unless it is configured otherwise (--max-request-bytes)."""

_MARGIN: Final = 16 * 1024
"""Bytes that are reserved for the rest of the request, and for metadata that grows."""

_WITH_OWNERSHIP: Final = 2.5
"""Bytes that are stored per byte of status: managedFields lists every field that was written."""

_MIRROR: Final = {"init_container_statuses": (), "effective_resources": None}


def fitted(status: InitPipelineStatus, size: int) -> InitPipelineStatus:
    """Returns the status, or as much of it as fits beside the rest of the object, which has
    ``size`` bytes. ``omitted`` names what is left out."""
    left = (MOST_BYTES - _MARGIN - size) / _WITH_OWNERSHIP
    # A mirror that an earlier write left out stays empty until the Pod is read.
    carried = status.omitted if not status.init_container_statuses else None
    whole = status.model_copy(update={"omitted": carried})
    for smaller in (whole, _without_mirror(whole), smallest(whole)):
        if _size(smaller) <= left:
            return smaller
    return smallest(whole)


def smallest(status: InitPipelineStatus) -> InitPipelineStatus:
    """Returns the status without the mirror and with the newest entry of history only."""
    omitted = "initContainerStatuses, effectiveResources and older runs"
    update = {**_MIRROR, "history": status.history[:1], "omitted": _words(omitted)}
    return status.model_copy(update=update)


def _without_mirror(status: InitPipelineStatus) -> InitPipelineStatus:
    omitted = _words("initContainerStatuses and effectiveResources")
    return status.model_copy(update={**_MIRROR, "omitted": omitted})


def _words(fields: str) -> str:
    return f"{fields}: with them the InitPipeline would be larger than etcd's limit of 1.5 MiB"


def _size(status: InitPipelineStatus) -> int:
    return len(canonical_json(status.to_api()))
