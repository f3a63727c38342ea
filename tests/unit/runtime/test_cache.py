"""The cache: it keeps the newest version of each object, and no deleted objects."""

import contextlib
import gc
import tracemalloc
from dataclasses import replace

import pytest

from initpipeline.api.raw import Raw
from initpipeline.core.decide import decide
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.pod import Pod
from initpipeline.runtime.cache import Cache, Store
from initpipeline.runtime.errors import ConnectionFailed
from initpipeline.runtime.keys import Key, ObjectUIDs
from tests.builders import at, pipeline, pod, running_pod

KEY = Key("default", "demo")
OTHER = Key("other", "demo")

REPORTED = pipeline().with_status(
    decide(Facts(pipeline().build(), running_pod().build()), at(100)).status
)


def version(number: int, uid: str = "pod-1") -> Pod:
    return replace(pod().build(), resource_version=str(number), uid=uid)


@pytest.fixture
def store() -> Store[Pod]:
    return Store()


def known(store: Store[Pod]) -> tuple[str, str] | None:
    """Returns resource version and UID of the stored Pod."""
    thing = store.get(KEY)
    return None if thing is None else (thing.resource_version, thing.uid)


class TestSize:
    """What the metrics report about memory."""

    def test_length_of_packed_objects_follows_each_change(self) -> None:
        store: Store[Pod] = Store(max_unpacked=1)
        sizes = []
        for change in (
            lambda: store.put(KEY, version(1), listed=True),
            lambda: store.put(OTHER, version(2)),
            lambda: store.put(KEY, version(3)),
            lambda: store.put(OTHER, version(4), listed=True),
            lambda: store.refine(OTHER, version(4)),
            lambda: store.remove(KEY, "pod-1"),
            lambda: store.remove(OTHER, "pod-1"),
        ):
            change()
            packed = sum(store.is_packed(key) for key in store.all_keys())
            sizes.append((store.packed_bytes > 0, packed, store.unpacked_count()))
        assert sizes == [
            (True, 1, 0),
            (True, 1, 1),
            (True, 1, 1),
            (True, 1, 1),
            (True, 1, 1),
            (True, 1, 0),
            (False, 0, 0),
        ]
        assert store.packed_bytes == 0


class TestNewestWins:
    @pytest.mark.parametrize(
        ("versions", "is_newer"),
        [
            pytest.param((9, 10), True, id="newer: by number, not by letter"),
            pytest.param((10, 9), False, id="older"),
            pytest.param((10, 10), False, id="equal: the watch event of an own write"),
        ],
    )
    def test_second_version_is_stored_only_if_newer(
        self, store: Store[Pod], versions: tuple[int, int], is_newer: bool
    ) -> None:
        first, second = versions
        store.put(KEY, version(first))
        assert store.is_newer(KEY, str(second)) is is_newer
        assert store.put(KEY, version(second)) is is_newer
        assert known(store) == (str(max(versions)), "pod-1")

    def test_first_version_is_stored(self, store: Store[Pod]) -> None:
        assert store.put(KEY, version(1))

    def test_newer_object_of_the_same_name_replaces_it(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1, "old"))
        assert store.put(KEY, version(2, "new"))
        assert known(store) == ("2", "new")


class TestResponseToWrite:
    def test_response_is_stored_before_the_watch_event(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1))
        assert store.replace(KEY, version(2))
        assert not store.put(KEY, version(2)), "the watch event of the own write is new"

    def test_response_after_the_deletion_is_not_stored(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1))
        store.remove(KEY, "pod-1")
        assert not store.replace(KEY, version(2))
        assert known(store) is None

    def test_response_older_than_the_watch_event_is_not_stored(self, store: Store[Pod]) -> None:
        store.put(KEY, version(3))
        assert not store.replace(KEY, version(2))
        assert known(store) == ("3", "pod-1")


class TestResponse:
    def test_created_object_is_stored_before_the_watch_event(self, store: Store[Pod]) -> None:
        with store.response(KEY) as keep:
            keep(version(1))
        assert known(store) == ("1", "pod-1")
        assert not store.put(KEY, version(1)), "the watch event of the own write is new"

    def test_created_object_deleted_meanwhile_is_not_stored(self, store: Store[Pod]) -> None:
        with store.response(KEY) as keep:
            store.put(KEY, version(1))
            store.remove(KEY, "pod-1")
            keep(version(1))
        assert known(store) is None

    def test_created_object_is_stored_if_another_of_its_name_was_deleted(
        self, store: Store[Pod]
    ) -> None:
        store.put(KEY, version(1, "old"))
        with store.response(KEY) as keep:
            store.remove(KEY, "old")
            keep(version(2, "new"))
        assert known(store) == ("2", "new")

    @pytest.mark.parametrize(
        ("existing", "namespace", "stored"),
        [
            pytest.param(ObjectUIDs({}, 9), None, False, id="deleted"),
            pytest.param(ObjectUIDs({}, 9), "default", False, id="deleted, list of its namespace"),
            pytest.param(ObjectUIDs({KEY: "pod-2"}, 9), None, False, id="replaced"),
            pytest.param(ObjectUIDs({KEY: "pod-1"}, 9), None, True, id="exists"),
            pytest.param(ObjectUIDs({}, 4), None, True, id="the list is older than the response"),
            pytest.param(ObjectUIDs({}, 9), "other", True, id="list of another namespace"),
        ],
    )
    def test_object_missing_from_a_list_meanwhile_is_not_stored(
        self, store: Store[Pod], existing: ObjectUIDs, namespace: str | None, stored: bool
    ) -> None:
        """The store does not have the object yet, so that the list removes nothing."""
        with store.response(KEY) as keep:
            assert store.remove_missing(existing, namespace) == []
            assert keep(version(5)) is stored
        assert known(store) == (("5", "pod-1") if stored else None)

    def test_deletions_are_forgotten_after_the_response(self, store: Store[Pod]) -> None:
        with contextlib.suppress(ConnectionFailed), store.response(KEY):
            raise ConnectionFailed
        with store.response(KEY) as keep:
            keep(version(1))
        assert known(store) == ("1", "pod-1")


class TestDeletion:
    def test_deleted_object_is_removed(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1))
        assert store.remove(KEY, "pod-1")
        assert len(store) == 0

    def test_deletion_of_unknown_object_is_ignored(self, store: Store[Pod]) -> None:
        assert not store.remove(KEY, "pod-1")

    def test_late_deletion_does_not_remove_the_next_object(self, store: Store[Pod]) -> None:
        store.put(KEY, version(2, "new"))
        assert not store.remove(KEY, "old")
        assert known(store) == ("2", "new")


class TestRemoveMissing:
    """Objects that are stored and were gone when the UIDs were listed."""

    @pytest.mark.parametrize(
        ("existing", "missing"),
        [
            pytest.param(ObjectUIDs({KEY: "pod-1"}, 9), False, id="exists"),
            pytest.param(ObjectUIDs({}, 9), True, id="deleted"),
            pytest.param(ObjectUIDs({KEY: "pod-2"}, 9), True, id="replaced by another of its name"),
            pytest.param(ObjectUIDs({}, 5), True, id="deleted at the listed version"),
            pytest.param(ObjectUIDs({}, 4), False, id="the list is older than the stored object"),
        ],
    )
    def test_stored_object_missing_from_the_list_is_removed(
        self, store: Store[Pod], existing: ObjectUIDs, missing: bool
    ) -> None:
        store.put(KEY, version(5))
        assert store.remove_missing(existing, None) == ([KEY] if missing else [])
        assert known(store) == (None if missing else ("5", "pod-1"))

    @pytest.mark.parametrize(
        ("listed", "list_version", "older"),
        [
            pytest.param(4, 9, True, id="older, as after a restore of etcd"),
            pytest.param(5, 9, False, id="the same version"),
            pytest.param(6, 9, False, id="newer"),
            pytest.param(4, 4, False, id="stored after the list"),
        ],
    )
    def test_older_version_in_the_list_is_returned(
        self, store: Store[Pod], listed: int, list_version: int, older: bool
    ) -> None:
        store.put(KEY, version(5))
        existing = ObjectUIDs({KEY: "pod-1"}, list_version, {KEY: listed, OTHER: 1})
        assert store.older_in(existing) == ((KEY, 5, 4) if older else None)

    def test_list_of_one_namespace_affects_no_other(self, store: Store[Pod]) -> None:
        store.put(OTHER, version(1))
        assert store.remove_missing(ObjectUIDs({}, 9), "default") == []
        assert store.remove_missing(ObjectUIDs({}, 9), "other") == [OTHER]


class TestPacked:
    """Objects at rest take a tenth of the memory."""

    def test_all_but_the_objects_stored_last_are_packed(self) -> None:
        store = Store[Pod](max_unpacked=2)
        keys = [Key("default", name) for name in "abc"]
        for key in keys:
            store.put(key, version(1))
        assert [store.is_packed(key) for key in keys] == [True, False, False]
        assert [store.get(key) for key in keys] == [version(1)] * 3

    def test_change_of_packed_object_unpacks_it(self) -> None:
        store = Store[Pod](max_unpacked=2)
        keys = [Key("default", name) for name in "abc"]
        for key in keys:
            store.put(key, version(1))
        store.put(keys[0], version(2))
        assert [store.is_packed(key) for key in keys] == [False, True, False]
        assert store.get(keys[0]) == version(2)

    def test_removed_object_does_not_count(self) -> None:
        store = Store[Pod](max_unpacked=2)
        keys = [Key("default", name) for name in "abc"]
        for key in keys[:2]:
            store.put(key, version(1))
        store.remove(keys[0], "pod-1")
        store.put(keys[2], version(1))
        assert not any(map(store.is_packed, keys))

    def test_object_of_list_is_packed_until_it_changes(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1), listed=True)
        assert store.is_packed(KEY)
        assert not store.put(KEY, version(1))
        assert known(store) == ("1", "pod-1")
        assert store.put(KEY, version(2))
        assert not store.is_packed(KEY)

    def test_packed_object_with_computed_fields_stays_packed(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1), listed=True)
        store.refine(KEY, replace(version(1), phase="Running"))
        assert store.is_packed(KEY)
        assert store.get(KEY) == replace(version(1), phase="Running")

    def test_object_that_cannot_be_packed_is_stored_unchanged(self) -> None:
        nested: Raw = {}
        for _ in range(5000):
            nested = {"x": nested}
        (status, *_) = running_pod().build().init_container_statuses
        odd = replace(version(1), init_container_statuses=(replace(status, raw=nested),))
        store = Store[Pod](max_unpacked=1)
        store.put(KEY, odd)
        assert store.put(OTHER, version(2))
        assert store.get(KEY) is odd

    @pytest.mark.parametrize(
        "stored",
        [
            pytest.param(pipeline().build(), id="without status"),
            pytest.param(
                pipeline()
                .with_status(
                    decide(Facts(pipeline().build(), running_pod().build()), at(100)).status
                )
                .build(),
                id="with status",
            ),
        ],
    )
    def test_packed_pipeline_is_returned_unchanged(self, stored: Pipeline) -> None:
        pipelines = Cache.empty().pipelines
        pipelines.put(KEY, stored, listed=True)
        assert pipelines.is_packed(KEY)
        assert pipelines.get(KEY) == stored

    def test_absent_object_is_not_packed(self, store: Store[Pod]) -> None:
        assert not store.is_packed(KEY)

    def test_pipeline_with_its_pod_takes_a_few_kilobytes(self) -> None:
        """10,000 of them are to fit into 200 MiB, with the process itself."""
        count = 200

        def fill(cache: Cache) -> None:
            for number in range(count):
                key = Key("default", f"demo-{number}")
                cache.pods.put(key, running_pod().build(), listed=True)
                cache.pipelines.put(key, REPORTED.build(), listed=True)

        fill(Cache.empty())  # Caches of other modules.
        cache = Cache.empty()
        gc.collect()
        tracemalloc.start()
        try:
            fill(cache)
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(cache.pipelines) == len(cache.pods) == count
        assert kept / count < 4 * 1024


class TestPodOfManyContainers:
    """A user who may write the status of a Pod can add thousands of containers to it."""

    def large(self, number: int = 10) -> Pod:
        found = pod()
        for step in range(1000):
            found = found.init(f"step-{step}", exit=1, restarts=step)
        return replace(found.build(), resource_version=str(number))

    def test_packed_pod_is_returned_unchanged(self) -> None:
        pods, found = Cache.empty().pods, self.large()
        assert pods.put(KEY, found)
        assert pods.get(KEY) == found
        assert not pods.put(KEY, found), "the watch event of an own write is new"
        assert pods.remove(KEY, found.uid, found)
        assert pods.gone(KEY) == found

    def test_packed_pod_takes_little_memory(self) -> None:
        pods = Cache.empty().pods
        tracemalloc.start()
        try:
            pods.put(KEY, self.large())
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
            pods.remove(KEY, "pod-1")
            rest, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert 10_000 < kept - rest < 100_000


class TestCounts:
    def test_object_that_changes_is_counted_once_with_its_last_summary(self) -> None:
        store: Store[Pod] = Store(summary=lambda pod: pod.resource_version)
        for number in range(1, 1000):
            store.put(KEY, version(number))
        assert store.counts == {"999": 1}
        assert len(store._known) == 1

    def test_object_that_is_deleted_is_not_counted(self) -> None:
        store: Store[Pod] = Store(summary=lambda pod: pod.uid)
        store.put(KEY, version(1))
        store.put(OTHER, version(1))
        store.remove(KEY, "pod-1")
        assert store.counts == {"pod-1": 1}
        store.remove(OTHER, "pod-1")
        assert not store.counts
