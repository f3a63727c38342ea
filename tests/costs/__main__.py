"""Counts what the lives cost, and writes the numbers to the table: ``python -m tests.costs``."""

import asyncio

from tests.costs import table
from tests.costs.lives import LIVES, Life, play
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.counted import CountedWorld


async def costs(life: Life) -> table.Row:
    world = CountedWorld(Clock())
    async with world.running():
        await play(life, world)
    return world.costs


def main() -> None:
    table.rewrite({name: asyncio.run(costs(life)) for name, life in LIVES.items()})


if __name__ == "__main__":
    main()
