"""Which trace a job belongs to, as W3C trace context writes it; without importing any library."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def valid(text: str | None) -> str | None:
    """The text where it is a `traceparent`, else None: a broken one must not refuse a job.

    >>> valid("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    >>> valid("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), valid("me"), valid(None)
    (None, None, None)
    """
    return text if text is not None and FORM.fullmatch(text) else None


def ambient(environ: Mapping[str, str]) -> str | None:
    """The span that this code runs in, where the program uses OpenTelemetry; else the variable TRACEPARENT."""
    return _active() or valid(environ.get("TRACEPARENT"))


def _active() -> str | None:
    if "opentelemetry.trace" not in sys.modules:  # nobody here has a span
        return None
    from opentelemetry import trace

    span = trace.get_current_span().get_span_context()
    return written(span.trace_id, span.span_id, span.trace_flags) if span.is_valid else None


def written(trace_id: int, span_id: int, flags: int) -> str:
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"
