"""Tasks of a share: which end is a fault."""

import asyncio
import gc
from typing import Any

import pytest

from initpipeline.runtime.errors import LeaseLost, OperatorError
from initpipeline.runtime.share import Tasks


class TestTasks:
    @staticmethod
    async def lose() -> None:
        raise LeaseLost("lost")

    async def run(self, *, stopping: bool) -> tuple[list[OperatorError], list[dict[str, Any]]]:
        """Let a task end. Returns the faults, and what asyncio reports."""
        faults: list[OperatorError] = []
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: reported.append(what))
        tasks = Tasks(faults.append)
        tasks.run("election", self.lose())
        if stopping:
            tasks.expect_end()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del tasks
        gc.collect()
        return faults, reported

    @pytest.mark.parametrize("stopping", [False, True])
    async def test_task_that_ends_is_a_fault_unless_the_operator_stops(
        self, stopping: bool
    ) -> None:
        """An end while the operator stops is in no log either."""
        faults, reported = await self.run(stopping=stopping)
        assert [str(one) for one in faults] == ([] if stopping else ["lost"])
        assert reported == []
