"""Events on InitPipelines (events.k8s.io/v1): what happened, for whoever runs ``kubectl describe``.

They are a courtesy: everything that they tell is in status. So they never hold up a look and never
make one fail. One task posts them, one at a time, so that they never crowd out the work itself;
what it cannot keep up with, or what the API server does not take, is dropped.

The API lets nothing of an event change but its series (count and time), and a note names its run.
So the same again is: the same run, reason and step. Of these only a step's failure comes again
within a run, and therefore only those events are remembered.
"""

import asyncio
import contextlib
import logging
import platform
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from initpipeline.api import names
from initpipeline.api.models import format_micro_time
from initpipeline.api.reasons import EventReason
from initpipeline.core.admission import namespace_terminating
from initpipeline.core.facts import Pipeline
from initpipeline.core.run_events import RunEvent, events_between
from initpipeline.core.unreadable import UnreadablePipeline
from initpipeline.runtime.errors import ApiError, ConnectionFailed, NotFoundError
from initpipeline.runtime.gateway import Gateway

logger = logging.getLogger(__name__)

REPORTING_CONTROLLER: Final = f"{names.GROUP}/operator"

QUEUE_LIMIT: Final = 1000
"""Events that wait to be posted; further ones are dropped. 3 MiB at most."""

SERIES_LIMIT: Final = 4096
"""Steps that fail at one time whose events are remembered; the one that has been quiet for longest
is forgotten for a further one, and a new event tells of its next failure. About 2 MiB."""

_REPEATED: Final = frozenset({EventReason.STEP_FAILED, EventReason.STATUS_NOT_WRITTEN})
"""Reasons of events that are repeated within a run, as a series."""

LOG_PERIOD: Final = timedelta(minutes=10)
"""How often to say that events are dropped, at most: it is mostly the same for all of them."""

REFRESH: Final = timedelta(minutes=30)
"""The API server forgets an event an hour after its last change, unless told otherwise
(--event-ttl). One of a step that goes on failing is kept."""


class _Same(NamedTuple):
    """What two run events have in common that the API server stores as one event."""

    pipeline_uid: str
    run: int
    reason: EventReason
    step: str | None


@dataclass(slots=True)
class _Series:
    """An event that was posted, and how often the same has happened since."""

    name: str
    count: int
    told_count: int
    told_at: datetime

    def is_due(self, now: datetime) -> bool:
        """Whether the API should be told the count: when it has doubled, or was told long ago. So
        what is shown is never less than half the truth, and a step that fails every ten seconds for
        a day costs fifteen writes and two an hour. No timer: a series that has ended costs none."""
        return self.count >= 2 * self.told_count or now - self.told_at >= REFRESH


@dataclass(frozen=True, slots=True)
class _Note:
    """A run event on its way to the API."""

    regarding: dict[str, str]
    """The pipeline, as v1.ObjectReference."""
    event: RunEvent
    time: datetime

    @property
    def pipeline(self) -> str:
        return f"{self.regarding['namespace']}/{self.regarding['name']}"

    @property
    def same(self) -> _Same:
        what = self.event
        return _Same(self.regarding["uid"], what.run, what.reason, what.step)


class EventRecorder:
    """Takes note of status writes, and posts what they tell. For one event loop."""

    def __init__(
        self,
        gateway: Gateway,
        clock: Callable[[], datetime],
        instance: str | None = None,
    ) -> None:
        """``instance`` is this process for people: its host's name, in a Pod the Pod's."""
        self._gateway = gateway
        self._clock = clock
        self._instance = (instance or platform.node() or "unknown")[:128]
        self._waiting: asyncio.Queue[_Note] = asyncio.Queue(QUEUE_LIMIT)
        self._series: OrderedDict[_Same, _Series] = OrderedDict()
        """Those that were told of last come last."""
        self._last_time: datetime | None = None
        self._dropped = 0
        """Since that was last logged."""
        self._logged_at: datetime | None = None

    def status_written(self, before: Pipeline, after: Pipeline) -> None:
        """The status of a pipeline was changed. Returns at once, and never raises."""
        try:
            told = events_between(before.status, after.status)
        except Exception:
            fields = {"pipeline": f"{after.namespace}/{after.name}"}
            logger.exception("status not understood, no events", extra=fields)
            return
        for event in told:
            self._put(_Note(_regarding(after, event), event, self._time()))

    def not_written(self, pipeline: Pipeline | UnreadablePipeline, why: str) -> None:
        """Posts an event, because the status of the pipeline cannot be written. Returns at once,
        and never raises."""
        event = RunEvent(
            EventReason.STATUS_NOT_WRITTEN,
            0,
            f"the operator cannot write the status, and does nothing else until it can: {why}",
        )
        self._put(_Note(_regarding(pipeline, event), event, self._time()))

    def _put(self, note: _Note) -> None:
        try:
            self._waiting.put_nowait(note)
        except asyncio.QueueFull:
            self._drop(note, "too many events at a time")

    async def run(self) -> None:
        """Post for ever."""
        while True:
            note = await self._waiting.get()
            try:
                await self._tell(note)
            except (ApiError, ConnectionFailed) as error:
                if not _namespace_is_going(error):
                    self._drop(note, str(error))
            except Exception:
                logger.exception("event dropped", extra={"pipeline": note.pipeline})
            finally:
                self._waiting.task_done()

    async def drain(self, seconds: float) -> None:
        """Wait until all is posted that is known now, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._waiting.join()

    def _time(self) -> datetime:
        """Later than that of any event before it, so that they sort in the order of what
        happened."""
        now = self._clock()
        if self._last_time is not None:
            now = max(now, self._last_time + timedelta(microseconds=1))
        self._last_time = now
        return now

    async def _tell(self, note: _Note) -> None:
        series = self._series.get(note.same)
        if series is None:
            await self._post(note)
            return
        self._series.move_to_end(note.same)
        series.count += 1
        if not series.is_due(note.time):
            return
        try:
            await self._gateway.patch_event_series(
                note.regarding["namespace"], series.name, series.count, note.time
            )
        except NotFoundError:
            await self._post(note)
            return
        series.told_count, series.told_at = series.count, note.time

    async def _post(self, note: _Note) -> None:
        body = _event(note, self._instance)
        await self._gateway.create_event(body)
        if note.event.reason not in _REPEATED:
            return
        self._series[note.same] = _Series(body["metadata"]["name"], 1, 1, note.time)
        if len(self._series) > SERIES_LIMIT:
            self._series.popitem(last=False)

    def _drop(self, note: _Note, error: str) -> None:
        self._dropped += 1
        now = self._clock()
        if self._logged_at is not None and now - self._logged_at < LOG_PERIOD:
            return
        fields = {"pipeline": note.pipeline, "error": error, "dropped": self._dropped}
        logger.warning("event dropped", extra=fields)
        self._dropped, self._logged_at = 0, now


def _regarding(pipeline: Pipeline | UnreadablePipeline, event: RunEvent) -> dict[str, str]:
    reference = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "namespace": pipeline.namespace,
        "name": pipeline.name,
        "uid": pipeline.uid,
        "resourceVersion": pipeline.resource_version,
    }
    if event.field_path is not None:
        reference["fieldPath"] = event.field_path
    return reference


def _event(note: _Note, instance: str) -> dict[str, Any]:
    event = note.event
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": note.regarding["namespace"], "name": _name(note)},
        "eventTime": format_micro_time(note.time),
        "type": event.type,
        "reason": event.reason.value,
        "action": event.action,
        "note": event.note,
        "regarding": note.regarding,
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": instance,
    }


def _name(note: _Note) -> str:
    """By its time: kubectl lists events of this API in the order of their names."""
    microseconds = int(note.time.timestamp()) * 1_000_000 + note.time.microsecond
    return f"{note.regarding['name']}.{microseconds * 1000:x}"


def _namespace_is_going(error: ApiError | ConnectionFailed) -> bool:
    """Or is gone already: nobody is there to read."""
    if isinstance(error, ConnectionFailed):
        return False
    return error.code == 404 or namespace_terminating(error.status)
