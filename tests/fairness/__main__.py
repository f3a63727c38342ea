"""Play the scenarios, and print a table: ``python -m tests.fairness [PIPELINES]``."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from initpipeline.api import names
from tests.bench.connection import Connection, connect
from tests.bench.environment import operator_process, storage
from tests.bench.errors import BenchError
from tests.cluster.cluster import Cluster
from tests.cluster.processes import Usage
from tests.fairness.webhook import slow_webhook
from tests.operator_process import OperatorProcess

QUIET: Final = "quiet"
NAMESPACES: Final = "/api/v1/namespaces"
SAMPLES: Final = 20
PAUSE_SECONDS: Final = 1.0
"""Between two new pipelines."""
POLL_SECONDS: Final = 0.02
DEADLINE_SECONDS: Final = 60.0
PARALLEL: Final = 16
WEBHOOK_SECONDS: Final = 10
SLOW_PIPELINES: Final = 200
CHANGES_PER_SECOND: Final = 10
USAGE: Final = "usage: python -m tests.fairness [PIPELINES]"


@dataclass(frozen=True)
class Load:
    """What happens in another namespace."""

    namespace: str
    title: str
    begin: Callable[["World", str], Awaitable[None]]
    """Begins the load in the namespace of this name."""


class World:
    """An API server, the operator, and the tasks of the load."""

    def __init__(self, cluster: Cluster, connection: Connection, pipelines: int) -> None:
        self.cluster = cluster
        self.connection = connection
        self.pipelines = pipelines
        self.tasks: list[asyncio.Task[None]] = []
        self._made = 0

    async def create(self, namespace: str, name: str, image: str = "busybox") -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": spec(image),
        }
        await self.connection.create(pipelines_path(namespace), json.dumps(body).encode())

    async def create_many(self, namespace: str, count: int) -> None:
        gate = asyncio.Semaphore(PARALLEL)

        async def one(number: int) -> None:
            async with gate:
                await self.create(namespace, f"demo-{number:05}")

        await asyncio.gather(*(one(number) for number in range(count)))

    async def seconds_to_pod(self) -> float:
        """Create a pipeline in QUIET. Return the seconds until its Pod exists."""
        self._made += 1
        name = f"demo-{self._made:03}"
        begin = time.monotonic()
        await self.create(QUIET, name)
        while time.monotonic() < begin + DEADLINE_SECONDS:
            try:
                await self.connection.get(f"{NAMESPACES}/{QUIET}/pods/{name}")
            except BenchError:
                await asyncio.sleep(POLL_SECONDS)
            else:
                return time.monotonic() - begin
        raise BenchError(f"{name} has no Pod after {DEADLINE_SECONDS:g} s")

    async def end(self) -> None:
        """End the tasks of the load. Its pipelines stay."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()


def spec(image: str) -> dict[str, Any]:
    requests = {"requests": {"cpu": "100m"}}
    steps = [{"name": name, "image": "busybox", "resources": requests} for name in ("one", "two")]
    app = {"name": "app", "image": image}
    return {"template": {"spec": {"initContainers": steps, "containers": [app]}}}


def pipelines_path(namespace: str) -> str:
    return f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}"


async def nothing(world: World, namespace: str) -> None:
    """Leave the namespace empty."""


async def failing(world: World, namespace: str) -> None:
    """Create pipelines whose Pods a LimitRange refuses, so that the operator retries all of
    them."""
    limits = {"limits": [{"type": "Container", "min": {"cpu": "200m"}}]}
    body = {"metadata": {"name": "refuses"}, "spec": limits}
    await world.connection.create(
        f"{NAMESPACES}/{namespace}/limitranges", json.dumps(body).encode()
    )
    await asyncio.sleep(1)  # The API server watches LimitRanges.
    await world.create_many(namespace, world.pipelines)


async def slow(world: World, namespace: str) -> None:
    """Create pipelines while a webhook needs ten seconds for each of their Pods."""
    await slow_webhook(world.cluster, world.connection, namespace, WEBHOOK_SECONDS, world.tasks)
    await world.create_many(namespace, SLOW_PIPELINES)


async def rewriting(world: World, namespace: str) -> None:
    """Change the template of a pipeline ten times a second."""
    await world.create(namespace, "rewritten")

    async def rewrite() -> None:
        number = 0
        while True:
            number += 1
            change = {"spec": spec(f"busybox:{number}")}
            await world.connection.merge(f"{pipelines_path(namespace)}/rewritten", change)
            await asyncio.sleep(1 / CHANGES_PER_SECOND)

    world.tasks.append(asyncio.create_task(rewrite()))


def loads(pipelines: int) -> tuple[Load, ...]:
    return (
        Load("idle", "nothing", nothing),
        Load(
            "rewriting", f"a template that changes {CHANGES_PER_SECOND} times a second", rewriting
        ),
        Load("slow", f"{SLOW_PIPELINES} Pods, and {WEBHOOK_SECONDS} s for each in a webhook", slow),
        Load("failing", f"{pipelines} pipelines whose Pods a LimitRange refuses", failing),
    )


async def measure(cluster: Cluster, operator: OperatorProcess, pipelines: int) -> None:
    async with connect(cluster.kubeconfig, 2 * PARALLEL) as connection:
        for namespace in (QUIET, *(load.namespace for load in loads(pipelines))):
            body = json.dumps({"metadata": {"name": namespace}}).encode()
            await connection.create(NAMESPACES, body)
        world = World(cluster, connection, pipelines)
        await world.seconds_to_pod()
        for load in loads(pipelines):
            await load.begin(world, load.namespace)
            usage, began = Usage(operator.pid), time.monotonic()
            used, seconds = usage.cpu_ms(), []
            for _ in range(SAMPLES):
                seconds.append(await world.seconds_to_pod())
                await asyncio.sleep(PAUSE_SECONDS)
            for task in world.tasks:
                if task.done():
                    task.result()
            share = (usage.cpu_ms() - used) / 10 / (time.monotonic() - began)
            seconds.sort()
            median, last = seconds[len(seconds) // 2], seconds[-1]
            print(f"{load.title}: median {median:.2f} s, longest {last:.2f} s, CPU {share:.0f} %")
            print(f"  {await runs(connection, load.namespace)}", flush=True)
            for message, count in warnings(operator).most_common(3):
                print(f"  {count} times in the operator's log: {message}", flush=True)
            await world.end()


def warnings(operator: OperatorProcess) -> Counter[str]:
    """Return the warnings and errors in the operator's log so far, and how often it has each."""
    lines = [line for line in operator.lines() if line.get("level") in {"WARNING", "ERROR"}]
    return Counter(f"{line.get('message')}: {line.get('error', '')}"[:150] for line in lines)


async def runs(connection: Connection, namespace: str) -> str:
    """Return the number of pipelines in the namespace, and the highest number of a run."""
    found = (await connection.get(pipelines_path(namespace)))["items"]
    numbers = [one.get("status", {}).get("run", {}).get("number", 0) for one in found]
    most = max(numbers, default=0)
    return f"{len(numbers)} pipelines in the other namespace, at most {most} runs of one"


def main() -> int:
    arguments = sys.argv[1:] or ["5000"]
    if len(arguments) > 1 or not arguments[0].isdigit():
        print(USAGE, file=sys.stderr)
        return 2
    with storage() as cluster, operator_process(cluster) as operator:
        asyncio.run(measure(cluster, operator, int(arguments[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
