"""The parts that reconcile one shard: its cache, its queue, its workers and its watch of Pods.

With ``--shards`` a replica has one ``Share`` for each of its shards. Otherwise there is only one,
for all objects. Its reconciler does not know whether there are others.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod
from initpipeline.core.unreadable import UnreadablePipeline
from initpipeline.runtime import handlers
from initpipeline.runtime.buckets import Shard
from initpipeline.runtime.cache import MAX_UNPACKED, Cache
from initpipeline.runtime.client import ApiClient
from initpipeline.runtime.errors import OperatorError, one_line
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key, key_of
from initpipeline.runtime.leader import LeaderElection, Periods
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.pod_watch import PodWatcher
from initpipeline.runtime.probes import Freshness
from initpipeline.runtime.queue import Urgency, WorkQueue
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.retries import repeat
from initpipeline.runtime.settings import Settings
from initpipeline.runtime.sweep import Sweeper
from initpipeline.runtime.tracer import Tracer
from initpipeline.runtime.unlabelled_pods import UnlabelledPodWatcher
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from initpipeline.runtime.workers import run_worker

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 1.0
"""How long reconciles in progress may continue before another replica continues. After that they
are cancelled, which is safe at any point."""


def freshness(
    objects: str, namespaces: Sequence[str | None], meter: Meter = Meter()
) -> dict[str | None, Freshness]:
    """Returns the freshness of the watches of these objects, by namespace."""
    ended = partial(meter.watch_ended, objects.lower())
    return {
        name: Freshness(objects if name is None else f"{objects} in {name}", ended=ended)
        for name in namespaces
    }


class Tasks:
    """Tasks that run until they are cancelled. If one ends earlier, that is a fault."""

    def __init__(self, fail: Callable[[OperatorError], None]) -> None:
        """``fail`` ends the operator with the fault."""
        self._fail = fail
        self._tasks: set[asyncio.Task[None]] = set()
        """The event loop has only weak references to its tasks."""
        self._stopping = False

    def run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a task. Must not be called after ``cancel``."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.add(task)

    def expect_end(self) -> None:
        """Accept the end of a task: it is not a fault any more."""
        self._stopping = True

    async def cancel(self) -> None:
        """Cancel all tasks, and wait for their end."""
        self.expect_end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def create(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start and return a task that may end, or that the caller cancels. An exception of it is a
        fault."""

        def check(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                self._ended(task)

        task = asyncio.create_task(work, name=name)
        task.add_done_callback(check)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        # asyncio logs an exception that nothing has retrieved.
        error = None if task.cancelled() else task.exception()
        if self._stopping:
            return
        if not isinstance(error, OperatorError):
            error = OperatorError(f"{task.get_name()} ended: {one_line(error or 'cancelled')}")
        self._fail(error)


def _urgency(cache: Cache, key: Key) -> Urgency:
    """Returns the urgency of a pipeline in the queue. FIRST: the cache has no Pod for it. NEXT: its
    Pod reports more than the progress of steps. LAST: the others, and those that are packed with
    their Pod, because they are at rest."""
    if cache.pipelines.is_packed(key) and cache.pods.is_packed(key):
        return Urgency.LAST
    pod = cache.pods.get(key)
    if pod is None:
        return Urgency.FIRST
    return Urgency.LAST if _reports_only_progress(pod) else Urgency.NEXT


def _reports_only_progress(pod: Pod) -> bool:
    """Returns whether the Pod is Pending, with a step that has not ended and none that has failed.
    Sidecars do not count. The phase alone is not enough: an initialized Pod is Pending until all
    its app containers have started."""
    if pod.phase != "Pending":
        return False
    ends = {status.name: status.terminated for status in pod.init_container_statuses}
    steps = [ends.get(one.name) for one in pod.init_containers if not one.sidecar]
    return None in steps and all(end is None or end.exit_code == 0 for end in steps)


def condition_labels(
    pipeline: Pipeline | UnreadablePipeline,
) -> tuple[tuple[str, str, str], ...] | None:
    """Returns type, status and reason of each condition. None: the pipeline cannot be read."""
    if isinstance(pipeline, UnreadablePipeline):
        return None
    return tuple((one.type, one.status, one.reason) for one in pipeline.status.conditions)


def work_queue(
    workers: int, cache: Cache, now: Callable[[], datetime], meter: Meter = Meter()
) -> WorkQueue[Key]:
    """Returns the queue of the pipelines to reconcile, for this number of workers.

    About a quarter of the workers, but at least two, may serve one namespace: one for the urgencies
    FIRST and NEXT, and one for NEXT and LAST. So requests that time out there do not occupy all
    workers.
    """
    return WorkQueue(
        now,
        group=lambda key: key.namespace,
        max_urgent=max(1, workers * 15 // 64),
        max_last=max(1, workers // 64),
        urgency=partial(_urgency, cache),
        meter=meter,
    )


@dataclass(frozen=True)
class Replica:
    """This process, among all that serve the same InitPipelines."""

    settings: Settings
    client: ApiClient
    lease: Key
    """The Lease of all replicas."""
    identity: str
    now: Callable[[], datetime]
    fail: Callable[[OperatorError], None]
    """Ends the operator with an error."""
    meter: Meter
    tracer: Tracer

    @property
    def periods(self) -> Periods:
        settings = self.settings
        return Periods(settings.lease_seconds, settings.renew_seconds, settings.retry_seconds)

    def election(
        self, lease: Key, is_gone: Callable[[str], bool] = lambda _: False
    ) -> LeaderElection:
        """Returns this replica's election for a Lease."""
        gateway = Gateway(self.client)
        return LeaderElection(
            gateway, lease, self.identity, self.periods, self.now, is_gone=is_gone
        )

    def share(
        self, shard: Shard, leads: Callable[[], bool], remaining: Callable[[], float]
    ) -> "Share":
        """Returns the parts that serve a shard. They reconcile while ``leads`` returns True, and
        end each write within the seconds that ``remaining`` returns."""
        gateway = Gateway(self.client, remaining, shard)
        return Share(
            self.settings,
            shard.count,
            gateway,
            leads,
            self.fail,
            self.now,
            self.meter,
            self.tracer,
        )


class Share:
    """Caches and reconciles the pipelines of a shard."""

    def __init__(
        self,
        settings: Settings,
        shards: int,
        gateway: Gateway,
        leads: Callable[[], bool],
        fail: Callable[[OperatorError], None],
        now: Callable[[], datetime],
        meter: Meter = Meter(),
        tracer: Tracer = Tracer(),
    ) -> None:
        """``shards`` is the number of shards, by which the workers and the unpacked objects are
        divided. ``gateway`` is that of the shard. While ``leads`` returns False, nothing is
        reconciled. ``fail`` ends the operator with an error."""
        self._settings = settings
        self._workers = math.ceil(settings.workers / shards)
        self._gateway = gateway
        self.leads = leads
        self._meter = meter
        self._tasks = Tasks(fail)
        summary = condition_labels if settings.metrics_address else None
        self.cache = cache = Cache.empty(MAX_UNPACKED // shards, summary)
        self._pipelines = cache.pipelines
        self.queue = work_queue(self._workers, cache, now, meter)
        self._events = EventRecorder(gateway, now, meter=meter)
        self.unlabelled_pods = UnlabelledPodWatcher(gateway, self.queue, self._tasks.create)
        self._unreadable = UnreadableObjects()
        self._reconciler = Reconciler(
            gateway,
            cache,
            self.queue,
            now,
            self._events,
            self.unlabelled_pods,
            settings.scheduling_gate,
            meter,
            tracer,
            omit_log_tails=settings.log_tails == "omit",
        )
        self._namespaces: Sequence[str | None] = settings.namespaces or (None,)
        self.listed = handlers.ListedPipelines(
            cache.pipelines, self.queue, self._unreadable, self._namespaces, fail
        )
        self.fresh_pods = freshness("Pods", self._namespaces, meter)
        self.pods = PodWatcher(
            gateway,
            cache.pods,
            self.queue,
            self._unreadable,
            self.fresh_pods,
            self.listed.pods_listed,
        )
        self._sweeper = Sweeper(gateway, cache, self.queue, self._namespaces, meter)
        self._deleted: set[str] | None = None
        """The UIDs of pipelines that were deleted while they are listed. None: no list is in
        progress."""

    def start(self) -> None:
        """Start all tasks. They run until ``end``."""
        for number in range(self._workers):
            worker = run_worker(self.queue, self._reconciler, self.leads, self._meter)
            self._tasks.run(f"worker {number}", worker)
        for namespace in self._namespaces:
            self._tasks.run("watch of Pods", self.pods.run(namespace))
        self._tasks.run("events", self._events.run())
        self._tasks.run("sweeper", self._sweeper.run(self._settings.sweep_seconds))

    def is_known(self, event: Mapping[str, Any]) -> bool:
        """Returns whether the watch event of an InitPipeline changes nothing."""
        return handlers.is_known(self._pipelines, event)

    def handle(self, event: Mapping[str, Any]) -> None:
        """Store and queue the InitPipeline of a watch event."""
        if event["type"] == "DELETED" and self._deleted is not None:
            self._deleted.add(event["object"]["metadata"]["uid"])
        handlers.handle_pipeline(self._pipelines, self.queue, self._unreadable, event)

    def forget(self, raw: Mapping[str, Any]) -> None:
        """Remove the InitPipeline, because it belongs to another shard now."""
        if self._pipelines.remove(key_of(raw), raw["metadata"]["uid"]):
            self.queue.add(key_of(raw))

    async def list_pipelines(self) -> None:
        """List the InitPipelines of the shard, and queue them. The watch of the shard must be open
        before, so that it reports each change after the list."""
        self._deleted = set()
        missing = set(self._namespaces)

        async def list_all(_: object) -> None:
            for namespace in tuple(missing):
                async for page in self._gateway.list_pipelines(namespace):
                    for raw in page["items"] or ():
                        if raw["metadata"]["uid"] not in (self._deleted or ()):
                            self.listed.handle(raw)
                        await asyncio.sleep(0)  # Other tasks need not wait for the whole page.
                missing.discard(namespace)

        await repeat("list of InitPipelines failed", {}, list_all, once=True)
        self._deleted = None

    async def drain(self, seconds: float) -> None:
        """Take no more work. Wait for reconciles in progress and for their events, but not longer
        than ``seconds``. The caller must then call ``end``."""
        self._tasks.expect_end()
        self.queue.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        await self.queue.drain(seconds)
        await self._events.drain(deadline - loop.time())

    async def end(self) -> None:
        """Cancel all tasks."""
        self.unlabelled_pods.close()
        await self._tasks.cancel()
