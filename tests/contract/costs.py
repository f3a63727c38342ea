"""Plays the lives of tests/costs on a real API server, and counts the requests of the operator."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from initpipeline.api.raw import Raw
from tests.builders import NAME, PipelineBuilder
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv, RequestCounter
from tests.costs.lives import LIVES, SANDBOX_READY, play
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.unit.model.kubelet import Kubelet
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.counted import CountedWorld

GRACE_SECONDS: Final = 30

_COLUMNS: Final = {
    "get initpipelines": "GET pipeline",
    "get pods": "GET Pod",
    "create pods": "POST Pod",
    "delete pods": "DELETE Pod",
    "patch initpipelines/status": "PATCH status",
    "delete initpipelines": "DELETE pipeline",
    "create events": "POST event",
    "patch events": "PATCH event",
}


SENT: Final = tuple(_COLUMNS.values())
"""The columns of the table that this level counts."""


def requests_of(
    life: str, env: ContractEnv, counter: RequestCounter, operator: OperatorProcess
) -> Counter[str]:
    """Play the life. Returns the requests of the operator by the columns of the table. The operator
    must log at level debug."""
    world = RealWorld(env, counter, operator, asyncio.run(_progress_of(life)))
    asyncio.run(play(LIVES[life], world))
    world.check_end()
    return world.requests


async def _progress_of(life: str) -> list[Counter[str]]:
    """Play the life in memory. Returns the requests at each time at which the operator has finished
    its work."""
    progress: list[Counter[str]] = []
    world = CountedWorld(Clock())
    world.on_settled = lambda: progress.append(Counter({name: world.costs[name] for name in SENT}))
    async with world.running():
        await play(LIVES[life], world)
    return progress


class RealWorld:
    """A namespace of a real API server, in which the model kubelet reports on the Pod.

    ``expected`` has the requests at each time at which the operator has finished its work. The
    world waits for them, since the operator need not observe a status that the kubelet replaces
    earlier.
    """

    def __init__(
        self,
        env: ContractEnv,
        counter: RequestCounter,
        operator: OperatorProcess,
        expected: Iterable[Counter[str]],
    ) -> None:
        self.kubelet: Kubelet | None = None
        self._env, self._counter, self._operator = env, counter, operator
        self._expected = iter(expected)
        self._skew = timedelta()
        """How far the kubelet's clock is ahead, since back-off is not waited for."""

    @property
    def requests(self) -> Counter[str]:
        """The requests since ``count``, by the columns of the table."""
        found: Counter[str] = Counter()
        for request, number in self._counter.counts().items():
            name, _, _ = request.rpartition(" ")
            found[_COLUMNS.get(name, request)] += number
        return found

    @property
    def spec(self) -> Raw:
        raw = self._env.pipeline()
        assert raw is not None, "there is no pipeline"
        spec: Raw = raw["spec"]
        return spec

    def create(self, builder: PipelineBuilder) -> None:
        self._env.create(builder)

    def edit(self, change: Mapping[str, Any]) -> None:
        self._env.patch(change)

    def delete(self) -> None:
        before = self._reconciles()
        self._env.delete("Background")
        # The garbage collector deletes the Pod later than the operator observes the deletion.
        poll_until(
            lambda: self._reconciles() > before,
            TIMEOUT_SECONDS,
            "the operator observes the deletion",
        )
        self.delete_pod()

    def _reconciles(self) -> int:
        """Returns how often the operator has reconciled the pipeline."""
        key = f"{self._env.namespace}/{NAME}"
        return sum(
            (line["message"], line.get("pipeline")) == ("reconciled", key)
            for line in self._operator.lines()
        )

    def delete_pod(self) -> None:
        self._env.delete_pod(GRACE_SECONDS)

    def report_sandbox(self) -> None:
        self._env.report_status({"conditions": [SANDBOX_READY]})

    def schedule(self) -> None:
        self._env.bind()
        pod = self._env.pod()
        assert pod is not None, "there is no Pod"
        self.kubelet = Kubelet(pod, self._env.report_status, self._now)

    def node_step(self) -> bool:
        pod = self._env.pod()
        if pod is None or self.kubelet is None or self.kubelet.uid != pod["metadata"]["uid"]:
            return False
        if "deletionTimestamp" not in pod["metadata"]:
            return self.kubelet.step()
        if not self.kubelet.terminate():
            self._env.delete_pod()
        return True

    async def settle(self) -> None:
        expected = next(self._expected, None)
        assert expected is not None, f"the life in memory has fewer steps: {self._state()}"
        poll_until(
            lambda: self.requests >= expected,
            TIMEOUT_SECONDS,
            f"requests {expected}",
            state=self._state,
        )

    def _state(self) -> str:
        """Returns what explains a missing request, for the message of a failure."""
        operator = "runs" if self._operator.running else f"ended: {self._operator.exit_code}"
        pod = self._env.pod()
        parts = [self.requests, f"operator {operator}", self._operator.tail()]
        return "\n".join(map(str, [*parts, pod and pod["status"], self._env.status()]))

    def check_end(self) -> None:
        """Raise AssertionError if the life in memory has taken more steps. If so, this world has
        waited for the requests of earlier steps, and the operator may have missed a status."""
        missing = sum(1 for _ in self._expected)
        assert not missing, f"the life in memory has {missing} more steps"

    async def end_back_off(self) -> None:
        ends = self.kubelet.back_off_ends() if self.kubelet else None
        if ends is not None:
            self._skew += ends - self._now()

    async def rest(self) -> None:
        await self.settle()
        self._counter.counts_at_rest()

    async def restart(self, pipelines: int) -> None:
        raise NotImplementedError

    def count(self) -> None:
        self._counter.reset()

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._skew
