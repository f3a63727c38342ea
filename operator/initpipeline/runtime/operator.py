"""Composes the operator from its parts, runs it under Kopf, and shuts it down."""

import asyncio
import contextlib
import logging
import platform
import signal
import uuid
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from initpipeline import __version__
from initpipeline.runtime import handlers, preflight, probes, sweep
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.client import ApiClient, load_configuration
from initpipeline.runtime.clock import Clock
from initpipeline.runtime.errors import HistoryLost, OperatorError, one_line
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.gateway import Gateway, Key, pipelines_path
from initpipeline.runtime.handlers import PipelineLists
from initpipeline.runtime.kopf_guard import KopfGuard, Watched
from initpipeline.runtime.leader import LeaderElection, Periods
from initpipeline.runtime.lean_imports import kopf
from initpipeline.runtime.pod_watch import PodWatcher
from initpipeline.runtime.probes import Freshness
from initpipeline.runtime.queue import Urgency, WorkQueue
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.settings import Settings
from initpipeline.runtime.sweep import Sweeper
from initpipeline.runtime.unlabelled_pods import UnlabelledPodWatcher
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from initpipeline.runtime.workers import run_worker

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 1.0
"""How long reconciles in progress may continue after SIGTERM, before another replica continues.
After that they are cancelled, which is safe at any point."""

STUCK_SECONDS = 1800.0
"""A reconcile does not take that long: each of its requests has a time-out."""

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""The namespace of the Pod in which the process runs."""


async def run(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT. Raises OperatorError if it cannot work with the
    cluster."""
    _end_cleanly_at_sigterm()
    with contextlib.suppress(asyncio.CancelledError):
        configuration = await load_configuration()
        clock = Clock()
        timeout = settings.request_timeout_seconds
        async with ApiClient(configuration, timeout, observe=clock.observe) as client:
            await preflight.check(
                client, settings.namespaces, lease_key(settings), settings.scheduling_gate
            )
            # The same name in the Lease, so that a new start need not wait for it.
            settings = settings.model_copy(update={"identity": identity(settings)})
            while True:
                try:
                    await Operator(settings, client, clock).serve()
                except HistoryLost as error:
                    logger.warning("operator starts over", extra={"error": str(error)})
                else:
                    return


def lease_key(settings: Settings) -> Key:
    """Returns the namespace and the name of the Lease."""
    namespace = settings.lease_namespace
    if not namespace and NAMESPACE_FILE.exists():
        namespace = NAMESPACE_FILE.read_text().strip()
    return Key(namespace or next(iter(settings.namespaces), "default"), settings.lease_name)


def identity(settings: Settings) -> str:
    """Returns the name of this process in the Lease."""
    return settings.identity or f"{platform.node()}_{uuid.uuid4()}"


def _end_cleanly_at_sigterm() -> None:
    """Cancel the current task at SIGTERM. This covers the time until Kopf handles the signal."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _urgency(cache: Cache, key: Key) -> Urgency:
    """Returns the urgency of a pipeline in the queue. FIRST: the cache has no Pod for it. NEXT: all
    its init containers except sidecars have ended. LAST: its steps run, or it and its Pod are
    packed, because they are at rest."""
    if cache.pipelines.is_packed(key) and cache.pods.is_packed(key):
        return Urgency.LAST
    pod = cache.pods.get(key)
    if pod is None:
        return Urgency.FIRST
    return Urgency.LAST if pod.phase == "Pending" else Urgency.NEXT


def work_queue(workers: int, cache: Cache, clock: Callable[[], datetime]) -> WorkQueue[Key]:
    """Returns the queue of the pipelines to reconcile, for this number of workers.

    At most a quarter of the workers serve one namespace, so that requests that time out there do
    not occupy all workers.
    """
    return WorkQueue(
        clock,
        group=lambda key: key.namespace,
        max_urgent=max(1, workers * 3 // 16),
        max_last=max(1, workers // 32),
        urgency=partial(_urgency, cache),
    )


def _freshness(objects: str, namespaces: Sequence[str | None]) -> dict[str | None, Freshness]:
    return {
        name: Freshness(objects if name is None else f"{objects} in {name}") for name in namespaces
    }


class Operator:
    """The parts of the operator, and the tasks that run them during Kopf's lifetime."""

    def __init__(self, settings: Settings, client: ApiClient, now: Clock) -> None:
        self._settings = settings
        self._client = client
        periods = Periods(settings.lease_seconds, settings.renew_seconds, settings.retry_seconds)
        self._leader = LeaderElection(
            Gateway(client), lease_key(settings), identity(settings), periods, now
        )
        gateway, cache = Gateway(client, self._leader.remaining), Cache.empty()
        self._queue = work_queue(settings.workers, cache, now)
        self._events = EventRecorder(gateway, now)
        watcher = UnlabelledPodWatcher(gateway, self._queue)
        unreadable = UnreadableObjects()
        self._reconciler = Reconciler(
            gateway, cache, self._queue, now, self._events, watcher, settings.scheduling_gate
        )
        self._namespaces: Sequence[str | None] = settings.namespaces or (None,)
        self._listed = handlers.ListedPipelines(
            cache.pipelines, self._queue, unreadable, self._namespaces, self._fail
        )
        self._pipelines = cache.pipelines
        by_namespace = _freshness("InitPipelines", self._namespaces)
        check_current = partial(sweep.check_current, gateway)
        self._watched = {
            pipelines_path(name): Watched(
                fresh, PipelineLists(name, self._listed, fresh, check_current)
            )
            for name, fresh in by_namespace.items()
        }
        self._fresh_pods = _freshness("Pods", self._namespaces)
        self._pods = PodWatcher(
            gateway,
            cache.pods,
            self._queue,
            unreadable,
            self._listed.pods_listed,
            self._fresh_pods,
        )
        self._sweeper = Sweeper(gateway, cache, self._queue, self._namespaces)
        self._before: set[asyncio.Task[Any]] = set()
        """The tasks that ran before Kopf started."""
        self._tasks: set[asyncio.Task[None]] = set()
        """The event loop has only weak references to its tasks."""
        self._is_cold = False
        """The process waits for the Lease before it watches."""
        self._stopping = False
        self._broken = asyncio.Event()
        self._fault: OperatorError | None = None
        self._registry = kopf.OperatorRegistry()
        self._kopf_settings = kopf.OperatorSettings()
        handlers.configure(self._kopf_settings)
        handlers.register(self._registry, cache.pipelines, self._queue, unreadable)
        kopf.on.login(registry=self._registry)(self._login)
        kopf.on.startup(registry=self._registry)(self._start)
        kopf.on.cleanup(registry=self._registry)(self._stop)

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT. Raises OperatorError if a watch or a task fails. The
        process must then be restarted, because it would seem to run but reconcile nothing."""
        self._before = asyncio.all_tasks()
        try:
            pipelines = (watched.freshness for watched in self._watched.values())
            ready = [*pipelines, *self._fresh_pods.values()]
            async with probes.served(
                self._settings.probe_address,
                live=(self._stuck_worker, self._stuck_election),
                ready=[partial(self._unready, freshness) for freshness in ready],
            ):
                if self._settings.standby == "cold":
                    await self._wait_cold()
                await kopf.operator(
                    registry=self._registry,
                    settings=self._kopf_settings,
                    clusterwide=not self._settings.namespaces,
                    namespaces=self._settings.namespaces,
                    stop_flag=self._broken,
                    # Kopf would otherwise look up the local user's name, although peering is off.
                    # A Pod with a UID that the cluster assigned has no user name.
                    identity=cast(Any, "initpipeline"),
                )
        except OperatorError:
            raise
        except Exception as error:
            raise OperatorError(
                f"watching {self._client.server} failed: {one_line(error)}"
            ) from error
        if self._fault is not None:
            raise self._fault

    async def _wait_cold(self) -> None:
        """Wait for the Lease. If SIGTERM interrupts that, the Lease may just have been taken."""
        self._is_cold = True
        try:
            await self._leader.acquire()
        except asyncio.CancelledError:
            await self._leader.release()
            raise
        self._is_cold = False

    def _unready(self, freshness: Freshness) -> str | None:
        """Returns why the objects are not up to date. None: they are, or this is a cold standby.
        A rollout waits until a new replica is ready, and only then ends the holder of the Lease."""
        return None if self._is_cold else freshness.problem()

    def _stuck_worker(self) -> str | None:
        """Returns the pipeline that a worker has had for too long. If a worker ends, the process
        ends, so no probe is needed for that."""
        key = self._queue.stuck(STUCK_SECONDS)
        return None if key is None else f"a worker has had {key} for {STUCK_SECONDS:.0f} seconds"

    def _stuck_election(self) -> str | None:
        """Returns for how long the leader election has done nothing. Its requests have time-outs,
        so an outage of the API server does not count."""
        idle = self._leader.idle_seconds()
        most = 2 * (self._settings.lease_seconds + self._settings.request_timeout_seconds)
        return f"the leader election has been stuck for {idle:.0f} seconds" if idle > most else None

    async def _login(self, **_: object) -> kopf.AiohttpSession:
        """Returns a session for Kopf. It renews its credentials itself."""
        is_known = partial(handlers.is_known, self._pipelines)
        return self._client.for_watches(KopfGuard(self._watched, is_known))

    async def _start(self, **_: object) -> None:
        for number in range(self._settings.workers):
            worker = run_worker(self._queue, self._reconciler, self._leader.leads)
            self._run(f"worker {number}", worker)
        self._run("leader election", self._lead())
        for namespace in self._namespaces:
            self._run("watch of Pods", self._pods.run(namespace))
        self._run("events", self._events.run())
        self._run("sweeper", self._sweeper.run(self._settings.sweep_seconds))
        scope = ",".join(self._settings.namespaces) or "all"
        logger.info(
            "operator started",
            extra={"version": __version__, "server": self._client.server, "namespaces": scope},
        )

    async def _lead(self) -> None:
        """Take the Lease, queue all pipelines, and renew the Lease, until the task is cancelled.
        Before that, the watches keep the cache up to date, and no worker reconciles. Raises
        LeaseLost if another process has taken the Lease from this one."""
        while True:
            if not self._leader.leads():  # A cold standby holds the Lease before it starts.
                await self._leader.acquire()
            self._listed.queue_all()
            await self._leader.keep()

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.add(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop the process if a task has finished, because all tasks must run until they are
        cancelled."""
        if self._stopping:
            return
        error = None if task.cancelled() else task.exception()
        if not isinstance(error, OperatorError):
            error = OperatorError(f"{task.get_name()} ended: {one_line(error or 'cancelled')}")
        self._fail(error)

    def _fail(self, error: OperatorError) -> None:
        """End the operator with this error."""
        self._fault = self._fault or error
        self._broken.set()

    async def _stop(self, **_: object) -> None:
        """Wait for reconciles in progress, which is cheaper than to repeat them. Post their events,
        because the next process could not. Then cancel all tasks, and release the Lease."""
        self._stopping = True
        self._queue.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        await self._queue.drain(DRAIN_SECONDS)
        await self._events.drain(deadline - loop.time())
        # Kopf does not cancel all its tasks: interrupted requests remain, and if the watch of one
        # namespace has failed, the others remain. Kopf would wait 5 s for them, and then report
        # their cancellation as a failure. Kopf's task "pause-waiter" is not cancelled: its watch
        # would take that for a pause, and continue.
        left = asyncio.all_tasks() - self._before - {asyncio.current_task()}
        left = {task for task in left if not task.get_name().startswith("pause-waiter")}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._leader.release()
        logger.info("operator stopped")
