"""The metrics of one operator, in a registry of their own, and their HTTP server.

No label contains names of pipelines, Pods, steps or namespaces, and each value of a label is one of
a fixed list. So the number of series does not depend on the number of pipelines. docs/metrics.md
lists all metrics. Names of client-go and controller-runtime are used if they exist.
"""

import asyncio
import contextlib
import itertools
import math
import platform
import re
import time
from collections import Counter as Counts
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from initpipeline import __version__
from initpipeline.api.models import InitPipelineStatus, RunFacts
from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from initpipeline.core.facts import ContainerStatus
from initpipeline.core.run_changes import runs_of
from initpipeline.runtime import http_server
from initpipeline.runtime.cache import Store
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.probes import End, Freshness
from initpipeline.runtime.queue import Outcome
from initpipeline.runtime.share import Share

QUEUE: Final = "initpipeline"
OTHER: Final = "Other"
"""The value of a label for everything that is not in its list."""

_SHORT: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LONG: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

_RESOURCES: Final = frozenset(
    {
        "initpipelines",
        "initpipelines/status",
        "pods",
        "events",
        "leases",
        "customresourcedefinitions",
        "selfsubjectaccessreviews",
    }
)
_CODES: Final = frozenset(
    {"<error>"}
    | {"200", "201", "202", "400", "401", "403", "404", "405", "406", "409", "410", "413", "415"}
    | {"422", "429", "500", "502", "503", "504"}
)
"""What an API server or a load balancer answers. An admission webhook can choose any code, such as
418."""
_METHODS: Final = frozenset({"GET", "POST", "PATCH", "DELETE", "PUT"})
_CONDITIONS: Final = frozenset(type_.value for type_ in ConditionType)
_STATUSES: Final = frozenset({"True", "False", "Unknown"})
_TRIGGERS: Final = frozenset(trigger.value for trigger in Trigger)
_RESULTS: Final = frozenset(result.value for result in Result)
_REASONS: Final = frozenset(reason.value for reason in Reason)
_PATH: Final = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+(?:/namespaces/[^/]+)?/(?P<resource>[a-z]+)(?:/[^/]+)?(?P<sub>/status)?"
)

_CAUSES: Final = (
    "ended (by the API server, or its connection was cut), gone (410: the objects are listed), "
    "refused (another error of the API server), unanswered (no response), unreadable (data that is "
    "not an event), resharded (the replica has got or lost a shard)"
)

LAG_SECONDS: Final = 1.0
"""The time between two samples of the event loop's lag."""


def resource_of(path: str) -> str:
    """Returns the resource of a request's path. "Other": it is not one that the operator uses."""
    match = _PATH.match(path)
    name = f"{match['resource']}{match['sub'] or ''}" if match else ""
    return name if name in _RESOURCES else OTHER


def known_code(code: str) -> str:
    """Returns the code of a response, or its class, such as "4xx"."""
    return code if code in _CODES else f"{code[:1]}xx"


def known_reason(reason: str | None) -> str:
    """Returns a reason of the API. "": no reason is set. "Other": it is not one of the API's, for
    example a reason of a kubelet."""
    return (reason if reason in _REASONS else OTHER) if reason else ""


class Metrics(Meter):
    """Records what the operator does. It is not thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: list[MetricWrapperBase] = []

        def add(kind: Any, name: str, text: str, labels: Iterable[str] = (), **options: Any) -> Any:
            metric = kind(name, text, tuple(labels), registry=self.registry, **options)
            own.append(metric)
            return metric

        self._own = own
        self._adds = add(Counter, "workqueue_adds_total", "Keys added to the queue.", ["name"])
        self._retries = add(
            Counter, "workqueue_retries_total", "Keys requeued with back-off.", ["name"]
        )
        self._queue_seconds = add(
            Histogram,
            "workqueue_queue_duration_seconds",
            "How long a key waited until a worker took it.",
            ["name"],
            buckets=_SHORT,
        )
        self._work_seconds = add(
            Histogram,
            "workqueue_work_duration_seconds",
            "Time for which a worker had a key.",
            ["name"],
            buckets=_SHORT,
        )
        self._requests = add(
            Counter,
            "rest_client_requests_total",
            'Requests to the API server. The code is "<error>" if there was no response. A code '
            'that the API server itself does not use is counted by class, such as "4xx".',
            ["verb", "resource", "code"],
        )
        self._request_seconds = add(
            Histogram,
            "rest_client_request_duration_seconds",
            "Time from a request until the headers of its response arrived.",
            ["verb", "resource"],
            buckets=_SHORT,
        )
        self._reconciles = add(
            Counter,
            "initpipeline_reconcile_total",
            "Reconciles by result, as in controller-runtime: success, requeue_after (a deadline "
            "follows), requeue (a conflict, or a refused Pod), error (no answer, or an error of "
            "the API server). In addition, poisoned: an exception of the operator.",
            ["result"],
        )
        self._reconcile_seconds = add(
            Histogram,
            "initpipeline_reconcile_duration_seconds",
            "Duration of a reconcile.",
            buckets=_SHORT,
        )
        self._started = add(
            Counter, "initpipeline_runs_started_total", "Runs started.", ["trigger"]
        )
        self._completed = add(
            Counter,
            "initpipeline_runs_completed_total",
            'Runs ended. The reason is "Other" if it is not one of the API\'s.',
            ["result", "reason"],
        )
        self._initialization = add(
            Histogram,
            "initpipeline_run_initialization_seconds",
            "Time from the start of a run until it is initialized.",
            ["trigger"],
            buckets=_LONG,
        )
        self._steps = add(
            Histogram,
            "initpipeline_step_duration_seconds",
            "Duration of an attempt of a step, by result: success, error.",
            ["result"],
            buckets=_LONG,
        )
        self._mirror_lag = add(
            Histogram,
            "initpipeline_mirror_lag_seconds",
            "Time from when a watch reported a change, or a deadline passed, until status was "
            "written, with all attempts. After a change of the leader, the time starts at that "
            "change.",
            buckets=_SHORT,
        )
        self._pod_create = add(
            Histogram,
            "initpipeline_pod_create_duration_seconds",
            "Duration of the requests that create Pods.",
            ["code"],
            buckets=_SHORT,
        )
        self._events = add(
            Counter,
            "initpipeline_events_total",
            "Events by outcome: posted, series (a repeated one was counted), dropped.",
            ["outcome"],
        )
        self._deletions = add(
            Counter,
            "initpipeline_sweep_deletions_total",
            "Deletions that a sweep found and no watch had reported.",
            ["resource"],
        )
        self._swept_at = add(
            Gauge,
            "initpipeline_sweep_last_success_timestamp_seconds",
            "Time of the last successful sweep.",
            ["resource"],
        )
        self._skew = add(
            Gauge,
            "initpipeline_crd_skew_fields",
            "Fields by which the CRD and the operator differ: older (the CRD lacks fields that the "
            "operator knows), newer (the CRD has fields that the operator does not know).",
            ["crd"],
        )
        self._loop_lag = add(
            Histogram,
            "initpipeline_event_loop_lag_seconds",
            "How late the event loop called a timer. Sampled once a second while there is work.",
            buckets=_SHORT,
        )
        self._lag: _LoopLag | None = None
        """None: the metrics are not served yet."""
        self._watch_ends = add(
            Counter,
            "initpipeline_watch_restarts_total",
            f"Watches that had to be opened again, and attempts to do so, by cause: {_CAUSES}.",
            ["resource", "cause"],
        )
        # A rate does not contain the first value of a series that did not exist at the last scrape.
        for counter, values in (
            (self._watch_ends, itertools.product(("initpipelines", "pods"), End)),
            (self._reconciles, zip([*Outcome, "error", "poisoned"], strict=True)),
            (self._started, zip(Trigger, strict=True)),
            (self._events, zip(("posted", "series", "dropped"), strict=True)),
        ):
            for labels in values:
                counter.labels(*labels)
        info = add(
            Gauge,
            "initpipeline_build_info",
            "1, with the versions of the operator, of Python and of Kopf.",
            ["version", "python", "kopf"],
        )
        info.labels(__version__, platform.python_version(), version("kopf")).set(1)
        ProcessCollector(registry=self.registry)
        self.state = StateCollector()
        self.registry.register(self.state)

    def request(self, method: str, path: str, code: str, seconds: float) -> None:
        verb = method if method in _METHODS else OTHER
        resource, code = resource_of(path), known_code(code)
        self._requests.labels(verb, resource, code).inc()
        self._request_seconds.labels(verb, resource).observe(seconds)
        if verb == "POST" and resource == "pods":
            self._pod_create.labels(code).observe(seconds)
        if resource != "leases":  # The Lease is renewed at rest as well.
            self._has_work()

    def queued(self) -> None:
        self._adds.labels(QUEUE).inc()
        self._has_work()

    def retried(self) -> None:
        self._retries.labels(QUEUE).inc()

    def taken(self, seconds: float) -> None:
        self._queue_seconds.labels(QUEUE).observe(seconds)
        self._has_work()

    def worked(self, seconds: float) -> None:
        self._work_seconds.labels(QUEUE).observe(seconds)

    def reconciled(self, result: str, seconds: float) -> None:
        self._reconciles.labels(result).inc()
        self._reconcile_seconds.observe(seconds)

    def event(self, outcome: str) -> None:
        self._events.labels(outcome).inc()

    def watch_ended(self, resource: str, why: str) -> None:
        self._watch_ends.labels(resource, why).inc()

    def swept(self, resource: str, deletions: int) -> None:
        self._deletions.labels(resource).inc(deletions)
        self._swept_at.labels(resource).set(time.time())

    def compared(self, missing: int, unknown: int) -> None:
        self._skew.labels("older").set(missing)
        self._skew.labels("newer").set(unknown)

    def status_written(
        self, before: InitPipelineStatus, after: InitPipelineStatus, seconds: float
    ) -> None:
        self._mirror_lag.observe(seconds)
        earlier = runs_of(before)
        known = max(earlier, default=0)
        for number, run in runs_of(after).items():
            if number >= known:
                self._run_written(earlier.get(number), run)
        for step in _ended_steps(before, after):
            self._steps.labels(step[0]).observe(step[1])

    def _run_written(self, before: RunFacts | None, run: RunFacts) -> None:
        # A newer version may have written others, and so may a user who can write status.
        trigger = run.trigger.value if run.trigger.value in _TRIGGERS else OTHER
        if before is None:
            self._started.labels(trigger).inc()
        if run.initialized_time and not (before and before.initialized_time):
            passed = (run.initialized_time - run.start_time).total_seconds()
            self._initialization.labels(trigger).observe(max(passed, 0.0))
        if run.result and not (before and before.result):
            result = run.result.value if run.result.value in _RESULTS else OTHER
            self._completed.labels(result, known_reason(run.reason)).inc()

    def _has_work(self) -> None:
        if self._lag is not None:
            self._lag.note_work()

    def described(self) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
        """Yields the name, type, labels and text of each metric, except those of the process."""
        for metric in self._own:
            [family] = metric.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield name, family.type, metric._labelnames, family.documentation
        for name, kind, labels, text in STATE:
            yield name, kind, labels, text

    @contextlib.asynccontextmanager
    async def served(self, address: str) -> AsyncIterator[None]:
        """Answer ``/metrics`` on this address, HOST:PORT, within the context. Raises OperatorError
        if the address cannot be used."""
        self._lag = _LoopLag(self._loop_lag.observe)
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


STATE: Final = (
    ("workqueue_depth", "gauge", ("name",), "Keys that wait in the queue."),
    (
        "workqueue_unfinished_work_seconds",
        "gauge",
        ("name",),
        "Sum of the times for which the workers have had their present keys.",
    ),
    (
        "workqueue_longest_running_processor_seconds",
        "gauge",
        ("name",),
        "Longest time for which a worker has had its present key.",
    ),
    (
        "leader_election_master_status",
        "gauge",
        ("name",),
        "1 if this replica holds the Lease and may reconcile, else 0.",
    ),
    (
        "initpipeline_shard_assigned",
        "gauge",
        ("shard",),
        "1 if the shard is assigned to this replica, else 0. The replica serves the shard once it "
        "also holds the Lease of the shard.",
    ),
    ("initpipeline_replicas", "gauge", (), "With --shards: live replicas that this one observes."),
    (
        "initpipeline_pipelines",
        "gauge",
        ("condition", "status", "reason"),
        "Pipelines by condition, only from the replica that reconciles them. The reason is "
        '"Other" if it is not one of the API\'s.',
    ),
    (
        "initpipeline_objects_not_understood",
        "gauge",
        ("resource",),
        "Pipelines and Pods that the operator cannot read, only from the replica that reconciles "
        "them.",
    ),
    ("initpipeline_cache_objects", "gauge", ("resource",), "Objects in the cache."),
    (
        "initpipeline_cache_unpacked_objects",
        "gauge",
        ("resource",),
        "Objects in the cache that are not packed (compressed), because they have changed "
        "recently.",
    ),
    (
        "initpipeline_cache_packed_bytes",
        "gauge",
        ("resource",),
        "Bytes of the packed objects in the cache.",
    ),
    (
        "initpipeline_watches",
        "gauge",
        ("resource",),
        'Open watches of initpipelines and pods. With the resource "unlabelled pods": the number '
        "of namespaces in which the operator watches Pods without its label, because one of them "
        "has the name of a pipeline.",
    ),
    (
        "initpipeline_watch_last_event_timestamp_seconds",
        "gauge",
        ("resource",),
        "Time of the last event, bookmark or list. With several watches of a resource, that of the "
        "watch that has been silent longest.",
    ),
    (
        "initpipeline_spans_dropped_total",
        "counter",
        (),
        "Spans of traces that were dropped instead of exported.",
    ),
)


class Add(Protocol):
    """Adds a sample to the metric of this name. ``labels`` are the values of its labels."""

    def __call__(self, name: str, value: float, *labels: str) -> None: ...


class Observed(Protocol):
    """The parts of the operator whose state is served."""

    def shares(self) -> Iterable[Share]: ...
    def leases(self) -> Iterable[tuple[str, bool]]: ...
    def replicas(self) -> int | None: ...
    def assigned(self) -> Mapping[int, bool]: ...


class StateCollector(Collector):
    """The metrics that are read from the operator's parts when they are requested."""

    def __init__(self) -> None:
        self._observed: Observed | None = None
        self._fresh: Callable[[], Iterable[tuple[str, Freshness]]] = lambda: ()
        self._dropped: Callable[[], int] = lambda: 0

    def observe(
        self,
        observed: Observed,
        fresh: Callable[[], Iterable[tuple[str, Freshness]]],
        dropped: Callable[[], int],
    ) -> None:
        """Serve the state of these parts. ``fresh`` returns the resource and the freshness of each
        watch, ``dropped`` the number of spans that were not exported."""
        self._observed, self._fresh, self._dropped = observed, fresh, dropped

    def describe(self) -> Iterable[Metric]:
        return self._families().values()

    def _families(self) -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
        kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
        return {name: kinds[kind](name, text, labels=labels) for name, kind, labels, text in STATE}

    def collect(self) -> Iterable[Metric]:
        families = self._families()

        def add(name: str, value: float, *labels: str) -> None:
            families[name].add_metric(labels, value)

        observed = self._observed
        shares = list(observed.shares()) if observed is not None else []
        _add_queues(add, shares)
        if observed is not None:
            _add_replicas(add, observed)
        _add_objects(add, [share for share in shares if share.leads()])
        _add_caches(add, shares)
        self._add_watches(add)
        unlabelled = sum(len(share.unlabelled_pods) for share in shares)
        add("initpipeline_watches", unlabelled, "unlabelled pods")
        add("initpipeline_spans_dropped_total", self._dropped())
        return families.values()

    def _add_watches(self, add: Add) -> None:
        opened: Counts[str] = Counts()
        oldest: dict[str, float] = {}
        for resource, fresh in self._fresh():
            opened[resource] += fresh.is_open()
            oldest[resource] = max(fresh.age(), oldest.get(resource, 0.0))
        for resource, seconds in oldest.items():
            at = time.time() - seconds if seconds < math.inf else 0.0
            add("initpipeline_watch_last_event_timestamp_seconds", at, resource)
            add("initpipeline_watches", opened[resource], resource)


def _add_queues(add: Add, shares: Collection[Share]) -> None:
    working = [seconds for share in shares for seconds in share.queue.working_seconds()]
    add("workqueue_depth", sum(len(share.queue) for share in shares), QUEUE)
    add("workqueue_unfinished_work_seconds", sum(working), QUEUE)
    longest = max(working, default=0.0)
    add("workqueue_longest_running_processor_seconds", longest, QUEUE)


def _add_replicas(add: Add, observed: Observed) -> None:
    for lease, leads in observed.leases():
        add("leader_election_master_status", leads, lease)
    for shard, is_assigned in observed.assigned().items():
        add("initpipeline_shard_assigned", is_assigned, str(shard))
    if (replicas := observed.replicas()) is not None:
        add("initpipeline_replicas", replicas)


def _add_objects(add: Add, leading: Collection[Share]) -> None:
    """Add what only the replica that reconciles an object reports."""
    counts: Counts[tuple[str, str, str]] = Counts()
    for share in leading:
        counts += conditions_of(share.cache.pipelines.counts)
    for labels, number in sorted(counts.items()):
        add("initpipeline_pipelines", number, *labels)
    unread = sum(share.cache.pipelines.counts[None] for share in leading)
    add("initpipeline_objects_not_understood", unread, "initpipelines")
    unread = sum(len(share.pods.not_understood) for share in leading)
    add("initpipeline_objects_not_understood", unread, "pods")


def _add_caches(add: Add, shares: Collection[Share]) -> None:
    stores: Mapping[str, list[Store[Any]]] = {
        "initpipelines": [share.cache.pipelines for share in shares],
        "pods": [share.cache.pods for share in shares],
    }
    for resource, of_shares in stores.items():
        add("initpipeline_cache_objects", sum(map(len, of_shares)), resource)
        unpacked = sum(store.unpacked() for store in of_shares)
        add("initpipeline_cache_unpacked_objects", unpacked, resource)
        size = sum(store.packed_bytes for store in of_shares)
        add("initpipeline_cache_packed_bytes", size, resource)


def conditions_of(counts: "Counts[Any]") -> "Counts[tuple[str, str, str]]":
    """Returns the number of pipelines by condition, status and reason."""
    found: Counts[tuple[str, str, str]] = Counts()
    for conditions, number in counts.items():
        for type_, status, reason in conditions or ():
            if type_ in _CONDITIONS:
                known = status if status in _STATUSES else OTHER
                found[type_, known, known_reason(reason)] += number
    return found


def _ended_steps(
    before: InitPipelineStatus, after: InitPipelineStatus
) -> Iterator[tuple[str, float]]:
    """Yields the result and the duration of each attempt that ended between the statuses."""
    known = {ended for raw in before.init_container_statuses if (ended := _ended(raw))}
    for raw in after.init_container_statuses:
        ended = _ended(raw)
        if ended is not None and ended not in known:
            _, code, started, finished = ended
            if started is not None and finished is not None:
                seconds = max((finished - started).total_seconds(), 0.0)
                yield "success" if code == 0 else "error", seconds


def _ended(raw: Any) -> tuple[str, int, datetime | None, datetime | None] | None:
    status = ContainerStatus.from_api(raw)
    end = status.terminated or status.last_terminated
    if end is None:
        return None
    return end.container_id or status.name, end.exit_code, end.started_at, end.finished_at
