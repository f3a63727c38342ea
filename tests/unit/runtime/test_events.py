"""Events: their fields, when a repeated one is posted, which are dropped, and that no failure to
post one affects a reconcile.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.api.reasons import Trigger
from initpipeline.core.facts import Pipeline
from initpipeline.runtime import events
from initpipeline.runtime.errors import ConflictError, ConnectionFailed, api_error
from initpipeline.runtime.events import QUEUE_LIMIT, REFRESH, EventRecorder
from initpipeline.runtime.gateway import Gateway
from tests.builders import NAME, NAMESPACE, PIPELINE_UID, End, at, fresh_pod, pipeline
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import EVENTS, KEY, PIPELINES, PODS, FakeApi, Operator

POST, PATCH = "POST events", "PATCH events"

REFRESH_SECONDS = REFRESH.total_seconds()
GONE = api_error(404, {"message": "namespaces not found"})
TERMINATING = api_error(403, {"details": {"causes": [{"reason": "NamespaceTerminating"}]}})
FORBIDDEN = api_error(403, {"message": "events is forbidden"})


@pytest.fixture
def api(clock: Clock) -> FakeApi:
    return FakeApi(clock)


@pytest.fixture
def recorder(api: FakeApi, clock: Clock) -> EventRecorder:
    return EventRecorder(Gateway(api), clock, "operator-0")


@pytest.fixture
async def posting(recorder: EventRecorder) -> AsyncIterator[EventRecorder]:
    """Returns the recorder, whose task runs."""
    task = asyncio.create_task(recorder.run())
    yield recorder
    assert not task.done(), "the task ended"
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def in_run(
    run: int,
    failures: int = 0,
    name: str = "one",
    uid: str = PIPELINE_UID,
    namespace: str = NAMESPACE,
) -> Pipeline:
    """Returns a pipeline in this run, whose step has failed so often."""
    statuses: tuple[dict[str, Any], ...] = ()
    if failures:
        last = End(1, message="no such table")
        builder = fresh_pod().init(name, running=True, restarts=failures, last=last)
        statuses = tuple(builder.raw()["status"]["initContainerStatuses"])
    status = InitPipelineStatus(
        run=Run(number=run, trigger=Trigger.CREATED, start_time=at(0)),
        init_container_statuses=statuses,
    )
    raw = pipeline().with_status(status).raw()
    raw["metadata"] |= {"uid": uid, "namespace": namespace}
    return Pipeline.from_api(raw)


NEW = pipeline().build()


async def fail(
    recorder: EventRecorder, clock: Clock, times: int, *, every: float = 0, **more: Any
) -> None:
    """Report so many failures of a step of run 1, each with a status write."""
    for count in range(times):
        recorder.status_written(in_run(1, count, **more), in_run(1, count + 1, **more))
        await clock.advance(every)


def counts(api: FakeApi) -> list[int]:
    """Returns how often each event has occurred, as the API server has it."""
    return [raw.get("series", {}).get("count", 1) for raw in api.posted_events]


class TestEvent:
    async def test_event_has_all_required_fields(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        posting.status_written(NEW, in_run(1))
        await clock.advance()
        (event,) = api.posted_events
        assert event.pop("metadata")["namespace"] == NAMESPACE
        assert event == {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "eventTime": "2030-01-01T12:00:00.000000Z",
            "type": "Normal",
            "reason": "RunStarted",
            "action": "StartRun",
            "note": "run 1 started (Created): the InitPipeline is new",
            "regarding": {
                "apiVersion": "initpipeline.dev/v1alpha1",
                "kind": "InitPipeline",
                "namespace": NAMESPACE,
                "name": NAME,
                "uid": PIPELINE_UID,
                "resourceVersion": "1",
            },
            "reportingController": "initpipeline.dev/operator",
            "reportingInstance": "operator-0",
        }

    async def test_event_of_step_has_its_field_path(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        await fail(posting, clock, 1)
        (event,) = api.posted_events
        assert event["regarding"]["fieldPath"] == "spec.template.spec.initContainers{one}"

    async def test_simultaneous_events_are_listed_in_order(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        posting.status_written(NEW, in_run(1, failures=1))
        await clock.advance()
        assert [raw["reason"] for raw in api.posted_events] == ["RunStarted", "StepFailed"]
        times = [raw["eventTime"] for raw in api.posted_events]
        assert times == sorted(set(times)), "two events have the same time"

    async def test_status_write_without_change_posts_no_event(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        posting.status_written(in_run(1, failures=1), in_run(1, failures=1))
        await clock.advance(REFRESH_SECONDS)
        assert api.calls == []


class TestSeries:
    async def test_first_repetition_is_posted_at_once(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        await fail(posting, clock, 2, every=10)
        assert api.calls == [POST, PATCH]
        (event,) = api.posted_events
        assert event["series"] == {"count": 2, "lastObservedTime": "2030-01-01T12:00:10.000000Z"}

    async def test_count_is_posted_when_it_has_doubled(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        await fail(posting, clock, 100)
        assert api.calls == [POST, *[PATCH] * 6]
        assert counts(api) == [64]

    async def test_count_is_posted_before_the_event_expires(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        await fail(posting, clock, 5)
        assert counts(api) == [4]
        await clock.advance(REFRESH_SECONDS + 1)
        assert api.calls == [POST, PATCH, PATCH], "a write without an occurrence"
        posting.status_written(in_run(1, 5), in_run(1, 6))
        await clock.advance()
        assert counts(api) == [6]

    async def test_day_of_failures_costs_a_few_writes_and_two_per_hour(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        """The kubelet restarts a failing step every five minutes at most."""
        await fail(posting, clock, 24 * 12, every=300)
        assert len(api.calls) <= 8 + 2 * 24
        assert len(api.posted_events) == 1

    async def test_expired_event_is_posted_as_new_event(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        await fail(posting, clock, 1)
        for key in [key for key in api.objects if key[0] == EVENTS]:
            del api.objects[key]
        posting.status_written(in_run(1, 1), in_run(1, 2))
        await clock.advance()
        assert api.calls == [POST, PATCH, POST]
        assert counts(api) == [1]
        posting.status_written(in_run(1, 2), in_run(1, 3))
        await clock.advance()
        assert counts(api) == [2]

    async def test_count_that_was_refused_is_posted_with_the_next(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        api.failing[PATCH] = [ConnectionFailed("down")]
        await fail(posting, clock, 3)
        assert counts(api) == [3]

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"name": "two"}, id="step"),
            pytest.param({"uid": "namesake"}, id="pipeline"),
        ],
    )
    async def test_occurrence_of_another_step_or_pipeline_is_another_series(
        self, api: FakeApi, posting: EventRecorder, clock: Clock, other: dict[str, Any]
    ) -> None:
        await fail(posting, clock, 1)
        await fail(posting, clock, 1, **other)
        assert counts(api) == [1, 1]

    async def test_occurrence_in_another_run_is_another_series(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        """The note names the run, and the API server does not accept another note."""
        await fail(posting, clock, 1)
        posting.status_written(in_run(2, 1), in_run(2, 2))
        await clock.advance()
        assert counts(api) == [1, 1]

    async def test_series_with_oldest_occurrence_is_forgotten_first(
        self,
        api: FakeApi,
        posting: EventRecorder,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Otherwise memory would grow with each step that ever failed."""
        monkeypatch.setattr(events, "SERIES_LIMIT", 2)
        for uid, failures in (("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3), ("a", 4)):
            posting.status_written(in_run(1, failures - 1, uid=uid), in_run(1, failures, uid=uid))
            await clock.advance()
        assert counts(api) == [4, 1, 1]
        posting.status_written(in_run(1, 1, uid="b"), in_run(1, 2, uid="b"))
        await clock.advance()
        assert counts(api) == [4, 1, 1, 1]


class TestRate:
    """At most 25 events of a pipeline are posted, and then one a minute. Others are dropped."""

    async def test_events_beyond_the_rate_are_dropped(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        for run in range(1, 40):
            posting.status_written(in_run(run), in_run(run + 1))
        await clock.advance()
        assert len(api.posted_events) == 25
        posting.status_written(in_run(40), in_run(41))
        await clock.advance(61)
        assert len(api.posted_events) == 25
        posting.status_written(in_run(41), in_run(42))
        await clock.advance()
        assert [raw["note"][:6] for raw in api.posted_events[25:]] == ["run 42"]

    async def test_other_pipelines_have_their_own_rate(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        for run in range(1, 40):
            posting.status_written(in_run(run), in_run(run + 1))
        posting.status_written(NEW, in_run(1, uid="other"))
        await clock.advance()
        assert api.posted_events[-1]["regarding"]["uid"] == "other"

    async def test_count_of_a_series_includes_what_was_not_posted(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        await fail(posting, clock, 1)
        for run in range(2, 40):
            posting.status_written(in_run(run), in_run(run + 1))
        await clock.advance()
        for count in range(1, 9):
            posting.status_written(in_run(1, count), in_run(1, count + 1))
        await clock.advance(60)
        assert counts(api)[0] == 1
        posting.status_written(in_run(1, 9), in_run(1, 10))
        await clock.advance()
        assert counts(api)[0] == 10

    async def test_pipeline_that_fails_every_five_minutes_loses_no_event(
        self, api: FakeApi, posting: EventRecorder, clock: Clock
    ) -> None:
        """Five minutes are the longest back-off. A failed run has up to four events."""
        for run in range(1, 100):
            for _ in range(4):
                posting.status_written(in_run(run), in_run(run + 1))
            await clock.advance(300)
        assert len(api.posted_events) == 4 * 99

    async def test_rates_that_are_remembered_are_limited(
        self,
        api: FakeApi,
        posting: EventRecorder,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Otherwise memory would grow with each pipeline that ever had an event."""
        monkeypatch.setattr(events, "RATES_LIMIT", 2)
        for run in range(1, 40):
            posting.status_written(in_run(run), in_run(run + 1))
        for uid in ("a", "b"):
            posting.status_written(NEW, in_run(1, uid=uid))
        posting.status_written(in_run(40), in_run(41))
        await clock.advance()
        assert api.posted_events[-1]["note"].startswith("run 41 "), "the rate is still remembered"


class TestNamespaces:
    """The events of a namespace neither delay nor displace those of others."""

    async def test_event_of_another_namespace_is_the_second_to_be_posted(
        self, api: FakeApi, recorder: EventRecorder
    ) -> None:
        self.noise(recorder, 500)
        recorder.status_written(NEW, in_run(1, uid="quiet", namespace="quiet"))
        await self.post(recorder)
        order = [key.namespace for (plural, key) in api.objects if plural == EVENTS]
        assert order.index("quiet") <= 1

    async def test_event_of_another_namespace_displaces_one_of_a_full_queue(
        self, api: FakeApi, recorder: EventRecorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.noise(recorder, QUEUE_LIMIT)
        recorder.status_written(NEW, in_run(1, uid="quiet", namespace="quiet"))
        assert [vars(record)["pipeline"] for record in caplog.records] == ["noisy/demo"]
        await self.post(recorder)
        namespaces = [key.namespace for (plural, key) in api.objects if plural == EVENTS]
        assert (namespaces.count("quiet"), len(namespaces)) == (1, QUEUE_LIMIT)

    async def test_slow_webhook_of_a_namespace_delays_only_its_events(
        self, api: FakeApi, recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers, create = asyncio.Event(), Gateway.create_event

        async def slow(gateway: Gateway, event: dict[str, Any]) -> None:
            if event["metadata"]["namespace"] == "noisy":
                await answers.wait()
            await create(gateway, event)

        monkeypatch.setattr(Gateway, "create_event", slow)
        self.noise(recorder, 10)
        task = asyncio.create_task(recorder.run())
        for number in range(5):
            new = in_run(1, uid=f"quiet-{number}", namespace="quiet")
            recorder.status_written(NEW, new)
        for _ in range(50):
            await asyncio.sleep(0)
        assert [raw["metadata"]["namespace"] for raw in api.posted_events] == ["quiet"] * 5
        answers.set()
        await recorder.drain(60)
        task.cancel()
        assert len(api.posted_events) == 15

    @staticmethod
    def noise(recorder: EventRecorder, count: int) -> None:
        for number in range(count):
            new = in_run(1, uid=f"noisy-{number}", namespace="noisy")
            recorder.status_written(NEW, new)

    @staticmethod
    async def post(recorder: EventRecorder) -> None:
        task = asyncio.create_task(recorder.run())
        await recorder.drain(60)
        task.cancel()


class TestTrouble:
    """A failure to post an event raises no exception in the caller that wrote the status."""

    @pytest.mark.parametrize("error", [FORBIDDEN, ConnectionFailed("down"), ZeroDivisionError()])
    async def test_refused_event_is_dropped(
        self, api: FakeApi, posting: EventRecorder, clock: Clock, error: Exception
    ) -> None:
        api.failing[POST] = [error]
        posting.status_written(NEW, in_run(1))
        posting.status_written(in_run(1), in_run(2))
        await clock.advance()
        assert [raw["note"][:5] for raw in api.posted_events] == ["run 2"]

    async def test_dropped_events_are_logged_once_per_period(
        self,
        api: FakeApi,
        posting: EventRecorder,
        clock: Clock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        api.failing[POST] = [FORBIDDEN] * 4
        for run in range(3):
            posting.status_written(in_run(run + 1), in_run(run + 2))
            await clock.advance(1)
        assert [record.message for record in caplog.records] == ["event dropped"]
        await clock.advance(600)
        posting.status_written(in_run(4), in_run(5))
        await clock.advance()
        assert [vars(record)["dropped"] for record in caplog.records] == [1, 3]

    @pytest.mark.parametrize("error", [GONE, TERMINATING], ids=["gone", "going"])
    async def test_event_in_terminating_namespace_is_not_logged(
        self,
        api: FakeApi,
        posting: EventRecorder,
        clock: Clock,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
    ) -> None:
        api.failing[POST] = [error]
        posting.status_written(NEW, in_run(1))
        await clock.advance()
        assert (api.calls, caplog.records) == ([POST], [])

    async def test_event_that_a_webhook_denies_as_not_found_is_logged(
        self, api: FakeApi, posting: EventRecorder, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        message = 'admission webhook "w" denied the request: no rules'
        api.failing[POST] = [api_error(404, {"message": message})]
        posting.status_written(NEW, in_run(1))
        await clock.advance()
        assert [vars(record)["error"] for record in caplog.records] == [f"404: {message}"]

    async def test_events_beyond_queue_limit_are_dropped(
        self, recorder: EventRecorder, api: FakeApi, caplog: pytest.LogCaptureFixture
    ) -> None:
        """For instance if the API server does not answer. The first events are kept."""
        for run in range(QUEUE_LIMIT + 5):
            uid = f"uid-{run}"
            recorder.status_written(in_run(run + 1, uid=uid), in_run(run + 2, uid=uid))
        errors = [vars(record)["error"] for record in caplog.records]
        assert errors == [f"more than {QUEUE_LIMIT} events wait to be posted"]
        task = asyncio.create_task(recorder.run())
        await recorder.drain(60)
        task.cancel()
        assert len(api.posted_events) == QUEUE_LIMIT
        assert api.posted_events[0]["note"].startswith("run 2 ")

    async def test_exception_while_deriving_events_is_logged(
        self,
        posting: EventRecorder,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(events, "events_between", lambda *_: 1 / 0)
        posting.status_written(NEW, in_run(1))
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


class TestDrain:
    async def test_drain_posts_queued_events(self, api: FakeApi, posting: EventRecorder) -> None:
        posting.status_written(NEW, in_run(1, failures=1))
        assert api.calls == []
        await posting.drain(60)
        assert api.calls == [POST, POST]

    async def test_drain_ends_after_its_timeout(
        self, recorder: EventRecorder, clock: Clock
    ) -> None:
        """No task posts events, as if the API server did not answer."""
        recorder.status_written(NEW, in_run(1))
        drained = asyncio.create_task(recorder.drain(5))
        await clock.advance()
        await clock.advance(4)
        assert not drained.done()
        await clock.advance(2)
        assert drained.done()

    async def test_drain_without_events_ends_at_once(self, recorder: EventRecorder) -> None:
        await recorder.drain(-1)


class TestReconcile:
    """A reconcile posts events only after it has written the status that they report."""

    @pytest.fixture
    async def operator(self, api: FakeApi, clock: Clock) -> Operator:
        """Returns an operator whose next reconcile writes the first status."""
        api.put(PIPELINES, pipeline().raw())
        operator = Operator(api, clock)
        await operator.settle()
        assert not api.pipeline.status.run
        api.edit(PODS, {"status": fresh_pod().raw()["status"]})
        operator.watch()
        return operator

    @staticmethod
    async def posted(api: FakeApi, operator: Operator) -> list[str]:
        task = asyncio.create_task(operator.events.run())
        await operator.events.drain(60)
        task.cancel()
        return [raw["reason"] for raw in api.posted_events]

    async def test_reconcile_that_writes_status_posts_its_events(
        self, api: FakeApi, operator: Operator
    ) -> None:
        await operator.reconcile()
        assert await self.posted(api, operator) == ["RunStarted"]
        (event,) = api.posted_events
        version = api.objects[PIPELINES, KEY]["metadata"]["resourceVersion"]
        assert event["regarding"]["resourceVersion"] == version

    async def test_reconcile_without_write_posts_no_event(
        self, api: FakeApi, operator: Operator
    ) -> None:
        await operator.settle()
        await operator.reconcile()
        assert await self.posted(api, operator) == ["RunStarted"]

    async def test_reconcile_whose_write_fails_posts_no_event(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.failing["PATCH status"] = [api_error(409, {"reason": "Conflict"})]
        with pytest.raises(ConflictError):
            await operator.reconcile()
        assert await self.posted(api, operator) == []
