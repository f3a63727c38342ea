"""When the objects of a watch are up to date, and what a probe answers."""

import aiohttp
import pytest

from initpipeline.runtime.probes import (
    HUNG_SECONDS,
    REFUSED_SECONDS,
    SILENT_SECONDS,
    STABLE_SECONDS,
    End,
    Freshness,
    served,
)
from tests.ports import free_port


class Time:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def freshness(time: Time) -> Freshness:
    return Freshness("Pods", time)


class TestFreshness:
    def test_objects_that_were_not_listed_are_reported(self, freshness: Freshness) -> None:
        assert freshness.problem() == "Pods are not listed yet"
        freshness.failed(End.REFUSED)
        assert freshness.problem() == "Pods are not listed yet"

    def test_listed_objects_are_up_to_date(self, freshness: Freshness) -> None:
        freshness.seen()
        assert freshness.problem() is None

    def test_silent_watch_is_reported(self, freshness: Freshness, time: Time) -> None:
        freshness.seen()
        time.seconds += SILENT_SECONDS
        assert freshness.problem() is None
        time.seconds += 1
        assert freshness.problem() == "the watch of Pods has been silent for 151 seconds"
        freshness.seen()
        assert freshness.problem() is None

    def test_watch_that_fails_for_long_is_reported(self, freshness: Freshness, time: Time) -> None:
        """The time counts from the first failure, although later ones follow."""
        freshness.seen()
        freshness.failed(End.REFUSED)
        time.seconds += REFUSED_SECONDS
        freshness.failed(End.REFUSED)
        assert freshness.problem() is None
        time.seconds += 1
        assert freshness.problem() == "the watch of Pods has been failing for 31 seconds"

    def test_list_after_a_failure_does_not_end_it(self, freshness: Freshness, time: Time) -> None:
        """The API server may permit lists and refuse watches."""
        freshness.listed()
        freshness.failed(End.REFUSED)
        freshness.listed()
        time.seconds += REFUSED_SECONDS + 1
        assert freshness.problem() == "the watch of Pods has been failing for 31 seconds"

    def test_watch_that_stays_open_ends_a_failure(self, freshness: Freshness, time: Time) -> None:
        """In a cluster at rest, the next event is a bookmark after a minute."""
        freshness.listed()
        freshness.failed(End.REFUSED)
        freshness.opened()
        time.seconds += REFUSED_SECONDS + 1
        assert freshness.problem() is None
        freshness.failed(End.REFUSED)
        assert freshness.problem() is None, "the time counts from the later failure"

    def test_watch_that_fails_at_once_does_not_end_a_failure(
        self, freshness: Freshness, time: Time
    ) -> None:
        freshness.listed()
        for _ in range(2):
            freshness.opened()
            time.seconds += STABLE_SECONDS
            freshness.failed(End.REFUSED)
            time.seconds += REFUSED_SECONDS / 2
        assert "has been failing for" in (freshness.problem() or "")

    def test_watch_that_ended_after_it_had_worked_does_not_fail(
        self, freshness: Freshness, time: Time
    ) -> None:
        """There was no event since the failure."""
        freshness.listed()
        freshness.failed(End.REFUSED)
        freshness.opened()
        time.seconds += REFUSED_SECONDS + 1
        freshness.ended()
        assert freshness.problem() is None

    def test_each_end_is_reported_once_with_its_cause(self, time: Time) -> None:
        causes: list[End] = []
        freshness = Freshness("Pods", time, causes.append)
        freshness.ended()
        assert (causes, freshness.is_open()) == ([], False)
        freshness.opened()
        assert freshness.is_open()
        freshness.ended()
        freshness.ended()
        freshness.failed(End.GONE)
        freshness.ended()
        assert (causes, freshness.is_open()) == ([End.ENDED, End.GONE], False)

    def test_event_after_a_failure_ends_it(self, freshness: Freshness, time: Time) -> None:
        freshness.seen()
        freshness.failed(End.REFUSED)
        freshness.seen()
        time.seconds += REFUSED_SECONDS + 1
        assert freshness.problem() is None


class TestStuck:
    """A task that hangs neither ends nor fails."""

    def test_watch_that_has_not_begun_is_not_stuck(self, freshness: Freshness, time: Time) -> None:
        """A cold standby may wait for months."""
        time.seconds += HUNG_SECONDS + 1
        assert freshness.stuck() is None

    @pytest.mark.parametrize("record", ["listed", "opened", "seen", "failed", "ended"])
    def test_watch_is_stuck_if_nothing_was_tried_for_long(
        self, freshness: Freshness, time: Time, record: str
    ) -> None:
        freshness.opened()
        time.seconds += HUNG_SECONDS
        freshness.failed(End.GONE) if record == "failed" else getattr(freshness, record)()
        time.seconds += HUNG_SECONDS
        assert freshness.stuck() is None
        time.seconds += 1
        assert freshness.stuck() == "the watch of Pods has been stuck for 901 seconds"


async def test_probe_lists_all_problems() -> None:
    address = f"127.0.0.1:{free_port()}"
    problems: list[str | None] = [None, "one", "two"]
    checks = [lambda problem=problem: problem for problem in problems]
    async with (
        served(address) as probes,
        aiohttp.ClientSession(f"http://{address}") as session,
    ):
        probes.live, probes.ready = checks[:1], checks
        async with session.get("/healthz") as response:
            assert (response.status, await response.text()) == (200, "ok")
        async with session.get("/readyz") as response:
            assert (response.status, await response.text()) == (503, "one\ntwo")


async def test_no_address_serves_nothing() -> None:
    async with served(""):
        pass


async def test_operator_that_has_not_started_is_alive_and_not_ready() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with served(address), aiohttp.ClientSession(f"http://{address}") as session:
        async with session.get("/healthz") as response:
            assert (response.status, await response.text()) == (200, "ok")
        async with session.get("/readyz") as response:
            assert (response.status, await response.text()) == (
                503,
                "the operator has not started yet",
            )
