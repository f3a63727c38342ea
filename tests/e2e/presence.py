"""Contexts during which the operator runs, is down, or is killed repeatedly."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from tests.operator_process import OperatorProcess

Presence = Callable[[OperatorProcess], AbstractContextManager[None]]


def running(operator: OperatorProcess) -> AbstractContextManager[None]:  # noqa: ARG001
    """Let the operator run during the context."""
    return nullcontext()


@contextmanager
def down(operator: OperatorProcess) -> Iterator[None]:
    """Kill the operator before the context, and start it afterwards."""
    operator.kill()
    yield
    operator.start()


BOTH = [pytest.param(running, id="operator-running"), pytest.param(down, id="operator-down")]
"""Values of ``presence``, for changes that the operator must handle in both cases."""


@contextmanager
def dying(operator: OperatorProcess, seed: int) -> Iterator[None]:
    """Kill and restart the operator at random times during the context."""
    chance = random.Random(seed)
    over = threading.Event()

    def kill_and_start() -> None:
        while not over.wait(chance.uniform(0.0, 1.5)):
            operator.kill()
            operator.start()

    killer = threading.Thread(target=kill_and_start)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()
