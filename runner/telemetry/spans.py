"""Runs as spans: begun and ended by events, and active while the handler's code runs. Needs the extra `otel`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime

from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from runner import telemetry as told
from runner.domain.job import Run
from runner.domain.lifecycle import Transition
from runner.telemetry.traceparent import written

CLOSING = 5.0  # seconds that the last spans may take on their way
TROUBLE = ("failed", "stalled")


class Traces:
    """A subscriber: `events.subscribe(traces.tell)`; `executor.around = traces.around` makes the span the handler's."""

    def __init__(self, provider: TracerProvider, version: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("runner", version)
        self._open: dict[str, Span] = {}

    def tell(self, event: told.Event) -> None:
        match event:
            case told.JobStarted(run):
                self._open[run.claim_token] = self._begin(run)
            case told.JobSettled(run, transition, at):
                # A dead worker's spans died with it: what it had begun is told from its rows.
                span = self._open.pop(run.claim_token, None)
                self._end(self._begin(run) if span is None else span, transition, at)
            case told.ClaimLost(run, at):
                span = self._open.pop(run.claim_token, None)
                if span is not None:
                    self._lose(span, at)
            case _:
                pass

    def around(self, run: Run) -> _Inside:
        """While the handler's code runs: its own spans, and those of the libraries it calls, are children of this."""
        return _Inside(self._open.get(run.claim_token), run)

    def traceparent(self, run: Run) -> str | None:
        """What the children of a run carry on."""
        span = self._open.get(run.claim_token)
        if span is None:
            return run.policy.traceparent
        context = span.get_span_context()
        return written(context.trace_id, context.span_id, context.trace_flags)

    def close(self) -> None:
        """Send what is left; a collector that does not answer holds nobody for long."""
        thread = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        thread.start()
        thread.join(CLOSING)

    def _begin(self, run: Run) -> Span:
        began = _nanoseconds(run.started_at)
        return self._tracer.start_span(
            f"process {run.type}", _parent(run), SpanKind.CONSUMER, _attributes(run), start_time=began
        )

    def _end(self, span: Span, end: Transition, at: datetime) -> None:
        span.set_attribute("runner.outcome", end.ended)
        if end.ended in TROUBLE:
            span.set_status(StatusCode.ERROR, (end.error or end.ended).splitlines()[0])
        span.end(_nanoseconds(at))

    def _lose(self, span: Span, at: datetime) -> None:
        span.set_attribute("runner.outcome", "lost")
        span.set_status(StatusCode.ERROR, "the run was no longer ours")
        span.end(_nanoseconds(at))


class _Inside:
    def __init__(self, span: Span | None, run: Run) -> None:
        self._span = span
        self._run = run
        self._inside = told.inside(run)

    def __enter__(self) -> None:
        self._inside.__enter__()
        self._token = None if self._span is None else attach(set_span_in_context(self._span))

    def __exit__(self, *_: object) -> None:
        if self._token is not None and told.current_run.get() is self._run:
            detach(self._token)
        self._inside.__exit__()


def _parent(run: Run) -> Context:
    """The context of the request that enqueued the job; an empty one where there was none."""
    text = run.policy.traceparent
    return TraceContextTextMapPropagator().extract({"traceparent": text} if text else {})


def _attributes(run: Run) -> Mapping[str, str | int | float]:
    """The names of the messaging conventions where they have one. Never the payload."""
    known: dict[str, str | int | float] = {
        "messaging.system": "runner",
        "messaging.operation.type": "process",
        "messaging.destination.name": run.queue,
        "messaging.message.id": str(run.id),
        "runner.job.type": run.type,
        "runner.job.attempt": run.attempt,
        "runner.job.run_number": run.run_number,
        "runner.job.wait_seconds": max((run.started_at - run.run_at).total_seconds(), 0.0),
        "runner.worker_id": run.worker_id,
    }
    return known if run.schedule_name is None else known | {"runner.schedule": run.schedule_name}


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
