"""Reads the whole log of one attempt, even if the stream is interrupted."""

from collections.abc import Generator, Iterator
from copy import copy
from enum import Enum, auto
from typing import Final, Protocol

from initpipeline.api.raw import Raw
from initpipeline.plugin.cluster.client import ClusterClient
from initpipeline.plugin.errors import NoAnswerError, NotFoundError, NotUsableError
from initpipeline.plugin.report.formatting import one_line
from initpipeline.plugin.report.log_parts import Part
from initpipeline.plugin.report.transcript import Transcript
from initpipeline.plugin.session import Target

SETTLE_SECONDS: Final = 4
"""Seconds after the end of a stream in which the Pod's status may still report the container as
running."""
RETRY_SECONDS: Final = 1.0
RUNNING_RETRIES: Final = 300
"""Consecutive retries while the container may still run. They last as long as the node lifecycle
controller waits, by default, before it evicts the Pods of a node that does not answer."""
ENDED_RETRIES: Final = 10
"""Consecutive retries if the container has ended."""


class Surroundings(Protocol):
    """What a LogReader needs. A Session has it."""

    @property
    def cluster(self) -> ClusterClient:
        """The client that reads."""

    def pause(self, seconds: float) -> None:
        """Waits before a retry. It may raise, to end the reading."""

    def note(self, line: str) -> None:
        """Reports an interruption."""


class _State(Enum):
    """The state of the attempt's container."""

    RUNNING = auto()
    ENDED = auto()
    OTHER = auto()
    """The Pod has a later container in its place, or the Pod is gone."""


class _End(Enum):
    """Whether a stream has ended with the log, or earlier."""

    OF_LOG = auto()
    """The container had ended, or its log cannot be read any more."""
    OF_STREAM = auto()
    """The container is still running."""
    UNKNOWN = auto()
    """The container has ended. When the stream ended, it may still have been running."""


class LogReader:
    """Reads the log of one attempt of a container, in the Pod with this UID."""

    def __init__(self, session: Surroundings, target: Target, pod_uid: str, part: Part) -> None:
        self._session = session
        self._target = target
        self._pod_uid = pod_uid
        self._part = part
        self._previous = part.previous
        self._transcript = Transcript()
        self._failures = 0
        """Number of consecutive reads that were interrupted and returned nothing new."""

    @property
    def identity(self) -> str:
        """Identifies the attempt and the file that was read last. The kubelet rotates files."""
        return f"{self._part.container_id} {self._transcript.beginning}"

    def once(self) -> Iterator[bytes]:
        """Returns the present log, without retries. Raises NotFoundError, NoAnswerError."""
        return self._log(follow=False, timestamps=False)

    def all(self, *, follow: bool) -> Iterator[bytes]:
        """Yields the log, and continues after each interruption. With ``follow``, continues until
        the container ends.

        Raises NotFoundError if the node does not have the log. Raises NotUsableError if the retries
        are used up.
        """
        verifying = False
        while True:
            streams = follow and not verifying and not self._previous
            try:
                interruption = yield from self._read(streams)
            except NotFoundError:
                if verifying:
                    return
                if not self._failures:
                    raise
                interruption = "the node does not have the log at the moment"
            if not interruption:
                end = self._end_of_stream() if streams else _End.OF_LOG
                if end is _End.OF_LOG:
                    yield self._transcript.finish()
                    return
                verifying = end is _End.UNKNOWN
            if interruption or not verifying:
                self._failures += 1
                self._check(interruption)
                self._session.pause(RETRY_SECONDS)
            self._transcript.restart()

    def _read(self, streams: bool) -> Generator[bytes, None, str]:
        """Yields the new bytes of one read. Returns why it was interrupted, or an empty text."""
        transcript, before = self._transcript, copy(self._transcript)
        try:
            for chunk in self._log(follow=streams, timestamps=True):
                new = transcript.feed(chunk)
                if transcript.replaced and not before.replaced:
                    if not self._reads_ours():
                        self._transcript = before
                        if self._previous:
                            # Nothing was interrupted: the kubelet keeps this attempt's log.
                            before.restart()
                            return (yield from self._read(streams=False))
                        return "a newer attempt is already running on the node"
                    before.replaced = True
                if new:
                    self._failures = 0
                    yield new
        except NoAnswerError as error:
            return one_line(str(error))
        return ""

    def _check(self, interruption: str) -> None:
        """Print a note for the first failure, raise NotUsableError for the last."""
        reason = interruption or "the stream ended, but the container is still running"
        if self._failures >= (RUNNING_RETRIES if self._is_running() else ENDED_RETRIES):
            raise NotUsableError(
                f"the rest of the log of {self._part.title} could not be read: {reason}"
            )
        if self._failures == 1:
            self._session.note(
                f"the log stream of {self._part.title} was interrupted, retrying: {reason}"
            )

    def _is_running(self) -> bool:
        """Returns whether the container may still write, or the API server does not answer."""
        return self._await(_State.RUNNING, 0) is _State.RUNNING

    def _end_of_stream(self) -> _End:
        """Returns whether a stream that ended without an error had ended with the log. The kubelet
        ends a stream when the container has ended, but also when the kubelet itself stops."""
        if not self._is_running():
            return _End.OF_LOG
        state = self._await(_State.RUNNING, SETTLE_SECONDS)
        if state is _State.RUNNING:
            return _End.OF_STREAM
        return _End.UNKNOWN if state is _State.ENDED or self._previous else _End.OF_LOG

    def _reads_ours(self) -> bool:
        """Returns whether the node's log is of this attempt, and not of a later one."""
        return self._previous or self._await(_State.RUNNING, SETTLE_SECONDS) is not _State.OTHER

    def _await(self, passing: _State, seconds: int) -> _State:
        """Returns the state of the container when it differs from ``passing``, or after
        ``seconds``."""
        pod_key = self._target.namespace, self._target.name
        try:
            pod = self._session.cluster.find_pod(*pod_key)
            for _ in range(seconds):
                if pod is None or self._state(pod) is not passing:
                    break
                self._session.cluster.wait_for_pod_change(*pod_key, pod, 1)
                pod = self._session.cluster.find_pod(*pod_key)
        except NoAnswerError:
            return _State.RUNNING
        return _State.OTHER if pod is None else self._state(pod)

    def _state(self, pod: Raw) -> _State:
        """Returns the state of the attempt's container in this Pod. Records whether the container
        has become the previous one, whose log needs another request."""
        if pod["metadata"]["uid"] != self._pod_uid:
            return _State.OTHER
        status = pod.get("status") or {}
        statuses = [
            *(status.get("initContainerStatuses") or ()),
            *(status.get("containerStatuses") or ()),
        ]
        current: Raw = next((one for one in statuses if one["name"] == self._part.container), {})
        last = (current.get("lastState") or {}).get("terminated") or {}
        if last.get("containerID") == self._part.container_id:
            self._previous = current.get("containerID") != self._part.container_id
        if current.get("containerID") != self._part.container_id:
            return _State.OTHER
        return _State.RUNNING if "running" in (current.get("state") or {}) else _State.ENDED

    def _log(self, *, follow: bool, timestamps: bool) -> Iterator[bytes]:
        return self._session.cluster.read_log(
            self._target.namespace,
            self._target.name,
            self._part.container,
            follow=follow,
            previous=self._previous,
            timestamps=timestamps,
        )
