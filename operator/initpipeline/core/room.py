"""How large a status may be: an object that is larger than etcd's limit cannot be stored.

The template is the user's and takes up most of it. What the status leaves out then is what can be
read elsewhere: the mirror, which is the Pod's, and old runs.
"""

from typing import Final

from initpipeline.api.models import InitPipelineStatus
from initpipeline.core.facts import canonical_json

MOST_BYTES: Final = 1536 * 1024
"""etcd's limit of a request, unless it is configured otherwise (--max-request-bytes)."""

_MARGIN: Final = 16 * 1024
"""For what the request has beside the object, and for metadata that grows."""

_WITH_OWNERSHIP: Final = 2.5
"""What a status takes up for each byte of it: managedFields lists every field that was written."""

_MIRROR: Final = {"init_container_statuses": (), "effective_resources": None}


def fitted(status: InitPipelineStatus, size: int) -> InitPipelineStatus:
    """The status, or as much of it as there is room for beside the rest of the object, which takes
    up ``size`` bytes. What is left out is named in ``omitted``."""
    left = (MOST_BYTES - _MARGIN - size) / _WITH_OWNERSHIP
    # A mirror that an earlier write left out may stay as it is until the Pod is looked at.
    carried = status.omitted if not status.init_container_statuses else None
    whole = status.model_copy(update={"omitted": carried})
    for smaller in (whole, _without_mirror(whole), smallest(whole)):
        if _size(smaller) <= left:
            return smaller
    return smallest(whole)


def smallest(status: InitPipelineStatus) -> InitPipelineStatus:
    """The status without what is not needed to go on: no mirror, and of history the newest run."""
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
