"""The export of traces: when it is on, and that it neither blocks nor fails a reconcile."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from initpipeline.core.spans import Span, Trace
from initpipeline.runtime import trace_export
from initpipeline.runtime.errors import ApiError, api_error
from initpipeline.runtime.trace_export import LOG_PERIOD, DroppedSpans, ExportingTracer
from initpipeline.runtime.tracer import TracingError, is_requested
from tests.builders import at, pipeline, running_pod
from tests.poll import poll_until
from tests.unit.core.simulation import started
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import PIPELINES, FakeApi, Operator

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACE = Trace(pipeline().build(), 1)
SPAN = Span(TRACE.id, 5, TRACE.root_id, "step one", at(0), at(3), {"a": "b"})


class Exporter(SpanExporter):
    """Keeps the spans. While ``blocks`` is not set, an export waits for it."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.spans: list[ReadableSpan] = []
        self.blocks = threading.Event()
        self.blocks.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.blocks.wait()
        self.spans += spans
        if self.result is not SpanExportResult.SUCCESS:
            logging.getLogger("opentelemetry.exporter").error("connection\nrefused")
        return self.result


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    yield exporter
    exporter.blocks.set()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    return monkeypatch


@pytest.fixture
async def tracer(
    exporter: Exporter, clock: Clock, environment: pytest.MonkeyPatch
) -> ExportingTracer:
    del environment
    return ExportingTracer(clock, "replica-1", exporter)


@pytest.fixture
def root_records() -> Iterator[list[logging.LogRecord]]:
    """Returns what reaches the handlers of the root logger, which write the log. pytest's caplog
    has more: it also captures loggers that do not propagate."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


class TestSwitch:
    @pytest.mark.parametrize(
        ("environment", "expected"),
        [
            pytest.param({}, False, id="by default"),
            pytest.param({ENDPOINT: ""}, False, id="empty"),
            pytest.param({ENDPOINT: "http://collector:4318"}, True, id="endpoint"),
            pytest.param(
                {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/v1/traces"},
                True,
                id="endpoint of traces",
            ),
            pytest.param(
                {ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False, id="SDK disabled"
            ),
            pytest.param(
                {ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False, id="no exporter"
            ),
            pytest.param(
                {ENDPOINT: "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
                True,
                id="protocol",
            ),
        ],
    )
    def test_traces_are_off_unless_an_endpoint_is_set(
        self, environment: Mapping[str, str], expected: bool
    ) -> None:
        assert is_requested(environment) is expected

    @pytest.mark.parametrize(
        ("environment", "name"),
        [
            ({ENDPOINT: "collector:4318"}, ENDPOINT),
            ({ENDPOINT: "http://"}, ENDPOINT),
            (
                {ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
                "OTEL_EXPORTER_OTLP_PROTOCOL",
            ),
            (
                {ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            ),
        ],
    )
    def test_unusable_setting_is_an_error_of_one_line_that_names_it(
        self, environment: Mapping[str, str], name: str
    ) -> None:
        with pytest.raises(TracingError) as caught:
            is_requested(environment)
        assert str(caught.value).startswith(f"{name}: must be ")
        assert "\n" not in str(caught.value)

    def test_missing_packages_are_an_error_with_a_remedy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(TracingError, match=r"initpipeline\[tracing\]"):
            is_requested({ENDPOINT: "http://c:4318"})


class TestExport:
    async def test_span_is_exported_with_its_ids_and_times(
        self, tracer: ExportingTracer, exporter: Exporter
    ) -> None:
        tracer.export(replace(SPAN, error="Error"))
        await tracer.end()
        [span] = exporter.spans
        assert span.context is not None
        assert span.parent is not None
        assert (span.context.trace_id, span.context.span_id) == (TRACE.id, 5)
        assert span.parent.span_id == TRACE.root_id
        assert (span.start_time, span.end_time) == (ns(SPAN.start), ns(SPAN.end))
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "Error")
        assert span.resource.attributes["service.name"] == "initpipeline"
        assert span.resource.attributes["service.instance.id"] == "replica-1"

    async def test_name_of_the_service_in_the_environment_is_used(
        self, exporter: Exporter, clock: Clock, environment: pytest.MonkeyPatch
    ) -> None:
        environment.setenv("OTEL_SERVICE_NAME", "pipelines")
        tracer = ExportingTracer(clock, "replica-1", exporter)
        tracer.export(SPAN)
        await tracer.end()
        assert exporter.spans[0].resource.attributes["service.name"] == "pipelines"

    @pytest.mark.parametrize(("sampler", "count"), [("always_off", 0), ("always_on", 1)])
    async def test_sampler_in_the_environment_is_used(
        self,
        exporter: Exporter,
        clock: Clock,
        environment: pytest.MonkeyPatch,
        sampler: str,
        count: int,
    ) -> None:
        environment.setenv("OTEL_TRACES_SAMPLER", sampler)
        tracer = ExportingTracer(clock, "replica-1", exporter)
        tracer.export(SPAN)
        await tracer.end()
        assert len(exporter.spans) == count

    async def test_ratio_samples_all_spans_of_a_trace_or_none(
        self, exporter: Exporter, clock: Clock, environment: pytest.MonkeyPatch
    ) -> None:
        environment.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        environment.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
        tracer = ExportingTracer(clock, "replica-1", exporter)
        for run in range(40):
            trace = Trace(TRACE.pipeline, run)
            root = replace(SPAN, trace_id=trace.id, span_id=trace.root_id, parent_id=None)
            tracer.export(root)
            tracer.export(replace(SPAN, trace_id=trace.id, parent_id=trace.root_id))
        await tracer.end()
        traces = [span.context.trace_id for span in exporter.spans if span.context]
        assert 0 < len(set(traces)) < 40
        assert len(traces) == 2 * len(set(traces))

    @pytest.mark.parametrize(
        ("start", "expected"),
        [
            pytest.param(datetime(9000, 1, 1, tzinfo=UTC), 2**63 - 1, id="too late for OTLP"),
            pytest.param(datetime(1000, 1, 1, tzinfo=UTC), 0, id="before 1970"),
        ],
    )
    async def test_extreme_values_of_a_pod_can_be_exported(
        self, tracer: ExportingTracer, exporter: Exporter, start: datetime, expected: int
    ) -> None:
        """An encoder that fails because of one span would drop those of other pipelines as well."""
        hostile: dict[str, Any] = {"a": "\ud800", "b": "x" * 100_000, "c": "\x1b[2J\n"}
        tracer.export(replace(SPAN, start=start, end=start, name="\udcff", attributes=hostile))
        await tracer.end()
        [span] = exporter.spans
        assert (span.start_time, span.end_time) == (expected, expected)
        encode = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.trace_encoder")
        assert len(encode.encode_spans([span]).SerializeToString()) < 5000


class TestFailure:
    async def test_full_queue_drops_and_counts_spans_without_waiting(
        self, exporter: Exporter, clock: Clock, environment: pytest.MonkeyPatch
    ) -> None:
        environment.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
        environment.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
        exporter.blocks.clear()
        tracer = ExportingTracer(clock, "replica-1", exporter)
        for number in range(20):
            tracer.export(replace(SPAN, span_id=number + 1))
        exporter.blocks.set()
        await tracer.end()
        assert len(exporter.spans) + tracer.dropped_spans.count == 20
        assert tracer.dropped_spans.count >= 14

    async def test_failed_export_is_counted_and_logged_once(
        self, tracer: ExportingTracer, exporter: Exporter, root_records: list[logging.LogRecord]
    ) -> None:
        exporter.result = SpanExportResult.FAILURE

        def exports(number: int) -> Callable[[], bool]:
            return lambda: len(exporter.spans) == number

        for number in range(3):
            tracer.export(SPAN)
            poll_until(exports(number + 1), 10, "an export")
        await tracer.end()
        assert tracer.dropped_spans.count == 3
        [record] = root_records
        assert (record.getMessage(), vars(record)["error"]) == (
            "spans dropped",
            "connection refused",
        )

    def test_next_line_is_logged_after_the_period_with_the_number_since(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        now = [at(0)]
        dropped = DroppedSpans(lambda: now[0])
        for seconds in (0, 1, 2, LOG_PERIOD.total_seconds()):
            now[0] = at(seconds)
            dropped.add(5, "refused")
        assert [vars(record)["dropped"] for record in caplog.records] == [5, 15]
        assert {vars(record)["error"] for record in caplog.records} == {"refused"}

    async def test_end_does_not_wait_for_an_export_that_hangs(
        self, exporter: Exporter, environment: pytest.MonkeyPatch
    ) -> None:
        """The time of the event loop passes, so there is no clock of the test."""
        environment.setattr(trace_export, "END_SECONDS", 0.05)
        tracer = ExportingTracer(lambda: at(0), "replica-1", exporter)
        exporter.blocks.clear()
        tracer.export(SPAN)
        await tracer.end()
        names = {thread.name for thread in threading.enumerate()}
        assert "end of traces" in names, "the export has not ended"

    async def test_exception_while_spans_are_derived_is_counted(
        self, tracer: ExportingTracer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise ValueError("a bug")

        monkeypatch.setattr(trace_export, "spans_between", fail)
        written = pipeline().build()
        tracer.status_written(written, written)
        assert tracer.dropped_spans.count == 1
        await tracer.end()


class TestStatusWritten:
    async def test_first_write_of_a_process_exports_earlier_spans_again(
        self, tracer: ExportingTracer, exporter: Exporter
    ) -> None:
        after = started(running_pod()).pipeline.build()
        tracer.status_written(after, after)
        tracer.status_written(after, after)
        await tracer.end()
        assert [span.name for span in exporter.spans] == ["step one", "step two", "initialize"]


class TestReconcile:
    @pytest.fixture
    def api(self, clock: Clock) -> FakeApi:
        api = FakeApi(clock)
        api.put(PIPELINES, pipeline().raw())
        return api

    async def test_reconcile_that_writes_is_a_child_of_its_run(
        self, api: FakeApi, clock: Clock, tracer: ExportingTracer, exporter: Exporter
    ) -> None:
        await Operator(api, clock, tracer).settle()
        await tracer.end()
        [span] = exporter.spans
        assert span.attributes is not None
        assert (span.name, span.attributes["initpipeline.actions"]) == ("reconcile", "create Pod")
        assert span.context is not None
        assert span.parent is not None
        assert (span.context.trace_id, span.parent.span_id) == (TRACE.id, TRACE.root_id)

    async def test_failed_reconcile_has_its_error(
        self, api: FakeApi, clock: Clock, tracer: ExportingTracer, exporter: Exporter
    ) -> None:
        api.failing["POST pods"] = [api_error(503, {"message": "hunter2"})]
        with pytest.raises(ApiError):
            await Operator(api, clock, tracer).settle()
        await tracer.end()
        [span] = exporter.spans
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ApiError")
        assert span.attributes is not None
        assert "hunter2" not in repr(dict(span.attributes))

    async def test_reconcile_without_change_has_no_span(
        self, api: FakeApi, clock: Clock, tracer: ExportingTracer
    ) -> None:
        operator = Operator(api, clock, tracer)
        await operator.settle()
        before = tracer.queued
        await operator.reconcile()
        assert tracer.queued == before == 1
        await tracer.end()


def ns(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
