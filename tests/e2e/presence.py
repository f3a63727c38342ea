"""An operator that is there, or gone, or dies and comes back, for as long as a block lasts."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from tests.operator_process import OperatorProcess

Presence = Callable[[OperatorProcess], AbstractContextManager[None]]


def there(operator: OperatorProcess) -> AbstractContextManager[None]:  # noqa: ARG001
    """It sees what happens in the block."""
    return nullcontext()


@contextmanager
def gone(operator: OperatorProcess) -> Iterator[None]:
    """It is killed before the block and started after it: it finds what happened."""
    operator.kill()
    yield
    operator.start()


BOTH = [pytest.param(there, id="operator-there"), pytest.param(gone, id="operator-gone")]
"""Values of ``presence`` for a test of something that an operator must find out either way."""


@contextmanager
def dying(operator: OperatorProcess, seed: int) -> Iterator[None]:
    """Kill and start the operator, at moments drawn by chance, until the block has ended."""
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
