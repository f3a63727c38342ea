"""Leader election: who holds the Lease, for how long, and what ends it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

import pytest

from initpipeline.runtime.errors import (
    ConflictError,
    ConnectionFailed,
    HistoryLost,
    LeaseLost,
    NotFoundError,
    OperatorError,
    api_error,
)
from initpipeline.runtime.gateway import Lease
from initpipeline.runtime.keys import Key
from initpipeline.runtime.leader import LeaderElection
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_leases import KEY, PERIODS, FakeLeases, pass_time

IF_SLOW = "If this repeats, check the CPU of this process and the latency of the API server"
IF_WRITTEN = (
    "If this repeats, find the client that changes the Lease, or another process of this identity"
)


class Replica:
    """A process that takes the Lease and renews it."""

    def __init__(self, leases: FakeLeases, identity: str, clock: Clock) -> None:
        self.election = LeaderElection(leases, KEY, identity, PERIODS, clock, lambda: clock.seconds)
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self.election.acquire()
            await self.election.keep()

    @property
    def leads(self) -> bool:
        return self.election.leads()

    @property
    def lost(self) -> str:
        """Returns the message with which the process has ended."""
        assert self.task.done(), "it has not ended"
        error = self.task.exception()
        assert isinstance(error, LeaseLost), repr(error)
        return str(error)

    async def die(self) -> None:
        """End without releasing the Lease, like a killed process."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LeaseLost, OperatorError):
            await self.task


@pytest.fixture
def leases() -> FakeLeases:
    return FakeLeases()


@pytest.fixture
async def start(clock: Clock, leases: FakeLeases) -> AsyncIterator[Callable[[str], Replica]]:
    """Returns a function that starts a replica."""
    started: list[Replica] = []

    def start(identity: str) -> Replica:
        started.append(Replica(leases, identity, clock))
        return started[-1]

    yield start
    for replica in started:
        await replica.die()


Start = Callable[[str], Replica]


@pytest.fixture
def run(start: "Start", clock: Clock) -> "Run":
    """Returns a function that starts a replica, and lets it send its first requests."""

    async def run(identity: str) -> Replica:
        replica = start(identity)
        await clock.advance()
        return replica

    return run


Run = Callable[[str], Awaitable[Replica]]


class TestAcquiring:
    async def test_missing_lease_is_created(self, leases: FakeLeases, run: Run) -> None:
        replica = await run("a")
        assert replica.leads
        assert leases.lease is not None
        assert (leases.lease.holder, leases.lease.seconds, leases.lease.transitions) == ("a", 15, 0)

    async def test_held_lease_is_not_taken(
        self, leases: FakeLeases, start: Start, clock: Clock
    ) -> None:
        first = start("a")
        await clock.advance()
        second = start("b")
        await pass_time(clock, 300)
        assert first.leads
        assert not second.leads
        assert leases.lease is not None
        assert (leases.lease.holder, leases.lease.transitions) == ("a", 0)

    async def test_standby_sends_no_request_while_it_waits(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """Its watch reports the renewals."""
        await run("a")
        await run("b")
        before = leases.requests
        await pass_time(clock, 20)
        assert leases.requests - before == 10, "one renewal every two seconds"

    async def test_lease_of_a_dead_holder_is_taken_when_it_expires(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        first = await run("a")
        second = await run("b")
        await first.die()
        await pass_time(clock, 14)
        assert not second.leads
        await pass_time(clock, 1)
        assert second.leads
        assert leases.lease is not None
        assert (leases.lease.holder, leases.lease.transitions) == ("b", 1)

    @pytest.mark.parametrize(
        "error", [api_error(409, {}), api_error(404, {}), api_error(422, {})], ids=str
    )
    async def test_refused_write_is_repeated_after_a_delay(
        self, leases: FakeLeases, start: Start, clock: Clock, error: Exception
    ) -> None:
        """A webhook may refuse each write with a conflict, although the Lease does not change."""
        first = start("a")
        await clock.advance()
        await first.die()
        leases.edit(holder="")
        leases.refused = error
        replica = start("b")
        before = leases.requests
        await pass_time(clock, 20)
        assert not replica.leads
        assert leases.requests - before <= 22, "a write and a read every two seconds"
        leases.refused = None
        await pass_time(clock, 3)
        assert replica.leads

    async def test_two_replicas_never_lead_at_the_same_time(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """The holder stops leading before its successor starts, without any exchange."""
        first = await run("a")
        second = await run("b")
        leases.failing = [ConnectionFailed("reset")] * 100
        for _ in range(30):
            await clock.advance(1)
            assert not (first.leads and second.leads)
        assert not first.leads

    async def test_lease_that_was_renewed_before_the_first_look_is_not_taken_early(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """The age of a Lease is unknown at first, because clocks may differ."""
        leases.put(Lease("1", "gone", 15, "2020-01-01T00:00:00.000000Z", 3))
        replica = await run("b")
        await pass_time(clock, 14)
        assert not replica.leads
        await pass_time(clock, 1)
        assert replica.leads
        assert leases.lease is not None
        assert leases.lease.transitions == 4

    async def test_duration_of_the_holder_counts(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """Replicas may have different settings during a rollout."""
        leases.put(Lease("1", "gone", 60, "", 0))
        replica = await run("b")
        await pass_time(clock, 59)
        assert not replica.leads
        await pass_time(clock, 1)
        assert replica.leads

    async def test_standby_behind_a_longer_lease_is_never_idle_for_longer_than_its_lease_duration(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """Otherwise the kubelet would restart it, and it would wait from the beginning."""
        leases.put(Lease("1", "gone", 3600, "", 0))
        replica = await run("b")
        for _ in range(300):
            await clock.advance(1)
            assert replica.election.idle_seconds() <= PERIODS.lease

    async def test_watch_that_the_server_ends_is_opened_again_without_a_gap(
        self, leases: FakeLeases, start: Start, clock: Clock
    ) -> None:
        start("a")
        await clock.advance()
        standby = start("b")
        await pass_time(clock, 60)
        leases.end_watches()
        await clock.advance()
        leases.edit(holder="")
        await clock.advance()
        assert standby.leads

    async def test_watch_that_ends_at_once_is_opened_again_after_a_delay(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        leases.put(Lease("1", "x", 15, "", 0))
        await run("b")
        before = leases.requests
        for _ in range(10):
            leases.end_watches()
            await clock.advance()
        assert leases.requests == before

    async def test_released_lease_is_taken_at_once(self, start: Start, clock: Clock) -> None:
        first = start("a")
        await clock.advance()
        second = start("b")
        await clock.advance(1)
        await first.die()
        await first.election.release()
        assert not first.leads
        await clock.advance()
        assert second.leads

    async def test_lease_with_the_highest_number_of_transitions_is_taken(
        self, leases: FakeLeases, run: Run
    ) -> None:
        """The API server refuses a higher one, so that no replica could take the Lease."""
        leases.put(Lease("1", "", 15, "", 2**31 - 1))
        replica = await run("b")
        assert replica.leads
        assert leases.lease is not None
        assert leases.lease.transitions == 0

    async def test_deleted_lease_is_created_again(
        self, leases: FakeLeases, start: Start, clock: Clock
    ) -> None:
        leases.put(Lease("1", "gone", 15, "", 0))
        replica = start("b")
        await clock.advance(1)
        leases.put(None)
        await clock.advance()
        assert replica.leads

    async def test_restarted_process_of_the_same_identity_leads_at_once(
        self, run: Run, clock: Clock
    ) -> None:
        await clock.advance()
        first = await run("a")
        await first.die()
        second = await run("a")
        assert second.leads

    @pytest.mark.parametrize(
        "error",
        [ConnectionFailed("refused"), api_error(500, {}), api_error(403, {})],
        ids=["no answer", "500", "403"],
    )
    @pytest.mark.parametrize("position", [0, 1], ids=["read", "write"])
    async def test_failed_request_is_repeated(
        self, leases: FakeLeases, start: Start, clock: Clock, error: Exception, position: int
    ) -> None:
        leases.failing = [None] * position + [error]
        replica = start("a")
        await pass_time(clock, 4)
        assert replica.leads

    async def test_failed_writes_of_hours_are_forgotten(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """A broken admission webhook refuses writes, and reads succeed."""

        async def refuse(
            key: Key,  # noqa: ARG001
            version: str,  # noqa: ARG001
            spec: Mapping[str, Any],  # noqa: ARG001
            members: Mapping[str, str] | None = None,  # noqa: ARG001
        ) -> Lease:
            raise api_error(500, {})

        replica = await run("a")
        real, leases.patch_lease = leases.patch_lease, refuse  # type: ignore[method-assign]
        await pass_time(clock, 1000)
        assert len(replica.election._sent) < 100
        leases.patch_lease = real  # type: ignore[method-assign]
        await pass_time(clock, 3)
        assert replica.leads, "no other client has written to the Lease"

    async def test_lost_response_to_the_first_write_does_not_delay(
        self, leases: FakeLeases, start: Start, clock: Clock
    ) -> None:
        leases.unanswered = 1
        replica = start("a")
        await pass_time(clock, 4)
        assert replica.leads

    async def test_ended_watch_of_a_standby_continues(
        self, leases: FakeLeases, start: Start, clock: Clock
    ) -> None:
        leases.put(Lease("1", "x", 15, "", 0))
        leases.failing = [None, api_error(410, {})]
        replica = start("b")
        await pass_time(clock, 5)
        assert not leases.failing
        leases.edit(holder="")
        await clock.advance()
        assert replica.leads

    async def test_missing_namespace_is_an_error_with_a_remedy(
        self, leases: FakeLeases, clock: Clock
    ) -> None:
        leases.failing = [None, NotFoundError(404, {"message": 'namespaces "system" not found'})]
        election = LeaderElection(leases, KEY, "a", PERIODS, clock, lambda: clock.seconds)
        with pytest.raises(OperatorError, match="create the namespace, or set --lease-namespace"):
            await election.acquire()


class TestKeeping:
    async def test_renewal_extends_the_lease(self, run: Run, clock: Clock) -> None:
        replica = await run("a")
        for _ in range(60):
            await clock.advance(1)
            assert replica.election.remaining() >= 13

    async def test_remaining_time_counts_from_before_the_request(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """The API server may have stored the Lease right after the request was sent."""
        real = leases.create_lease

        async def slow(
            key: Key, spec: Mapping[str, Any], members: Mapping[str, str] | None = None
        ) -> Lease:
            lease = await real(key, spec, members)
            await asyncio.sleep(4)
            return lease

        leases.create_lease = slow  # type: ignore[method-assign]
        replica = await run("b")
        await pass_time(clock, 4)
        assert replica.election.remaining() == 10.5

    async def test_renewal_restores_the_duration(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """A user has changed it. Other replicas count with the stored one."""
        replica = await run("a")
        leases.edit(seconds=3600)
        await pass_time(clock, 4)
        assert replica.leads
        assert leases.lease is not None
        assert leases.lease.seconds == PERIODS.lease

    async def test_failed_renewals_are_repeated(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        leases.failing = [ConnectionFailed("reset"), api_error(500, {}), api_error(429, {})]
        await pass_time(clock, 60)
        assert replica.leads

    @pytest.mark.parametrize("hanging", [False, True], ids=["errors", "no answer"])
    async def test_holder_in_an_outage_stops_reconciling_and_continues_afterwards(
        self, leases: FakeLeases, run: Run, clock: Clock, hanging: bool
    ) -> None:
        """Its last writes end before the Lease does."""
        replica = await run("a")
        leases.hanging = hanging
        leases.failing = [] if hanging else [ConnectionFailed("reset")] * 1000
        await pass_time(clock, 9)
        assert replica.leads
        await pass_time(clock, 1)
        assert not replica.leads
        assert replica.election.remaining() == 4.5
        await pass_time(clock, 50)
        assert replica.election.remaining() < 0
        leases.failing = []
        if hanging:
            return
        await pass_time(clock, 3)
        assert replica.leads
        assert leases.lease is not None
        assert leases.lease.transitions == 0

    async def test_holder_after_an_outage_ends_if_another_has_taken_the_lease(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        leases.failing = [ConnectionFailed("reset")] * 1000
        await pass_time(clock, 20)
        leases.edit(holder="b")
        leases.failing = []
        await pass_time(clock, 3)
        assert replica.lost == f'the Lease system/operator is lost: "b" holds it. {IF_SLOW}'

    async def test_holder_after_an_outage_ends_if_another_has_released_the_lease(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        leases.failing = [ConnectionFailed("reset")] * 1000
        await pass_time(clock, 20)
        leases.edit(holder="", renewed="later")
        leases.failing = []
        await pass_time(clock, 3)
        assert replica.lost.endswith(f"it was deleted, or its holder was removed. {IF_WRITTEN}")

    async def test_standby_that_was_slower_continues_to_stand_by(
        self, leases: FakeLeases, start: Start, clock: Clock
    ) -> None:
        """It has never held the Lease, so it has nothing to lose."""
        leases.put(Lease("1", "gone", 15, "", 0))
        first, second = start("a"), start("b")
        await pass_time(clock, 60)
        assert [first.leads, second.leads].count(True) == 1
        assert not first.task.done()
        assert not second.task.done()

    async def test_lease_taken_by_another_is_lost_at_the_next_renewal(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        leases.edit(holder="b")
        await pass_time(clock, 2)
        assert not replica.leads
        assert replica.lost == f'the Lease system/operator is lost: "b" holds it. {IF_SLOW}'

    async def test_deleted_lease_is_lost(self, leases: FakeLeases, run: Run, clock: Clock) -> None:
        """Another replica may have created it again, and released it."""
        replica = await run("a")
        leases.put(None)
        await pass_time(clock, 2)
        why = "it was deleted, or its holder was removed"
        assert replica.lost == f"the Lease system/operator is lost: {why}. {IF_WRITTEN}"

    async def test_lost_response_to_a_renewal_is_not_a_lost_lease(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        leases.unanswered = 2
        await pass_time(clock, 60)
        assert replica.leads

    async def test_label_by_a_user_is_not_a_lost_lease(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        await pass_time(clock, 4)
        leases.edit()
        await pass_time(clock, 60)
        assert replica.leads

    async def test_second_process_of_the_same_identity_ends_the_first(
        self, start: Start, clock: Clock
    ) -> None:
        first = start("a")
        await clock.advance(1)
        second = start("a")
        await pass_time(clock, 60)
        assert first.lost.endswith(f"another client has written to it. {IF_WRITTEN}")
        assert second.leads

    async def test_paused_process_does_not_reconcile_before_it_has_renewed(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        leases.failing = [ConnectionFailed("reset")] * 2
        await clock.advance(20)
        assert not replica.leads
        assert replica.election.remaining() < 0
        await pass_time(clock, 3)
        assert replica.leads, "no other process has taken the Lease"

    async def test_paused_process_ends_if_another_has_taken_the_lease(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        leases.edit(holder="b")
        await clock.advance(20)
        assert not replica.leads
        assert replica.lost == f'the Lease system/operator is lost: "b" holds it. {IF_SLOW}'


class TestRestoredCluster:
    async def test_older_lease_is_not_a_loss(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """After a restore of etcd, the holder's Lease is an older one of its own."""
        replica = await run("a")
        restored = leases.lease
        await pass_time(clock, 200)
        leases.put(restored)
        await pass_time(clock, 3)
        with pytest.raises(HistoryLost, match="the Lease system/operator went back"):
            await replica.task


class TestReleasing:
    async def test_release_without_the_lease_sends_no_request(
        self, leases: FakeLeases, clock: Clock
    ) -> None:
        election = LeaderElection(leases, KEY, "a", PERIODS, clock, lambda: clock.seconds)
        await election.release()
        assert leases.requests == 0

    async def test_release_after_an_interrupted_renewal_succeeds(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        leases.mute = True
        await pass_time(clock, 2)
        await replica.die()
        leases.mute = False
        await replica.election.release()
        assert leases.lease is not None
        assert leases.lease.holder == ""

    async def test_release_after_an_interrupted_acquisition_succeeds(
        self, leases: FakeLeases, run: Run
    ) -> None:
        """The process does not know yet that it holds the Lease."""
        leases.mute = True
        replica = await run("a")
        assert not replica.leads
        await replica.die()
        leases.mute = False
        await replica.election.release()
        assert leases.lease is not None
        assert leases.lease.holder == ""

    async def test_release_is_repeated_if_the_lease_changes_meanwhile(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        """The API server carries out an interrupted renewal late."""
        replica = await run("a")
        await replica.die()
        leases.failing = [None, ConflictError(409, {})]
        release = asyncio.create_task(replica.election.release())
        await pass_time(clock, 2)
        assert release.done()
        assert leases.lease is not None
        assert leases.lease.holder == ""

    async def test_refused_release_is_given_up(
        self, leases: FakeLeases, run: Run, clock: Clock
    ) -> None:
        replica = await run("a")
        await replica.die()
        leases.refused = api_error(409, {})
        before = leases.requests
        release = asyncio.create_task(replica.election.release())
        await pass_time(clock, 3)
        assert release.done()
        assert leases.requests - before <= 42, "a read and a write every tenth of a second"

    async def test_lease_of_another_process_of_the_same_identity_is_not_released(
        self, leases: FakeLeases, start: Start, clock: Clock
    ) -> None:
        replica = start("a")
        await clock.advance()
        await replica.die()
        second = start("a")
        await clock.advance(1)
        await replica.election.release()
        assert second.leads
        assert leases.lease is not None
        assert leases.lease.holder == "a"

    async def test_lease_of_another_is_not_released(self, leases: FakeLeases, run: Run) -> None:
        replica = await run("a")
        leases.edit(holder="b")
        await replica.die()
        await replica.election.release()
        assert leases.lease is not None
        assert leases.lease.holder == "b"

    @pytest.mark.parametrize("hanging", [False, True], ids=["error", "no answer"])
    async def test_failed_release_is_only_logged(
        self, leases: FakeLeases, run: Run, clock: Clock, hanging: bool
    ) -> None:
        replica = await run("a")
        await replica.die()
        leases.hanging = hanging
        leases.failing = [] if hanging else [ConnectionFailed("reset")]
        releasing = asyncio.create_task(replica.election.release())
        await pass_time(clock, 3)
        assert releasing.done()
        assert releasing.exception() is None


@pytest.mark.parametrize(
    "spec", [{}, None, {"holderIdentity": None}], ids=["empty", "none", "null"]
)
def test_lease_without_fields_is_free(spec: Any) -> None:
    lease = Lease.from_api({"metadata": {"resourceVersion": "1"}, "spec": spec})
    assert (lease.holder, lease.seconds, lease.transitions) == ("", 0, 0)


class DeadlyLeases(FakeLeases):
    """The process that sends a certain write dies."""

    def __init__(self, number: int, carried_out: bool) -> None:
        super().__init__()
        self._left, self._carried_out = number, carried_out
        self.dead = False

    async def create_lease(
        self, key: Key, spec: Mapping[str, Any], members: Mapping[str, str] | None = None
    ) -> Lease:
        return await self._die(super().create_lease(key, spec, members))

    async def patch_lease(
        self,
        key: Key,
        version: str,
        spec: Mapping[str, Any],
        members: Mapping[str, str] | None = None,
    ) -> Lease:
        return await self._die(super().patch_lease(key, version, spec, members))

    async def _die(self, write: Coroutine[Any, Any, Lease]) -> Lease:
        self._left -= 1
        if self._left:
            return await write
        self.dead = True
        if self._carried_out:
            await write
        else:
            write.close()
        never: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        return await never


class TestDeathAtAWrite:
    @pytest.mark.parametrize("carried_out", [False, True])
    @pytest.mark.parametrize("number", range(1, 6))
    async def test_other_replica_leads_when_the_lease_has_expired(
        self, number: int, carried_out: bool, clock: Clock
    ) -> None:
        leases = DeadlyLeases(number, carried_out)
        first = Replica(leases, "first", clock)
        await clock.advance()
        second = Replica(leases, "second", clock)
        for _ in range(60):
            await clock.advance(1)
            assert not (first.leads and second.leads), "two replicas lead"
            if leases.dead:
                await first.die()
                break
        for _ in range(PERIODS.lease):
            if second.leads:
                break
            await clock.advance(1)
        assert second.leads
        await second.die()
