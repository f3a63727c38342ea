"""The operator dies at each of its writes, in each life of a pipeline.

The next operator must bring the life to the same end: the same objects to the second, the same runs
and history, and no other Pod. Only events may be missing.

By default, each life is played once for each write that is not an event, and the operator dies
after that write. Of the other faults, a sample is played. `make deaths` plays all of them. It also
lets the operator die before each write, and twice in a life.
"""

import contextlib
import os
from itertools import product
from typing import Final

import pytest

from tests.unit.runtime.clock import Clock
from tests.unit.runtime.perturbed import (
    ALL_LIVES,
    Deaths,
    End,
    ImpossibleError,
    Lag,
    PerturbedWorld,
    play,
)

LONG: Final = bool(os.environ.get("INITPIPELINE_DEATHS"))

CARRIED_OUT: Final = (True, False) if LONG else (True,)
SECOND_DEATHS: Final[tuple[list[int], ...]] = ([], [1], [2]) if LONG else ([],)
"""At which write the next operator dies as well."""

UNTIMED: Final = frozenset(
    {"a quota refuses the Pod three times", "a quota refuses the Pod of a requested run"}
)
"""Lives in which the operator repeats a refused request. Its back-off is in memory, so after a
death the times differ."""


LAGS: Final = (Lag(pods=1), Lag(pipelines=1), Lag(2, 2), Lag(pods=3), Lag(pods=99))


async def end_of(
    life: str,
    deaths: Deaths | None = None,
    lag: Lag | None = None,
    blind: range = range(0),
    gated: bool = False,
) -> End:
    world = PerturbedWorld(Clock(), deaths, lag, blind, gated)
    await play(ALL_LIVES[life], world)
    return world.end()


_CALM: Final[dict[str, tuple[PerturbedWorld, range]]] = {}


async def calm_of(life: str) -> tuple[PerturbedWorld, range]:
    """Returns the world after the life without a fault, and the numbers of its writes. The life is
    played once."""
    if life not in _CALM:
        world = PerturbedWorld(Clock())
        _CALM[life] = world, await play(ALL_LIVES[life], world)
    return _CALM[life]


@pytest.mark.parametrize("life", ALL_LIVES)
async def test_death_at_a_write_changes_nothing(life: str) -> None:
    calm, numbers = await calm_of(life)
    for write, carried_out, then in product(numbers, CARRIED_OUT, SECOND_DEATHS):
        if "/events" in calm.deaths.writes[write] and not LONG:
            continue  # No decision depends on an event.
        deaths = Deaths([write + 1, *then], carried_out)
        changed = calm.end().difference(await end_of(life, deaths), times=life not in UNTIMED)
        when = "after" if carried_out else "before"
        assert not changed, "\n".join((f"death {when} {deaths.writes[write]}", *changed))


@pytest.mark.parametrize("life", ALL_LIVES)
async def test_old_view_of_the_next_operator_changes_nothing(life: str) -> None:
    """The next operator is a standby whose watches lag behind the writes of the one that died."""
    calm, numbers = await calm_of(life)
    for write, (number, lag) in product(numbers, enumerate(LAGS)):
        if not LONG and write % (5 * len(LAGS)) != 5 * number:
            continue
        deaths = Deaths([write + 1], carried_out=True)
        changed = calm.end().difference(await end_of(life, deaths, lag), times=life not in UNTIMED)
        assert not changed, "\n".join((f"after {deaths.writes[write]}, {lag}", *changed))


@pytest.mark.parametrize("life", ALL_LIVES)
async def test_deaths_after_every_write_change_nothing(life: str) -> None:
    """No operator makes more than one write, so each life needs as many operators as writes."""
    calm, _ = await calm_of(life)
    deaths = Deaths([1] * 100, carried_out=True)
    changed = calm.end().difference(await end_of(life, deaths), times=life not in UNTIMED)
    assert not changed, "\n".join(("deaths after every write", *changed))
    assert deaths.left, "the operators died without end"


@pytest.mark.parametrize("life", ALL_LIVES)
async def test_unobserved_states_change_nothing(life: str) -> None:
    """The watches miss several changes, and then continue with a list. What only a missed state has
    shown cannot be recorded, so only the conditions and the Pod are compared. The witness judges
    each decision."""
    calm, _ = await calm_of(life)
    for start, length in product(range(1, calm.settled + 1), (1, 2, 3, 5)):
        if not LONG and (start + length) % 29:
            continue
        missed = range(start, start + length)
        with contextlib.suppress(ImpossibleError):
            end = await end_of(life, blind=missed)
            assert end.outline() == calm.end().outline(), f"of {calm.settled}, missed: {missed}"


@pytest.mark.parametrize("life", ALL_LIVES)
async def test_scheduling_gate_changes_nothing_but_the_start_of_pods(life: str) -> None:
    """The fake API server asserts that a gate is removed only from the Pod that status records."""
    calm = (await calm_of(life))[0].end()
    world = PerturbedWorld(Clock(), gated=True)
    numbers = await play(ALL_LIVES[life], world)
    changed = calm.difference(world.end(), times=False)
    assert not changed, "\n".join(("with a gate", *changed))
    for write in numbers if LONG else ():
        deaths = Deaths([write + 1], carried_out=True)
        changed = calm.difference(await end_of(life, deaths, gated=True), times=False)
        assert not changed, "\n".join((f"death after {deaths.writes[write]}", *changed))
