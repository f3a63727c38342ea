"""Keeps the objects of the cluster current, by one watch per kind.

A thread per kind lists and watches. The store belongs to the event loop: threads only hand values
to it.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

from initpipeline.api.raw import Raw
from initpipeline.core.errors import UnreadableError
from initpipeline.core.facts import Pipeline
from initpipeline.plugin import terminal
from initpipeline.plugin.cluster.client import WATCH_SECONDS, ClusterClient, Kind
from initpipeline.plugin.errors import NoAnswerError, PluginError
from initpipeline.plugin.report.formatting import one_line

MAX_EVENTS: Final = 100
"""Events that are kept for each object."""
MAX_GONE: Final = 10_000
"""Deleted InitPipelines that are remembered for browsers that reconnect."""
RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 30.0
"""The longest pause between two attempts. It also applies if a permission is missing."""

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, eq=False)
class Entry:
    """An InitPipeline."""

    raw: Raw
    pipeline: Pipeline | None
    """None: this version of the plugin cannot read it, see ``error``."""
    error: str = ""

    @cached_property
    def yaml(self) -> str:
        """The resource as YAML. Computing it takes most of the time of a page."""
        return terminal.to_yaml(self.raw, "utf-8")

    @classmethod
    def read(cls, raw: Raw) -> "Entry":
        """Returns the entry of an InitPipeline."""
        try:
            return cls(raw, Pipeline.from_api_unhashed(raw))
        except UnreadableError as error:
            return cls(raw, None, one_line(str(error)))


def key_of(raw: Mapping[str, Raw]) -> Key:
    """Returns namespace and name of an object."""
    return raw["metadata"]["namespace"], raw["metadata"]["name"]


@dataclass
class Store:
    """The objects, and the problems that prevent a kind from being current."""

    pipelines: dict[Key, Entry] = field(default_factory=dict)
    pods: dict[Key, Raw] = field(default_factory=dict)
    events: dict[str, dict[str, Raw]] = field(default_factory=dict)
    """Events by the UID of the object that they are about, and by their own UID."""
    problems: dict[Kind, str] = field(default_factory=dict)
    """The last error of each kind that is not current."""
    listed: set[Kind] = field(default_factory=set)
    """The kinds that were listed at least once."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    """The clock of the API server."""
    version: int = 0
    """Counts the changes."""
    changed: dict[Key, int] = field(default_factory=dict)
    """The version in which each InitPipeline last changed."""
    gone: dict[Key, int] = field(default_factory=dict)
    """The version in which each deleted InitPipeline was deleted."""
    forgotten: int = 0
    """The newest version whose deletions are no longer all in ``gone``."""
    _changes: dict[asyncio.Event, Key | None] = field(default_factory=dict)

    def subscribe(self, key: Key | None = None) -> asyncio.Event:
        """Returns an event that is set at each change, until ``unsubscribe``. With ``key``, only at
        changes of this InitPipeline, its Pod and their events."""
        event = asyncio.Event()
        self._changes[event] = key
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Ends a subscription."""
        self._changes.pop(event, None)

    def events_of(self, *uids: str | None) -> list[Raw]:
        """Returns the events about these objects."""
        return [one for uid in uids for one in self.events.get(uid or "", {}).values()]

    def replace(self, kind: Kind, items: Iterable[Entry | Raw]) -> None:
        """Records a list of all objects of a kind."""
        self.problems.pop(kind, None)
        self.listed.add(kind)
        if kind is Kind.PIPELINES:
            entries = {key_of(one.raw): one for one in items if isinstance(one, Entry)}
            for key in self.pipelines.keys() - entries.keys():
                self._remove_pipeline(key)
            for entry in entries.values():
                self._put_pipeline(entry)
        elif kind is Kind.PODS:
            self.pods = {key_of(one): one for one in items if not isinstance(one, Entry)}
        else:
            self.events = {}
            for one in items:
                self._put_event(one if not isinstance(one, Entry) else one.raw)
        self.notify()

    def put(self, kind: Kind, item: Entry | Raw) -> None:
        """Records one object that was created or has changed."""
        if isinstance(item, Entry):
            self._put_pipeline(item)
        elif kind is Kind.PODS:
            self.pods[key_of(item)] = item
        else:
            self._put_event(item)
        self.notify(_key_about(kind, item.raw if isinstance(item, Entry) else item))

    def remove(self, kind: Kind, raw: Raw) -> None:
        """Records that an object was deleted."""
        if kind is Kind.PIPELINES:
            self._remove_pipeline(key_of(raw))
        elif kind is Kind.PODS:
            self.pods.pop(key_of(raw), None)
        else:
            self._remove_event(raw)
        self.notify(_key_about(kind, raw))

    def fail(self, kind: Kind, message: str) -> None:
        """Records that a kind is not current."""
        if self.problems.get(kind) != message:
            self.problems[kind] = message
            self.notify()

    def _put_pipeline(self, entry: Entry) -> None:
        key = key_of(entry.raw)
        before = self.pipelines.get(key)
        self.pipelines[key] = entry
        if before is None or _version(before.raw) != _version(entry.raw):
            self.version += 1
            self.changed[key] = self.version
        self.gone.pop(key, None)

    def _remove_pipeline(self, key: Key) -> None:
        entry = self.pipelines.pop(key, None)
        if entry is None:
            return
        self.events.pop(str(entry.raw["metadata"].get("uid")), None)
        self.version += 1
        self.changed.pop(key, None)
        self.gone[key] = self.version
        if len(self.gone) > MAX_GONE:
            self.forgotten = self.gone.pop(next(iter(self.gone)))

    def _put_event(self, raw: Raw) -> None:
        if _about(raw) == "":
            return
        of = self.events.setdefault(_about(raw), {})
        of.pop(raw["metadata"]["uid"], None)
        of[raw["metadata"]["uid"]] = raw
        if len(of) > MAX_EVENTS:
            of.pop(next(iter(of)))

    def _remove_event(self, raw: Raw) -> None:
        of = self.events.get(_about(raw), {})
        of.pop(raw["metadata"]["uid"], None)
        if not of:
            self.events.pop(_about(raw), None)

    def notify(self, key: Key | None = None) -> None:
        """Sets the events of the subscriptions to this key. None: those of all."""
        for event, wanted in self._changes.items():
            if None in (key, wanted) or key == wanted:
                event.set()


def _version(raw: Raw) -> str:
    return str(raw["metadata"].get("resourceVersion"))


def _key_about(kind: Kind, raw: Raw) -> Key:
    """Returns the key of the InitPipeline that an object belongs to. Its Pod has the same name."""
    if kind is Kind.EVENTS:
        involved = raw.get("involvedObject") or {}
        return str(raw["metadata"].get("namespace")), str(involved.get("name"))
    return key_of(raw)


def _about(raw: Raw) -> str:
    """Returns the UID of the InitPipeline or Pod that an event is about. Empty: it is about another
    kind."""
    involved = raw.get("involvedObject") or {}
    return str(involved.get("uid") or "") if involved.get("kind") in ("InitPipeline", "Pod") else ""


class Watcher(threading.Thread):
    """Lists and watches one kind, and hands each change to the store."""

    def __init__(
        self,
        kind: Kind,
        namespace: str | None,
        connect: Callable[[], ClusterClient],
        store: Store,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(name=f"watch-{kind.name.lower()}", daemon=True)
        self._kind = kind
        self._namespace = namespace
        self._connect = connect
        self._store = store
        self._loop = loop
        self._ended = threading.Event()
        self._failures = 0

    def end(self) -> None:
        """Ends the thread when it next waits."""
        self._ended.set()

    def run(self) -> None:
        client: ClusterClient | None = None
        while not self._ended.is_set():
            try:
                client = client or self._connect()
                self._follow(client)
            except (PluginError, OSError) as error:
                client = client if isinstance(error, NoAnswerError) else None
                self._failures += 1
                self._call(self._store.fail, self._kind, one_line(str(error)))
                pause = RETRY_SECONDS * 2 ** min(self._failures - 1, 5)
                self._ended.wait(min(MAX_RETRY_SECONDS, pause))

    def _follow(self, client: ClusterClient) -> None:
        """Lists all objects and watches them until the version is too old. Raises PluginError."""
        found = client.list_kind(self._kind, self._namespace)
        if self._kind is Kind.PIPELINES:
            self._store.now = client.now
        self._call(self._store.replace, self._kind, [self._read(one) for one in found["items"]])
        self._failures = 0
        version: str | None = found["metadata"]["resourceVersion"]
        while version is not None and not self._ended.is_set():
            version = self._watch(client, version)

    def _watch(self, client: ClusterClient, version: str) -> str | None:
        """Watches for a while. Returns the version from which to continue. None: list again."""
        for event in client.watch_kind(self._kind, self._namespace, version, WATCH_SECONDS):
            if event["type"] == "ERROR":
                return None
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] == "DELETED":
                self._call(self._store.remove, self._kind, event["object"])
            elif event["type"] != "BOOKMARK":
                self._call(self._store.put, self._kind, self._read(event["object"]))
        return version

    def _read(self, raw: Raw) -> Entry | Raw:
        raw["metadata"].pop("managedFields", None)
        return Entry.read(raw) if self._kind is Kind.PIPELINES else raw

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            self._ended.set()  # The event loop is closed: the program ends.
