"""Limits the size of a status, because etcd does not store an object above its limit.

The user's template takes up most of the object. If there is too little room for the whole status,
the operator first leaves out the mirror, because the Pod has the same statuses. If that is not
enough, it leaves out all entries of history but the newest.
"""

from typing import Any, Final

from initpipeline.api.models import InitPipelineStatus
from initpipeline.core.encoding import encode
from initpipeline.core.evolve import evolve

MOST_BYTES: Final = 1536 * 1024
"""etcd's default limit of a request (--max-request-bytes)."""

_MARGIN: Final = 16 * 1024
"""Bytes reserved for the rest of the request, and for metadata that grows later, such as the
managedFields of the status. These take at most 2 KiB, because most of the status is atomic."""


def fitted(status: InitPipelineStatus, size: int) -> tuple[InitPipelineStatus, dict[str, Any]]:
    """Returns the status, without some fields if it is too large to be stored, and its JSON.

    ``size`` is that of the object without status, in bytes. The field ``omitted`` of the returned
    status lists the fields that are left out.
    """
    left = MOST_BYTES - _MARGIN - size
    # If the mirror is empty because an earlier write left it out, it is still omitted.
    carried = status.omitted if not status.init_container_statuses else None
    whole = status if status.omitted == carried else evolve(status, omitted=carried)
    kept, written = whole, whole.to_api()
    for cut in (_without_mirror, smallest):
        if len(encode(written)) <= left:
            break
        kept = cut(whole)
        written = kept.to_api()
    return kept, written


def smallest(status: InitPipelineStatus) -> InitPipelineStatus:
    """Returns the status without the mirror and with the newest entry of history only."""
    omitted = "initContainerStatuses, effectiveResources and older runs"
    return evolve(
        status,
        init_container_statuses=(),
        effective_resources=None,
        history=status.history[:1],
        omitted=_omitted(omitted),
    )


def _without_mirror(status: InitPipelineStatus) -> InitPipelineStatus:
    omitted = _omitted("initContainerStatuses and effectiveResources")
    return evolve(status, init_container_statuses=(), effective_resources=None, omitted=omitted)


def _omitted(fields: str) -> str:
    return f"{fields}: with them the InitPipeline would be larger than etcd's limit of 1.5 MiB"
