"""Deletions that no watch has told are found by comparing what is known with what exists."""

import asyncio

import pytest

from initpipeline.core.facts import Pipeline, Pod
from initpipeline.runtime import gateway
from initpipeline.runtime.errors import ConnectionFailed, OperatorError
from initpipeline.runtime.gateway import Gateway, Key
from initpipeline.runtime.sweep import Sweeper
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from tests.builders import Raw, pipeline, running_pod
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS, FakeApi, Operator

LISTS = ["GET initpipelines", "GET pods"]


@pytest.fixture
def api(clock: Clock) -> FakeApi:
    """It has a pipeline with its Pod."""
    api = FakeApi(clock)
    api.put(PIPELINES, pipeline().raw())
    api.put(PODS, running_pod().raw())
    return api


@pytest.fixture
def operator(api: FakeApi, clock: Clock) -> Operator:
    """It knows what the API has."""
    operator = Operator(api, clock)
    operator.watch()
    return operator


@pytest.fixture
def sweeper(api: FakeApi, operator: Operator) -> Sweeper:
    return Sweeper(Gateway(api), operator.cache, operator.queue, (), UnreadableObjects())


def known(operator: Operator) -> set[str]:
    found = {PIPELINES: operator.cache.pipelines.get(KEY), PODS: operator.cache.pods.get(KEY)}
    return {plural for plural, thing in found.items() if thing is not None}


class TestSweep:
    async def test_finds_nothing_where_all_is_there(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper
    ) -> None:
        await sweeper.sweep()
        assert (known(operator), operator.again) == ({PIPELINES, PODS}, False)
        assert api.calls == LISTS, "a sweep costs one list of each kind"

    @pytest.mark.parametrize("plural", [PIPELINES, PODS])
    async def test_forgets_what_is_gone_and_asks_for_a_look(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper, plural: str
    ) -> None:
        api.gone(plural)
        await sweeper.sweep()
        assert known(operator) == {PIPELINES, PODS} - {plural}
        assert operator.again, "nobody looks at its pipeline"

    async def test_finds_a_pod_that_was_replaced(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper
    ) -> None:
        api.put(PODS, running_pod().of_run(2).raw())
        await sweeper.sweep()
        assert known(operator) == {PIPELINES}

    async def test_reads_all_pages(
        self, api: FakeApi, operator: Operator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway, "LARGEST_PAGE", 2)
        for number in range(5):
            raw = running_pod().raw()
            raw["metadata"] |= {"name": f"pod-{number}", "uid": f"uid-{number}"}
            api.put(PODS, raw)
        sweeper = Sweeper(Gateway(api), operator.cache, operator.queue, (), UnreadableObjects())
        await sweeper.sweep()
        assert known(operator) == {PIPELINES, PODS}
        assert api.calls.count("GET pods") == 3

    async def test_takes_a_list_of_nothing_for_an_empty_one(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A kind that is about to go is answered so."""

        async def request(*_: object, **__: object) -> Raw:
            return {"metadata": {"resourceVersion": "9999"}, "items": None}

        monkeypatch.setattr(api, "request", request)
        await sweeper.sweep()
        assert known(operator) == set()

    async def test_looks_into_served_namespaces_only(
        self, api: FakeApi, operator: Operator
    ) -> None:
        elsewhere = Key("elsewhere", KEY.name)
        raw = running_pod().raw()
        raw["metadata"]["namespace"] = "elsewhere"
        operator.cache.pods.put(elsewhere, Pod.from_api(raw))
        await Sweeper(
            Gateway(api), operator.cache, operator.queue, ("default",), UnreadableObjects()
        ).sweep()
        assert operator.cache.pods.get(elsewhere) is not None
        assert api.calls == LISTS

    async def test_a_cluster_whose_history_went_back_is_not_served_on(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper
    ) -> None:
        """Each word of it would count as old, and the operator would never act again."""
        restored = {**api.objects[PIPELINES, KEY]}
        restored["metadata"] = {**restored["metadata"], "resourceVersion": "99999"}
        operator.cache.pipelines.put(KEY, Pipeline.from_api(restored))
        with pytest.raises(OperatorError, match="resource version went back"):
            await sweeper.sweep()

    async def test_what_is_told_while_it_reads_is_no_going_back(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper
    ) -> None:
        def tell() -> None:
            raw: Raw = {**api.objects[PIPELINES, KEY]}
            raw["metadata"] = {**raw["metadata"], "resourceVersion": "99999"}
            operator.cache.pipelines.put(KEY, Pipeline.from_api(raw))

        api.before["GET initpipelines"] = tell
        await sweeper.sweep()
        assert known(operator) == {PIPELINES, PODS}


class TestRun:
    async def test_sweeps_once_each_period_whatever_happens(
        self, api: FakeApi, sweeper: Sweeper, clock: Clock
    ) -> None:
        api.failing["GET initpipelines"] = [ConnectionFailed("down")]
        running = asyncio.ensure_future(sweeper.run(60))
        for seconds in (0, 60, 60, 60):
            await clock.advance(seconds)
        running.cancel()
        assert api.calls == ["GET initpipelines", *LISTS, *LISTS]


class TestFill:
    async def test_knows_all_pods_before_the_first_look(self, api: FakeApi, clock: Clock) -> None:
        operator = Operator(api, clock)
        await Sweeper(Gateway(api), operator.cache, operator.queue, (), UnreadableObjects()).fill()
        assert known(operator) == {PODS}
        assert not operator.again, "no watch has told of a pipeline to look at"
