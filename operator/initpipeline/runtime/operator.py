"""The operator's process: put together, started, and brought to a clean end."""

import asyncio
import logging
from datetime import UTC, datetime

import kopf

from initpipeline import __version__
from initpipeline.runtime import handlers, preflight
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.client import ApiClient, connection_info, load_configuration
from initpipeline.runtime.errors import ApiError, ConnectionFailed
from initpipeline.runtime.gateway import Gateway, Key
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.settings import Settings
from initpipeline.runtime.sweep import Sweeper

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0
"""How long work under way may take after SIGTERM. Any of it is safe to cut short."""


def now() -> datetime:
    """The one clock."""
    return datetime.now(UTC)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises OperatorError where the cluster cannot be served."""
    configuration = await load_configuration()
    async with ApiClient(configuration, settings.request_timeout_seconds) as client:
        await preflight.check(client, settings.namespaces)
        service = Service(settings, client)
        await kopf.operator(
            registry=service.registry,
            settings=service.kopf_settings,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
        )


class Service:
    """All parts of a running operator, and Kopf's registry that drives them."""

    def __init__(self, settings: Settings, client: ApiClient) -> None:
        self._settings = settings
        self._client = client
        gateway, cache = Gateway(client), Cache.empty()
        self._queue: WorkQueue[Key] = WorkQueue(now)
        self._reconciler = Reconciler(gateway, cache, self._queue, now)
        self._sweeper = Sweeper(gateway, cache, self._queue, settings.namespaces)
        self._tasks: list[asyncio.Task[None]] = []
        self.registry = kopf.OperatorRegistry()
        self.kopf_settings = kopf.OperatorSettings()
        handlers.configure(self.kopf_settings)
        handlers.register(self.registry, cache, self._queue)
        kopf.on.login(registry=self.registry)(self._login)
        kopf.on.startup(registry=self.registry)(self._start)
        kopf.on.cleanup(registry=self.registry)(self._stop)

    async def _login(self, **_: object) -> kopf.ConnectionInfo:
        """Read anew each time: Kopf asks again when credentials have expired."""
        return await connection_info(await load_configuration())

    async def _start(self, **_: object) -> None:
        await self._sweeper.fill()
        self._tasks = [
            asyncio.create_task(self._work(), name=f"worker {number}")
            for number in range(self._settings.workers)
        ]
        self._tasks.append(asyncio.create_task(self._sweeper.run(self._settings.sweep_seconds)))
        scope = ",".join(self._settings.namespaces) or "all"
        logger.info(
            "operator started",
            extra={"version": __version__, "server": self._client.server, "namespaces": scope},
        )

    async def _stop(self, **_: object) -> None:
        """Let the looks under way end, since that is cheaper than to repeat them."""
        self._queue.close()
        await self._queue.drain(DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        logger.info("operator stopped")

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._reconciler.reconcile(key)
            except (ApiError, ConnectionFailed) as error:
                delay = self._queue.retry(key)
                fields = {"pipeline": str(key), "error": str(error), "retry_seconds": delay}
                logger.warning("API request failed", extra=fields)
            except Exception:
                delay = self._queue.retry(key)
                fields = {"pipeline": str(key), "retry_seconds": delay}
                logger.exception("look at pipeline failed", extra=fields)
            finally:
                self._queue.done(key)
