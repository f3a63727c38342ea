"""The replicas that divide the work: who is live, and until when a replica may write."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from initpipeline.runtime.errors import ConnectionFailed, api_error
from initpipeline.runtime.gateway import Lease
from initpipeline.runtime.leader import LeaderElection
from initpipeline.runtime.members import Members
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_leases import KEY, PERIODS, FakeLeases, pass_time

FOUR = "replicas with 4 shards"


class Replica:
    """A process that is a member."""

    def __init__(self, leases: FakeLeases, identity: str, clock: Clock, shards: int = 4) -> None:
        self.members = Members(leases, KEY, identity, shards, PERIODS, clock, lambda: clock.seconds)
        self.seen: list[frozenset[str]] = []
        """The live replicas, at each change."""
        self.resumed = 0
        self.task = asyncio.create_task(self.members.run(self._changed, self._resumed))

    def _resumed(self) -> None:
        assert self.members.leads()
        self.resumed += 1

    def _changed(self) -> None:
        live = self.members.live()
        if [live] != self.seen[-1:]:
            self.seen.append(live)

    @property
    def live(self) -> str:
        return ",".join(sorted(self.members.live()))

    async def die(self) -> None:
        """End without leaving, like a killed process."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


Start = Callable[..., Replica]


@pytest.fixture
def leases() -> FakeLeases:
    return FakeLeases()


@pytest.fixture
async def start(clock: Clock, leases: FakeLeases) -> AsyncIterator[Start]:
    """Returns a function that starts a replica."""
    started: list[Replica] = []

    def start(identity: str, shards: int = 4) -> Replica:
        started.append(Replica(leases, identity, clock, shards))
        return started[-1]

    yield start
    for replica in started:
        await replica.die()


@pytest.fixture
async def pair(start: Start, clock: Clock) -> tuple[Replica, Replica]:
    """Returns two live replicas, a and b."""
    first, second = start("a"), start("b")
    await pass_time(clock, 5)
    return first, second


async def test_replicas_observe_each_other(pair: tuple[Replica, Replica]) -> None:
    assert [replica.live for replica in pair] == ["a,b", "a,b"]


async def test_new_replica_is_observed_at_once(start: Start, clock: Clock) -> None:
    first = start("a")
    await clock.advance()
    start("b")
    await clock.advance()
    assert first.live == "a,b"


async def test_live_replicas_stay_members(pair: tuple[Replica, Replica], clock: Clock) -> None:
    await pass_time(clock, 300)
    for replica in pair:
        assert replica.live == "a,b"
        assert len(replica.seen) <= 2, "the set of live replicas changed meanwhile"


async def test_killed_replica_is_gone_when_its_heartbeat_expires(
    pair: tuple[Replica, Replica], clock: Clock
) -> None:
    """It could write until then, and no longer."""
    first, second = pair
    await first.die()
    until = clock.seconds + first.members.remaining()
    await pass_time(clock, int(until - clock.seconds))
    assert second.live == "a,b"
    await pass_time(clock, 3)
    assert second.live == "b"
    assert first.members.remaining() <= 0


async def test_replica_that_may_write_never_counts_as_gone(
    pair: tuple[Replica, Replica], clock: Clock
) -> None:
    first, second = pair
    await first.die()
    for _ in range(40):
        await clock.advance(0.5)
        assert first.members.remaining() <= 0 or not second.members.is_gone("a")


async def test_no_replica_counts_as_gone_after_a_pause_of_the_observer(
    pair: tuple[Replica, Replica], clock: Clock
) -> None:
    """When it continues, it has not read the heartbeats of the others yet."""
    first, second = pair
    await second.die()
    for seconds in range(60):
        assert not second.members.is_gone("a"), seconds
        await clock.advance(1)
    assert first.live == "a"


async def test_left_replica_is_not_live(
    pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
) -> None:
    first, second = pair
    await first.die()
    await first.members.leave()
    await clock.advance()
    assert second.live == "b"
    assert leases.lease is not None
    assert leases.lease.holder == FOUR
    assert first.members.remaining() == 0


async def test_last_replica_that_leaves_frees_the_lease(
    start: Start, leases: FakeLeases, clock: Clock
) -> None:
    only = start("a")
    await clock.advance()
    await only.die()
    await only.members.leave()
    assert leases.lease is not None
    assert (leases.lease.holder, leases.lease.members) == ("", {})


async def test_gone_replica_is_removed_from_the_lease(
    pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
) -> None:
    await pair[0].die()
    await pass_time(clock, 20)
    assert leases.lease is not None
    assert set(leases.lease.members) == {"b"}


async def test_replica_without_a_heartbeat_is_gone_after_the_lease_duration(
    start: Start, clock: Clock
) -> None:
    """The duration counts from when this replica first asks about the other one."""
    replica = start("b")
    assert not replica.members.is_gone("old")
    await pass_time(clock, 14)
    assert not replica.members.is_gone("old")
    await pass_time(clock, 1)
    assert replica.members.is_gone("old")


class TestOtherShards:
    """Replicas with different numbers of shards never work at the same time."""

    async def test_replica_with_another_number_waits(
        self, pair: tuple[Replica, Replica], start: Start, clock: Clock
    ) -> None:
        other = start("c", shards=2)
        await pass_time(clock, 60)
        assert other.live == ""
        assert other.members.is_excluded()
        assert other.members.remaining() <= 0
        assert pair[0].live == "a,b"

    async def test_replica_with_another_number_follows_the_last_one(
        self, pair: tuple[Replica, Replica], start: Start, clock: Clock
    ) -> None:
        other = start("c", shards=2)
        await pass_time(clock, 2)
        for replica in pair:
            await replica.die()
            await replica.members.leave()
        await pass_time(clock, 3)
        assert other.live == "c"

    async def test_replica_with_another_number_follows_killed_ones(
        self, pair: tuple[Replica, Replica], start: Start, clock: Clock
    ) -> None:
        other = start("c", shards=2)
        await pass_time(clock, 2)
        for replica in pair:
            await replica.die()
        await pass_time(clock, 20)
        assert other.live == "c"
        assert all(replica.members.remaining() <= 0 for replica in pair)

    async def test_leader_without_shards_excludes_all(
        self, start: Start, leases: FakeLeases, clock: Clock
    ) -> None:
        leader = LeaderElection(leases, KEY, "leader", PERIODS, clock, lambda: clock.seconds)
        await leader.acquire()
        keeping = asyncio.create_task(leader.keep())
        replica = start("a")
        await pass_time(clock, 60)
        assert replica.live == ""
        keeping.cancel()
        await leader.release()
        await pass_time(clock, 3)
        assert replica.live == "a"

    async def test_leader_without_shards_stands_by(
        self, pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
    ) -> None:
        leader = LeaderElection(leases, KEY, "leader", PERIODS, clock, lambda: clock.seconds)
        taking = asyncio.create_task(leader.acquire())
        await pass_time(clock, 60)
        assert not taking.done()
        for replica in pair:
            await replica.die()
        await pass_time(clock, 17)
        assert taking.done()
        assert all(replica.members.remaining() <= 0 for replica in pair)

    async def test_replica_whose_lease_was_taken_is_no_member(
        self, pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
    ) -> None:
        """It was paused for so long that a leader without shards has taken the Lease."""
        leases.put(Lease("9000", "leader", 15, "", 0))
        await pass_time(clock, 3)
        assert [replica.live for replica in pair] == ["", ""]
        assert all(replica.members.remaining() <= 0 for replica in pair)


class TestFailure:
    async def test_replica_without_heartbeat_must_not_write(
        self, pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
    ) -> None:
        leases.hanging = True
        await pass_time(clock, 15)
        assert all(replica.members.remaining() <= 0 for replica in pair)

    async def test_outage_changes_no_owner(
        self, pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
    ) -> None:
        """After it, each replica gives the others time for a heartbeat."""
        leases.hanging = True
        leases.end_watches()
        await pass_time(clock, 60)
        leases.hanging = False
        await pass_time(clock, 30)
        for replica in pair:
            assert replica.live == "a,b"
            assert len(replica.seen) <= 2

    async def test_replica_that_could_not_write_starts_over(
        self, pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
    ) -> None:
        """Meanwhile its workers have dropped all keys."""
        before = [replica.resumed for replica in pair]
        leases.hanging = True
        await pass_time(clock, 12)
        assert not any(replica.members.leads() for replica in pair)
        leases.hanging = False
        await pass_time(clock, 15)
        assert [replica.resumed for replica in pair] == [number + 1 for number in before]

    async def test_refused_heartbeat_is_repeated(
        self, start: Start, leases: FakeLeases, clock: Clock
    ) -> None:
        leases.failing = [None, ConnectionFailed("reset"), ConnectionFailed("reset")]
        replica = start("a")
        await pass_time(clock, 6)
        assert replica.live == "a"

    @pytest.mark.parametrize("error", [api_error(409, {}), api_error(404, {})], ids=str)
    async def test_refused_heartbeat_is_repeated_after_a_delay(
        self, leases: FakeLeases, start: Start, clock: Clock, error: Exception
    ) -> None:
        """A webhook may refuse each write with a conflict, although the Lease does not change."""
        replica = start("a")
        await pass_time(clock, 3)
        leases.refused = error
        before = leases.requests
        await pass_time(clock, 20)
        assert not replica.members.leads()
        assert leases.requests - before <= 42, "a write and a read in each second at most"
        leases.refused = None
        await pass_time(clock, 3)
        assert replica.members.leads()

    async def test_heartbeat_without_response_does_not_count(
        self, start: Start, leases: FakeLeases, clock: Clock
    ) -> None:
        leases.unanswered = 1
        replica = start("a")
        await clock.advance()
        assert replica.members.remaining() == 0
        await pass_time(clock, 3)
        assert replica.members.remaining() > 0

    async def test_deleted_lease_is_created_again(
        self, pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
    ) -> None:
        leases.put(None)
        await pass_time(clock, 5)
        assert leases.lease is not None
        assert leases.lease.holder == FOUR
        assert [replica.live for replica in pair] == ["a,b", "a,b"]

    async def test_edited_members_are_restored(
        self, pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
    ) -> None:
        assert leases.lease is not None
        leases.put(replace(leases.lease, resource_version="9000", members={}))
        await pass_time(clock, 5)
        assert [replica.live for replica in pair] == ["a,b", "a,b"]

    async def test_election_is_not_idle_in_an_outage(
        self, pair: tuple[Replica, Replica], leases: FakeLeases, clock: Clock
    ) -> None:
        leases.hanging = True
        for _ in range(100):
            await clock.advance(1)
            assert pair[0].members.idle_seconds() < 20
