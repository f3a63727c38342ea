"""The load generator: creates objects, and watches them and their Pods."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.bench import generator_load
from tests.bench.arrival import Arrival, Pace
from tests.bench.connection import Connection
from tests.bench.errors import BenchError
from tests.bench.generator_load import GeneratorLoad
from tests.bench.timeline import Timeline
from tests.bench.watching import current_version, watch
from tests.bench.workloads import PODS_PATH, Form, Workload

POLL_SECONDS: Final = 0.01
ALONE_SECONDS: Final = 0.3
"""With Pace.ALONE, the time between a Pod and the next object, so that deferred work has ended."""
NAMED: Final = 5


@dataclass(frozen=True)
class Batch:
    """Objects of one workload, which are created and then observed until all are done."""

    workload: Workload
    form: Form
    prefix: str
    arrival: Arrival
    parallel: int
    deadline_seconds: float

    def manifests(self) -> dict[str, bytes]:
        """Return the manifests as JSON, by name."""
        names = (f"{self.prefix}-{number:05}" for number in range(self.arrival.objects))
        return {
            name: json.dumps(self.workload.manifest(name, self.form)).encode() for name in names
        }


async def run(connection: Connection, batch: Batch) -> tuple[Timeline, GeneratorLoad]:
    """Create all objects, and wait until each has reached the state that the form requires.

    Raise BenchError if one does not reach it within the deadline.
    """
    manifests = batch.manifests()
    timeline = Timeline(batch.workload, batch.form, list(manifests))
    await connection.open(batch.parallel)
    pods = await current_version(connection, PODS_PATH)
    owners = await current_version(connection, batch.workload.path)
    work = asyncio.create_task(_play(connection, batch, manifests, timeline))
    tasks: list[asyncio.Task[object]] = [
        work,
        asyncio.create_task(watch(connection, PODS_PATH, pods, timeline.pod_changed)),
        asyncio.create_task(watch(connection, batch.workload.path, owners, timeline.owner_changed)),
    ]
    try:
        done, _ = await asyncio.wait(
            tasks, timeout=batch.deadline_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()  # a watch ends only with an error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if work not in done:
        raise BenchError(_shortfall(batch, timeline))
    return timeline, work.result()


async def _play(
    connection: Connection, batch: Batch, manifests: Mapping[str, bytes], timeline: Timeline
) -> GeneratorLoad:
    sender = Sender(connection, batch.workload.path, timeline)
    async with generator_load.measured() as measured:
        match batch.arrival.pace:
            case Pace.BURST:
                await sender.burst(manifests, batch.parallel)
            case Pace.STEADY:
                await sender.steady(manifests, batch.arrival.per_second)
            case Pace.ALONE:
                await sender.alone(manifests)
        await _until(lambda: not timeline.without_pod)
    await _until(lambda: not timeline.unfinished)
    return measured


@dataclass(frozen=True)
class Sender:
    """Creates objects at one of the paces, and records the times of each request."""

    connection: Connection
    path: str
    timeline: Timeline

    async def burst(self, manifests: Mapping[str, bytes], parallel: int) -> None:
        """Create the objects by parallel senders."""
        left = iter(manifests.items())
        async with asyncio.TaskGroup() as senders:
            for _ in range(parallel):
                senders.create_task(self._one_after_the_other(left))

    async def steady(self, manifests: Mapping[str, bytes], per_second: float) -> None:
        """Create the objects at fixed times. A late response does not delay the next request."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as requests:
            for number, (name, body) in enumerate(manifests.items()):
                await asyncio.sleep(began + number / per_second - time.monotonic())
                requests.create_task(self._create(name, body))

    async def alone(self, manifests: Mapping[str, bytes]) -> None:
        """Create each object a moment after the Pod of the previous one was created."""
        for name, body in manifests.items():
            await self._create(name, body)
            await _until(partial(self._has_pod, name))
            await asyncio.sleep(ALONE_SECONDS)

    def _has_pod(self, name: str) -> bool:
        return name not in self.timeline.without_pod

    async def _one_after_the_other(self, left: Iterator[tuple[str, bytes]]) -> None:
        """Send requests, each after the response to the previous one."""
        for name, body in left:
            await self._create(name, body)

    async def _create(self, name: str, body: bytes) -> None:
        times = self.timeline.of(name)
        times.sent = time.monotonic()
        await self.connection.create(self.path, body)
        times.answered = time.monotonic()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the watches take the times, polling only ends the wait
        await asyncio.sleep(POLL_SECONDS)


def _shortfall(batch: Batch, timeline: Timeline) -> str:
    missing = timeline.without_pod or timeline.unfinished
    what = "have no Pod" if timeline.without_pod else "have not finished"
    named = ", ".join(sorted(missing)[:NAMED]) + (", ..." if len(missing) > NAMED else "")
    return (
        f"{len(missing)} of {batch.arrival.objects} {batch.workload.name}s {what} after "
        f"{batch.deadline_seconds:.0f} s: {named}"
    )
