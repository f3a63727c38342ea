"""Count what the lives cost, and write the numbers to tests/costs/table.md."""

import argparse
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
    counted = {name: asyncio.run(costs(life)) for name, life in LIVES.items()}
    table.PATH.write_text(table.rewritten(counted))


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tests.costs", description=__doc__).parse_args()
    main()
