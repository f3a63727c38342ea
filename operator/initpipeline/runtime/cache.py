"""What the watches told: the newest facts of each pipeline and its Pod, by their common key.

Newest by resource version: those of one kind of object are numbers that can be compared
(KEP-5504; Kubernetes documents it from 1.35 on, etcd has always made them so). So the answer to our
own write and the watch event that echoes it may come in either order, and the second changes
nothing.
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
"""Containers of a Pod, in its spec and status, from which on it is kept packed."""


class Versioned(Protocol):
    """What the API gives to each object."""

    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


T = TypeVar("T", bound=Versioned)


@dataclass(frozen=True, slots=True)
class _Packed(Generic[T]):
    """An object in a form that takes a tenth of the memory. A user who may write the status of Pods
    can give it thousands of containers."""

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
    """The newest known state of each object of a kind. Holds what exists, and, where it is told
    to, the last of what was there before."""

    def __init__(
        self, *, keep_gone: bool = False, is_large: Callable[[T], bool] = lambda _: False
    ) -> None:
        self._keep_gone = keep_gone
        self._is_large = is_large
        self._objects: dict[Key, T | _Packed[T]] = {}
        self._gone: dict[Key, T | _Packed[T]] = {}
        """What each object was when it went, until there is another of its key."""
        self._creating: dict[Key, set[str]] = {}
        """Creations under way, each with the UIDs whose deletion was told meanwhile."""

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: Key) -> T | None:
        return _unpacked(self._objects.get(key))

    def newest(self) -> int:
        """The highest resource version known."""
        return max((int(thing.resource_version) for thing in self._objects.values()), default=0)

    def is_news(self, key: Key, resource_version: str) -> bool:
        known = self._objects.get(key)
        return known is None or int(resource_version) > int(known.resource_version)

    def put(self, key: Key, thing: T) -> bool:
        """Whether it was news."""
        if not self.is_news(key, thing.resource_version):
            return False
        self._objects[key] = self._packed(thing)
        self._gone.pop(key, None)
        return True

    def replace(self, key: Key, thing: T) -> bool:
        """The answer to a write or a read of ours: whether it was news. One that comes after the
        object's deletion was told must not bring it back."""
        return key in self._objects and self.put(key, thing)

    def refine(self, key: Key, thing: T) -> None:
        """Keep what was computed of an object, if it is still the newest known."""
        known = self._objects.get(key)
        if known is not None and known.resource_version == thing.resource_version:
            self._objects[key] = self._packed(thing)

    @contextlib.contextmanager
    def creation(self, key: Key) -> Iterator[Callable[[T], None]]:
        """While we create the object of this key: what is given keeps the answer. The watch may
        have told of its deletion before the answer came, and then it must not come back."""
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
        known = self._objects.get(key)
        if known is None or known.uid != uid:
            return False
        del self._objects[key]
        if last is not None and self._keep_gone:
            self._gone[key] = self._packed(last)
        return True

    def gone(self, key: Key) -> T | None:
        """What the object of this key was when it went, if that was told."""
        return _unpacked(self._gone.get(key))

    def _packed(self, thing: T) -> "T | _Packed[T]":
        return _Packed.of(thing) if self._is_large(thing) else thing

    def forget_gone(self, key: Key) -> None:
        """Nobody will ask for it any more."""
        self._gone.pop(key, None)

    def missing_from(self, existing: ObjectUIDs, namespace: str | None) -> list[tuple[Key, str]]:
        """Objects of a namespace (None: of all) that are known here and were gone when the UIDs
        were listed."""
        return [
            (key, thing.uid)
            for key, thing in self._objects.items()
            if namespace in (None, key.namespace)
            and int(thing.resource_version) <= existing.version
            and existing.uids.get(key) != thing.uid
        ]


@dataclass(frozen=True, slots=True)
class Cache:
    """Both kinds."""

    pipelines: Store[Pipeline | UnreadablePipeline]
    pods: Store[Pod]

    @classmethod
    def empty(cls) -> "Cache":
        return cls(Store(), Store(keep_gone=True, is_large=_has_many_containers))
