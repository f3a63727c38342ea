"""Records events on InitPipelines (events.k8s.io/v1), which ``kubectl describe`` lists.

Events repeat what status reports, so a lost event loses no information. A reconcile therefore never
waits for an event, and never fails because of one. A few tasks post the events. They serve the
namespaces in turn, and post at most one event of a namespace at a time. An event is dropped if too
many wait, if its pipeline exceeds its rate, or if the request fails. It is not posted later.

The API server accepts changes only to an event's series: its count and time. Two occurrences belong
to one series if they have the same run, reason and step. Only StepFailed (for each run and step),
StatusNotWritten and StatusFieldsDropped (for each InitPipeline) occur repeatedly. So the recorder
keeps only their series in memory.
"""

import asyncio
import contextlib
import logging
import platform
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from initpipeline.api import names
from initpipeline.api.models import format_micro_time
from initpipeline.api.reasons import EventReason
from initpipeline.core.admission import is_by_admission, namespace_terminating
from initpipeline.core.facts import Pipeline, PipelineMetadata
from initpipeline.core.rates import Rate
from initpipeline.core.run_events import RunEvent, events_between
from initpipeline.runtime.errors import ApiError, ConnectionFailed, NotFoundError
from initpipeline.runtime.fair_buffer import FairBuffer
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.meter import Meter

logger = logging.getLogger(__name__)

REPORTING_CONTROLLER: Final = f"{names.GROUP}/operator"

QUEUE_LIMIT: Final = 1000
"""Maximum number of events that wait to be posted, about 3 MiB in memory. Further ones are dropped,
first those of the namespace with the most."""

POSTERS: Final = 4
"""Maximum number of events that are posted at the same time. A webhook may be slow for the events
of a namespace."""

RATE: Final = Rate(burst=25, interval=timedelta(minutes=1))
"""How often the events of one pipeline are posted. The burst is that of client-go, see
docs/decisions/0023-rates-of-runs-and-events.md."""

RATES_LIMIT: Final = 4096
"""Maximum number of pipelines whose rate is remembered, about 1 MiB in memory. The one with the
oldest event is forgotten first."""

SERIES_LIMIT: Final = 4096
"""Maximum number of remembered series, about 2 MiB in memory. The one whose last occurrence is
oldest is forgotten first. The next occurrence of a forgotten series is posted as a new event."""

_REPEATED: Final = frozenset(
    {
        EventReason.STEP_FAILED,
        EventReason.STATUS_NOT_WRITTEN,
        EventReason.STATUS_FIELDS_DROPPED,
    }
)
"""Reasons of events that are repeated, as a series."""

LOG_PERIOD: Final = timedelta(minutes=10)
"""The shortest time between two log lines about dropped events, which mostly have one cause."""

REFRESH: Final = timedelta(minutes=30)
"""If the last post of a series is this old, the next occurrence is posted even if the count has not
doubled. By default the API server deletes an event an hour after its last change (--event-ttl). A
series that continues must not be deleted."""


class _SeriesKey(NamedTuple):
    """Identifies a series: the API server stores occurrences with the same key as one event."""

    pipeline_uid: str
    run: int
    reason: EventReason
    step: str | None


@dataclass(slots=True)
class _Series:
    """A posted event, and how often it has occurred."""

    name: str
    count: int
    posted_count: int
    """The count that the API server has."""
    posted_at: datetime

    def is_due(self, now: datetime) -> bool:
        """Returns whether to post the count now.

        It is posted when it has doubled, or after REFRESH. So the posted count is at least half of
        the occurrences, unless an update was dropped. A step that fails every ten seconds for a day
        costs at most fifteen writes for doubled counts, and two an hour. There is no timer, so a
        series that has ended costs nothing.
        """
        return self.count >= 2 * self.posted_count or now - self.posted_at >= REFRESH


@dataclass(frozen=True, slots=True)
class _PendingEvent:
    """An event that waits to be posted."""

    regarding: dict[str, str]
    """The pipeline, as a v1.ObjectReference."""
    event: RunEvent
    time: datetime

    @property
    def pipeline(self) -> str:
        return f"{self.regarding['namespace']}/{self.regarding['name']}"

    @property
    def series_key(self) -> _SeriesKey:
        event = self.event
        return _SeriesKey(self.regarding["uid"], event.run, event.reason, event.step)


class EventRecorder:
    """Queues and posts events on InitPipelines. One task runs ``run``. Not thread-safe."""

    def __init__(
        self,
        gateway: Gateway,
        now: Callable[[], datetime],
        instance: str | None = None,
        meter: Meter = Meter(),
    ) -> None:
        """``instance`` is the reportingInstance of the events. None: the name of the host, which
        in a Pod is the Pod's name."""
        self._gateway = gateway
        self._now = now
        self._meter = meter
        self._instance = (instance or platform.node() or "unknown")[:128]
        self._waiting: FairBuffer[_PendingEvent] = FairBuffer(QUEUE_LIMIT)
        self._series: OrderedDict[_SeriesKey, _Series] = OrderedDict()
        """The least recent occurrence first."""
        self._full_at: OrderedDict[str, datetime] = OrderedDict()
        """When the bucket of RATE is full again, by the UID of the pipeline. The pipeline with the
        oldest event first."""
        self._last_time: datetime | None = None
        self._dropped = 0
        """Events dropped since the last log line about them."""
        self._logged_at: datetime | None = None

    def status_written(self, before: Pipeline, after: Pipeline) -> tuple[RunEvent, ...]:
        """Queue the events of a status write. Returns them at once, and never raises."""
        try:
            events = events_between(before.status, after.status)
        except Exception:
            logger.exception(
                "events of a status write failed", extra={"pipeline": str(Key.of(after))}
            )
            return ()
        for event in events:
            self._put(after, event)
        return events

    def not_written(self, pipeline: PipelineMetadata, why: str) -> None:
        """Queue the event that the status of the pipeline cannot be written. Returns at once, and
        never raises."""
        event = RunEvent(
            EventReason.STATUS_NOT_WRITTEN,
            0,
            "the operator cannot write the status, and does nothing else for this InitPipeline: "
            f"{why}",
        )
        self._put(pipeline, event)

    def dropped(self, pipeline: PipelineMetadata, fields: Sequence[str]) -> None:
        """Queue the event that the API server has stored the status without these fields. Returns
        at once, and never raises."""
        event = RunEvent(
            EventReason.STATUS_FIELDS_DROPPED,
            0,
            "the API server stored the status without fields that the operator had set. Apply the "
            f"CRD of the operator's version. Dropped: {', '.join(fields)}",
        )
        self._put(pipeline, event)

    def _put(self, pipeline: PipelineMetadata, event: RunEvent) -> None:
        pending = _PendingEvent(_regarding(pipeline, event), event, self._time())
        dropped = self._waiting.put(pipeline.namespace, pending)
        if dropped is not None:
            self._drop(dropped, f"more than {QUEUE_LIMIT} events wait to be posted")

    async def run(self) -> None:
        """Post the queued events, until the task is cancelled."""
        async with asyncio.TaskGroup() as posters:
            for _ in range(POSTERS):
                posters.create_task(self._post_all())

    async def _post_all(self) -> None:
        while True:
            pending = await self._waiting.get()
            try:
                await self._post_or_count(pending)
            except (ApiError, ConnectionFailed) as error:
                if not _namespace_is_deleted(error):
                    self._drop(pending, str(error))
            except Exception:
                logger.exception("event dropped", extra={"pipeline": pending.pipeline})
            finally:
                self._waiting.done(pending.regarding["namespace"])

    async def drain(self, seconds: float) -> None:
        """Wait until all queued events are posted, for at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._waiting.join()

    def _time(self) -> datetime:
        """Returns the time of the next event. It is later than that of all earlier events, so that
        events sort in the order in which they occurred."""
        now = self._now()
        if self._last_time is not None:
            now = max(now, self._last_time + timedelta(microseconds=1))
        self._last_time = now
        return now

    async def _post_or_count(self, pending: _PendingEvent) -> None:
        """Post a new event, or update the count of its series. Drops it if the pipeline exceeds
        RATE. The count of a series includes dropped occurrences, and the next update posts it."""
        series = self._series.get(pending.series_key)
        if series is not None:
            self._series.move_to_end(pending.series_key)
            series.count += 1
            if not series.is_due(pending.time):
                return
        if not self._allowed(pending):
            self._drop(pending, "the InitPipeline has too many events")
            return
        if series is None:
            await self._post(pending)
            return
        try:
            await self._gateway.patch_event_series(
                pending.regarding["namespace"], series.name, series.count, pending.time
            )
        except NotFoundError:
            await self._post(pending)
            return
        self._meter.event("series")
        series.posted_count, series.posted_at = series.count, pending.time

    def _allowed(self, pending: _PendingEvent) -> bool:
        """Returns whether RATE allows the event, and if so counts it."""
        uid, now = pending.regarding["uid"], pending.time
        full_at = self._full_at.get(uid)
        if full_at is not None and RATE.free_at(full_at) > now:
            return False
        self._full_at[uid] = RATE.used(full_at, now)
        self._full_at.move_to_end(uid)
        if len(self._full_at) > RATES_LIMIT:
            self._full_at.popitem(last=False)
        return True

    async def _post(self, pending: _PendingEvent) -> None:
        body = _event(pending, self._instance)
        await self._gateway.create_event(body)
        self._meter.event("posted")
        if pending.event.reason not in _REPEATED:
            return
        self._series[pending.series_key] = _Series(body["metadata"]["name"], 1, 1, pending.time)
        if len(self._series) > SERIES_LIMIT:
            self._series.popitem(last=False)

    def _drop(self, pending: _PendingEvent, error: str) -> None:
        self._dropped += 1
        self._meter.event("dropped")
        now = self._now()
        if self._logged_at is not None and now - self._logged_at < LOG_PERIOD:
            return
        fields = {"pipeline": pending.pipeline, "error": error, "dropped": self._dropped}
        logger.warning("event dropped", extra=fields)
        self._dropped, self._logged_at = 0, now


def _regarding(pipeline: PipelineMetadata, event: RunEvent) -> dict[str, str]:
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


def _event(pending: _PendingEvent, instance: str) -> dict[str, Any]:
    event = pending.event
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": pending.regarding["namespace"], "name": _name(pending)},
        "eventTime": format_micro_time(pending.time),
        "type": event.type,
        "reason": event.reason.value,
        "action": event.action,
        "note": event.note,
        "regarding": pending.regarding,
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": instance,
    }


def _name(pending: _PendingEvent) -> str:
    """Returns the event's name. Names sort by time, because kubectl lists the events of this API in
    the order of their names."""
    microseconds = int(pending.time.timestamp()) * 1_000_000 + pending.time.microsecond
    return f"{pending.regarding['name']}.{microseconds * 1000:x}"


def _namespace_is_deleted(error: ApiError | ConnectionFailed) -> bool:
    """Returns whether the namespace is terminating or does not exist any more. If so, the event is
    of no use."""
    if isinstance(error, ConnectionFailed):
        return False
    by_admission = is_by_admission(str(error.status.get("message")))
    return (error.code == 404 and not by_admission) or namespace_terminating(error.status)
