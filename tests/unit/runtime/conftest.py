"""Fixtures for the tests of the runtime."""

import pytest

from initpipeline.runtime.gateway import Key
from initpipeline.runtime.queue import WorkQueue
from tests.unit.runtime.clock import Clock


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[Key]:
    return WorkQueue(clock)
