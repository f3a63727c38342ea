"""The exact work of the operator for each life of a pipeline, compared with tests/costs/table.md.

If a change of the operator changes a number, the failure prints both numbers and the requests.
"""

import pytest

from tests.costs import table
from tests.costs.lives import LIVES, play
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.counted import CountedWorld


@pytest.mark.parametrize("life", LIVES)
async def test_life_costs_what_the_table_lists(life: str, clock: Clock) -> None:
    world = CountedWorld(clock)
    async with world.running():
        await play(LIVES[life], world)
    changed = table.difference(life, world.costs)
    assert not changed, "\n".join((changed, "requests and bytes:", *world.requests))


@pytest.mark.parametrize("life", LIVES)
async def test_life_costs_the_same_requests_if_events_precede_responses(
    life: str, clock: Clock
) -> None:
    world = CountedWorld(clock, events_before_responses=True)
    async with world.running():
        await play(LIVES[life], world)
    written = {name: world.costs[name] for name in (*table.REQUESTS, table.BYTES)}
    changed = table.difference(life, written, written)
    assert not changed, "\n".join((changed, "requests and bytes:", *world.requests))


def test_table_has_a_row_for_each_life() -> None:
    assert [*table.rows()] == [*LIVES]


def test_table_has_the_layout_that_the_program_writes() -> None:
    assert table.rewritten(table.rows()) == table.PATH.read_text()
