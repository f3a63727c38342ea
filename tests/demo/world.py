"""Watching: what happens in the cluster and to the operator comes in here, one thing at a time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from initpipeline.api import names
from tests.demo.api import Api, Object, RefusedError, UnreachableError, collection
from tests.demo.errors import DemoError
from tests.demo.snapshot import Snapshot, row

# A watch that has gone quiet is asked again so soon.
WATCH_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 0.5
# One step of the Pod is told by two watches: what comes that close together is shown as one line.
TOGETHER_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Listed:
    """All objects of a kind, as a watch begins."""

    kind: str
    objects: list[Object]


@dataclass(frozen=True)
class Changed:
    """One object was made, changed or deleted."""

    kind: str
    object: Object
    deleted: bool


@dataclass(frozen=True)
class Restarted:
    """The operator died, and another was started."""

    before: int
    after: int


@dataclass(frozen=True)
class Failed:
    """Something that the demo can't go on from."""

    why: str


Event = Listed | Changed | Restarted | Failed
Feed = SimpleQueue[Event]


class Audience(Protocol):
    """Who is told of what happens."""

    def moved(self, snapshot: Snapshot) -> None:
        """The pipeline or a Pod has changed: each change, however close to the next."""

    def show(self, snapshot: Snapshot) -> None:
        """The same after things have come to rest for a moment."""

    def restarted(self, event: Restarted, snapshot: Snapshot) -> None:
        """The operator was started again."""


class World:
    """The demo's namespace, and whoever watches it being told of each change."""

    def __init__(
        self, api: Api, namespace: str, name: str, feed: Feed, audience: list[Audience]
    ) -> None:
        """Nothing is watched before open()."""
        self.snapshot = Snapshot(name)
        self._api, self._namespace, self._name = api, namespace, name
        self._feed, self._audience = feed, audience
        self._closed = threading.Event()
        self._unshown = False

    def open(self) -> None:
        """Begin to watch, in the background."""
        pipelines = collection(names.KIND, self._namespace, names.API_VERSION)
        pods = collection("Pod", self._namespace)
        mine = {"labelSelector": f"{names.NAME_LABEL}={self._name}"}
        for kind, path, query in (
            (names.KIND, pipelines, {"fieldSelector": f"metadata.name={self._name}"}),
            ("Pod", pods, mine),
        ):
            thread = threading.Thread(target=self._watch, args=(kind, path, query), daemon=True)
            thread.start()

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()

    def wait(self, holds: Callable[[Snapshot], bool], seconds: float, what: str) -> None:
        """Take in what happens until it holds; fail when it doesn't within the time."""
        end = time.monotonic() + seconds
        while not holds(self.snapshot):
            left = end - time.monotonic()
            if left <= 0:
                raise DemoError(f"not within {seconds:.0f} s: {what}; {self._last_words()}")
            self._take(min(left, TOGETHER_SECONDS))
        self._show()

    def _take(self, seconds: float) -> None:
        try:
            event = self._feed.get(timeout=seconds)
        except Empty:
            self._show()
            return
        match event:
            case Failed(why):
                raise DemoError(why)
            case Restarted():
                self._show()
                for one in self._audience:
                    one.restarted(event, self.snapshot)
            case _:
                self.snapshot = _after(self.snapshot, event)
                self._unshown = True
                for one in self._audience:
                    one.moved(self.snapshot)

    def _show(self) -> None:
        if self._unshown:
            self._unshown = False
            for one in self._audience:
                one.show(self.snapshot)

    def _last_words(self) -> str:
        now = row(self.snapshot)
        return f"run {now.run} is at {now.init}, {now.reason}: {now.message} (Pod: {now.pod})"

    def _watch(self, kind: str, path: str, query: dict[str, str]) -> None:
        while not self._closed.is_set():
            try:
                listed = self._api.get(path, **query) or {"items": [], "metadata": {}}
                self._feed.put(Listed(kind, listed["items"]))
                self._follow(kind, path, listed["metadata"].get("resourceVersion", ""), query)
            except (UnreachableError, RefusedError):  # an outage, or a version that is too old
                self._closed.wait(RETRY_SECONDS)

    def _follow(self, kind: str, path: str, version: str, query: dict[str, str]) -> None:
        """One watch after the other, for as long as the server knows what came before."""
        while not self._closed.is_set():
            for event in self._api.watch(path, version, WATCH_SECONDS, **query):
                if event["type"] == "ERROR":
                    return
                version = event["object"]["metadata"]["resourceVersion"]
                self._feed.put(Changed(kind, event["object"], event["type"] == "DELETED"))


def _after(before: Snapshot, event: Listed | Changed) -> Snapshot:
    match event:
        case Listed(kind, objects):
            found = {one["metadata"]["name"]: one for one in objects}
            if kind == "Pod":
                return replace(before, pods=found)
            return replace(before, pipeline=found.get(before.name))
        case Changed(kind, object_, deleted):
            name = object_["metadata"]["name"]
            if kind != "Pod":
                return replace(before, pipeline=None if deleted else object_)
            others = {key: value for key, value in before.pods.items() if key != name}
            return replace(before, pods=others if deleted else others | {name: object_})
