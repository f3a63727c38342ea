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
- Memory grows with the number of InitPipelines and of Pods with the operator's label. Most of them
  are at rest, and are stored packed: a pipeline with its Pod takes 5 KB instead of 42.
"""

import contextlib
import copyreg
import pickle
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from initpipeline.api.models import InitPipelineStatus
from initpipeline.core.container_status import ContainerStatus, Terminated
from initpipeline.core.containers import Container
from initpipeline.core.encoding import decode, encode
from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod, PodCondition
from initpipeline.core.unreadable import UnreadablePipeline
from initpipeline.runtime.keys import Key, ObjectUIDs


def _pickle_by_fields(class_: type[Any]) -> None:
    """Pickle instances as a call of the class with their fields. Python's own way for dataclasses
    with slots takes twice the time."""
    values = attrgetter(*(field.name for field in fields(class_)))
    copyreg.pickle(class_, lambda obj: (class_, values(obj)))


def _read_status(data: bytes) -> InitPipelineStatus:
    return InitPipelineStatus.model_validate(decode(data))


for _class in (Pod, Pipeline, Container, ContainerStatus, PodCondition, Terminated):
    _pickle_by_fields(_class)
# As JSON, a status takes half of the bytes that pydantic's models take.
copyreg.pickle(InitPipelineStatus, lambda status: (_read_status, (encode(status.to_api()),)))

MAX_UNPACKED = 2000
"""Maximum number of unpacked objects of a kind. They are the most recently changed ones."""

MAX_UNPACKED_CONTAINERS = 100
"""A Pod with more containers and container statuses than this is always packed."""


class Versioned(Protocol):
    """An object with the metadata that the API server sets."""

    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


T = TypeVar("T", bound=Versioned)


@dataclass(frozen=True, slots=True)
class _Packed(Generic[T]):
    """An object in a form that takes a tenth of the memory, and 0.1 ms to pack or to unpack."""

    uid: str
    resource_version: str
    data: bytes

    @classmethod
    def of(cls, obj: T) -> "_Packed[T]":
        return cls(obj.uid, obj.resource_version, zlib.compress(pickle.dumps(obj), 1))

    def unpacked(self) -> T:
        obj: T = pickle.loads(zlib.decompress(self.data))
        return obj


def _packed(obj: "T | _Packed[T]") -> "T | _Packed[T]":
    """Returns the object packed, or unchanged if it is nested too deeply."""
    if isinstance(obj, _Packed):
        return obj
    try:
        return _Packed.of(obj)
    except RecursionError:
        return obj


def _unpacked(obj: "T | _Packed[T] | None") -> T | None:
    return obj.unpacked() if isinstance(obj, _Packed) else obj


def _has_many_containers(pod: Pod) -> bool:
    containers = len(pod.init_containers) + len(pod.containers)
    statuses = len(pod.init_container_statuses) + len(pod.container_statuses)
    return containers + statuses > MAX_UNPACKED_CONTAINERS


def _is_missing(existing: ObjectUIDs, key: Key, obj: Versioned) -> bool:
    """Returns whether the object is not in the list and not newer than it."""
    return int(obj.resource_version) <= existing.version and existing.uids.get(key) != obj.uid


class Store(Generic[T]):
    """The newest known version of each object of a kind. It is not thread-safe."""

    def __init__(
        self,
        *,
        keep_gone: bool = False,
        is_large: Callable[[T], bool] = lambda _: False,
        max_unpacked: int = MAX_UNPACKED,
        summary: Callable[[T], Hashable] | None = None,
    ) -> None:
        """Create an empty store. With ``keep_gone``, it keeps the last state of a deleted object,
        see ``gone``. The store packs objects for which ``is_large`` returns True, those from lists,
        and all others except the ``max_unpacked`` that were stored last. ``counts`` has the number
        of objects by their ``summary``."""
        self._summary = summary
        self._summaries: dict[Key, Hashable] = {}
        self.counts: Counter[Hashable] = Counter()
        self._known: dict[Hashable, Hashable] = {}
        """Each summary once, so that objects share it."""
        self._keep_gone = keep_gone
        self._is_large = is_large
        self._max_unpacked = max_unpacked
        self._objects: dict[Key, T | _Packed[T]] = {}
        self.packed_bytes = 0
        """The length of all packed objects."""
        self._recent: dict[Key, None] = {}
        """The keys of the objects that are not packed, in the order in which they were stored."""
        self._gone: dict[Key, T | _Packed[T]] = {}
        """The last state of each deleted object, until another object with the same key is stored
        or ``forget_gone`` is called."""
        self._awaited: dict[Key, list[Callable[[T], bool]]] = {}
        """For each awaited ``response``, the predicates that match an object found deleted
        meanwhile: by UID after an event of the watch, by absence after a list."""

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: Key) -> bool:
        return key in self._objects

    def unpacked_count(self) -> int:
        """Returns the number of objects that are not packed."""
        return len(self._recent)

    def get(self, key: Key) -> T | None:
        """Returns the stored object. None: the store has no object with this key."""
        return _unpacked(self._objects.get(key))

    def all_keys(self) -> list[Key]:
        """Returns the keys of all objects."""
        return list(self._objects)

    def is_packed(self, key: Key) -> bool:
        """Returns whether the object with this key is stored packed: it has not changed for long,
        came from a list, or is large. False if the store does not have it."""
        return isinstance(self._objects.get(key), _Packed)

    def newest(self) -> int:
        """Returns the highest resource version of all objects. 0 if the store is empty."""
        return max((int(obj.resource_version) for obj in self._objects.values()), default=0)

    def is_newer(self, key: Key, resource_version: str) -> bool:
        """Returns whether the version is newer than that of the stored object."""
        known = self._objects.get(key)
        return known is None or int(resource_version) > int(known.resource_version)

    def put(self, key: Key, obj: T, *, listed: bool = False) -> bool:
        """Store the object if it is newer than the stored one. Returns whether it was stored. With
        ``listed`` it is stored packed, because most objects in a list are at rest."""
        if not self.is_newer(key, obj.resource_version):
            return False
        self._keep(key, obj, listed)
        self._gone.pop(key, None)
        if self._summary is not None:
            self._uncount(key)
            summary = self._summary(obj)
            self._summaries[key] = summary = self._known.setdefault(summary, summary)
            self.counts[summary] += 1
        return True

    def _uncount(self, key: Key) -> None:
        """Remove the object from the counts. A summary without objects is removed, so that a user
        who writes many different statuses does not fill the memory."""
        if key not in self._summaries:
            return
        summary = self._summaries.pop(key)
        self.counts[summary] -= 1
        if not self.counts[summary]:
            del self.counts[summary], self._known[summary]

    def _keep(self, key: Key, obj: T, packed: bool) -> None:
        self._recent.pop(key, None)
        if packed or self._is_large(obj):
            self._set(key, _packed(obj))
            return
        self._set(key, obj)
        self._recent[key] = None
        if len(self._recent) > self._max_unpacked:
            oldest = next(iter(self._recent))
            del self._recent[oldest]
            self._set(oldest, _packed(self._objects[oldest]))

    def _set(self, key: Key, obj: "T | _Packed[T] | None") -> None:
        """Store the object in this form. None: remove it."""
        known = self._objects.get(key)
        if isinstance(known, _Packed):
            self.packed_bytes -= len(known.data)
        if isinstance(obj, _Packed):
            self.packed_bytes += len(obj.data)
        if obj is None:
            del self._objects[key]
        else:
            self._objects[key] = obj

    def replace(self, key: Key, obj: T) -> bool:
        """Store the response to one of the operator's own requests, if it is newer. Returns whether
        it was stored. If the object was removed meanwhile, the response is ignored."""
        return key in self._objects and self.put(key, obj)

    def refine(self, key: Key, obj: T) -> None:
        """Replace the object by the same version with computed fields, such as the template's hash.
        Does nothing if another version is stored."""
        known = self._objects.get(key)
        if known is not None and known.resource_version == obj.resource_version:
            self._keep(key, obj, isinstance(known, _Packed))

    @contextlib.contextmanager
    def response(self, key: Key) -> Iterator[Callable[[T], bool]]:
        """Encloses a request that creates or reads the object. Yields a function that stores the
        response if it is newer. It returns False if the object's deletion was found before the
        response arrived. Then it stores nothing, because no later event would remove the object.
        """
        deletions = self._awaited[key] = []

        def keep(obj: T) -> bool:
            if any(includes(obj) for includes in deletions):
                return False
            self.put(key, obj)
            return True

        try:
            yield keep
        finally:
            del self._awaited[key]

    def remove(self, key: Key, uid: str, last: T | None = None) -> bool:
        """Remove the object, if it has this UID. With ``keep_gone``, ``last`` is kept as its last
        state. Returns whether the object was stored."""
        if key in self._awaited:
            self._awaited[key].append(lambda obj: obj.uid == uid)
        known = self._objects.get(key)
        if known is None or known.uid != uid:
            return False
        self._set(key, None)
        self._uncount(key)
        self._recent.pop(key, None)
        if last is not None and self._keep_gone:
            self._gone[key] = _packed(last)
        return True

    def gone(self, key: Key) -> T | None:
        """Returns the last state of a deleted object. None: no deletion was reported, or another
        object with this key exists."""
        return _unpacked(self._gone.get(key))

    def forget_gone(self, key: Key) -> None:
        """Discard the last state of a deleted object."""
        self._gone.pop(key, None)

    def remove_missing(self, existing: ObjectUIDs, namespace: str | None) -> list[Key]:
        """Remove the objects that are not in the list and not newer than it. Returns their keys.
        ``namespace`` None: all namespaces."""
        for key, deletions in self._awaited.items():
            if namespace in (None, key.namespace):
                deletions.append(partial(_is_missing, existing, key))
        missing = [
            (key, obj.uid)
            for key, obj in self._objects.items()
            if namespace in (None, key.namespace) and _is_missing(existing, key, obj)
        ]
        for key, uid in missing:
            self.remove(key, uid)
        return [key for key, _ in missing]

    def older_in(self, existing: ObjectUIDs) -> tuple[Key, int, int] | None:
        """Returns an object that the list has in an older version than the store, although the list
        is newer than both: its key, the stored version and the listed version. None: there is no
        such object."""
        for key, version in existing.versions.items():
            known = self._objects.get(key)
            if known is not None and version < int(known.resource_version) <= existing.version:
                return key, int(known.resource_version), version
        return None


@dataclass(frozen=True, slots=True)
class Cache:
    """The newest known InitPipelines and Pods. A pipeline and its Pod have the same key."""

    pipelines: Store[Pipeline | UnreadablePipeline]
    pods: Store[Pod]

    @classmethod
    def empty(
        cls,
        max_unpacked: int = MAX_UNPACKED,
        summary: Callable[[Pipeline | UnreadablePipeline], Hashable] | None = None,
    ) -> "Cache":
        """Returns a cache without objects. It packs all but ``max_unpacked`` of each kind, and
        counts the pipelines by their ``summary``."""
        return cls(
            Store(max_unpacked=max_unpacked, summary=summary),
            Store(max_unpacked=max_unpacked, keep_gone=True, is_large=_has_many_containers),
        )
