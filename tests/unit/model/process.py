"""A model of the operator's process: the real one without Kopf, event loop and network.

It knows what its watches have delivered so far, which a test decides. It may die between any two
requests. Another process then starts without memory.
"""

import contextlib
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from initpipeline.runtime import handlers
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.errors import ApiError, ConnectionFailed
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.pod_watch import PodWatcher
from initpipeline.runtime.queue import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, WorkQueue
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.share import freshness
from initpipeline.runtime.sweep import Sweeper
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from tests.unit.model.cluster import UNLABELLED, Api
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS, Died, ManualPodWatcher, is_labelled

T = TypeVar("T")

WATCHES = (PIPELINES, PODS, UNLABELLED)


class Agenda(WorkQueue[Key]):
    """A work queue for one key that needs no event loop."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self._now = clock
        self._retries = 0
        self.due: datetime | None = None

    def add(self, key: Key) -> None:
        self.add_at(key, self._now())

    def add_at(self, key: Key, when: datetime) -> None:
        assert key == KEY
        self.due = when if self.due is None else min(self.due, when)

    def retry(
        self, key: Key, longest: float = LONGEST_RETRY_SECONDS, shortest: float = 0.0
    ) -> float:
        delay: float = min(FIRST_RETRY_SECONDS * 2 ** min(self._retries, 16), longest)
        delay = max(delay, shortest)
        self._retries += 1
        self.add_at(key, self._now() + timedelta(seconds=delay))
        return delay

    def forget_failures(self, key: Key) -> None:
        assert key == KEY
        self._retries = 0

    @property
    def is_due(self) -> bool:
        return self.due is not None and self.due <= self._now()

    def take(self) -> None:
        self.due = None


class Process:
    """The operator's process. It lists all objects when it starts."""

    def __init__(self, api: Api, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._cache = Cache.empty()
        self.agenda = Agenda(clock)
        gateway = Gateway(api)
        events = EventRecorder(gateway, clock, "operator-0")  # Its events stay in its queue.
        self._unlabelled_pods = ManualPodWatcher(gateway, self.agenda)
        self._unreadable = UnreadableObjects()
        self._reconciler = Reconciler(
            gateway, self._cache, self.agenda, clock, events, self._unlabelled_pods
        )
        self._sweeper = Sweeper(gateway, self._cache, self.agenda, (None,))
        fresh = freshness("Pods", (None,))
        self._pods = PodWatcher(gateway, self._cache.pods, self.agenda, self._unreadable, fresh)
        self._delivered = {PIPELINES: 0, PODS: 0}
        """Number of delivered events by watch. Has UNLABELLED while that watch is active."""
        self._delivered[PODS] = len(api.events_of(PODS))
        run(self._pods.fill(None))
        self.list_again(PIPELINES)

    def undelivered(self, plural: str) -> int:
        """Returns the number of events of this watch that are not delivered yet."""
        if plural == UNLABELLED and KEY not in self._unlabelled_pods:
            return 0
        if plural not in self._delivered:
            return 1
        return len(self._api.events_of(plural)) - self._delivered[plural]

    def deliver(self, plural: str, count: int) -> None:
        """Delivers the next events of a watch. Events of one watch are in order. The other watches
        may be ahead or behind."""
        if plural == UNLABELLED and (
            KEY not in self._unlabelled_pods or plural not in self._delivered
        ):
            self._watch_unlabelled()
            return
        start = self._delivered[plural]
        for event in self._api.events_of(plural)[start : start + count]:
            self._handle(plural, event.type, event.object)
            self._delivered[plural] += 1

    def list_again(self, plural: str) -> None:
        """Restarts a watch after 410 Gone. Of InitPipelines, Kopf delivers those that exist, and no
        deletion."""
        if plural == UNLABELLED:
            self._watch_unlabelled()
            return
        if plural == PODS:
            # If a list fails, the watch has delivered no event since.
            with contextlib.suppress(ApiError, ConnectionFailed):
                run(self._pods.relist(None))
                self._delivered[PODS] = len(self._api.events_of(PODS))
            return
        self._delivered[plural] = len(self._api.events_of(plural))
        raw = self._api.objects.get((plural, KEY))
        if raw is not None:
            self._handle(plural, None, raw)

    def _watch_unlabelled(self) -> None:
        """Starts or restarts the watch of unlabelled Pods with a list."""
        if KEY not in self._unlabelled_pods:
            self._delivered.pop(UNLABELLED, None)
            return
        self._delivered[UNLABELLED] = len(self._api.events_of(UNLABELLED))
        raw = self._api.objects.get((PODS, KEY))
        if raw is None or is_labelled(raw):
            self.agenda.add(KEY)

    def sweep(self) -> None:
        """Runs the sweeper once. The next sweep makes up for one that fails."""
        with contextlib.suppress(ApiError, ConnectionFailed):
            run(self._sweeper.sweep())

    def reconcile(self) -> None:
        """Reconciles once, like a worker."""
        self.agenda.take()
        try:
            run(self._reconciler.reconcile(KEY))
        except (ApiError, ConnectionFailed):
            self.agenda.retry(KEY)

    def work(self) -> bool:
        """Reconciles while the key is due. Returns False if the process died."""
        for _ in range(50):
            if not self.agenda.is_due:
                return True
            try:
                self.reconcile()
            except Died:
                return False
        raise AssertionError(f"hot loop: {self._api.calls[-20:]}")

    def _handle(self, plural: str, type_: str | None, raw: Any) -> None:
        if plural == UNLABELLED:
            self.agenda.add(KEY)
        elif plural == PODS:
            self._pods.handle({"type": type_, "object": raw})
        else:
            event = {"type": type_, "object": raw}
            handlers.handle_pipeline(self._cache.pipelines, self.agenda, self._unreadable, event)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of a coroutine that never waits, since its API answers at once."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("the coroutine waits")
