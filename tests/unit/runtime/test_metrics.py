"""Tests of the metrics: names, values and the number of series."""

from collections import Counter
from itertools import pairwise

from aiohttp import ClientSession
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from crds import metrics as page
from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.reasons import Reason
from initpipeline.runtime import metrics as module
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.metric_labels import known_code, known_reason, resource_of
from initpipeline.runtime.metrics import LAG_SECONDS, RECORDED, Declaration, Metrics
from initpipeline.runtime.queue import WorkQueue
from initpipeline.runtime.state_metrics import conditions_of
from tests.ports import free_port
from tests.unit.runtime.clock import Clock

LEASES = "/apis/coordination.k8s.io/v1/namespaces/a/leases"
START, INITIALIZED = "2026-01-01T00:00:00Z", "2026-01-01T00:00:07Z"


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (one.name, tuple(label for _, label in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def status(**run: object) -> InitPipelineStatus:
    facts = {"number": 1, "trigger": "Created", "startTime": START, **run}
    return InitPipelineStatus.model_validate({"run": facts})


def test_page_is_up_to_date() -> None:
    text = page.PAGE.read_text()
    assert page.filled(text) == text


def test_run_is_counted_once_per_change() -> None:
    metrics = Metrics()
    new, initialized = status(), status(initializedTime=INITIALIZED)
    ended = status(
        initializedTime=INITIALIZED, completionTime=INITIALIZED, result="Lost", reason="Hostile"
    )
    versions = [InitPipelineStatus(), new, new, initialized, ended, ended]
    for before, after in pairwise(versions):
        metrics.status_written(before, after, 0.5)
    found = samples(metrics)
    assert found["initpipeline_runs_started_total", ("Created",)] == 1
    assert found["initpipeline_runs_completed_total", ("Other", "Lost")] == 1
    assert found["initpipeline_run_initialization_seconds_sum", ("Created",)] == 7
    assert found["initpipeline_run_initialization_seconds_count", ("Created",)] == 1


def test_counter_of_a_rare_event_starts_at_zero() -> None:
    """Otherwise increase() does not contain the first one, and its alert does not fire."""
    found = samples(Metrics())
    assert found["initpipeline_runs_started_total", ("PodLost",)] == 0
    assert found["initpipeline_events_total", ("dropped",)] == 0
    assert found["initpipeline_reconcile_total", ("requeue_after",)] == 0
    assert found["initpipeline_watch_restarts_total", ("gone", "pods")] == 0


def test_request_is_counted_by_verb_resource_and_code() -> None:
    metrics = Metrics()
    metrics.request("POST", "/api/v1/namespaces/a/pods", "201", 0.1)
    metrics.request("PATCH", "/apis/initpipeline.dev/v1alpha1/namespaces/a/x/b/c", "<error>", 1)
    found = samples(metrics)
    assert found["rest_client_requests_total", ("201", "pods", "POST")] == 1
    assert found["rest_client_requests_total", ("<error>", "Other", "PATCH")] == 1
    assert found["initpipeline_pod_create_duration_seconds_count", ("201",)] == 1


def test_code_that_an_api_server_does_not_use_is_its_class() -> None:
    """The codes of alerts stay apart. An admission webhook chooses the code of its denial."""
    assert {known_code(code) for code in ("201", "401", "403", "409", "429", "503", "<error>")} == {
        *("201", "401", "403", "409", "429", "503", "<error>")
    }
    assert {known_code(str(code)) for code in range(100, 1000)} - {"2xx", "4xx", "5xx"} >= {"404"}
    assert (known_code("418"), known_code("599")) == ("4xx", "5xx")


def test_resource_of_a_path_has_no_names() -> None:
    base = "/apis/initpipeline.dev/v1alpha1"
    assert resource_of(f"{base}/initpipelines") == "initpipelines"
    assert resource_of(f"{base}/namespaces/a/initpipelines/b/status") == "initpipelines/status"
    assert resource_of(f"{base}/namespaces/pods/initpipelines/pods") == "initpipelines"
    assert resource_of("/version") == "Other"


def test_series_of_hostile_pipelines_are_bounded() -> None:
    """Each of the first 1,000 pipelines differs in all labels. The next 9,000 add no series."""
    metrics = Metrics()
    hostile: Counter[object] = Counter()
    numbers_of_series = set()
    for number in range(10_000):
        hostile[(("Ready", "True", f"reason-{number}"), (f"type-{number}", "True", "x"))] += 1
        metrics.request("GET", f"/api/v1/namespaces/n{number}/pods/p{number}", "200", 0.1)
        metrics.request("GET", f"/apis/x{number}/v1/y{number}", "200", 0.1)
        metrics.request("POST", "/api/v1/namespaces/a/pods", str(100 + number % 900), 0.1)
        ended = status(
            trigger=f"trigger{number}",
            initializedTime=INITIALIZED,
            completionTime=INITIALIZED,
            result=f"result{number}",
            reason=f"reason{number}",
        )
        metrics.status_written(InitPipelineStatus(), ended, 0.1)
        if number in (999, 9_999):
            numbers_of_series.add(len(samples(metrics)))
    assert conditions_of(hostile) == {("Ready", "True", "Other"): 10_000}
    (number_of_series,) = numbers_of_series
    assert number_of_series < 850


def test_reason_outside_the_enumeration_is_other() -> None:
    assert known_reason(Reason.POD_PENDING.value) == "PodPending"
    assert known_reason("SomethingElse") == "Other"
    assert known_reason(None) == ""


async def test_queue_reports_its_keys() -> None:
    metrics = Metrics()
    queue: WorkQueue[str] = WorkQueue(Clock(), meter=metrics)
    queue.add("a")
    queue.add("a")
    assert len(queue) == 1
    queue.done(await queue.get())
    queue.retry("a")
    queue.close()
    found = samples(metrics)
    assert found["workqueue_adds_total", ("initpipeline",)] == 1
    assert found["workqueue_retries_total", ("initpipeline",)] == 1
    assert found["workqueue_queue_duration_seconds_count", ("initpipeline",)] == 1
    assert found["workqueue_work_duration_seconds_count", ("initpipeline",)] == 1


async def test_metrics_are_served() -> None:
    metrics, port = Metrics(), free_port()
    async with (
        metrics.served(f"127.0.0.1:{port}"),
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        text = await response.text()
        assert response.status == 200
    assert "initpipeline_build_info{" in text


async def test_lag_of_the_event_loop_is_sampled_only_while_there_is_work(clock: Clock) -> None:
    metrics = Metrics()

    def number() -> float:
        return samples(metrics)["initpipeline_event_loop_lag_seconds_count", ()]

    async def work(seconds: int) -> None:
        for _ in range(seconds):
            metrics.queued()
            await clock.advance(LAG_SECONDS)

    async with metrics.served(f"127.0.0.1:{free_port()}"):
        await clock.advance(3600)
        assert number() == 0
        await work(seconds=5)
        sampled = number()
        assert sampled >= 4
        for _ in range(60):
            metrics.request("PATCH", f"{LEASES}/a", "200", 0.1)
            await clock.advance(LAG_SECONDS)
        assert number() <= sampled + 1, "the timer goes on at rest"
        await work(seconds=1)
        assert number() >= sampled + 1


async def test_late_event_loop_is_measured(clock: Clock) -> None:
    metrics = Metrics()
    async with metrics.served(f"127.0.0.1:{free_port()}"):
        metrics.queued()
        await clock.advance(LAG_SECONDS + 4)
        assert samples(metrics)["initpipeline_event_loop_lag_seconds_sum", ()] == 4


def test_metric_that_is_declared_is_registered() -> None:
    declared = {one.name for one in vars(module).values() if isinstance(one, Declaration)}
    assert declared == {one.name for one in RECORDED}


def test_metrics_record_everything_that_a_meter_gets() -> None:
    records = {name for name in vars(Meter) if not name.startswith("_")}
    assert records <= vars(Metrics).keys()
