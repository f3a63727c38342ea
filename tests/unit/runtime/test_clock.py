"""The operator's clock, while other clocks jump."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from initpipeline.runtime.clock import (
    OBSERVE_SECONDS,
    PATIENCE_SECONDS,
    STEP_SECONDS,
    TOLERANCE_SECONDS,
    Clock,
)

START = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = 3600.0


class Clocks:
    """The clocks of a machine and of its API server, and the operator's."""

    def __init__(self, server_ahead: float = 0) -> None:
        self._passed = 100.0
        self.wall_ahead = 0.0
        self.server_ahead = server_ahead
        self.clock = Clock(lambda: START.timestamp() + self._time(self.wall_ahead), self._uptime)

    def _uptime(self) -> float:
        return self._passed

    def _time(self, ahead: float) -> float:
        return self._passed - 100 + ahead

    def advance(self, seconds: float) -> None:
        self._passed += seconds

    def respond(self) -> None:
        """Observe a response of the API server."""
        date = START + timedelta(seconds=self._time(self.server_ahead))
        self.clock.observe(format_datetime(date, usegmt=True))

    @property
    def ahead(self) -> float:
        """The seconds by which the operator's clock is ahead."""
        return (self.clock() - START).total_seconds() - self._time(0)


@pytest.fixture
def clocks() -> Clocks:
    clocks = Clocks()
    clocks.respond()
    return clocks


def test_time_is_that_of_the_wall_clock(clocks: Clocks) -> None:
    assert clocks.clock() == START
    clocks.advance(HOUR)
    assert clocks.clock() == START + timedelta(hours=1)


@pytest.mark.parametrize("jump", [-2 * HOUR, 2 * HOUR, -STEP_SECONDS, STEP_SECONDS])
def test_jump_of_the_wall_clock_is_ignored(clocks: Clocks, jump: float) -> None:
    clocks.wall_ahead = jump
    assert clocks.ahead == 0
    for _ in range(3):
        clocks.advance(PATIENCE_SECONDS)
        clocks.respond()
    assert clocks.ahead == 0


def test_small_steps_of_the_wall_clock_are_followed(clocks: Clocks) -> None:
    for _ in range(4):
        clocks.wall_ahead += STEP_SECONDS / 2
        assert clocks.ahead == clocks.wall_ahead


@pytest.mark.parametrize("jump", [-2 * HOUR, 2 * HOUR])
def test_jump_of_the_api_server_is_followed_only_after_a_while(clocks: Clocks, jump: float) -> None:
    clocks.server_ahead = jump
    for seconds in (OBSERVE_SECONDS, PATIENCE_SECONDS):
        clocks.advance(seconds)
        clocks.respond()
        assert clocks.ahead == 0
    clocks.advance(1)
    clocks.respond()
    assert clocks.ahead == jump


def test_jump_of_the_api_server_that_ends_is_ignored(clocks: Clocks) -> None:
    for server_ahead in (HOUR, 0, HOUR, HOUR):
        clocks.server_ahead = server_ahead
        clocks.advance(PATIENCE_SECONDS)
        clocks.respond()
        assert clocks.ahead == 0


@pytest.mark.parametrize("ahead", [-2 * HOUR, 2 * HOUR])
def test_wall_clock_that_is_wrong_at_the_start_is_corrected(ahead: float) -> None:
    clocks = Clocks(server_ahead=ahead)
    assert clocks.ahead == 0
    clocks.respond()
    assert clocks.ahead == ahead


def test_wall_clock_that_was_wrong_is_used_after_its_correction() -> None:
    clocks = Clocks(server_ahead=2 * HOUR)
    clocks.respond()
    clocks.wall_ahead = 2 * HOUR + 0.25
    assert clocks.ahead == 2 * HOUR + 0.25


def test_api_server_with_nearly_the_same_time_changes_nothing() -> None:
    clocks = Clocks(server_ahead=TOLERANCE_SECONDS - 1)
    clocks.respond()
    assert clocks.ahead == 0


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 01 Jan 99999 00:00:00 GMT"])
def test_invalid_date_is_ignored(date: str) -> None:
    clocks = Clocks(server_ahead=HOUR)
    clocks.clock.observe(date)
    assert clocks.ahead == 0
    clocks.respond()
    assert clocks.ahead == HOUR
