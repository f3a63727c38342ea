"""The worker loop: when a failed reconcile is retried, what is logged, and what is reported."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from initpipeline.runtime.errors import ApiError, ConnectionFailed, api_error
from initpipeline.runtime.keys import Key
from initpipeline.runtime.queue import LONGEST_RETRY_SECONDS, OUTAGE_RETRY_SECONDS, WorkQueue
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.workers import run_worker
from tests.unit.runtime.clock import Clock

KEY = Key("default", "shop")
OTHER = Key("default", "site")
DENIED = {"message": 'pods is forbidden: User "operator" cannot create resource "pods"'}
"""The status with which the API server refuses a request for lack of a permission."""


class FakeReconciler(Reconciler):
    """Raises an error for each reconcile of KEY, and records the calls."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.report_fails_with: Exception | None = None
        self.reconciled: list[Key] = []
        self.reported: list[Exception] = []
        self.forgotten: list[Key] = []

    async def reconcile(self, key: Key) -> None:
        self.reconciled.append(key)
        if self.error is not None and key == KEY:
            raise self.error

    def fields_of(self, key: Key) -> dict[str, Any]:
        return {"pipeline": str(key)}

    def forget_if_deleted(self, key: Key) -> None:
        self.forgotten.append(key)

    async def report_error(self, key: Key, error: Exception) -> None:
        assert key == KEY
        self.reported.append(error)
        if self.report_fails_with is not None:
            raise self.report_fails_with


@pytest.fixture
async def reconciler(queue: WorkQueue[Key]) -> AsyncIterator[FakeReconciler]:
    """Returns the reconciler of a running worker."""
    reconciler = FakeReconciler()
    worker = asyncio.create_task(run_worker(queue, reconciler))
    yield reconciler
    assert not worker.done(), "the worker ended"
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker


async def test_successful_reconcile_is_not_repeated(
    queue: WorkQueue[Key], reconciler: FakeReconciler, clock: Clock
) -> None:
    queue.add(KEY)
    await clock.advance(3600)
    assert reconciler.reconciled == [KEY]


@pytest.mark.parametrize(
    ("error", "longest"),
    [
        pytest.param(ConnectionFailed("refused"), OUTAGE_RETRY_SECONDS, id="no answer"),
        pytest.param(api_error(429, {}), OUTAGE_RETRY_SECONDS, id="too many requests"),
        pytest.param(api_error(500, {}), OUTAGE_RETRY_SECONDS, id="internal error"),
        pytest.param(api_error(503, {}), OUTAGE_RETRY_SECONDS, id="unavailable"),
        pytest.param(api_error(401, {}), OUTAGE_RETRY_SECONDS, id="refused credentials"),
        pytest.param(api_error(403, DENIED), OUTAGE_RETRY_SECONDS, id="missing permission"),
        pytest.param(api_error(403, {}), LONGEST_RETRY_SECONDS, id="forbidden"),
        pytest.param(api_error(422, {}), LONGEST_RETRY_SECONDS, id="invalid"),
        pytest.param(ZeroDivisionError(), LONGEST_RETRY_SECONDS, id="exception in the operator"),
    ],
)
async def test_failed_reconcile_is_retried_with_growing_delays(
    queue: WorkQueue[Key],
    reconciler: FakeReconciler,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    longest: float,
) -> None:
    reconciler.error = error
    queue.add(KEY)
    await clock.advance(0)
    delays = []
    for attempts in range(1, 15):
        assert len(reconciler.reconciled) == attempts
        delay = vars(caplog.records[-1])["retry_seconds"]
        await clock.advance(delay - 0.125)
        assert len(reconciler.reconciled) == attempts, "retried before the delay"
        await clock.advance(0.125)
        delays.append(delay)
    assert delays[:4] == [0.25, 0.5, 1, 2]
    assert max(delays) == delays[-1] == longest


@pytest.mark.parametrize(("requested", "delay"), [(0, 0.25), (7, 7), (9999, OUTAGE_RETRY_SECONDS)])
async def test_retry_waits_as_long_as_the_api_server_requests(
    queue: WorkQueue[Key],
    reconciler: FakeReconciler,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    requested: int,
    delay: float,
) -> None:
    reconciler.error = api_error(429, {}, requested)
    queue.add(KEY)
    await clock.advance(0)
    assert vars(caplog.records[-1])["retry_seconds"] == delay


async def test_failed_reconcile_does_not_delay_other_pipelines(
    queue: WorkQueue[Key], reconciler: FakeReconciler, clock: Clock
) -> None:
    reconciler.error = ConnectionFailed("refused")
    queue.add(KEY)
    queue.add(OTHER)
    await clock.advance(0)
    assert reconciler.reconciled == [KEY, OTHER]


@pytest.mark.parametrize(
    "error", [ConnectionFailed("refused"), ApiError(403, {"message": "no"})], ids=str
)
async def test_failed_request_is_logged_and_not_reported(
    queue: WorkQueue[Key],
    reconciler: FakeReconciler,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    reconciler.error = error
    queue.add(KEY)
    await clock.advance(0)
    [record] = caplog.records
    assert (record.getMessage(), record.levelno) == ("API request failed", logging.WARNING)
    fields = vars(record)
    assert (fields["error"], fields["retry_seconds"]) == (str(error), 0.25)
    assert reconciler.reported == []


async def test_exception_is_logged_with_traceback_and_reported(
    queue: WorkQueue[Key],
    reconciler: FakeReconciler,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reconciler.error = ZeroDivisionError("by zero")
    queue.add(KEY)
    await clock.advance(0)
    [record] = caplog.records
    assert (record.getMessage(), record.levelno) == ("reconcile failed", logging.ERROR)
    assert record.exc_info is not None
    assert reconciler.reported == [reconciler.error]


@pytest.mark.parametrize("failure", [ConnectionFailed("refused"), ZeroDivisionError()], ids=repr)
async def test_failed_report_is_logged_and_the_worker_continues(
    queue: WorkQueue[Key],
    reconciler: FakeReconciler,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    reconciler.error, reconciler.report_fails_with = ValueError("odd"), failure
    queue.add(KEY)
    queue.add(OTHER)
    await clock.advance(0)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["reconcile failed", "failure not reported"]
    assert reconciler.reconciled == [KEY, OTHER]


async def test_each_reconcile_is_logged_at_debug_when_it_has_ended(
    queue: WorkQueue[Key],
    reconciler: FakeReconciler,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "initpipeline")
    queue.add(OTHER)
    await clock.advance(0)
    assert reconciler.reconciled == [OTHER]
    [record] = caplog.records
    assert (record.getMessage(), vars(record)["pipeline"]) == ("reconciled", "default/site")


async def test_standby_reconciles_nothing_and_forgets_what_was_deleted(
    queue: WorkQueue[Key], clock: Clock
) -> None:
    reconciler, leads = FakeReconciler(), [False]
    worker = asyncio.create_task(run_worker(queue, reconciler, lambda: leads[0]))
    queue.add(KEY)
    await clock.advance()
    assert (reconciler.reconciled, reconciler.forgotten) == ([], [KEY])
    leads[0] = True
    queue.add(KEY)
    await clock.advance()
    assert (reconciler.reconciled, reconciler.forgotten) == ([KEY], [KEY])
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker
