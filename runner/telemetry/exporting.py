"""Where spans go: over OTLP, as OpenTelemetry's variables say, unless the program has set up OpenTelemetry itself."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def tracer_provider(environ: Mapping[str, str], version: str) -> TracerProvider:
    """The global one, so that spans of handlers and libraries go the same way."""
    present = trace.get_tracer_provider()
    if isinstance(present, TracerProvider):
        return present
    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    ours = {"service.version": version} | ({} if named else {"service.name": "runner"})
    made = TracerProvider(resource=Resource.create(ours))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(made)
    return made
