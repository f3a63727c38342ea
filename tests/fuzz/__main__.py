"""``python -m tests.fuzz [COUNT [FIRST_SEED]]``: check this number of generated objects."""

import signal
import sys
import time
import traceback
from random import Random
from types import FrameType
from typing import NoReturn

from tests.fuzz.properties import CHECKS

BUDGET_SECONDS = 1.0
"""The limit of CPU time to generate and check one object. Most take a millisecond."""
SHOWN = 20


class TooSlow(BaseException):
    """An object took more CPU time than allowed."""


def main(arguments: list[str]) -> int:
    count = int(arguments[0]) if arguments else 100_000
    first = int(arguments[1]) if len(arguments) > 1 else 0
    signal.signal(signal.SIGPROF, _too_slow)
    failures: list[tuple[str, int]] = []
    started = time.monotonic()
    for seed in range(first, first + count):
        name = list(CHECKS)[seed % len(CHECKS)]
        try:
            check(name, seed)
        except (Exception, TooSlow):
            failures.append((name, seed))
            print(f"== {name} {seed}", traceback.format_exc(limit=-6), sep="\n", flush=True)
            if len(failures) >= SHOWN:
                break
        if seed % 5000 == 4999:
            seconds = time.monotonic() - started
            done = seed + 1 - first
            print(f"{done} objects in {seconds:.0f} s, {len(failures)} failures", flush=True)
    print(f"{count} objects, seeds of failures: {failures}")
    return bool(failures)


def check(name: str, seed: int) -> None:
    """Check one object. Raise an exception if it violates a property, TooSlow after the limit."""
    signal.setitimer(signal.ITIMER_PROF, BUDGET_SECONDS)
    try:
        CHECKS[name](Random(seed))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _too_slow(_: int, __: FrameType | None) -> NoReturn:
    raise TooSlow


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
