"""The buffer of events: whose turn it is, and what is dropped."""

import asyncio

import pytest

from initpipeline.runtime.fair_buffer import FairBuffer

Item = tuple[str, int]


def filled(limit: int, **counts: int) -> FairBuffer[Item]:
    """Returns a buffer with so many items of each namespace."""
    buffer: FairBuffer[Item] = FairBuffer(limit)
    for namespace, count in counts.items():
        for number in range(count):
            assert buffer.put(namespace, (namespace, number)) is None
    return buffer


async def taken(buffer: FairBuffer[Item], count: int) -> list[Item]:
    """Returns the next items. Each is done before the next one is taken."""
    items = []
    for _ in range(count):
        item = await buffer.get()
        items.append(item)
        buffer.done(item[0])
    return items


async def test_namespaces_are_served_in_turn_and_items_in_order() -> None:
    buffer = filled(10, a=3, b=1, c=2)
    expected = [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("a", 2)]
    assert await taken(buffer, 6) == expected


async def test_second_item_of_a_namespace_waits_until_the_first_is_done() -> None:
    buffer = filled(10, a=2)
    await buffer.get()
    second = asyncio.create_task(buffer.get())
    await asyncio.sleep(0)
    assert not second.done()
    buffer.done("a")
    assert await second == ("a", 1)


async def test_join_waits_for_the_last_item() -> None:
    buffer = filled(10, a=1)
    joined = asyncio.create_task(buffer.join())
    await buffer.get()
    await asyncio.sleep(0)
    assert not joined.done()
    buffer.done("a")
    await joined


@pytest.mark.parametrize(
    ("counts", "namespace", "dropped"),
    [
        pytest.param({"a": 4}, "b", ("a", 3), id="newest of the namespace with the most"),
        pytest.param({"a": 1, "b": 3}, "a", ("b", 2), id="not of the namespace with fewer"),
        pytest.param({"a": 4}, "a", ("a", 9), id="the item itself, of the namespace with the most"),
        pytest.param({"a": 2, "b": 2}, "b", ("b", 9), id="the item itself, of several with most"),
        pytest.param(dict.fromkeys("abcd", 1), "e", ("e", 9), id="the item itself, of many"),
    ],
)
async def test_full_buffer_drops_an_item(
    counts: dict[str, int], namespace: str, dropped: Item
) -> None:
    buffer = filled(4, **counts)
    assert buffer.put(namespace, (namespace, 9)) == dropped
    expected = [(name, n) for name, count in counts.items() for n in range(count)]
    kept = sorted({*expected, (namespace, 9)} - {dropped})
    assert sorted(await taken(buffer, 4)) == kept
