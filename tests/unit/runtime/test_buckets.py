"""The shards of objects, and the replicas of shards."""

from collections import Counter
from collections.abc import Collection
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initpipeline.api.names import BUCKET_LABEL
from initpipeline.api.raw import Raw
from initpipeline.runtime.buckets import BUCKETS, Shard, owners, selector, shard_of

LABELS = [None, "", "zz", "ab", *BUCKETS]
"""The values of the label, and values that are no bucket. None: there is no label."""


def labelled(value: str | None) -> Raw:
    return {"metadata": {} if value is None else {"labels": {BUCKET_LABEL: value}}}


def matches(selector: str, value: str | None) -> bool:
    """Returns whether the API server selects an object with this value of the label."""
    if not selector:
        return True
    if "(" not in selector:
        assert selector == f"{BUCKET_LABEL},!{BUCKET_LABEL}"
        return False
    key, operator, values = selector.split(" ")
    assert key == BUCKET_LABEL
    inside = value in values.strip("()").split(",")
    return {"in": inside, "notin": not inside}[operator]


SHARDS = st.integers(1, len(BUCKETS)).flatmap(
    lambda count: st.tuples(st.sets(st.integers(0, count - 1)), st.just(count))
)


@given(SHARDS, st.sampled_from(LABELS))
def test_selector_matches_exactly_the_objects_of_its_shards(
    some: tuple[set[int], int], value: str | None
) -> None:
    shards, count = some
    expected = shard_of(labelled(value), count) in shards
    assert matches(selector(shards, count), value) is expected


@pytest.mark.parametrize("value", LABELS)
def test_all_objects_belong_to_a_single_shard(value: str | None) -> None:
    assert Shard().selects(labelled(value))
    assert Shard().selector == ""


@pytest.mark.parametrize("value", [None, "", "zz", "0"])
def test_object_without_a_bucket_belongs_to_shard_0(value: str | None) -> None:
    assert [Shard(number, 4).selects(labelled(value)) for number in range(4)] == [
        True,
        False,
        False,
        False,
    ]


def test_null_labels_are_no_labels() -> None:
    assert shard_of({"metadata": {"labels": None}}, 4) == 0


REPLICAS = st.sets(st.text("abc-0123", min_size=1), min_size=1, max_size=20)


@given(REPLICAS, st.integers(1, len(BUCKETS)))
def test_shards_are_divided_evenly(replicas: set[str], count: int) -> None:
    owned = owners(replicas, count)
    assert owned.keys() == set(range(count))
    numbers = Counter(dict.fromkeys(replicas, 0) | Counter(owned.values()))
    assert max(numbers.values()) - min(numbers.values()) <= 1


@given(REPLICAS, st.integers(1, len(BUCKETS)), st.randoms())
def test_owners_do_not_depend_on_the_order_of_replicas(
    replicas: set[str], count: int, random: Random
) -> None:
    shuffled = list(replicas)
    random.shuffle(shuffled)
    assert owners(shuffled, count) == owners(replicas, count)


def test_no_replica_owns_nothing() -> None:
    assert owners([], 4) == {}


def moved(before: Collection[str], after: Collection[str]) -> int:
    """Returns how many of 16 shards have another owner."""
    old, new = owners(before, 16), owners(after, 16)
    return sum(old[shard] != new[shard] for shard in range(16))


def test_few_shards_move_when_a_replica_comes() -> None:
    """At least a quarter must move. Half is the most that the bound on the numbers costs."""
    moves = [moved([f"{n}-{i}" for i in "abc"], [f"{n}-{i}" for i in "abcd"]) for n in range(200)]
    assert sum(moves) / len(moves) < 7, moves
