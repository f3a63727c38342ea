"""Composes the operator from its parts, runs it under Kopf, and shuts it down."""

import asyncio
import contextlib
import logging
import platform
import signal
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from initpipeline import __version__
from initpipeline.runtime import handlers, preflight, probes, sweep
from initpipeline.runtime.client import ApiClient, load_configuration
from initpipeline.runtime.clock import Clock
from initpipeline.runtime.crd_check import CrdCheck
from initpipeline.runtime.errors import ConnectionFailed, HistoryLost, OperatorError, one_line
from initpipeline.runtime.gateway import Gateway, pipelines_path
from initpipeline.runtime.handlers import PipelineList
from initpipeline.runtime.keys import Key, Kind
from initpipeline.runtime.kopf_guard import KopfGuard, Watched
from initpipeline.runtime.leading import Leading
from initpipeline.runtime.lean_imports import kopf
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.probes import Freshness, Probes
from initpipeline.runtime.selection import Selection
from initpipeline.runtime.settings import Settings
from initpipeline.runtime.share import Replica, Share, Tasks, freshness
from initpipeline.runtime.sharing import Sharing, shard_lease
from initpipeline.runtime.tracer import Tracer, TracingError, is_requested

if TYPE_CHECKING:
    from initpipeline.runtime.metrics import Metrics

logger = logging.getLogger(__name__)

STUCK_SECONDS = 1800.0
"""A reconcile does not take that long: each of its requests has a time-out."""

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""The namespace of the Pod in which the process runs."""


async def run(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT. Raises OperatorError if it cannot work with the
    cluster."""
    _end_cleanly_at_sigterm()
    # If the operator starts over, it has the same name, so that it takes its own Lease at once.
    settings = settings.model_copy(update={"identity": identity(settings)})
    clock = Clock()
    tracer = _tracer(settings, clock)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await _run(settings, clock, tracer)
    finally:
        await tracer.end()


async def _run(settings: Settings, clock: Clock, tracer: Tracer) -> None:
    configuration = await load_configuration()
    timeout = settings.request_timeout_seconds
    metrics = _metrics(settings)
    async with (
        ApiClient(configuration, timeout, observe=clock.observe, meter=metrics) as client,
        probes.served(settings.probe_address) as checks,
    ):
        while True:
            # Kopf looks for the kind once. An API server that is starting may not serve it yet.
            await _wait_for_api_server(client, settings, checks)
            try:
                await Operator(settings, client, clock, metrics, tracer).serve(checks)
            except HistoryLost as error:
                logger.warning("operator starts over", extra={"error": str(error)})
            else:
                return


async def _wait_for_api_server(client: ApiClient, settings: Settings, checks: Probes) -> None:
    """Check that the operator can work with the cluster, and wait while the API server cannot
    answer. Raises OperatorError if waiting does not help."""
    problem = "the API server has not been checked yet"

    def waits(reason: str) -> None:
        nonlocal problem
        problem = reason

    checks.live, checks.ready = (), (lambda: problem,)
    await preflight.repeat(
        lambda: preflight.check(
            client, settings.namespaces, *leases(settings), gated=settings.scheduling_gate
        ),
        waits,
    )


def _tracer(settings: Settings, clock: Clock) -> Tracer:
    """Returns the tracer. Raises OperatorError if the environment requests traces in a way that
    this operator cannot serve."""
    try:
        if not is_requested():
            return Tracer()
        # OpenTelemetry is imported only if it is needed.
        from initpipeline.runtime.trace_export import ExportingTracer

        return ExportingTracer(clock, settings.identity)
    except (TracingError, ValueError) as error:
        raise OperatorError(one_line(error)) from error


def _metrics(settings: Settings) -> "Metrics | None":
    """Returns the metrics. None: they are not served, and their packages are not imported."""
    if not settings.metrics_address:
        return None
    from initpipeline.runtime.metrics import Metrics

    return Metrics()


def lease_key(settings: Settings) -> Key:
    """Returns the namespace and the name of the Lease."""
    namespace = settings.lease_namespace
    if not namespace and NAMESPACE_FILE.exists():
        namespace = NAMESPACE_FILE.read_text().strip()
    return Key(namespace or next(iter(settings.namespaces), "default"), settings.lease_name)


def leases(settings: Settings) -> list[Key]:
    """Returns the keys of all Leases that a replica writes to."""
    lease, count = lease_key(settings), settings.shards
    shards = range(count) if count > 1 else ()
    return [lease, *(shard_lease(lease, shard) for shard in shards)]


def identity(settings: Settings) -> str:
    """Returns the name of this process in the Lease."""
    return settings.identity or f"{platform.node()}_{uuid.uuid4()}"


def _end_cleanly_at_sigterm() -> None:
    """Cancel the current task at SIGTERM. This covers the time until Kopf handles the signal."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


class Work(Protocol):
    """How the replicas divide the work: one does all of it (runtime.leading), or each serves some
    shards (runtime.sharing). ``Leading`` and ``Sharing`` describe the methods."""

    def shares(self) -> Collection[Share]: ...
    def share_of(self, raw: Mapping[str, Any], /) -> Share | None: ...
    def leases(self) -> Collection[tuple[str, bool]]: ...
    def replicas(self) -> int | None: ...
    def assigned(self) -> Mapping[int, bool]: ...
    def is_waiting(self) -> bool: ...
    def idle_seconds(self) -> float: ...
    async def wait(self) -> None: ...
    def start(self, tasks: Tasks) -> None: ...
    async def drain(self) -> None: ...
    async def release(self) -> None: ...


class _SharedLists:
    """The lists of one namespace's InitPipelines, divided between the shares."""

    def __init__(
        self,
        namespace: str | None,
        work: Work,
        freshness: Freshness,
        gateway: Gateway,
        fail: Callable[[OperatorError], None],
    ) -> None:
        """``fail`` ends the operator with an error."""
        self._namespace = namespace
        self._work = work
        self._freshness = freshness
        self._gateway = gateway
        self._fail = fail
        self._version = ""
        """The version of the last list, until its watch is opened."""
        self._lists: dict[Share, PipelineList] = {}
        """The lists of the shares that existed when the list was requested."""

    def begin(self) -> None:
        """Record that a list is requested. An earlier, incomplete list is discarded."""
        self._lists = {
            share: PipelineList(self._namespace, share.listed) for share in self._work.shares()
        }

    def handle(self, raw: Mapping[str, Any]) -> None:
        """Store and queue a pipeline of the list. A share that is newer than the list lists its
        pipelines itself."""
        share = self._work.share_of(raw)
        if share in self._lists:
            self._lists[share].handle(raw)

    def end(self, version: str) -> None:
        """Record that the list is complete. Removes the stored pipelines that it does not have."""
        self._freshness.listed()
        for one in self._lists.values():
            one.end(version)
        self._lists = {}
        self._version = version

    async def resume(self, version: str) -> None:
        """Check whether a watch can continue from this version. Right after a list it can. May
        raise ApiError or ConnectionFailed."""
        listed, self._version = self._version, ""
        if version == listed:
            return
        try:
            await sweep.check_current(self._gateway, Kind.PIPELINE, self._namespace, version)
        except OperatorError as error:
            self._fail(error)
            raise ConnectionFailed(str(error)) from error


class Operator:
    """The parts of the operator, and the tasks that run them during Kopf's lifetime."""

    def __init__(
        self,
        settings: Settings,
        client: ApiClient,
        now: Clock,
        metrics: "Metrics | None" = None,
        tracer: Tracer = Tracer(),
    ) -> None:
        self._metrics = metrics
        self._meter = metrics or Meter()
        self._tracer = tracer
        self._settings = settings
        self._client = client
        self._namespaces: Sequence[str | None] = settings.namespaces or (None,)
        self._before: set[asyncio.Task[Any]] = set()
        """The tasks that ran before Kopf started."""
        self._broken = asyncio.Event()
        self._fault: OperatorError | None = None
        self._registry = kopf.OperatorRegistry()
        self._kopf_settings = kopf.OperatorSettings()
        handlers.configure(self._kopf_settings)
        handlers.register(self._registry, self._handle)
        kopf.on.login(registry=self._registry)(self._login)
        kopf.on.startup(registry=self._registry)(self._start)
        kopf.on.cleanup(registry=self._registry)(self._stop)
        replica = Replica(
            settings,
            client,
            lease_key(settings),
            identity(settings),
            now,
            self._fail,
            self._meter,
            tracer,
        )
        self._tasks = Tasks(self._fail)
        selection = Selection(map(pipelines_path, self._namespaces))
        self._work: Work = Leading(replica) if settings.shards == 1 else Sharing(replica, selection)
        self._watched = {
            pipelines_path(name): Watched(
                fresh, _SharedLists(name, self._work, fresh, Gateway(client), self._fail)
            )
            for name, fresh in freshness("InitPipelines", self._namespaces, self._meter).items()
        }
        self._guard = KopfGuard(self._watched, self._is_known, selection)

    async def serve(self, checks: Probes) -> None:
        """Run until SIGTERM or SIGINT, with these probes. Raises OperatorError if a watch or a task
        fails, since the operator would otherwise seem to run but reconcile nothing. After
        HistoryLost, ``run`` starts over in the same process. After any other OperatorError, the
        process must be restarted."""
        self._before = asyncio.all_tasks()
        checks.live = (self._stuck_worker, self._stuck_election, self._stuck_watch)
        checks.ready = (self._unready,)
        try:
            async with self._served_metrics():
                await self._work.wait()
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
                f"watching {self._client.server} failed: {one_line(error)}. Restart the operator. "
                "If this repeats, report the error"
            ) from error
        if self._fault is not None:
            raise self._fault

    def _served_metrics(self) -> contextlib.AbstractAsyncContextManager[None]:
        if self._metrics is None:
            return contextlib.nullcontext()
        self._metrics.state.observe(self._work, self._fresh, self._tracer.dropped)
        return self._metrics.served(self._settings.metrics_address)

    def _fresh(self) -> list[tuple[str, Freshness]]:
        """Returns the resource and the freshness of each watch."""
        fresh = [("initpipelines", watched.freshness) for watched in self._watched.values()]
        for share in self._work.shares():
            fresh += [("pods", one) for one in share.fresh_pods.values()]
        return fresh

    def _unready(self) -> str | None:
        """Returns which objects are not up to date, one per line. None: all are up to date, or this
        replica watches no objects yet: it is a cold standby, or replicas with another number of
        shards have the Lease. It must be ready then, because a rollout ends an old replica only
        when a new one is ready."""
        if self._work.is_waiting():
            return None
        problems = (fresh.problem() for _, fresh in self._fresh())
        return "\n".join(problem for problem in problems if problem) or None

    def _stuck_worker(self) -> str | None:
        """Returns that a worker has had one pipeline for too long. None: no worker has. If a worker
        ends, the process ends, so no probe is needed for that. The response does not name the
        pipeline, because each Pod of the cluster can request /healthz."""
        for share in self._work.shares():
            if (key := share.queue.stuck(STUCK_SECONDS)) is not None:
                logger.error("worker is stuck", extra={"pipeline": str(key)})
                return f"a worker has had one InitPipeline for {STUCK_SECONDS:.0f} seconds"
        return None

    def _stuck_watch(self) -> str | None:
        """Returns the watches for which no request has been sent for too long, one per line. In an
        outage of the API server, failing requests are sent, so it does not count."""
        return "\n".join(found for _, fresh in self._fresh() if (found := fresh.stuck())) or None

    def _stuck_election(self) -> str | None:
        """Returns for how long the leader election has done nothing. Its requests have time-outs,
        so an outage of the API server does not count."""
        idle = self._work.idle_seconds()
        most = 2 * (self._settings.lease_seconds + self._settings.request_timeout_seconds)
        return f"the leader election has been stuck for {idle:.0f} seconds" if idle > most else None

    async def _login(self, **_: object) -> kopf.AiohttpSession:
        """Returns a session for Kopf. It renews its credentials itself."""
        return self._client.for_watches(self._guard)

    def _is_known(self, event: Mapping[str, Any]) -> bool:
        """Returns whether the watch event changes nothing. Kopf then does not handle it."""
        if event.get("type") not in {"ADDED", "MODIFIED", "DELETED"}:
            return False
        share = self._work.share_of(event["object"])
        return share is None or share.is_known(event)

    def _handle(self, event: Mapping[str, Any]) -> None:
        if share := self._work.share_of(event["object"]):
            share.handle(event)

    async def _start(self, **_: object) -> None:
        self._work.start(self._tasks)
        check = CrdCheck(self._client, self._meter)
        self._tasks.run("comparison of the CRD", check.run(self._settings.sweep_seconds))
        scope = ",".join(self._settings.namespaces) or "all"
        logger.info(
            "operator started",
            extra={"version": __version__, "server": self._client.server, "namespaces": scope},
        )

    def _fail(self, error: OperatorError) -> None:
        """End ``serve``, which raises the first such error."""
        self._fault = self._fault or error
        self._broken.set()

    async def _stop(self, **_: object) -> None:
        """Wait for reconciles in progress, which is cheaper than to repeat them. Post their events,
        because the next process could not. Then cancel all tasks, and release the Lease."""
        self._tasks.expect_end()
        await self._work.drain()
        # Kopf does not cancel all its tasks: interrupted requests remain, and if the watch of one
        # namespace has failed, the others remain. Kopf would wait 5 s for them, and then report
        # their cancellation as a failure. Kopf's task "pause-waiter" is not cancelled: its watch
        # would mistake that for a pause, and continue.
        left = asyncio.all_tasks() - self._before - {asyncio.current_task()}
        left = {task for task in left if not task.get_name().startswith("pause-waiter")}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._work.release()
        logger.info("operator stopped")
