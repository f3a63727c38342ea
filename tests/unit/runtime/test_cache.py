"""What is known of each object: the newest of what was told, and nothing of what is gone."""

import contextlib
import gc
import tracemalloc
from dataclasses import replace

import pytest

from initpipeline.core.facts import Pod
from initpipeline.runtime.cache import Cache, Store
from initpipeline.runtime.errors import ConnectionFailed
from initpipeline.runtime.gateway import Key, ObjectUIDs
from tests.builders import pod

KEY = Key("default", "demo")
OTHER = Key("other", "demo")


def version(number: int, uid: str = "pod-1") -> Pod:
    return replace(pod().build(), resource_version=str(number), uid=uid)


@pytest.fixture
def store() -> Store[Pod]:
    return Store()


def known(store: Store[Pod]) -> tuple[str, str] | None:
    """Version and UID."""
    thing = store.get(KEY)
    return None if thing is None else (thing.resource_version, thing.uid)


class TestNewestWins:
    @pytest.mark.parametrize(
        ("told", "news"),
        [
            pytest.param((9, 10), True, id="newer: by number, not by letter"),
            pytest.param((10, 9), False, id="older"),
            pytest.param((10, 10), False, id="the same: the echo of an own write"),
        ],
    )
    def test_the_second_word(self, store: Store[Pod], told: tuple[int, int], news: bool) -> None:
        first, second = told
        store.put(KEY, version(first))
        assert store.is_news(KEY, str(second)) is news
        assert store.put(KEY, version(second)) is news
        assert known(store) == (str(max(told)), "pod-1")

    def test_the_first_word_is_news(self, store: Store[Pod]) -> None:
        assert store.put(KEY, version(1))

    def test_another_object_of_the_name_takes_its_place(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1, "old"))
        assert store.put(KEY, version(2, "new"))
        assert known(store) == ("2", "new")


class TestAnswerToAWrite:
    def test_is_kept_before_the_watch_tells(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1))
        assert store.replace(KEY, version(2))
        assert not store.put(KEY, version(2)), "the echo is news"

    def test_does_not_bring_back_what_is_deleted(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1))
        store.remove(KEY, "pod-1")
        assert not store.replace(KEY, version(2))
        assert known(store) is None

    def test_that_is_late_does_not_undo_what_the_watch_told(self, store: Store[Pod]) -> None:
        store.put(KEY, version(3))
        assert not store.replace(KEY, version(2))
        assert known(store) == ("3", "pod-1")


class TestAnswerToACreation:
    def test_is_kept_before_the_watch_tells(self, store: Store[Pod]) -> None:
        with store.creation(KEY) as keep:
            keep(version(1))
        assert known(store) == ("1", "pod-1")
        assert not store.put(KEY, version(1)), "the echo is news"

    def test_does_not_bring_back_what_was_deleted_meanwhile(self, store: Store[Pod]) -> None:
        with store.creation(KEY) as keep:
            store.put(KEY, version(1))
            store.remove(KEY, "pod-1")
            keep(version(1))
        assert known(store) is None

    def test_is_kept_though_another_of_the_name_was_deleted_meanwhile(
        self, store: Store[Pod]
    ) -> None:
        store.put(KEY, version(1, "old"))
        with store.creation(KEY) as keep:
            store.remove(KEY, "old")
            keep(version(2, "new"))
        assert known(store) == ("2", "new")

    def test_remembers_no_deletion_afterwards(self, store: Store[Pod]) -> None:
        with contextlib.suppress(ConnectionFailed), store.creation(KEY):
            raise ConnectionFailed
        with store.creation(KEY) as keep:
            keep(version(1))
        assert known(store) == ("1", "pod-1")


class TestDeletion:
    def test_forgets(self, store: Store[Pod]) -> None:
        store.put(KEY, version(1))
        assert store.remove(KEY, "pod-1")
        assert len(store) == 0

    def test_of_an_unknown_object_is_no_news(self, store: Store[Pod]) -> None:
        assert not store.remove(KEY, "pod-1")

    def test_that_is_told_late_spares_the_next_object_of_the_name(self, store: Store[Pod]) -> None:
        store.put(KEY, version(2, "new"))
        assert not store.remove(KEY, "old")
        assert known(store) == ("2", "new")


class TestMissingFrom:
    """Objects that are stored and were gone when the UIDs were listed."""

    @pytest.mark.parametrize(
        ("existing", "missing"),
        [
            pytest.param(ObjectUIDs({KEY: "pod-1"}, 9), False, id="there"),
            pytest.param(ObjectUIDs({}, 9), True, id="gone"),
            pytest.param(ObjectUIDs({KEY: "pod-2"}, 9), True, id="another one took its name"),
            pytest.param(ObjectUIDs({}, 5), True, id="gone, and nothing happened since"),
            pytest.param(ObjectUIDs({}, 4), False, id="the list is older than the stored object"),
        ],
    )
    def test_one_object(self, store: Store[Pod], existing: ObjectUIDs, missing: bool) -> None:
        store.put(KEY, version(5))
        assert store.missing_from(existing, None) == ([(KEY, "pod-1")] if missing else [])

    def test_of_one_namespace_says_nothing_about_others(self, store: Store[Pod]) -> None:
        store.put(OTHER, version(1))
        assert store.missing_from(ObjectUIDs({}, 9), "default") == []
        assert store.missing_from(ObjectUIDs({}, 9), "other") == [(OTHER, "pod-1")]


class TestPodOfManyContainers:
    """A user who may write a Pod's status can give it thousands."""

    def large(self, number: int = 10) -> Pod:
        found = pod()
        for step in range(1000):
            found = found.init(f"step-{step}", exit=1, restarts=step)
        return replace(found.build(), resource_version=str(number))

    def test_pod_comes_back_as_it_was(self) -> None:
        pods, found = Cache.empty().pods, self.large()
        assert pods.put(KEY, found)
        assert pods.get(KEY) == found
        assert not pods.put(KEY, found), "the echo of an own write is no news"
        assert pods.remove(KEY, found.uid, found)
        assert pods.gone(KEY) == found

    def test_pod_takes_up_little_memory(self) -> None:
        pods = Cache.empty().pods
        tracemalloc.start()
        try:
            pods.put(KEY, self.large())
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 100_000
