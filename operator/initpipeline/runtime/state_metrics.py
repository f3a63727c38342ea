"""The metrics that are read from the parts of the operator when Prometheus scrapes."""

import math
import time
from collections import Counter as Counts
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from initpipeline.runtime.cache import Store
from initpipeline.runtime.metric_labels import CONDITIONS, QUEUE, STATUSES, known, known_reason
from initpipeline.runtime.probes import Freshness
from initpipeline.runtime.share import Share

STATE: Final = (
    ("workqueue_depth", "gauge", ("name",), "Keys that wait in the queue."),
    (
        "workqueue_unfinished_work_seconds",
        "gauge",
        ("name",),
        "Sum of the times for which the workers have had their current keys.",
    ),
    (
        "workqueue_longest_running_processor_seconds",
        "gauge",
        ("name",),
        "Longest time for which a worker has had its current key.",
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
        "of namespaces in which the operator watches Pods without its label, because such a Pod "
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
        unpacked = sum(store.unpacked_count() for store in of_shares)
        add("initpipeline_cache_unpacked_objects", unpacked, resource)
        size = sum(store.packed_bytes for store in of_shares)
        add("initpipeline_cache_packed_bytes", size, resource)


def conditions_of(counts: "Counts[Any]") -> "Counts[tuple[str, str, str]]":
    """Returns the number of pipelines by condition, status and reason."""
    found: Counts[tuple[str, str, str]] = Counts()
    for conditions, number in counts.items():
        for type_, status, reason in conditions or ():
            if type_ in CONDITIONS:
                labels = type_, known(status, STATUSES), known_reason(reason)
                found[labels] += number
    return found
