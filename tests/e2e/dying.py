"""An operator that dies and comes back, at moments that nobody chose."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.operator_process import OperatorProcess


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
