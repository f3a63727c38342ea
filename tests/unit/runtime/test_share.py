"""A share: faults of its tasks, and the order of its queue."""

import asyncio
import gc
from typing import Any

import pytest

from initpipeline.runtime.cache import Cache
from initpipeline.runtime.errors import LeaseLost, OperatorError
from initpipeline.runtime.keys import Key
from initpipeline.runtime.share import Tasks, work_queue
from tests.builders import PodBuilder, at, fresh_pod, pipeline, running_pod, silent_pod


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


UNREPORTED = silent_pod()
FIRST_STEP = fresh_pod().init("one", running=True)
SECOND_STEP = fresh_pod().initialized("one").init("two", running=True)
INITIALIZED = fresh_pod().initialized("one", "two")


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        pytest.param(None, running_pod(), id="new"),
        pytest.param(None, INITIALIZED, id="new-before-initialized"),
        pytest.param(running_pod(), FIRST_STEP, id="running"),
        pytest.param(INITIALIZED, SECOND_STEP, id="initialized"),
        pytest.param(INITIALIZED.sidecar("proxy", running=True), SECOND_STEP, id="sidecar"),
        pytest.param(INITIALIZED, UNREPORTED, id="unreported"),
        pytest.param(fresh_pod().init("one", exit=1), SECOND_STEP, id="failed-step"),
        pytest.param(fresh_pod().phase("Failed"), SECOND_STEP, id="failed"),
    ],
)
async def test_queue_serves_new_then_other_pipelines_before_progress_of_steps(
    later: PodBuilder | None, earlier: PodBuilder
) -> None:
    """The phase of an initialized Pod is Pending until all its app containers have started, for
    example while an image is pulled."""
    cache = Cache.empty()
    queue = work_queue(64, cache, lambda: at(0))
    for name, pod in [("earlier", earlier), ("later", later)]:
        key = Key("default", name)
        cache.pipelines.put(key, pipeline().build())
        if pod is not None:
            cache.pods.put(key, pod.build())
        queue.add(key)
    assert [(await queue.get()).name for _ in range(2)] == ["later", "earlier"]
