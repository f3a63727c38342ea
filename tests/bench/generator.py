"""The load generator: creates a burst of objects, and watches them and their Pods."""

import asyncio
import json
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench import generator_load
from tests.bench.connection import Connection
from tests.bench.errors import BenchError
from tests.bench.generator_load import GeneratorLoad
from tests.bench.timeline import Timeline
from tests.bench.watching import current_version, watch
from tests.bench.workloads import PODS_PATH, Form, Workload

POLL_SECONDS: Final = 0.01
NAMED: Final = 5


@dataclass(frozen=True)
class Burst:
    """A number of objects, created by parallel requests."""

    workload: Workload
    form: Form
    prefix: str
    count: int
    parallel: int
    deadline_seconds: float

    def manifests(self) -> dict[str, bytes]:
        """Return the manifests as JSON, by name."""
        names = (f"{self.prefix}-{number:05}" for number in range(self.count))
        return {
            name: json.dumps(self.workload.manifest(name, self.form)).encode() for name in names
        }


async def run(connection: Connection, burst: Burst) -> tuple[Timeline, GeneratorLoad]:
    """Create all objects, and wait until each has reached the state that the form requires.

    Raise BenchError if one does not reach it within the deadline.
    """
    manifests = burst.manifests()
    timeline = Timeline(burst.workload, burst.form, list(manifests))
    await connection.open(burst.parallel)
    pods = await current_version(connection, PODS_PATH)
    owners = await current_version(connection, burst.workload.path)
    work = asyncio.create_task(_play(connection, burst, manifests, timeline))
    tasks: list[asyncio.Task[object]] = [
        work,
        asyncio.create_task(watch(connection, PODS_PATH, pods, timeline.pod_changed)),
        asyncio.create_task(watch(connection, burst.workload.path, owners, timeline.owner_changed)),
    ]
    try:
        done, _ = await asyncio.wait(
            tasks, timeout=burst.deadline_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()  # a watch ends only with an error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if work not in done:
        raise BenchError(_shortfall(burst, timeline))
    return timeline, work.result()


async def _play(
    connection: Connection, burst: Burst, manifests: dict[str, bytes], timeline: Timeline
) -> GeneratorLoad:
    async with generator_load.measured() as measured:
        left = iter(manifests.items())
        async with asyncio.TaskGroup() as senders:
            for _ in range(burst.parallel):
                senders.create_task(_send(connection, burst.workload.path, left, timeline))
        await _empty(timeline.without_pod)
    await _empty(timeline.unfinished)
    return measured


async def _send(
    connection: Connection, path: str, left: Iterator[tuple[str, bytes]], timeline: Timeline
) -> None:
    """Send requests one after the other, each after the response to the previous one."""
    for name, body in left:
        times = timeline.of(name)
        times.sent = time.monotonic()
        await connection.create(path, body)
        times.answered = time.monotonic()


async def _empty(names: Collection[str]) -> None:
    while names:  # noqa: ASYNC110 - the watches take the times, polling does not affect them
        await asyncio.sleep(POLL_SECONDS)


def _shortfall(burst: Burst, timeline: Timeline) -> str:
    missing = timeline.without_pod or timeline.unfinished
    what = "have no Pod" if timeline.without_pod else "have not finished"
    named = ", ".join(sorted(missing)[:NAMED]) + (", ..." if len(missing) > NAMED else "")
    return (
        f"{len(missing)} of {burst.count} {burst.workload.name}s {what} after "
        f"{burst.deadline_seconds:.0f} s: {named}"
    )
