"""What the metrics record about reconciles: their result, and how late status is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from initpipeline.api.models import InitPipelineStatus
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.errors import ConnectionFailed, api_error
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.handlers import handle_pipeline
from initpipeline.runtime.keys import Key
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.pod_watch import PodWatcher
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.share import freshness
from initpipeline.runtime.unlabelled_pods import UnlabelledPodWatcher
from initpipeline.runtime.unreadable_objects import UnreadableObjects
from initpipeline.runtime.workers import run_worker
from tests.builders import fresh_pod, pipeline
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS, FakeApi, start_task

QUOTA = api_error(403, {"message": "pods is forbidden: exceeded quota: q, used: pods=3"})
REFUSED = api_error(422, {"message": "denied by a policy"})
CREATE, STATUS = "POST pods", "PATCH status"


class Record(Meter):
    """Records results, and how late status was."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.lags: list[float] = []

    def reconciled(self, result: str, seconds: float) -> None:  # noqa: ARG002
        self.results.append(result)

    def status_written(
        self,
        before: InitPipelineStatus,  # noqa: ARG002
        after: InitPipelineStatus,  # noqa: ARG002
        seconds: float,
    ) -> None:
        self.lags.append(seconds)


class Operator:
    """A worker with its queue, whose watches report when a test calls ``report``."""

    def __init__(self, api: FakeApi, clock: Clock) -> None:
        self.record = Record()
        self.api, self._gateway = api, Gateway(api)
        self._cache, self.queue = Cache.empty(), WorkQueue[Key](clock)
        self._unreadable = UnreadableObjects()
        self.reconciler = Reconciler(
            self._gateway,
            self._cache,
            self.queue,
            clock,
            EventRecorder(self._gateway, clock, "operator-0"),
            UnlabelledPodWatcher(self._gateway, self.queue, start_task),
            meter=self.record,
        )
        fresh = freshness("Pods", (None,))
        self._pods = PodWatcher(
            self._gateway, self._cache.pods, self.queue, self._unreadable, fresh
        )

    def report(self, plural: str) -> None:
        """Report the object as its watch would."""
        event = {"type": "MODIFIED", "object": self.api.objects[plural, KEY]}
        if plural == PODS:
            self._pods.handle(event)
        else:
            handle_pipeline(self._cache.pipelines, self.queue, self._unreadable, event)

    def kubelet_reports(self) -> None:
        status = fresh_pod().raw()["status"]
        spec = {**self.api.objects[PODS, KEY]["spec"], "nodeName": "node-1"}
        self.api.edit(PODS, {"spec": spec, "status": status})
        self.report(PODS)


@pytest.fixture
async def operator(clock: Clock) -> AsyncIterator[Operator]:
    """Returns an operator that is running, and a pipeline that its watch has not reported."""
    operator = Operator(FakeApi(clock), clock)
    operator.api.put(PIPELINES, pipeline().raw())
    worker = asyncio.create_task(
        run_worker(operator.queue, operator.reconciler, meter=operator.record)
    )
    yield operator
    assert not worker.done()
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker


class TestResult:
    """The results are those of controller-runtime."""

    async def test_reconcile_that_waits_for_a_deadline_is_requeue_after(
        self, operator: Operator, clock: Clock
    ) -> None:
        operator.report(PIPELINES)
        await clock.advance()
        assert operator.record.results == ["requeue_after"], "the deadline of the first report"

    async def test_reconcile_without_a_deadline_is_a_success(
        self, operator: Operator, clock: Clock
    ) -> None:
        operator.api.put(PIPELINES, pipeline().policy(suspend=True).raw())
        operator.report(PIPELINES)
        await clock.advance()
        assert operator.record.results == ["success"]

    async def test_refused_pod_is_requeue(self, operator: Operator, clock: Clock) -> None:
        operator.api.failing[CREATE] = [QUOTA]
        operator.report(PIPELINES)
        await clock.advance()
        assert operator.record.results == ["requeue"]
        await clock.advance(0.25)
        assert operator.record.results == ["requeue", "requeue_after"]

    async def test_conflict_has_the_result_requeue(self, operator: Operator, clock: Clock) -> None:
        operator.report(PIPELINES)
        await clock.advance()
        operator.api.edit(PIPELINES, {})
        operator.kubelet_reports()
        await clock.advance()
        assert operator.record.results == ["requeue_after", "requeue", "success"]

    @pytest.mark.parametrize("error", [ConnectionFailed("refused"), REFUSED], ids=["outage", "422"])
    async def test_failed_write_is_an_error(
        self, operator: Operator, clock: Clock, error: Exception
    ) -> None:
        operator.report(PIPELINES)
        await clock.advance()
        operator.api.failing[STATUS] = [error]
        operator.kubelet_reports()
        await clock.advance()
        assert operator.record.results == ["requeue_after", "error"]


class TestLag:
    """Status is late from when a watch reports a change until status is written."""

    async def test_attempts_that_failed_count(self, operator: Operator, clock: Clock) -> None:
        operator.report(PIPELINES)
        await clock.advance()
        operator.api.failing[STATUS] = [ConnectionFailed("refused")] * 3
        operator.kubelet_reports()
        for delay in (0, 0.25, 0.5, 1):
            await clock.advance(delay)
        assert operator.record.lags == [0.25 + 0.5 + 1]

    async def test_time_of_rest_does_not_count(self, operator: Operator, clock: Clock) -> None:
        operator.report(PIPELINES)
        await clock.advance()
        await clock.advance(1)
        operator.kubelet_reports()
        await clock.advance()
        assert operator.record.lags == [0]

    async def test_refusals_of_a_pod_do_not_count_when_status_reports_them(
        self, operator: Operator, clock: Clock
    ) -> None:
        operator.api.failing[CREATE] = [QUOTA, REFUSED, QUOTA]
        operator.report(PIPELINES)
        for delay in (0, 0.25, 0.5):
            await clock.advance(delay)
        await clock.advance(0.5)
        spec = operator.api.objects[PIPELINES, KEY]["spec"]
        operator.api.edit(PIPELINES, {"spec": {**spec, "suspend": True}})
        operator.report(PIPELINES)
        await clock.advance()
        assert len(operator.record.lags) == 4
        assert set(operator.record.lags) == {0}
