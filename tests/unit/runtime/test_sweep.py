"""The sweeper: it finds deletions that no watch has reported."""

import asyncio

import pytest

from initpipeline.api.raw import Raw
from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod
from initpipeline.runtime import gateway
from initpipeline.runtime.errors import ConnectionFailed, OperatorError
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.sweep import Sweeper
from tests.builders import pipeline, running_pod
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS, FakeApi, Operator

LISTS = ["GET initpipelines", "GET pods"]


@pytest.fixture
def api(clock: Clock) -> FakeApi:
    """Returns an API server that has a pipeline and its Pod."""
    api = FakeApi(clock)
    api.put(PIPELINES, pipeline().raw())
    api.put(PODS, running_pod().raw())
    return api


@pytest.fixture
def operator(api: FakeApi, clock: Clock) -> Operator:
    """Returns an operator whose cache has the same objects as the API server."""
    operator = Operator(api, clock)
    operator.watch()
    return operator


@pytest.fixture
def sweeper(api: FakeApi, operator: Operator) -> Sweeper:
    return Sweeper(Gateway(api), operator.cache, operator.queue, (None,))


def cached(operator: Operator) -> set[str]:
    found = {PIPELINES: operator.cache.pipelines.get(KEY), PODS: operator.cache.pods.get(KEY)}
    return {plural for plural, thing in found.items() if thing is not None}


class TestSweep:
    async def test_sweep_without_deletions_changes_nothing(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper
    ) -> None:
        await sweeper.sweep()
        assert (cached(operator), operator.requeued) == ({PIPELINES, PODS}, False)
        assert api.calls == LISTS, "a sweep costs one list of each kind"

    @pytest.mark.parametrize("plural", [PIPELINES, PODS])
    async def test_deleted_object_is_removed_and_its_pipeline_queued(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper, plural: str
    ) -> None:
        api.gone(plural)
        await sweeper.sweep()
        assert cached(operator) == {PIPELINES, PODS} - {plural}
        assert operator.requeued, "its pipeline was not queued"

    async def test_replaced_pod_is_removed(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper
    ) -> None:
        api.put(PODS, running_pod().of_run(2).raw())
        await sweeper.sweep()
        assert cached(operator) == {PIPELINES}

    async def test_sweep_reads_all_pages(
        self, api: FakeApi, operator: Operator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway, "LARGEST_PAGE", 2)
        for number in range(5):
            raw = running_pod().raw()
            raw["metadata"] |= {"name": f"pod-{number}", "uid": f"uid-{number}"}
            api.put(PODS, raw)
        sweeper = Sweeper(Gateway(api), operator.cache, operator.queue, (None,))
        await sweeper.sweep()
        assert cached(operator) == {PIPELINES, PODS}
        assert api.calls.count("GET pods") == 3

    async def test_list_with_null_items_counts_as_empty(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The API server returns such a list while the CRD is being deleted."""

        async def request(*_: object, **__: object) -> Raw:
            return {"metadata": {"resourceVersion": "9999"}, "items": None}

        monkeypatch.setattr(api, "request", request)
        await sweeper.sweep()
        assert cached(operator) == set()

    async def test_only_served_namespaces_are_listed(
        self, api: FakeApi, operator: Operator
    ) -> None:
        elsewhere = Key("elsewhere", KEY.name)
        raw = running_pod().raw()
        raw["metadata"]["namespace"] = "elsewhere"
        operator.cache.pods.put(elsewhere, Pod.from_api(raw))
        await Sweeper(Gateway(api), operator.cache, operator.queue, ("default",)).sweep()
        assert operator.cache.pods.get(elsewhere) is not None
        assert api.calls == LISTS

    async def test_only_a_sweep_of_all_namespaces_is_recorded_as_successful(
        self, api: FakeApi, operator: Operator
    ) -> None:
        swept: list[str] = []

        class Recorder(Meter):
            def swept(self, resource: str) -> None:
                swept.append(resource)

        namespaces = ("default", "elsewhere")
        sweeper = Sweeper(Gateway(api), operator.cache, operator.queue, namespaces, Recorder())

        def fail_the_next_list() -> None:
            api.before["GET pods"] = lambda: api.failing.update(
                {"GET pods": [ConnectionFailed("down")]}
            )

        api.before["GET pods"] = fail_the_next_list
        with pytest.raises(ConnectionFailed):
            await sweeper.sweep()
        assert swept == ["initpipelines"]
        await sweeper.sweep()
        assert swept == ["initpipelines", "initpipelines", "pods"]

    async def test_lower_resource_version_ends_the_operator(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper
    ) -> None:
        """Its cache would ignore each later change, and the operator would never act again."""
        restored = {**api.objects[PIPELINES, KEY]}
        restored["metadata"] = {**restored["metadata"], "resourceVersion": "99999"}
        operator.cache.pipelines.put(KEY, Pipeline.from_api(restored))
        with pytest.raises(OperatorError, match="went back from"):
            await sweeper.sweep()

    async def test_lower_version_of_an_object_ends_the_operator(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper
    ) -> None:
        """After a restore with a higher revision, the list has a higher version than the cache."""
        restored = {**api.objects[PIPELINES, KEY]}
        version = int(restored["metadata"]["resourceVersion"]) + 1
        restored["metadata"] = {**restored["metadata"], "resourceVersion": str(version)}
        operator.cache.pipelines.put(KEY, Pipeline.from_api(restored))
        with pytest.raises(OperatorError, match=f"InitPipeline {KEY} went back from {version}"):
            await sweeper.sweep()

    async def test_object_stored_during_the_list_is_no_lower_version(
        self, api: FakeApi, operator: Operator, sweeper: Sweeper
    ) -> None:
        def tell() -> None:
            raw: Raw = {**api.objects[PIPELINES, KEY]}
            raw["metadata"] = {**raw["metadata"], "resourceVersion": "99999"}
            operator.cache.pipelines.put(KEY, Pipeline.from_api(raw))

        api.before["GET initpipelines"] = tell
        await sweeper.sweep()
        assert cached(operator) == {PIPELINES, PODS}


class TestRun:
    async def test_sweep_runs_once_per_period_despite_failures(
        self, api: FakeApi, sweeper: Sweeper, clock: Clock
    ) -> None:
        api.failing["GET initpipelines"] = [ConnectionFailed("down")]
        running = asyncio.ensure_future(sweeper.run(60))
        for seconds in (0, 60, 60, 60):
            await clock.advance(seconds)
        running.cancel()
        assert api.calls == ["GET initpipelines", *LISTS, *LISTS]
