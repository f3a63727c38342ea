"""Fixtures for the tests of the runtime."""

import random

import pytest

from initpipeline.runtime.keys import Key
from initpipeline.runtime.queue import WorkQueue
from tests.unit.runtime.clock import Clock


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[Key]:
    return WorkQueue(clock)


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays are as short as possible, so that tests can predict them."""
    monkeypatch.setattr(random, "uniform", lambda low, _: low)
