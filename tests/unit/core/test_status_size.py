"""Limits of the status: fields are left out if etcd would not store the whole object."""

import pytest

from initpipeline.api.models import InitPipelineStatus
from initpipeline.core import status_size
from initpipeline.core.encoding import encode
from initpipeline.core.evolve import evolve
from initpipeline.core.status_size import MOST_BYTES
from tests.builders import running_pod
from tests.unit.core.simulation import started

RESOURCES = {"resources": {"requests": {"cpu": "1"}}}
RESERVED = 16 * 1024
LIMIT = ": with them the InitPipeline would be larger than etcd's limit of 1.5 MiB"
MIRROR = f"initContainerStatuses and effectiveResources{LIMIT}"
MOST = f"initContainerStatuses, effectiveResources and older runs{LIMIT}"


def two_past_runs() -> InitPipelineStatus:
    """Returns a status with a mirror and two entries of history."""
    first, second, third = (running_pod(run).with_spec(**RESOURCES) for run in (1, 2, 3))
    now = started(first).token("a").reconcile(first).reconcile(None).reconcile(second)
    now = now.token("b").reconcile(second).reconcile(None).reconcile(third)
    assert len(now.status.history) == 2
    assert now.status.init_container_statuses
    return now.status


def size(status: InitPipelineStatus) -> int:
    return len(encode(status.to_api()))


def fitted(room: int) -> InitPipelineStatus:
    """Returns what of the status fits into this number of bytes."""
    status, written = status_size.fitted(two_past_runs(), MOST_BYTES - RESERVED - room)
    assert written == status.to_api()
    return status


def outcome(status: InitPipelineStatus) -> tuple[str | None, bool, list[int]]:
    """Returns what was omitted, whether the mirror is there, and the runs in history."""
    written = status.to_api()
    mirrored = "initContainerStatuses" in written
    assert mirrored is ("effectiveResources" in written)
    return status.omitted, mirrored, [run.number for run in status.history]


WHOLE, SMALLER, SMALLEST = (None, True, [2, 1]), (MIRROR, False, [2, 1]), (MOST, False, [2])


def test_fields_are_omitted_if_the_status_does_not_fit() -> None:
    whole = size(two_past_runs())
    smaller = size(fitted(whole - 1))
    rooms = {whole: WHOLE, whole - 1: SMALLER, smaller: SMALLER, smaller - 1: SMALLEST, 0: SMALLEST}
    assert {room: outcome(fitted(room)) for room in rooms} == rooms


def test_omitted_mirror_is_empty() -> None:
    rooms = (size(two_past_runs()) - 1, 0)
    assert [fitted(room).init_container_statuses for room in rooms] == [(), ()]


@pytest.mark.parametrize("mirrored", [True, False])
def test_omission_is_reported_until_the_mirror_returns(mirrored: bool) -> None:
    before = evolve(two_past_runs(), omitted=MIRROR)
    if not mirrored:
        before = evolve(before, init_container_statuses=())
    assert status_size.fitted(before, 0)[0].omitted == (None if mirrored else MIRROR)
