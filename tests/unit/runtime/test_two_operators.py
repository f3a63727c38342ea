"""Two operators without a common Lease serve one pipeline, as two installations by mistake.

They may start a run without a cause (docs/decisions/0021-lease-and-deadlines.md).
"""

import contextlib
from random import Random

import pytest

from initpipeline.runtime.errors import ApiError
from tests.builders import pipeline, running_pod
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS, FakeApi, Operator

TURNS = 60


class Story:
    """A user, a kubelet and two operators act in a random order. The watches are late."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._clock = Clock()
        self.api = FakeApi(self._clock)
        self.api.put(PIPELINES, pipeline().raw())
        self._operators = [Operator(self.api, self._clock) for _ in range(2)]
        self._tokens = 0
        self.runs: list[tuple[int, str]] = []
        """Number and token of each run, in the order in which they were observed."""

    async def play(self) -> None:
        for _ in range(TURNS):
            self._user_acts()
            self._kubelet_acts()
            for operator in self._operators:
                if self._chance(0.6):
                    operator.watch(*self._random.choice([(), (PIPELINES,), (PODS,)]))
                await self._reconcile(operator)
            await self._clock.advance(60)

    async def rest(self) -> list[str]:
        """Let the operators finish. Returns the writes of two more reconciles."""
        for _ in range(30):
            self._kubelet_acts()
            for operator in self._operators:
                operator.watch()
                await self._reconcile(operator)
            await self._clock.advance(400)
        before = len(self.api.calls)
        for operator in self._operators:
            operator.watch()
            await operator.reconcile()
        return [call for call in self.api.calls[before:] if not call.startswith("GET")]

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _user_acts(self) -> None:
        if self._chance(0.1):
            self._tokens += 1
            raw = pipeline().token(f"t{self._tokens}").raw()
            self.api.put(PIPELINES, {**raw, "status": self.api.pipeline.status.to_api()})
        if self._chance(0.05) and self.api.pod is not None:
            self.api.gone(PODS)

    def _kubelet_acts(self) -> None:
        pod = self.api.pod
        if pod is None:
            return
        if pod.deleting:
            self.api.gone(PODS)
            return
        raw = running_pod().raw()
        spec = {**self.api.objects[PODS, KEY]["spec"], "nodeName": "node-1"}
        self.api.edit(PODS, {"spec": spec, "status": raw["status"]})

    async def _reconcile(self, operator: Operator) -> None:
        if operator.cache.pipelines.get(KEY) is not None:
            with contextlib.suppress(ApiError):  # The worker requeues it.
                await operator.reconcile()
        run = self.api.pipeline.status.run
        if run is not None and (run.number, run.token or "") not in self.runs[-1:]:
            self.runs.append((run.number, run.token or ""))


@pytest.mark.parametrize("seed", range(3))
async def test_two_operators_of_one_pipeline_serve_each_token_once(seed: int) -> None:
    story = Story(seed)
    await story.play()
    assert await story.rest() == []
    numbers = [number for number, _ in story.runs]
    assert numbers == sorted(set(numbers))
    tokens = [token for _, token in story.runs if token]
    assert len(tokens) == len(set(tokens))
