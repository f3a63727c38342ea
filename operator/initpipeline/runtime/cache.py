"""The cache of InitPipelines and Pods, filled by the watches and by the operator's own requests.

It has the role of an informer's store in client-go, with these properties:

- Eventually consistent: an object may be older than the API server's. Decisions are safe
  nevertheless, because a write of status carries the resource version and a deletion the UID.
- No order between kinds: the cached Pod may be newer or older than the cached pipeline.
- Own writes are visible at once: the response to a write is stored. An informer shows a write only
  after its watch event, so its controllers must remember what they expect.
- The newest version wins: the response to a write and its watch event may arrive in any order, and
  the second one changes nothing. Resource versions of one kind can be compared as numbers
  (KEP-5504, documented from Kubernetes 1.35 on; with etcd they always could).
- Deletions that a watch did not report are found by runtime.sweep.
- Objects are immutable, so they are returned without a copy.
"""

import contextlib
import pickle
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from initpipeline.core.facts import Pipeline, Pod
from initpipeline.core.unreadable import UnreadablePipeline
from initpipeline.runtime.gateway import Key, ObjectUIDs

MANY = 100
"""A Pod with more containers and container statuses than this is stored packed."""


class Versioned(Protocol):
    """An object with the metadata that the API server sets."""

    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


T = TypeVar("T", bound=Versioned)


@dataclass(frozen=True, slots=True)
class _Packed(Generic[T]):
    """An object in a form that takes a tenth of the memory. Users who may write the status of Pods
    can add thousands of containers to one."""

    uid: str
    resource_version: str
    data: bytes

    @classmethod
    def of(cls, thing: T) -> "_Packed[T]":
        return cls(thing.uid, thing.resource_version, zlib.compress(pickle.dumps(thing), 1))

    def unpacked(self) -> T:
        thing: T = pickle.loads(zlib.decompress(self.data))
        return thing


def _unpacked(thing: "T | _Packed[T] | None") -> T | None:
    return thing.unpacked() if isinstance(thing, _Packed) else thing


def _has_many_containers(pod: Pod) -> bool:
    containers = len(pod.init_containers) + len(pod.containers)
    return containers + len(pod.init_container_statuses) + len(pod.container_statuses) > MANY


class Store(Generic[T]):
    """The newest known version of each object of a kind. It is not thread-safe."""

    def __init__(
        self, *, keep_gone: bool = False, is_large: Callable[[T], bool] = lambda _: False
    ) -> None:
        """With ``keep_gone``, the last state of a deleted object is kept, see ``gone``. Objects for
        which ``is_large`` returns True are stored packed."""
        self._keep_gone = keep_gone
        self._is_large = is_large
        self._objects: dict[Key, T | _Packed[T]] = {}
        self._gone: dict[Key, T | _Packed[T]] = {}
        """What each object was when it went, until there is another of its key."""
        self._announced: dict[Key, tuple[str, str]] = {}
        """UID and resource version of each object whose newest state was not read yet."""
        self._creating: dict[Key, set[str]] = {}
        """Creations under way, each with the UIDs whose deletion was told meanwhile."""

    def __len__(self) -> int:
        return len(self._objects.keys() | self._announced.keys())

    def get(self, key: Key) -> T | None:
        return _unpacked(self._objects.get(key))

    def newest(self) -> int:
        """The highest resource version known."""
        return max((version for _, _, version in self._known()), default=0)

    def is_news(self, key: Key, resource_version: str) -> bool:
        known = self._objects.get(key)
        return known is None or int(resource_version) > int(known.resource_version)

    def announce(self, key: Key, uid: str, resource_version: str) -> bool:
        """Note that the object has this resource version, without its content. Returns whether
        that is news."""
        announced = self._announced.get(key)
        if announced is not None and int(resource_version) <= int(announced[1]):
            return False
        if not self.is_news(key, resource_version):
            return False
        self._announced[key] = (uid, resource_version)
        return True

    def unread(self, key: Key) -> tuple[str, str] | None:
        """Returns the UID and resource version that the object was announced with. None: its newest
        known state was read."""
        return self._announced.get(key)

    def put(self, key: Key, thing: T) -> bool:
        """Whether it was news."""
        if not self.is_news(key, thing.resource_version):
            return False
        self._objects[key] = self._packed(thing)
        self._gone.pop(key, None)
        announced = self._announced.get(key)
        if announced is not None and int(thing.resource_version) >= int(announced[1]):
            del self._announced[key]
        return True

    def replace(self, key: Key, thing: T) -> bool:
        """The answer to a write or a read of ours: whether it was news. One that comes after the
        object's deletion was told must not bring it back."""
        return (key in self._objects or key in self._announced) and self.put(key, thing)

    def refine(self, key: Key, thing: T) -> None:
        """Keep what was computed of an object, if it is still the newest known."""
        known = self._objects.get(key)
        if known is not None and known.resource_version == thing.resource_version:
            self._objects[key] = self._packed(thing)

    @contextlib.contextmanager
    def creation(self, key: Key) -> Iterator[Callable[[T], None]]:
        """Encloses a request that creates the object. Yields a function that stores the response.

        The watch may report the object's creation and deletion before the response arrives. Then
        the response is not stored.
        """
        gone = self._creating[key] = set()

        def keep(thing: T) -> None:
            if thing.uid not in gone:
                self.put(key, thing)

        try:
            yield keep
        finally:
            del self._creating[key]

    def remove(self, key: Key, uid: str, last: T | None = None) -> bool:
        """Forget the object with this UID, but for what it was when it went. Whether it was
        known."""
        if key in self._creating:
            self._creating[key].add(uid)
        announced = self._announced.get(key)
        was_announced = announced is not None and announced[0] == uid
        if was_announced:
            del self._announced[key]
        known = self._objects.get(key)
        if known is None or known.uid != uid:
            return was_announced
        del self._objects[key]
        if last is not None and self._keep_gone:
            self._gone[key] = self._packed(last)
        return True

    def gone(self, key: Key) -> T | None:
        """Returns the last state of a deleted object. None: no deletion was reported, or another
        object with this key exists."""
        return _unpacked(self._gone.get(key))

    def _packed(self, thing: T) -> "T | _Packed[T]":
        return _Packed.of(thing) if self._is_large(thing) else thing

    def forget_gone(self, key: Key) -> None:
        """Discard the last state of a deleted object."""
        self._gone.pop(key, None)

    def missing_from(self, existing: ObjectUIDs, namespace: str | None) -> list[tuple[Key, str]]:
        """Objects of a namespace (None: of all) that are known here and were gone when the UIDs
        were listed."""
        return [
            (key, uid)
            for key, uid, version in self._known()
            if namespace in (None, key.namespace)
            and version <= existing.version
            and existing.uids.get(key) != uid
        ]

    def _known(self) -> Iterator[tuple[Key, str, int]]:
        """Yields key, UID and resource version of each object that was stored or announced."""
        for key, thing in self._objects.items():
            yield key, thing.uid, int(thing.resource_version)
        for key, (uid, version) in self._announced.items():
            yield key, uid, int(version)


@dataclass(frozen=True, slots=True)
class Cache:
    """The newest known InitPipelines and Pods. A pipeline and its Pod have the same key."""

    pipelines: Store[Pipeline | UnreadablePipeline]
    pods: Store[Pod]

    @classmethod
    def empty(cls) -> "Cache":
        return cls(Store(), Store(keep_gone=True, is_large=_has_many_containers))
