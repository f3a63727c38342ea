"""Exports traces with OpenTelemetry (OTLP over HTTP). Imported only if an endpoint is set.

A reconcile never waits: it appends a span to a bounded queue. A thread of the SDK exports the
queue. If the queue is full or an export fails, spans are dropped and counted. A span that was
dropped is not exported later. Traces repeat what status reports, so nothing else is lost.
"""

import asyncio
import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, cast

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from initpipeline import __version__
from initpipeline.core.facts import Pipeline, PipelineMetadata
from initpipeline.core.spans import Span, Trace, spans_between
from initpipeline.core.text import clip
from initpipeline.runtime.errors import one_line
from initpipeline.runtime.tracer import ReconcileSpan, Tracer

logger = logging.getLogger(__name__)

END_SECONDS: Final = 2.0
"""How long the end of the process waits for the last export."""

LOG_PERIOD: Final = timedelta(minutes=10)
"""The shortest time between two log lines about failed exports, which mostly have one cause."""

FOLLOWED: Final = 10_000
"""Maximum number of pipelines that are remembered as written by this process, about 2 MiB in
memory. If one is forgotten, its last spans are exported again, with the same IDs."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = 2**63 - 1
"""The latest time that OTLP can represent in all implementations, in the year 2262. A Pod may have
later ones."""
_LIBRARY: Final = "opentelemetry"


class DroppedSpans:
    """Counts dropped spans, and logs one line in LOG_PERIOD about them. Thread-safe."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._logged_at: datetime | None = None
        self._reported = 0
        self.count = 0
        """The number of spans dropped since the start of the process."""

    def add(self, spans: int, error: str) -> None:
        """Count dropped spans."""
        with self._lock:
            self.count += spans
            now = self._now()
            if self._logged_at is not None and now - self._logged_at < LOG_PERIOD:
                return
            fields = {"error": error, "dropped": self.count - self._reported}
            self._logged_at, self._reported = now, self.count
        logger.warning("spans dropped", extra=fields)


class _LastMessage(logging.Handler):
    """Keeps the last message of the libraries, as the error of the next log line. They would log
    several lines for each failed export."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.message = ""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self.message = clip(one_line(record.getMessage()), 500)


class NumberedSpan(ReadableSpan):
    """A span with its number in the order of the queue, from 1."""

    number: int


class CountingExporter(SpanExporter):
    """Exports with another exporter, and counts the spans that it does not export."""

    def __init__(self, exporter: SpanExporter, dropped: DroppedSpans) -> None:
        self._exporter = exporter
        self._dropped = dropped
        self._library = _LastMessage()
        self._last = 0
        """The number of the last span taken from the queue."""
        library = logging.getLogger(_LIBRARY)
        library.addHandler(self._library)
        library.propagate = False  # For good: an export may still fail after the end.

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Runs in the thread of the processor. The SDK drops the oldest spans of a full queue, and
        reports that only to its own metrics. So a gap in the numbers of ``spans`` counts them."""
        last = cast(NumberedSpan, spans[-1]).number
        if missing := last - self._last - len(spans):
            self._dropped.add(missing, "the queue of spans was full")
        self._last = last
        self._library.message = ""
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            self._dropped.add(len(spans), one_line(error))
            return SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._dropped.add(len(spans), self._library.message or "the export failed")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
        logging.getLogger(_LIBRARY).removeHandler(self._library)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _Span(ReconcileSpan):
    """Records one reconcile."""

    def __init__(self, tracer: "ExportingTracer", now: Callable[[], datetime]) -> None:
        self._tracer = tracer
        self._now = now
        self._start = now()
        self._trace: Trace | None = None
        self._actions: list[str] = []

    def note(self, pipeline: PipelineMetadata, run: int | None, action: str) -> None:
        self._actions.append(action)
        if run is not None:
            self._trace = Trace(pipeline, run)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        trace = self._trace
        if trace is None or kind is asyncio.CancelledError:
            return
        failure = kind.__name__ if kind else None
        attributes = trace.attributes | {"initpipeline.actions": ", ".join(self._actions)}
        if failure:
            attributes["error.type"] = failure
        end = max(self._now(), self._start)
        number = self._tracer.new_span_id()
        self._tracer.export(
            Span(
                trace.id,
                number,
                trace.root_id,
                "reconcile",
                self._start,
                end,
                attributes,
                failure,
            )
        )


class ExportingTracer(Tracer):
    """Exports spans with the settings of OpenTelemetry in the environment."""

    def __init__(
        self, now: Callable[[], datetime], identity: str, exporter: SpanExporter | None = None
    ) -> None:
        """``identity`` is the name of this replica."""
        resource = Resource.create(
            {"service.version": __version__, "service.instance.id": identity}
        )
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "initpipeline"}))
        self._now = now
        self._resource = resource
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._scope = InstrumentationScope("initpipeline", __version__)
        self._new_id = RandomIdGenerator()
        self.dropped_spans = DroppedSpans(now)
        self._processor = BatchSpanProcessor(
            CountingExporter(exporter or OTLPSpanExporter(), self.dropped_spans)
        )
        self.queued = 0
        """The number of spans queued since the start of the process."""
        self._followed: OrderedDict[str, None] = OrderedDict()
        """The UIDs of pipelines with a status that this process has written, the last one last."""

    def new_span_id(self) -> int:
        return self._new_id.generate_span_id()

    def reconcile(self) -> ReconcileSpan:
        return _Span(self, self._now)

    def status_written(self, before: Pipeline, after: Pipeline) -> None:
        known = after.uid in self._followed
        self._followed[after.uid] = None
        self._followed.move_to_end(after.uid)
        if len(self._followed) > FOLLOWED:
            self._followed.popitem(last=False)
        try:
            spans = spans_between(after, before.status, after.status, again=not known)
        except Exception as error:
            self.dropped_spans.add(1, one_line(error))
            return
        for span in spans:
            self.export(span)

    def export(self, span: Span) -> None:
        """Queue a span. Returns at once, and never raises."""
        try:
            sampled = self._sampler.should_sample(None, span.trace_id, span.name)
            if sampled.decision is not Decision.DROP:
                converted = self._converted(span)
                converted.number = self.queued = self.queued + 1
                self._processor.on_end(converted)
        except Exception as error:
            self.dropped_spans.add(1, one_line(error))

    def _converted(self, span: Span) -> NumberedSpan:
        status = Status()
        if span.error is not None:
            status = Status(StatusCode.ERROR, clip(span.error) or None)
        parent = None if span.parent_id is None else _context(span.trace_id, span.parent_id)
        attributes = {
            name: clip(value) if isinstance(value, str) else value
            for name, value in span.attributes.items()
        }
        return NumberedSpan(
            clip(span.name),
            context=_context(span.trace_id, span.span_id),
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind.INTERNAL,
            status=status,
            start_time=_nanoseconds(span.start),
            end_time=_nanoseconds(span.end),
            instrumentation_scope=self._scope,
        )

    def dropped(self) -> int:
        return self.dropped_spans.count

    async def end(self) -> None:
        """Export what is left, for at most END_SECONDS. A thread that still exports ends with the
        process."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with contextlib.suppress(RuntimeError):  # The loop has ended.
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=shut_down, name="end of traces", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), END_SECONDS)


def _context(trace: int, span: int) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(trace, span, is_remote=False, trace_flags=flags)


def _nanoseconds(time: datetime) -> int:
    """Returns the time since 1970, within what OTLP can represent."""
    return min(max((time - _EPOCH) // timedelta(microseconds=1) * 1000, 0), _LAST)
