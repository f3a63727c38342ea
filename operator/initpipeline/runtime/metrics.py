"""The metrics of one operator, in a registry of their own, and their HTTP server.

docs/metrics.md lists all metrics. Names of client-go and controller-runtime are used if they exist.
"""

import asyncio
import contextlib
import itertools
import platform
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final, Generic, TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from initpipeline import __version__
from initpipeline.api.models import InitPipelineStatus, RunFacts
from initpipeline.api.reasons import Trigger
from initpipeline.core.container_status import ContainerStatus
from initpipeline.core.mirror import mirrored
from initpipeline.core.run_changes import runs_of
from initpipeline.runtime import http_server
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.metric_labels import (
    METHODS,
    QUEUE,
    RESULTS,
    TRIGGERS,
    known,
    known_code,
    known_reason,
    resource_of,
)
from initpipeline.runtime.probes import End
from initpipeline.runtime.queue import Outcome
from initpipeline.runtime.state_metrics import STATE, StateCollector

LAG_SECONDS: Final = 1.0
"""The time between two samples of the event loop's lag."""

M = TypeVar("M", bound=MetricWrapperBase)


@dataclass(frozen=True, slots=True)
class Declaration(Generic[M]):
    """A metric that is recorded when something happens."""

    kind: type[M]
    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """The upper limits of a histogram's buckets."""

    def registered(self, registry: CollectorRegistry) -> M:
        """Returns the metric, which the registry serves."""
        options: dict[str, Any] = {"buckets": self.buckets} if self.buckets else {}
        return self.kind(self.name, self.text, self.labels, registry=registry, **options)


_SHORT: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

_CAUSES: Final = (
    "ended (by the API server, or its connection was cut), gone (410: the objects are listed), "
    "refused (another error of the API server), unanswered (no response), unreadable (data that is "
    "not an event), resharded (the replica has got or lost a shard)"
)

_ADDS: Final = Declaration(
    Counter,
    "workqueue_adds_total",
    "Keys added to the queue.",
    ("name",),
)
_RETRIES: Final = Declaration(
    Counter,
    "workqueue_retries_total",
    "Keys requeued with back-off.",
    ("name",),
)
_QUEUE_SECONDS: Final = Declaration(
    Histogram,
    "workqueue_queue_duration_seconds",
    "How long a key waited until a worker took it.",
    ("name",),
    buckets=_SHORT,
)
_WORK_SECONDS: Final = Declaration(
    Histogram,
    "workqueue_work_duration_seconds",
    "Time for which a worker had a key.",
    ("name",),
    buckets=_SHORT,
)
_REQUESTS: Final = Declaration(
    Counter,
    "rest_client_requests_total",
    'Requests to the API server. The code is "<error>" if there was no response. A code '
    'that the API server itself does not use is counted by class, such as "4xx".',
    ("verb", "resource", "code"),
)
_REQUEST_SECONDS: Final = Declaration(
    Histogram,
    "rest_client_request_duration_seconds",
    "Time from a request until the headers of its response arrived.",
    ("verb", "resource"),
    buckets=_SHORT,
)
_RECONCILES: Final = Declaration(
    Counter,
    "initpipeline_reconcile_total",
    "Reconciles by result, as in controller-runtime: success, requeue_after (a deadline "
    "follows), requeue (a conflict, or a refused Pod), error (no answer, or an error of "
    "the API server). In addition, poisoned: an exception of the operator.",
    ("result",),
)
_RECONCILE_SECONDS: Final = Declaration(
    Histogram,
    "initpipeline_reconcile_duration_seconds",
    "Duration of a reconcile.",
    buckets=_SHORT,
)
_STARTED: Final = Declaration(
    Counter,
    "initpipeline_runs_started_total",
    "Runs started.",
    ("trigger",),
)
_COMPLETED: Final = Declaration(
    Counter,
    "initpipeline_runs_completed_total",
    'Runs ended. The reason is "Other" if it is not one of the API\'s.',
    ("result", "reason"),
)
_INITIALIZATION: Final = Declaration(
    Histogram,
    "initpipeline_run_initialization_seconds",
    "Time from the start of a run until it is initialized.",
    ("trigger",),
    buckets=_LONG,
)
_STEPS: Final = Declaration(
    Histogram,
    "initpipeline_step_duration_seconds",
    "Duration of an attempt of a step, by result: success, error.",
    ("result",),
    buckets=_LONG,
)
_MIRROR_LAG: Final = Declaration(
    Histogram,
    "initpipeline_mirror_lag_seconds",
    "Time from when a watch reported a change, or a deadline passed, until status was "
    "written, including retries. After a change of the leader, the time starts at that "
    "change.",
    buckets=_SHORT,
)
_POD_CREATE: Final = Declaration(
    Histogram,
    "initpipeline_pod_create_duration_seconds",
    "Duration of the requests that create Pods.",
    ("code",),
    buckets=_SHORT,
)
_EVENTS: Final = Declaration(
    Counter,
    "initpipeline_events_total",
    "Events by outcome: posted, series (a repeated one was counted), dropped.",
    ("outcome",),
)
_DELETIONS: Final = Declaration(
    Counter,
    "initpipeline_sweep_deletions_total",
    "Deletions that a sweep found and no watch had reported.",
    ("resource",),
)
_SWEPT_AT: Final = Declaration(
    Gauge,
    "initpipeline_sweep_last_success_timestamp_seconds",
    "Time of the last sweep that was successful in all namespaces.",
    ("resource",),
)
_SKEW: Final = Declaration(
    Gauge,
    "initpipeline_crd_skew_fields",
    "Fields by which the CRD and the operator differ: older (the CRD lacks fields that the "
    "operator knows), newer (the CRD has fields that the operator does not know).",
    ("crd",),
)
_LOOP_LAG: Final = Declaration(
    Histogram,
    "initpipeline_event_loop_lag_seconds",
    "How late the event loop called a timer. Sampled once a second while there is work.",
    buckets=_SHORT,
)
_WATCH_ENDS: Final = Declaration(
    Counter,
    "initpipeline_watch_restarts_total",
    f"Watches that had to be opened again, and failed attempts, by cause: {_CAUSES}.",
    ("resource", "cause"),
)
_BUILD_INFO: Final = Declaration(
    Gauge,
    "initpipeline_build_info",
    "1, with the versions of the operator, of Python and of Kopf.",
    ("version", "python", "kopf"),
)

RECORDED: Final = (
    _ADDS,
    _RETRIES,
    _QUEUE_SECONDS,
    _WORK_SECONDS,
    _REQUESTS,
    _REQUEST_SECONDS,
    _RECONCILES,
    _RECONCILE_SECONDS,
    _STARTED,
    _COMPLETED,
    _INITIALIZATION,
    _STEPS,
    _MIRROR_LAG,
    _POD_CREATE,
    _EVENTS,
    _DELETIONS,
    _SWEPT_AT,
    _SKEW,
    _LOOP_LAG,
    _WATCH_ENDS,
    _BUILD_INFO,
)


class Metrics(Meter):
    """Records what the operator does. It is not thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._metrics: dict[str, Any] = {
            one.name: one.registered(self.registry) for one in RECORDED
        }
        self._lag: _LoopLag | None = None
        """None: the metrics are not served yet."""
        # A rate does not contain the first value of a series that did not exist at the last scrape.
        for counter, values in (
            (_WATCH_ENDS, itertools.product(("initpipelines", "pods"), End)),
            (_RECONCILES, zip([*Outcome, "error", "poisoned"], strict=True)),
            (_STARTED, zip(Trigger, strict=True)),
            (_EVENTS, zip(("posted", "series", "dropped"), strict=True)),
        ):
            for labels in values:
                self._of(counter, *labels)
        self._of(_BUILD_INFO, __version__, platform.python_version(), version("kopf")).set(1)
        ProcessCollector(registry=self.registry)
        self.state = StateCollector()
        self.registry.register(self.state)

    def _of(self, declared: Declaration[M], *labels: str) -> M:
        """Returns the metric, or its series with these labels."""
        metric: M = self._metrics[declared.name]
        return metric.labels(*labels) if labels else metric

    def request(self, method: str, path: str, code: str, seconds: float) -> None:
        verb, resource, code = known(method, METHODS), resource_of(path), known_code(code)
        self._of(_REQUESTS, verb, resource, code).inc()
        self._of(_REQUEST_SECONDS, verb, resource).observe(seconds)
        if verb == "POST" and resource == "pods":
            self._of(_POD_CREATE, code).observe(seconds)
        if resource != "leases":  # The Lease is renewed at rest as well.
            self._has_work()

    def queued(self) -> None:
        self._of(_ADDS, QUEUE).inc()
        self._has_work()

    def retried(self) -> None:
        self._of(_RETRIES, QUEUE).inc()

    def taken(self, seconds: float) -> None:
        self._of(_QUEUE_SECONDS, QUEUE).observe(seconds)
        self._has_work()

    def worked(self, seconds: float) -> None:
        self._of(_WORK_SECONDS, QUEUE).observe(seconds)

    def reconciled(self, result: str, seconds: float) -> None:
        self._of(_RECONCILES, result).inc()
        self._of(_RECONCILE_SECONDS).observe(seconds)

    def event(self, outcome: str) -> None:
        self._of(_EVENTS, outcome).inc()

    def watch_ended(self, resource: str, why: str) -> None:
        self._of(_WATCH_ENDS, resource, why).inc()

    def missed_deletions(self, resource: str, count: int) -> None:
        self._of(_DELETIONS, resource).inc(count)

    def swept(self, resource: str) -> None:
        self._of(_SWEPT_AT, resource).set(time.time())

    def compared(self, missing: int, unknown: int) -> None:
        self._of(_SKEW, "older").set(missing)
        self._of(_SKEW, "newer").set(unknown)

    def status_written(
        self, before: InitPipelineStatus, after: InitPipelineStatus, seconds: float
    ) -> None:
        self._of(_MIRROR_LAG).observe(seconds)
        earlier = runs_of(before)
        current = max(earlier, default=0)
        for number, run in runs_of(after).items():
            if number >= current:
                self._run_written(earlier.get(number), run)
        for result, duration in _ended_steps(before, after):
            self._of(_STEPS, result).observe(duration)

    def _run_written(self, before: RunFacts | None, run: RunFacts) -> None:
        trigger = known(run.trigger.value, TRIGGERS)
        if before is None:
            self._of(_STARTED, trigger).inc()
        if run.initialized_time and not (before and before.initialized_time):
            passed = (run.initialized_time - run.start_time).total_seconds()
            self._of(_INITIALIZATION, trigger).observe(max(passed, 0.0))
        if run.result and not (before and before.result):
            result = known(run.result.value, RESULTS)
            self._of(_COMPLETED, result, known_reason(run.reason)).inc()

    def _has_work(self) -> None:
        if self._lag is not None:
            self._lag.note_work()

    @contextlib.asynccontextmanager
    async def served(self, address: str) -> AsyncIterator[None]:
        """Answer ``/metrics`` on this address, HOST:PORT, within the context. Raises OperatorError
        if the address cannot be used."""
        self._lag = _LoopLag(self._of(_LOOP_LAG).observe)
        handlers = {"/metrics": self._handle}
        try:
            async with http_server.served("metrics", "--metrics-address", address, handlers):
                yield
        finally:
            self._lag.stop()
            self._lag = None

    async def _handle(self, _: web.Request) -> web.Response:
        body = generate_latest(self.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


class _LoopLag:
    """Samples how late the event loop calls a timer. At rest there is no timer, so that the process
    is not woken."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._timer: asyncio.TimerHandle | None = None
        self._has_work = False
        """Whether there was work since the timer was set."""

    def note_work(self) -> None:
        """Record that there is work. The next sample follows after LAG_SECONDS."""
        self._has_work = True
        if self._timer is None:
            self._set()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        loop = asyncio.get_running_loop()
        self._has_work = False
        wanted = loop.time() + LAG_SECONDS
        self._timer = loop.call_at(wanted, self._sample, wanted)

    def _sample(self, wanted: float) -> None:
        self._observe(max(asyncio.get_running_loop().time() - wanted, 0.0))
        self._timer = None
        if self._has_work:
            self._set()


def described() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Yields the name, type, labels and text of each metric, except those of the process."""
    for one in RECORDED:
        yield one.name, one.kind.__name__.lower(), one.labels, one.text
    yield from STATE


def _ended_steps(
    before: InitPipelineStatus, after: InitPipelineStatus
) -> Iterator[tuple[str, float]]:
    """Yields the result and the duration of each attempt that ended between the statuses."""
    known = {ended for one in mirrored(before) if (ended := _ended(one))}
    for one in mirrored(after):
        ended = _ended(one)
        if ended is not None and ended not in known:
            _, code, started, finished = ended
            if started is not None and finished is not None:
                seconds = max((finished - started).total_seconds(), 0.0)
                yield "success" if code == 0 else "error", seconds


def _ended(status: ContainerStatus) -> tuple[str, int, datetime | None, datetime | None] | None:
    end = status.terminated or status.last_terminated
    if end is None:
        return None
    return end.container_id or status.name, end.exit_code, end.started_at, end.finished_at
