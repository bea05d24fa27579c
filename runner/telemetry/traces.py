"""Events as OpenTelemetry spans, where the extra `otel` is installed and configured."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from runner.domain.job import Run
from runner.telemetry import Event


class Traces:
    """A subscriber: `events.subscribe(traces.tell)`. `executor.around = traces.around` makes the span the handler's."""

    def tell(self, event: Event) -> None: ...

    def around(self, run: Run) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        """Send what is left; at most five seconds."""


def open_traces(environ: Mapping[str, str]) -> Traces | None:
    """None where the environment asks for no exporter (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_EXPORTER`).

    Raises UsageError where it does and the extra is missing.
    """
    return None
