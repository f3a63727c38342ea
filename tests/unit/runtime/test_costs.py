"""The exact work of the operator for each life of a pipeline, compared with tests/costs/table.md.

If a change of the operator changes a number, the failure prints both numbers and the requests.
"""

import pytest
from prometheus_client.exposition import generate_latest

from initpipeline.runtime.metrics import Metrics
from tests.costs import table
from tests.costs.lives import LIVES, play
from tests.ports import free_port
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


@pytest.mark.parametrize(
    "life", ["three steps, to Ready", "a run fails, its retry succeeds", "at rest: Ready"]
)
async def test_life_costs_the_same_with_metrics_and_they_do_no_work_at_rest(
    life: str, clock: Clock
) -> None:
    """The timer of the event loop's lag would call ``observe`` each second."""
    metrics = Metrics()
    world = CountedWorld(clock, meter=metrics)
    async with metrics.served(f"127.0.0.1:{free_port()}"), world.running():
        await play(LIVES[life], world)
        before = generate_latest(metrics.registry).split(b"# HELP process")[0]
        await world.rest()
        assert generate_latest(metrics.registry).split(b"# HELP process")[0] == before
    changed = table.difference(life, world.costs)
    assert not changed, "\n".join((changed, "requests and bytes:", *world.requests))


def test_table_has_a_row_for_each_life() -> None:
    assert [*table.rows()] == [*LIVES]


def test_table_has_the_layout_that_the_program_writes() -> None:
    assert table.rewritten(table.rows()) == table.PATH.read_text()
