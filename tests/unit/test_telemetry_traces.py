"""Traces: one span for each run, in the trace of whoever enqueued it; without the extra, nothing at all."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import runner
from runner.config.intake import Call
from runner.domain.job import JobPolicy, Run
from runner.domain.lifecycle import settle
from runner.domain.outcome import Completed, Failed, Outcome, Retry, Snoozed, Stalled
from runner.engine.context import JobContext
from runner.telemetry import ClaimLost, Event, JobSettled, JobStarted, TracesUnavailable, current_run, inside
from runner.telemetry.logs import configure_logging
from runner.telemetry.spans import Traces
from runner.telemetry.traceparent import ambient
from runner.telemetry.traces import open_traces
from tests.engine.bench import Bench, make_bench
from tests.factories import NOW, SECOND, make_job_type, make_run

REQUEST = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = int(REQUEST.split("-")[1], 16)
SECRET = "hunter2"


class Spans:
    """A provider that keeps what is ended, and the subscriber on it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")
        self.traces = Traces(provider, "1.0")

    def ended(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.traces.close()


@pytest.fixture
def bench(tmp_path: Path, spans: Spans) -> Iterator[Bench]:
    made = make_bench(tmp_path)
    made.app.events.subscribe(spans.traces.tell)
    made.app.around, made.app.traceparent = spans.traces.around, spans.traces.traceparent
    yield made
    made.app.close()


SEEN: list[tuple[str, int, int | None]] = []


def see(word: str) -> None:
    run = current_run.get()
    SEEN.append((word, trace.get_current_span().get_span_context().span_id, run and run.id))


def looks(ctx: JobContext, payload: dict[str, Any]) -> None:
    see("thread")
    ctx.enqueue("waits")


async def waits(ctx: JobContext, payload: dict[str, Any]) -> None:
    see("async")


def fails_once(ctx: JobContext, payload: dict[str, Any]) -> None:
    if ctx.attempt == 1:
        raise Retry("not yet", after=0)


def ended(run: Run, outcome: Outcome) -> JobSettled:
    return JobSettled(run, settle(run, outcome, NOW, Random(0)), NOW + timedelta(milliseconds=1500))


def only(spans: Spans, *events: Event) -> ReadableSpan:
    for event in events:
        spans.traces.tell(event)
    (span,) = spans.ended()
    return span


def test_a_run_is_a_span_from_its_start_to_its_end(spans: Spans) -> None:
    """Named by the type, with the conventions' attributes, from `started_at` to the settle; no payload in it."""
    run = make_run(id=7, type="mail", queue="slow", payload={"password": SECRET}, schedule_name="nightly")
    span = only(spans, JobStarted(run, NOW), ended(run, Completed(f'"{SECRET}"')))
    assert (span.name, span.kind, span.parent) == ("process mail", SpanKind.CONSUMER, None)
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == 1_500_000_000
    assert span.start_time == int(NOW.timestamp()) * 1_000_000_000
    assert dict(span.attributes or {}) == {
        "messaging.system": "runner", "messaging.operation.type": "process", "messaging.destination.name": "slow",
        "messaging.message.id": "7", "runner.job.type": "mail", "runner.job.attempt": 1, "runner.job.run_number": 1,
        "runner.job.wait_seconds": 60.0, "runner.worker_id": "w1", "runner.schedule": "nightly",
        "runner.outcome": "completed",
    }  # fmt: skip
    assert SECRET not in span.to_json()


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (Completed(), StatusCode.UNSET, None),
        (Snoozed(SECOND), StatusCode.UNSET, None),
        (Failed("E: first\nsecond"), StatusCode.ERROR, "E: first"),
        (Stalled(), StatusCode.ERROR, "Job processor stopped responding"),
    ],
)
def test_a_run_that_went_wrong_is_an_error(spans: Spans, outcome: Outcome, status: StatusCode, said: str) -> None:
    """Also where it is tried again; of the error, its first line."""
    run = make_run()
    span = only(spans, JobStarted(run, NOW), ended(run, outcome))
    assert (span.status.status_code, span.status.description) == (status, said)


def test_a_run_continues_the_trace_of_its_enqueue(spans: Spans) -> None:
    """The request's span is the parent; a job without one begins a trace of its own, whatever span we are in."""
    run = make_run(policy=JobPolicy(traceparent=REQUEST))
    span = only(spans, JobStarted(run, NOW), ended(run, Completed()))
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (TRACE, int(REQUEST.split("-")[2], 16))

    with trace.use_span(spans.tracer.start_span("of somebody else")):
        alone = make_run(id=2)
        spans.traces.tell(JobStarted(alone, NOW))
        spans.traces.tell(ended(alone, Completed()))
    assert spans.ended()[-1].parent is None


def test_a_dead_workers_run_is_told_by_who_rescues_it(spans: Spans) -> None:
    """Its own spans died with it; the trace shows the run all the same, from its start."""
    run = make_run(policy=JobPolicy(traceparent=REQUEST))
    span = only(spans, ended(run, Stalled()))
    assert span.context.trace_id == TRACE
    assert span.start_time == int(NOW.timestamp()) * 1_000_000_000


def test_a_lost_run_ends_its_span(spans: Spans) -> None:
    """Nothing stays open where the claim was lost, and it is told once."""
    run = make_run()
    spans.traces.tell(ClaimLost(run, NOW))
    span = only(spans, JobStarted(run, NOW), ClaimLost(run, NOW))
    assert dict(span.attributes or {})["runner.outcome"] == "lost"
    assert span.status.status_code is StatusCode.ERROR


def test_the_handlers_own_spans_are_children_and_so_are_its_jobs(bench: Bench, spans: Spans) -> None:
    """In threads and on the loop the run's span is the active one; a child job continues the trace under it."""
    SEEN.clear()
    here = "tests.unit.test_telemetry_traces"
    bench.define(make_job_type("looks", handler=f"{here}.looks"), make_job_type("waits", handler=f"{here}.waits"))
    with bench.worker() as worker:
        job = bench.app.enqueue("looks", {}, Call(traceparent=REQUEST, run_at=NOW))
        bench.run(worker, job.id)
        (child,) = bench.all_jobs(type=("waits",))
        assert child.id is not None
        bench.run(worker, child.id)

    parent, below = spans.ended()
    assert [parent.name, below.name] == ["process looks", "process waits"]
    assert below.parent is not None
    assert below.parent.span_id == parent.context.span_id
    assert (below.context.trace_id, parent.context.trace_id) == (TRACE, TRACE)
    seen = list(SEEN)
    assert seen == [("thread", parent.context.span_id, job.id), ("async", below.context.span_id, child.id)]


def test_each_attempt_is_a_span_of_the_same_trace(bench: Bench, spans: Spans) -> None:
    """A retry keeps the policy of the job, and with it the trace."""
    bench.define(make_job_type("fails_once", handler="tests.unit.test_telemetry_traces.fails_once"))
    with bench.worker() as worker:
        job = bench.app.enqueue("fails_once", {}, Call(traceparent=REQUEST, run_at=NOW))
        bench.run(worker, job.id)
        bench.clock.time += timedelta(minutes=1)
        bench.run(worker, job.id)
    assert [span.context.trace_id for span in spans.ended()] == [TRACE, TRACE]
    assert [dict(span.attributes or {})["runner.outcome"] for span in spans.ended()] == ["failed", "completed"]


def test_an_enqueue_takes_the_trace_that_it_happens_in(bench: Bench, spans: Spans) -> None:
    """`runner.enqueue` inside a span: the job carries that span's context; outside, that of TRACEPARENT."""
    bench.define(make_job_type("waits", handler="tests.unit.test_telemetry_traces.waits"))
    with trace.use_span(spans.tracer.start_span("POST /orders"), end_on_exit=True) as span:
        runner.enqueue("waits", database_url=f"sqlite:///{bench.app.database.path}")
        context = span.get_span_context()
    with bench.worker() as worker:
        bench.clock.time = bench.all_jobs()[0].run_at
        bench.run(worker, 1)
    parent = spans.ended()[-1].parent
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == (context.trace_id, context.span_id)
    assert ambient({"TRACEPARENT": REQUEST}) == REQUEST


@pytest.mark.parametrize(
    "text", ["", "me", REQUEST.upper(), REQUEST + "0", "ff" + REQUEST[2:], REQUEST.replace("4", "é")]
)
def test_a_broken_traceparent_is_none(text: str) -> None:
    """Headers and variables come from outside: what is not one never refuses or marks a job."""
    assert ambient({"TRACEPARENT": text}) is None


def test_without_a_trace_nothing_is_imported(tmp_path: Path) -> None:
    """An enqueue in a program without OpenTelemetry, and a process that nobody wants traces of, import none of it."""
    program = """
import sys
from runner.telemetry.traceparent import ambient
from runner.telemetry.traces import open_traces
assert ambient({}) is None
assert open_traces({}, "1", print) is None
assert open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, "1", print) is None
assert open_traces({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, "1", print) is None
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "opentelemetry" not in done.stdout


SENDING = """
import os
from runner.telemetry import JobSettled, JobStarted
from runner.telemetry.traces import open_traces
from runner.domain.lifecycle import Transition
from runner.domain.job import JobState
from tests.factories import NOW, make_run
traces = open_traces(os.environ, "1.2.3", print)
run = make_run()
traces.tell(JobStarted(run, NOW))
traces.tell(JobSettled(run, Transition(JobState.COMPLETED, 1, 0, "completed"), NOW))
traces.close()
"""


class _Collector(BaseHTTPRequestHandler):
    """Takes what is sent, as an OTLP collector would."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, gzip.decompress(body) if "content-encoding" in self.headers else body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_spans_reach_a_collector_over_http() -> None:
    """The endpoint of OTEL_EXPORTER_OTLP_ENDPOINT gets the run, under the service's name, before `close` returns."""
    with HTTPServer(("127.0.0.1", 0), _Collector) as server:
        server.got = got = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        environ = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        command = [sys.executable, "-c", SENDING]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        server.shutdown()
        thread.join()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    ((path, body),) = got
    assert path == "/v1/traces"
    assert b"process mail" in body
    assert b"service.name" in body
    assert b"\n\x06runner" in body


def test_a_collector_that_does_not_answer_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """`close` gives up after its time: a stop must not wait for telemetry."""
    monkeypatch.setattr("runner.telemetry.spans.CLOSING", 0.01)
    answer, sent = threading.Event(), threading.Event()

    class Stuck(TracerProvider):
        def shutdown(self) -> None:
            answer.wait(5)
            sent.set()

    Traces(Stuck(), "1").close()
    assert not sent.is_set()
    answer.set()


def test_traces_that_are_asked_for_and_cannot_be_had_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that sets the variable everywhere must not keep the service from starting without the extra."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.delitem(sys.modules, "runner.telemetry.exporting", raising=False)
    told: list[Event] = []
    assert open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, "1", told.append) is None
    assert told == [TracesUnavailable("OTEL_EXPORTER_OTLP_ENDPOINT")]


def test_what_a_library_logs_in_a_handler_is_bound_to_its_run() -> None:
    """Inside of a run its job stands on the line; afterwards, and in another context, it does not."""
    stream, run = io.StringIO(), make_run(id=12, schedule_name="nightly")
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logging("info", False, stream)
        with inside(run):
            logging.getLogger("lib").info("in it")
        logging.getLogger("lib").info("after it")
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["job_id"], first["type"], first["schedule"]) == (12, "mail", "nightly")
    assert "job_id" not in second
