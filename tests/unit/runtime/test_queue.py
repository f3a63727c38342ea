"""The queue of keys: each with one worker at a time, looked at again rather than twice."""

import asyncio

import pytest

from initpipeline.runtime.queue import WorkQueue
from tests.builders import at
from tests.unit.runtime.clock import Clock


@pytest.fixture
def keys(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock)


async def taken(keys: WorkQueue[str]) -> list[str]:
    """All keys that are ready now, each taken and done."""
    result = []
    while (key := await take(keys)) is not None:
        result.append(key)
        keys.done(key)
    return result


async def take(keys: WorkQueue[str]) -> str | None:
    """The key that a worker would get now."""
    getting = asyncio.ensure_future(keys.get())
    for _ in range(3):
        await asyncio.sleep(0)
    if getting.done():
        return getting.result()
    getting.cancel()
    return None


class TestAdd:
    async def test_keys_come_in_the_order_of_their_addition(self, keys: WorkQueue[str]) -> None:
        for key in "cab":
            keys.add(key)
        assert await taken(keys) == ["c", "a", "b"]

    async def test_a_key_that_waits_is_not_added_twice(self, keys: WorkQueue[str]) -> None:
        keys.add("a")
        keys.add("a")
        assert await taken(keys) == ["a"]

    async def test_a_key_is_with_one_worker_at_a_time(self, keys: WorkQueue[str]) -> None:
        keys.add("a")
        await take(keys)
        keys.add("a")
        assert await take(keys) is None, "a second worker got the key that the first has"

    async def test_a_key_added_while_it_is_worked_on_comes_once_more(
        self, keys: WorkQueue[str]
    ) -> None:
        keys.add("a")
        await take(keys)
        keys.add("a")
        keys.add("a")
        keys.done("a")
        assert await taken(keys) == ["a"]

    async def test_a_key_that_is_done_does_not_come_again(self, keys: WorkQueue[str]) -> None:
        keys.add("a")
        assert await taken(keys) == ["a"]
        assert await taken(keys) == []

    async def test_other_keys_do_not_wait_for_one_that_is_worked_on(
        self, keys: WorkQueue[str]
    ) -> None:
        keys.add("a")
        await take(keys)
        keys.add("a")
        keys.add("b")
        assert await take(keys) == "b"


class TestAddAt:
    async def test_comes_at_its_time(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add_at("a", at(10))
        await clock.advance(9.9)
        assert await taken(keys) == []
        await clock.advance(0.1)
        assert await taken(keys) == ["a"]

    async def test_a_time_that_has_passed_is_now(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add_at("a", at(-10))
        await clock.advance()
        assert await taken(keys) == ["a"]

    @pytest.mark.parametrize("times", [(5, 10), (10, 5)], ids=["first", "second"])
    async def test_the_earlier_of_two_times_counts(
        self, keys: WorkQueue[str], clock: Clock, times: tuple[int, int]
    ) -> None:
        for time in times:
            keys.add_at("a", at(time))
        await clock.advance(5)
        assert await taken(keys) == ["a"]
        await clock.advance(5)
        assert await taken(keys) == [], "the later time was not forgotten"

    async def test_a_time_that_comes_while_the_key_is_worked_on_is_not_lost(
        self, keys: WorkQueue[str], clock: Clock
    ) -> None:
        keys.add("a")
        await take(keys)
        keys.add_at("a", at(1))
        await clock.advance(1)
        keys.done("a")
        assert await taken(keys) == ["a"]

    async def test_close_forgets_all_times(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add_at("a", at(1))
        keys.close()
        await clock.advance(2)
        assert await taken(keys) == []


class TestRetry:
    async def test_comes_after_the_delay_that_it_returns(
        self, keys: WorkQueue[str], clock: Clock
    ) -> None:
        delay = keys.retry("a")
        await clock.advance(delay - 0.01)
        assert await taken(keys) == []
        await clock.advance(0.01)
        assert await taken(keys) == ["a"]

    async def test_delays_double_up_to_five_minutes(self, keys: WorkQueue[str]) -> None:
        delays = [keys.retry("a") for _ in range(13)]
        assert delays[:5] == [0.25, 0.5, 1, 2, 4]
        assert delays[-3:] == [256, 300, 300]

    async def test_delays_end_where_the_caller_says(self, keys: WorkQueue[str]) -> None:
        assert [keys.retry("a", longest=1.5) for _ in range(5)] == [0.25, 0.5, 1, 1.5, 1.5]

    async def test_any_number_of_failures_has_a_delay(self, keys: WorkQueue[str]) -> None:
        assert {keys.retry("a") for _ in range(5000)} <= {0.25 * 2**n for n in range(11)} | {300}

    async def test_each_key_has_delays_of_its_own(self, keys: WorkQueue[str]) -> None:
        keys.retry("a")
        assert keys.retry("b") == 0.25

    async def test_after_a_success_delays_begin_anew(self, keys: WorkQueue[str]) -> None:
        keys.retry("a")
        keys.retry("a")
        keys.forget_failures("a")
        assert keys.retry("a") == 0.25

    async def test_a_key_that_is_added_does_not_wait_for_its_retry(
        self, keys: WorkQueue[str]
    ) -> None:
        keys.retry("a")
        keys.add("a")
        assert await taken(keys) == ["a"]


class TestDrain:
    async def test_at_rest_it_ends_at_once(self, keys: WorkQueue[str]) -> None:
        await keys.drain(5)

    async def test_waits_for_the_work_under_way(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add("a")
        await take(keys)
        draining = asyncio.ensure_future(keys.drain(5))
        await clock.advance(1)
        assert not draining.done(), "did not wait"
        keys.done("a")
        await clock.advance()
        assert draining.done(), "still waits although all is done"

    async def test_waits_no_longer_than_it_may(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add("a")
        await take(keys)
        draining = asyncio.ensure_future(keys.drain(5))
        await clock.advance()
        await clock.advance(5)
        assert draining.done(), "waits for ever"

    async def test_begins_nothing_new(self, keys: WorkQueue[str]) -> None:
        """What waits is looked at after the next start anyway."""
        keys.add("a")
        await take(keys)
        keys.add("b")
        keys.close()
        keys.done("a")
        assert await take(keys) is None, "a worker was given a key after the end"


class TestGroups:
    """Keys are named by group and number: "a1"."""

    @pytest.fixture
    def queue(self, clock: Clock) -> WorkQueue[str]:
        return WorkQueue(clock, lambda key: key[0], max_per_group=2)

    async def test_each_group_gets_its_turn(self, queue: WorkQueue[str]) -> None:
        for key in ("a1", "a2", "a3", "b1", "b2", "c1"):
            queue.add(key)
        taken = []
        for _ in range(6):
            taken.append(await queue.get())
            queue.done(taken[-1])
        assert taken == ["a1", "b1", "c1", "a2", "b2", "a3"]

    async def test_group_has_no_more_at_work_than_allowed(self, queue: WorkQueue[str]) -> None:
        for key in ("a1", "a2", "a3", "b1"):
            queue.add(key)
        assert [await queue.get() for _ in range(3)] == ["a1", "b1", "a2"]
        waits = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        assert not waits.done(), "a third of its group"
        queue.done("b1")
        await asyncio.sleep(0)
        assert not waits.done(), "the end of another group's key lets none of this one start"
        queue.done("a1")
        assert await asyncio.wait_for(waits, 1) == "a3"

    async def test_key_that_was_added_again_waits_behind_those_of_its_group(
        self, queue: WorkQueue[str]
    ) -> None:
        queue.add("a1")
        await queue.get()
        queue.add("a2")
        queue.add("a1")
        queue.done("a1")
        assert [await queue.get(), await queue.get()] == ["a2", "a1"]

    async def test_cancelled_getter_leaves_its_key_to_another(self, queue: WorkQueue[str]) -> None:
        first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a1")
        first.cancel()
        assert await asyncio.wait_for(second, 1) == "a1"
