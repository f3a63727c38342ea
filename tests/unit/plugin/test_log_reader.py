"""The log of a step is complete, even if its stream is interrupted while the step runs."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from initpipeline.api.raw import Raw
from initpipeline.plugin.cluster import log_reader
from initpipeline.plugin.cluster.log_reader import LogReader
from initpipeline.plugin.errors import NoAnswerError, NotFoundError, NotUsableError
from initpipeline.plugin.report.log_parts import Part
from initpipeline.plugin.session import Session, Target
from tests.unit.plugin.test_transcript import stamped

CUT = NoAnswerError("cut")
GONE = NotFoundError("no such log")
RUNNING: Raw = {"running": {}}
ENDED: Raw = {"terminated": {"exitCode": 0}}
PART = Part(
    "one", "c1", "step 1", previous=False, running=True, sidecar=False, termination_message=""
)
LATER = replace(PART, container_id="c2")
LOG = stamped(b"a\nb\nc\nd\n")


def pod(state: Raw | None = None, id_: str = "c1", last: str = "", uid: str = "u") -> Raw:
    status: Raw = {"name": "one", "containerID": id_, "state": state or RUNNING}
    if last:
        status["lastState"] = {"terminated": {"containerID": last}}
    return {"metadata": {"uid": uid}, "status": {"initContainerStatuses": [status]}}


@dataclass
class FakeCluster:
    """Answers requests in order. The last state of the Pod remains."""

    readings: list[list[bytes | Exception]]
    pods: list[Raw | Exception | None]
    log_requests: list[Raw] = field(default_factory=list)

    def read_log(self, *_: str, **options: bool) -> Iterator[bytes]:
        self.log_requests.append(options)
        for part in self.readings.pop(0):
            if isinstance(part, Exception):
                raise part
            yield part

    def find_pod(self, *_: str) -> Raw | None:
        pod = self.pods.pop(0) if len(self.pods) > 1 else self.pods[0]
        if isinstance(pod, Exception):
            raise pod
        return pod

    def wait_for_pod_change(self, *_: Any) -> bool:
        return True


class FakeSession(Session):
    """Does not wait, and records its notes."""

    def pause(self, seconds: float) -> None:
        pass

    def note(self, line: str) -> None:
        notes.append(line)


notes: list[str] = []


@pytest.fixture(autouse=True)
def _no_notes() -> None:
    notes.clear()


def read(cluster: FakeCluster, *, follow: bool = True, part: Part = PART) -> bytes:
    session = FakeSession(argparse.Namespace(), None, None, Path())  # type: ignore[arg-type]
    session.cluster = cluster  # type: ignore[assignment]
    reader = LogReader(session, Target("n", "shop"), "u", part)
    return b"".join(reader.all(follow=follow))


@pytest.mark.parametrize(
    ("readings", "pods"),
    [
        pytest.param([[LOG]], [pod(ENDED)], id="not interrupted"),
        pytest.param([[LOG], [LOG]], [pod(), pod(), pod(ENDED)], id="status is late"),
        pytest.param([[LOG], [GONE]], [pod(), pod(), pod(ENDED)], id="log is then gone"),
        pytest.param([[LOG]], [pod(), None], id="Pod is then gone"),
        pytest.param([[LOG]], [pod(), pod(uid="v")], id="another Pod is then in its place"),
        pytest.param(
            [[LOG[:64]], [LOG]], [pod(), pod(ENDED)], id="end without an error, then of the step"
        ),
        pytest.param(
            [[LOG[:64]], [LOG]], [pod(), pod(id_="c2", last="c1")], id="end, then a restart"
        ),
        pytest.param(
            [[LOG[:64]], [LOG[:90], CUT], [LOG]],
            [pod(), pod(ENDED)],
            id="end without an error, then interrupted",
        ),
        pytest.param([[LOG[:50], CUT], [LOG]], [pod(), pod(ENDED)], id="interrupted in a line"),
        pytest.param(
            [[LOG[:20], CUT], [LOG]], [pod(), pod(ENDED)], id="interrupted in a timestamp"
        ),
        pytest.param([[CUT], [LOG]], [pod(), pod(ENDED)], id="interrupted before the first byte"),
        pytest.param(
            [[LOG[:50], CUT], [CUT], [LOG[:90], CUT], [LOG]],
            [pod(), pod(), pod(), pod(ENDED)],
            id="interrupted several times",
        ),
        pytest.param([[LOG[:64]], [LOG]], [*[pod()] * 7, pod(ENDED)], id="end without an error"),
        pytest.param(
            [[LOG[:50], CUT], [GONE], [LOG]], [pod(), pod(), pod(ENDED)], id="node not ready yet"
        ),
        pytest.param(
            [[LOG[:50], CUT], [LOG]], [NoAnswerError("down"), pod(ENDED)], id="API server down"
        ),
        pytest.param([[LOG[:50], CUT], [LOG]], [pod(ENDED)], id="container has ended"),
    ],
)
def test_followed_log_is_complete_after_interruptions(
    readings: list[list[bytes | Exception]], pods: list[Raw | Exception | None]
) -> None:
    cluster = FakeCluster(readings, pods)
    assert read(cluster) == b"a\nb\nc\nd\n"
    assert cluster.readings == []
    assert all(request["timestamps"] for request in cluster.log_requests)


def test_identity_is_that_of_the_attempt_and_of_the_file_that_was_read() -> None:
    session = FakeSession(argparse.Namespace(), None, None, Path())  # type: ignore[arg-type]
    identities = []
    for log, part in ((LOG, PART), (LOG + LOG, PART), (LOG[64:], PART), (LOG, LATER)):
        session.cluster = FakeCluster([[log]], [pod(ENDED)])  # type: ignore[assignment]
        reader = LogReader(session, Target("n", "shop"), "u", part)
        next(reader.all(follow=False))
        identities.append(reader.identity)
    first, longer, rotated, later = identities
    assert first == longer
    assert len({first, rotated, later}) == 3


def test_log_of_a_restarted_container_continues_as_the_previous_one() -> None:
    cluster = FakeCluster([[LOG[:64], CUT], [LOG]], [pod(id_="c2", last="c1")])
    assert read(cluster) == b"a\nb\nc\nd\n"
    assert [request["previous"] for request in cluster.log_requests] == [False, True]


def test_log_of_the_next_container_is_not_mixed_in() -> None:
    """The node has that log before the API server reports the container."""
    other = stamped(b"x\ny\n", first=90)
    states = [pod(), pod(), pod(id_="c2", last="c1")]
    cluster = FakeCluster([[LOG[:64], CUT], [other], [LOG]], [*states])
    assert read(cluster) == b"a\nb\nc\nd\n"


def test_attempt_that_a_newer_one_follows_at_once_was_not_interrupted() -> None:
    """Its stream has ended before the API server reported its end."""
    other = stamped(b"x\ny\n", first=90)
    states = [pod(), pod(), pod(ENDED), pod(id_="c2", last="c1")]
    cluster = FakeCluster([[LOG], [other], [LOG]], [*states])
    assert read(cluster) == b"a\nb\nc\nd\n"
    assert [request["previous"] for request in cluster.log_requests] == [False, False, True]
    assert notes == []


def test_rotated_log_of_the_same_container_continues() -> None:
    rotated = stamped(b"c\nd\n", first=2)
    cluster = FakeCluster([[LOG[:66], CUT], [rotated]], [*[pod()] * 6, pod(ENDED)])
    assert read(cluster) == b"a\nb\nc\nd\n"


def test_missing_log_is_an_error_without_retries() -> None:
    with pytest.raises(NotFoundError):
        read(FakeCluster([[GONE]], [pod()]))


@pytest.mark.parametrize(
    ("state", "most"),
    [(RUNNING, log_reader.RUNNING_RETRIES), (ENDED, log_reader.ENDED_RETRIES)],
    ids=["running", "ended"],
)
def test_interrupted_log_is_an_error_after_the_last_retry(state: Raw, most: int) -> None:
    cluster = FakeCluster([[CUT] for _ in range(most)], [pod(state)])
    with pytest.raises(
        NotUsableError, match="the rest of the log of step 1 could not be read: cut"
    ):
        read(cluster)
    assert len(cluster.log_requests) == most
    assert len(notes) == 1


def test_log_without_follow_ends_with_the_first_complete_reading() -> None:
    cluster = FakeCluster([[LOG[:50], CUT], [LOG]], [pod()])
    assert read(cluster, follow=False) == b"a\nb\nc\nd\n"
