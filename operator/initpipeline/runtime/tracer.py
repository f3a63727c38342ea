"""What reconciles report to traces. Without an endpoint for traces, nothing is recorded, and the
packages of OpenTelemetry are not imported. runtime.trace_export records."""

import importlib.util
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from initpipeline.core.facts import Pipeline, PipelineMetadata

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
TRACES_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"


class ReconcileSpan:
    """Ignores a reconcile."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the span. An exception is recorded by its type."""

    def note(self, pipeline: PipelineMetadata, run: int | None, action: str) -> None:
        """Record that the reconcile is about to do something for a run. Without such a call, the
        reconcile has no span. ``run`` None: the pipeline has none."""


class Tracer:
    """Ignores everything."""

    _ignored: Final = ReconcileSpan()

    def reconcile(self) -> ReconcileSpan:
        """Returns a span of a reconcile, which starts and ends as a context."""
        return self._ignored

    def status_written(self, before: Pipeline, after: Pipeline) -> None:
        """Record a write of status. Returns at once, and never raises."""

    def dropped(self) -> int:
        """Returns the number of spans that were dropped since the start of the process."""
        return 0

    async def end(self) -> None:
        """Export what is left, for a short time at most."""


class TracingError(Exception):
    """Traces cannot be exported as the environment requests. The message is one line."""


def is_requested(environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether the environment requests traces, with the variables that OpenTelemetry
    specifies. Raises TracingError if it does so in a way that this operator cannot serve."""
    variable = next((name for name in (TRACES_ENDPOINT, ENDPOINT) if environment.get(name)), None)
    if variable is None or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
        return False
    endpoint = environment[variable]
    url = urlsplit(endpoint)
    if url.scheme not in {"http", "https"} or not url.netloc:
        raise TracingError(
            f"{variable}: must be a URL such as http://collector:4318, not {endpoint!r}"
        )
    name = TRACES_PROTOCOL if environment.get(TRACES_PROTOCOL) else PROTOCOL
    protocol = environment.get(name) or "http/protobuf"
    if protocol != "http/protobuf":
        raise TracingError(f"{name}: must be http/protobuf (port 4318), not {protocol!r}")
    if not _is_installed():
        raise TracingError(
            f"{variable} is set, but the packages for traces are missing: "
            'install "initpipeline[tracing]", or unset it'
        )
    return True


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
