"""A small OpenTelemetry collector: it receives traces (OTLP over HTTP) and keeps their spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Received:
    """A span as the collector received it. IDs are hexadecimal, times are nanoseconds."""

    trace: str
    id: str
    parent: str
    name: str
    start: int
    end: int
    is_error: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """``url`` is the endpoint. While ``hangs`` is set, requests get no response."""

    url: str = ""
    hangs: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    requests: int = 0
    spans: list[Received] = field(default_factory=list)

    def of(self, **attributes: Any) -> list[Received]:
        """Returns the spans with these attributes. A double underscore stands for a dot."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        return [one for one in self.spans if wanted.items() <= one.attributes.items()]

    def receive(self, path: str, data: bytes) -> int:
        """Returns the HTTP code of the response."""
        self.requests += 1
        if path != "/v1/traces":
            return 404
        if self.hangs.is_set():
            self.released.wait()
            return 503
        request = ExportTraceServiceRequest.FromString(data)
        self.spans += [
            Received(
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.status.code == span.status.STATUS_CODE_ERROR,
                _values(span.attributes),
                _values(one.resource.attributes),
            )
            for one in request.resource_spans
            for scope in one.scope_spans
            for span in scope.spans
        ]
        return 200


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Runs a collector on a port of the loopback interface."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802: the name that http.server calls
            data = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(collector.receive(self.path, data))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.released.set()
            server.shutdown()
            thread.join()


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
