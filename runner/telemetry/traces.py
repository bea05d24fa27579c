"""Whether runs are traced: the extra `otel` is installed, and the environment names where spans go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runner.telemetry import Emit, TracesUnavailable

if TYPE_CHECKING:
    from runner.telemetry.spans import Traces

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def open_traces(environ: Mapping[str, str], version: str, emit: Emit) -> Traces | None:
    """None where nobody asks for traces: then nothing is imported. Where they are asked for and cannot be had, said."""
    wanted_by = _wanted_by(environ)
    if wanted_by is None:
        return None
    try:
        from runner.telemetry.exporting import tracer_provider
        from runner.telemetry.spans import Traces
    except ImportError:
        emit(TracesUnavailable(wanted_by))
        return None
    return Traces(tracer_provider(environ, version), version)


def _wanted_by(environ: Mapping[str, str]) -> str | None:
    """The variable that asks for traces, by the rules of OpenTelemetry's own configuration."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter == "none" or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if exporter == "otlp":
        return "OTEL_TRACES_EXPORTER"
    return next((name for name in ENDPOINTS if environ.get(name)), None)
