"""The operator's process: all of the real one but Kopf, its loop and the wire.

What it knows is what its watches have told it so far, which a test decides. It may die between any
two requests, and another one starts from nothing.
"""

import contextlib
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar
from unittest.mock import patch

import kopf

from initpipeline.runtime import handlers
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.errors import ApiError, ConnectionFailed
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.gateway import Gateway, Key
from initpipeline.runtime.queue import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, WorkQueue
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.sweep import Sweeper
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from tests.unit.model.cluster import UNLABELLED, Api
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS, Died, ManualPodWatcher, is_labelled

T = TypeVar("T")

WATCHES = (PIPELINES, PODS, UNLABELLED)


class Agenda(WorkQueue[Key]):
    """When the one key is to be looked at again, without a loop to wait in."""

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

    def retry(self, key: Key, longest: float = LONGEST_RETRY_SECONDS) -> float:
        delay: float = min(FIRST_RETRY_SECONDS * 2 ** min(self._retries, 16), longest)
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
    """Knows what there is at its start."""

    def __init__(self, api: Api, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._cache = Cache.empty()
        self.agenda = Agenda(clock)
        gateway = Gateway(api)
        events = EventRecorder(gateway, clock, "operator-0")  # What it would post waits.
        self._unlabelled_pods = ManualPodWatcher(gateway, self.agenda)
        self._reconciler = Reconciler(
            gateway, self._cache, self.agenda, clock, events, self._unlabelled_pods
        )
        self._sweeper = Sweeper(gateway, self._cache, self.agenda, (), UnreadableObjects())
        self._handlers = _handlers(self._cache, self.agenda)
        self._heard = {PIPELINES: 0, PODS: 0}
        """Has UNLABELLED while there is something to look out for, and it was listed."""
        run(self._sweeper.fill())
        for plural in (PIPELINES, PODS):
            self.list_anew(plural)

    def unheard(self, plural: str) -> int:
        """How many events of this kind it has yet to be told."""
        if plural == UNLABELLED and KEY not in self._unlabelled_pods:
            return 0
        if plural not in self._heard:
            return 1
        return len(self._api.events_of(plural)) - self._heard[plural]

    def hear(self, plural: str, count: int) -> None:
        """Its watch tells the next events. Those of one kind come in order, whatever was told of
        the other kind."""
        if plural == UNLABELLED and (KEY not in self._unlabelled_pods or plural not in self._heard):
            self._look_out()
            return
        start = self._heard[plural]
        for event in self._api.events_of(plural)[start : start + count]:
            self._tell(plural, event.type, event.object)
            self._heard[plural] += 1

    def list_anew(self, plural: str) -> None:
        """Its watch has fallen behind (410 Gone): Kopf tells what there is, and of no deletion."""
        if plural == UNLABELLED:
            self._look_out()
            return
        self._heard[plural] = len(self._api.events_of(plural))
        raw = self._api.objects.get((plural, KEY))
        if raw is not None and (plural != PODS or is_labelled(raw)):
            self._tell(plural, None, raw)

    def _look_out(self) -> None:
        """The watch of unlabelled Pods begins, or begins again, with a list."""
        if KEY not in self._unlabelled_pods:
            self._heard.pop(UNLABELLED, None)
            return
        self._heard[UNLABELLED] = len(self._api.events_of(UNLABELLED))
        raw = self._api.objects.get((PODS, KEY))
        if raw is None or is_labelled(raw):
            self.agenda.add(KEY)

    def sweep(self) -> None:
        """A sweep that fails is made up for by the next."""
        with contextlib.suppress(ApiError, ConnectionFailed):
            run(self._sweeper.sweep())

    def reconcile(self) -> None:
        """One look, as a worker takes it."""
        self.agenda.take()
        try:
            run(self._reconciler.reconcile(KEY))
        except (ApiError, ConnectionFailed):
            self.agenda.retry(KEY)

    def work(self) -> bool:
        """All looks that are due. False: the process died over them."""
        for _ in range(50):
            if not self.agenda.is_due:
                return True
            try:
                self.reconcile()
            except Died:
                return False
        raise AssertionError(f"hot loop: {self._api.calls[-20:]}")

    def _tell(self, plural: str, type_: str | None, raw: Any) -> None:
        if plural == UNLABELLED:
            self.agenda.add(KEY)
        else:
            run(self._handlers[plural](event={"type": type_, "object": raw}))


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of something that never has to wait, since its API answers at once."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits for something")


def _handlers(
    cache: Cache, queue: WorkQueue[Key]
) -> dict[str, Callable[..., Coroutine[Any, Any, None]]]:
    """The handlers that Kopf would call, by the plural of what they are told."""
    told: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {}

    def on_event(*selector: str, registry: object) -> Callable[[Any], Any]:
        assert registry is not None
        return lambda function: told.setdefault(selector[-1], function)

    with patch.object(kopf.on, "event", on_event):
        handlers.register(kopf.OperatorRegistry(), cache, queue, UnreadableObjects())
    return told
