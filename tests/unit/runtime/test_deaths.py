"""The operator dies at each of its writes, in each life of a pipeline.

The next operator must bring the life to the same end: the same objects to the second, the same runs
and history, and no other Pod. Only events may be missing.

By default, the operator dies once in each life, after each of its writes. `make deaths` also lets
it die before each write, and twice.
"""

import os
from itertools import product
from typing import Final

import pytest

from tests.unit.runtime.clock import Clock
from tests.unit.runtime.perturbed import ALL_LIVES, Deaths, End, PerturbedWorld, play

LONG: Final = bool(os.environ.get("INITPIPELINE_DEATHS"))

CARRIED_OUT: Final = (True, False) if LONG else (True,)
SECOND_DEATHS: Final[tuple[list[int], ...]] = ([], [1], [2]) if LONG else ([],)
"""At which write the next operator dies as well."""

UNTIMED: Final = frozenset(
    {"a quota refuses the Pod three times", "a quota refuses the Pod of a requested run"}
)
"""Lives in which the operator repeats a refused request. Its back-off is in memory, so after a
death the times differ."""


async def end_of(life: str, deaths: Deaths) -> End:
    world = PerturbedWorld(Clock(), deaths)
    await play(ALL_LIVES[life], world)
    return world.end()


@pytest.mark.parametrize("life", ALL_LIVES)
async def test_death_at_a_write_changes_nothing(life: str) -> None:
    calm = PerturbedWorld(Clock())
    numbers = await play(ALL_LIVES[life], calm)
    for write, carried_out, then in product(numbers, CARRIED_OUT, SECOND_DEATHS):
        deaths = Deaths([write + 1, *then], carried_out)
        changed = calm.end().difference(await end_of(life, deaths), times=life not in UNTIMED)
        when = "after" if carried_out else "before"
        assert not changed, "\n".join((f"death {when} {deaths.writes[write]}", *changed))


@pytest.mark.parametrize("life", ALL_LIVES)
async def test_deaths_after_every_write_change_nothing(life: str) -> None:
    """No operator makes more than one write, so each life needs as many operators as writes."""
    calm = PerturbedWorld(Clock())
    await play(ALL_LIVES[life], calm)
    deaths = Deaths([1] * 100, carried_out=True)
    changed = calm.end().difference(await end_of(life, deaths), times=life not in UNTIMED)
    assert not changed, "\n".join(("deaths after every write", *changed))
    assert deaths.left, "the operators died without end"
