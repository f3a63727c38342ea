"""The work queue: deduplication, one worker per key, delays, retries, groups and the shutdown."""

import asyncio
import random

import pytest

from initpipeline.runtime.queue import Urgency, WorkQueue
from tests.builders import at
from tests.unit.runtime.clock import Clock


@pytest.fixture
def keys(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock)


async def taken(keys: WorkQueue[str]) -> list[str]:
    """Process all keys that are ready now. Returns them in order."""
    result = []
    while (key := await take(keys)) is not None:
        result.append(key)
        keys.done(key)
    return result


async def take(keys: WorkQueue[str]) -> str | None:
    """Returns the key that a worker gets now. Fails if no key is ready."""
    getting = asyncio.ensure_future(keys.get())
    for _ in range(3):
        await asyncio.sleep(0)
    if getting.done():
        return getting.result()
    getting.cancel()
    return None


class TestAdd:
    async def test_keys_are_returned_in_order_of_addition(self, keys: WorkQueue[str]) -> None:
        for key in "cab":
            keys.add(key)
        assert await taken(keys) == ["c", "a", "b"]

    async def test_key_added_twice_is_returned_once(self, keys: WorkQueue[str]) -> None:
        keys.add("a")
        keys.add("a")
        assert await taken(keys) == ["a"]

    async def test_active_key_is_not_given_to_second_worker(self, keys: WorkQueue[str]) -> None:
        keys.add("a")
        await take(keys)
        keys.add("a")
        assert await take(keys) is None, "a second worker got an active key"

    async def test_key_added_while_active_is_returned_once_more(self, keys: WorkQueue[str]) -> None:
        keys.add("a")
        await take(keys)
        keys.add("a")
        keys.add("a")
        keys.done("a")
        assert await taken(keys) == ["a"]

    async def test_key_that_is_done_is_not_returned_again(self, keys: WorkQueue[str]) -> None:
        keys.add("a")
        assert await taken(keys) == ["a"]
        assert await taken(keys) == []

    async def test_other_keys_do_not_wait_for_active_key(self, keys: WorkQueue[str]) -> None:
        keys.add("a")
        await take(keys)
        keys.add("a")
        keys.add("b")
        assert await take(keys) == "b"


class TestAddAt:
    async def test_key_is_returned_at_its_time(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add_at("a", at(10))
        await clock.advance(9.9)
        assert await taken(keys) == []
        await clock.advance(0.1)
        assert await taken(keys) == ["a"]

    async def test_past_time_returns_key_now(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add_at("a", at(-10))
        await clock.advance()
        assert await taken(keys) == ["a"]

    @pytest.mark.parametrize("times", [(5, 10), (10, 5)], ids=["first", "second"])
    async def test_earlier_of_two_times_counts(
        self, keys: WorkQueue[str], clock: Clock, times: tuple[int, int]
    ) -> None:
        for time in times:
            keys.add_at("a", at(time))
        await clock.advance(5)
        assert await taken(keys) == ["a"]
        await clock.advance(5)
        assert await taken(keys) == [], "the later time was not forgotten"

    async def test_time_reached_while_key_is_active_returns_it_again(
        self, keys: WorkQueue[str], clock: Clock
    ) -> None:
        keys.add("a")
        await take(keys)
        keys.add_at("a", at(1))
        await clock.advance(1)
        keys.done("a")
        assert await taken(keys) == ["a"]

    async def test_time_is_discarded_when_a_worker_gets_the_key(
        self, keys: WorkQueue[str], clock: Clock
    ) -> None:
        keys.add_at("a", at(5))
        keys.add("a")
        assert await take(keys) == "a"
        keys.add_at("a", at(10))
        keys.done("a")
        await clock.advance(5)
        assert await taken(keys) == [], "only the worker's time counts"
        await clock.advance(5)
        assert await taken(keys) == ["a"]

    async def test_time_of_another_key_is_kept(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add_at("a", at(5))
        keys.add("b")
        assert await taken(keys) == ["b"]
        await clock.advance(5)
        assert await taken(keys) == ["a"]

    async def test_close_discards_all_times(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add_at("a", at(1))
        keys.close()
        await clock.advance(2)
        assert await taken(keys) == []


class TestRetry:
    async def test_key_is_returned_after_the_returned_delay(
        self, keys: WorkQueue[str], clock: Clock
    ) -> None:
        delay = keys.retry("a")
        await clock.advance(delay - 0.01)
        assert await taken(keys) == []
        await clock.advance(0.01)
        assert await taken(keys) == ["a"]

    async def test_delay_doubles_up_to_five_minutes(self, keys: WorkQueue[str]) -> None:
        delays = [keys.retry("a") for _ in range(13)]
        assert delays[:5] == [0.25, 0.5, 1, 2, 4]
        assert delays[-3:] == [256, 300, 300]

    async def test_delay_is_limited_by_the_callers_longest(self, keys: WorkQueue[str]) -> None:
        assert [keys.retry("a", longest=1.5) for _ in range(5)] == [0.25, 0.5, 1, 1.5, 1.5]

    async def test_delay_is_at_least_the_callers_shortest(self, keys: WorkQueue[str]) -> None:
        assert [keys.retry("a", shortest=0.4) for _ in range(3)] == [0.4, 0.5, 1]

    async def test_delays_of_keys_that_failed_together_differ(
        self, keys: WorkQueue[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(random, "uniform", random.Random(0).uniform)
        delays = {keys.retry(str(number), shortest=2) for number in range(20)}
        assert len(delays) == 20
        assert 2 <= min(delays) < max(delays) <= 2.4

    async def test_delay_exists_for_any_number_of_failures(self, keys: WorkQueue[str]) -> None:
        assert {keys.retry("a") for _ in range(5000)} <= {0.25 * 2**n for n in range(11)} | {300}

    async def test_delay_is_independent_for_each_key(self, keys: WorkQueue[str]) -> None:
        keys.retry("a")
        assert keys.retry("b") == 0.25

    async def test_delay_after_success_is_the_shortest(self, keys: WorkQueue[str]) -> None:
        keys.retry("a")
        keys.retry("a")
        keys.forget_failures("a")
        assert keys.retry("a") == 0.25

    async def test_key_added_during_delay_is_returned_at_once(self, keys: WorkQueue[str]) -> None:
        keys.retry("a")
        keys.add("a")
        assert await taken(keys) == ["a"]


class TestDrain:
    async def test_idle_queue_drains_at_once(self, keys: WorkQueue[str]) -> None:
        await keys.drain(5)

    async def test_drain_waits_for_active_keys(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add("a")
        await take(keys)
        draining = asyncio.ensure_future(keys.drain(5))
        await clock.advance(1)
        assert not draining.done(), "did not wait"
        keys.done("a")
        await clock.advance()
        assert draining.done(), "still waits although all is done"

    async def test_drain_ends_after_its_timeout(self, keys: WorkQueue[str], clock: Clock) -> None:
        keys.add("a")
        await take(keys)
        draining = asyncio.ensure_future(keys.drain(5))
        await clock.advance()
        await clock.advance(5)
        assert draining.done(), "drain does not end"

    async def test_closed_queue_returns_no_key(self, keys: WorkQueue[str]) -> None:
        """The operator reconciles all pipelines at its next start."""
        keys.add("a")
        await take(keys)
        keys.add("b")
        keys.close()
        keys.done("a")
        assert await take(keys) is None, "a closed queue returned a key"


def urgency(key: str) -> Urgency:
    """Returns the urgency of a key: "!a1" is served first, "A1" next, "a1" last."""
    if key.startswith("!"):
        return Urgency.FIRST
    return Urgency.NEXT if key.isupper() else Urgency.LAST


class TestUrgency:
    """Keys of one group are served in the order of their urgency."""

    @pytest.fixture
    def queue(self, clock: Clock) -> WorkQueue[str]:
        return WorkQueue(clock, lambda key: key[-1], 2, 2, urgency)

    async def test_keys_come_in_order_of_urgency_and_addition(self, queue: WorkQueue[str]) -> None:
        for key in ("a1", "B1", "!c1", "d1", "!e1", "F1"):
            queue.add(key)
        assert await taken(queue) == ["!c1", "!e1", "B1", "F1", "a1", "d1"]

    async def test_urgent_key_does_not_precede_another_group(self, queue: WorkQueue[str]) -> None:
        for key in ("a1", "b2", "C2", "!d2"):
            queue.add(key)
        assert await taken(queue) == ["a1", "!d2", "C2", "b2"]

    @pytest.mark.parametrize("more", [Urgency.FIRST, Urgency.NEXT])
    async def test_waiting_key_that_becomes_more_urgent_comes_first(
        self, clock: Clock, more: Urgency
    ) -> None:
        changed: dict[str, Urgency] = {}
        queue = WorkQueue[str](
            clock, max_last=1, urgency=lambda key: changed.get(key, Urgency.LAST)
        )
        for key in "abc":
            queue.add(key)
        assert await take(queue) == "a"
        changed["c"] = more
        queue.add("c")
        assert await taken(queue) == ["c"]
        queue.done("a")
        assert await taken(queue) == ["b"]

    async def test_waiting_key_that_becomes_less_urgent_keeps_its_place(self, clock: Clock) -> None:
        """A worker reconciles the newest state in any case."""
        changed = {"b": Urgency.FIRST}
        queue = WorkQueue[str](clock, urgency=lambda key: changed.get(key, Urgency.NEXT))
        queue.add("a")
        queue.add("b")
        changed.clear()
        queue.add("b")
        assert await taken(queue) == ["b", "a"]

    async def test_last_keys_have_a_limit_of_their_own(self, queue: WorkQueue[str]) -> None:
        for key in ("a1", "b1", "c1"):
            queue.add(key)
        assert [await take(queue) for _ in range(3)] == ["a1", "b1", None]
        queue.add("D1")
        assert await take(queue) == "D1"
        queue.done("a1")
        assert await take(queue) == "c1"

    async def test_urgent_keys_at_their_limit_do_not_delay_the_last(
        self, queue: WorkQueue[str]
    ) -> None:
        for key in ("A1", "!b1", "C1", "D1", "e1", "f1"):
            queue.add(key)
        assert [await take(queue) for _ in range(5)] == ["!b1", "A1", "C1", "e1", None]
        queue.done("A1")
        assert await take(queue) == "D1"

    async def test_first_keys_at_their_limit_do_not_delay_the_next(
        self, queue: WorkQueue[str]
    ) -> None:
        for key in ("!a1", "!b1", "!c1", "D1", "E1", "f1"):
            queue.add(key)
        assert [await take(queue) for _ in range(4)] == ["!a1", "!b1", "D1", None]
        queue.done("D1")
        assert [await take(queue) for _ in range(2)] == ["E1", None]

    async def test_one_worker_serves_the_last_while_the_first_wait(
        self, queue: WorkQueue[str]
    ) -> None:
        for key in ("!a1", "!b1", "!c1", "d1", "e1"):
            queue.add(key)
        assert [await take(queue) for _ in range(4)] == ["!a1", "!b1", "d1", None]
        queue.done("!a1")
        assert [await take(queue) for _ in range(3)] == ["!c1", "e1", None]


class TestGroups:
    """Keys are named by group and number: "a1"."""

    @pytest.fixture
    def queue(self, clock: Clock) -> WorkQueue[str]:
        return WorkQueue(clock, lambda key: key[0], max_last=2)

    async def test_groups_are_served_in_turn(self, queue: WorkQueue[str]) -> None:
        for key in ("a1", "a2", "a3", "b1", "b2", "c1"):
            queue.add(key)
        taken = []
        for _ in range(6):
            taken.append(await queue.get())
            queue.done(taken[-1])
        assert taken == ["a1", "b1", "c1", "a2", "b2", "a3"]

    async def test_group_at_its_limit_is_skipped(self, queue: WorkQueue[str]) -> None:
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

    async def test_key_added_again_is_last_of_its_group(self, queue: WorkQueue[str]) -> None:
        queue.add("a1")
        await queue.get()
        queue.add("a2")
        queue.add("a1")
        queue.done("a1")
        assert [await queue.get(), await queue.get()] == ["a2", "a1"]

    async def test_key_of_cancelled_getter_goes_to_another_worker(
        self, queue: WorkQueue[str]
    ) -> None:
        first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a1")
        first.cancel()
        assert await asyncio.wait_for(second, 1) == "a1"


async def test_key_that_a_worker_has_for_long_is_stuck(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock)
    assert queue.stuck(10) is None
    queue.add("a")
    queue.add("b")
    await queue.get()
    await clock.advance(6)
    await queue.get()
    await clock.advance(6)
    assert queue.stuck(10) == "a"
    queue.done("a")
    assert queue.stuck(10) is None
    await clock.advance(6)
    assert queue.stuck(10) == "b"
