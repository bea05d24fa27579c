"""A real `runner serve`, as a log shipper, Prometheus and a collector of traces see it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import eventually

DEADLINE = 60.0
REQUEST = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FILE = """version: 1
job_types:
  speaks: {handler: handlers.words.speaks}
"""
HANDLER = """
import logging
from opentelemetry import trace
from tests.waiting import eventually
def speaks(ctx, payload):
    print("printed")
    logging.getLogger("lib").warning("logged")
    trace.get_tracer("handler").start_span("inside").end()
"""


class Service:
    """A process of `runner serve`, and its log."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.folder, self.log = folder, folder / "serve.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RUNNER_", "OTEL_"))}
        self.environ = clean | {"RUNNER_HTTP": "off"} | environ
        with self.log.open("w") as file:
            command = [sys.executable, "-m", "runner", "serve", *arguments]
            self.process = subprocess.Popen(command, cwd=folder, env=self.environ, stdout=file, stderr=file)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def told(self, event: str) -> dict[str, Any]:
        eventually(lambda: [one for one in self.lines() if one["event"] == event], f"{event} in {self.log}")
        return next(one for one in self.lines() if one["event"] == event)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "runner", *words], cwd=self.folder, env=self.environ, capture_output=True, text=True,
            check=True, timeout=DEADLINE,
        )  # fmt: skip
        return done.stdout

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


def scraped(url: str) -> dict[str, float]:
    families = text_string_to_metric_families(httpx.get(url, timeout=10).text)
    return {f"{one.name}{sorted(one.labels.values())}": one.value for family in families for one in family.samples}


def decoded(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schedules.yaml").write_text(FILE, encoding="utf-8")
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "__init__.py").touch()
    (tmp_path / "handlers" / "words.py").write_text(HANDLER, encoding="utf-8")
    return tmp_path


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An endpoint for OTLP over HTTP, and what it was sent."""
    got: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(gzip.decompress(body) if "content-encoding" in self.headers else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


def test_a_service_is_seen_in_its_log_its_metrics_and_its_traces(
    folder: Path, collector: tuple[str, list[bytes]]
) -> None:
    """One job, told by each: lines that are all JSON and name it, counters, a span in the trace of its enqueue."""
    endpoint, spans = collector
    service = Service(folder, "--metrics-port", "0", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    try:
        url = service.told("serving")["metrics"]
        service.environ["TRACEPARENT"] = REQUEST
        service.run("enqueue", "speaks")
        settled = service.told("job completed")
        seen = scraped(url)
    finally:
        code = service.stop()

    assert code == 0
    mine = [(one["event"], one["logger"]) for one in service.lines() if one.get("job_id") == 1 and "logger" in one]
    assert sorted(mine) == [("logged", "lib"), ("printed", "stdout")]
    assert (settled["type"], settled["run_number"], settled["worker_id"]) == ("speaks", 1, settled["worker_id"])
    assert service.lines()[-1]["event"] == "stopped"
    assert seen["runner_jobs_settled_total['completed', 'speaks']"] == 1
    assert seen["runner_config_ok[]"] == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, timeout=10)
    sent = {span.name: span for body in spans for span in decoded(body)}
    run, inside = sent["process speaks"], sent["inside"]
    assert (run.trace_id.hex(), run.parent_span_id.hex()) == tuple(REQUEST.split("-")[1:3])
    assert (inside.trace_id, inside.parent_span_id) == (run.trace_id, run.span_id)


def test_what_a_process_prints_is_a_line_too(folder: Path) -> None:
    """Each line of the log is JSON, bound to its run, also where the handler has a process of its own, or forges."""
    apart = "  apart: {handler: handlers.apart.apart, isolation: process}\n"
    (folder / "schedules.yaml").write_text(FILE + apart, encoding="utf-8")
    (folder / "handlers" / "apart.py").write_text(
        "import logging, sys\n"
        "def apart(ctx, payload):\n"
        '    print(\'{"event": "forged"}\')\n'
        "    logging.getLogger('lib').error('logged')\n"
        "    print('no end', end='', file=sys.stderr)\n",
        encoding="utf-8",
    )
    service = Service(folder)
    try:
        service.told("serving")
        service.run("enqueue", "apart")
        service.told("job completed")
    finally:
        assert service.stop() == 0
    mine = [one for one in service.lines() if "logger" in one]
    assert [(one["event"], one["logger"]) for one in mine] == [
        ('{"event": "forged"}', "stdout"), ("logged", "stderr"), ("no end", "stderr"),
    ]  # fmt: skip
    assert {(one["job_id"], one["type"]) for one in mine} == {(1, "apart")}


def test_a_rejected_file_is_seen_from_the_start(folder: Path) -> None:
    """With --last-good a broken file is in the log, and in `runner_config_ok`, of a service that has just begun."""
    (folder / "schedules.yaml").write_text(FILE + "runner: {concurrency: 7}\n", encoding="utf-8")
    first = Service(folder)
    first.told("serving")
    assert first.stop() == 0
    (folder / "schedules.yaml").write_text(FILE.replace("handler:", "handle:"), encoding="utf-8")
    service = Service(folder, "--last-good", "--metrics-port", "0")
    try:
        seen = scraped(service.told("serving")["metrics"])
    finally:
        service.stop()
    assert (seen["runner_config_ok[]"], seen["runner_config_revision[]"]) == (0, 1)
    assert service.told("serving")["concurrency"] == 7, "its settings are the stored revision's"
    assert service.told("configuration rejected: revision 1 stays in force")["problems"] >= 1


def test_a_port_that_is_taken_is_one_clear_error(folder: Path) -> None:
    """Before anything is served: the address, the reason, a remedy, and exit 2."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as taken:
        service = Service(folder, "--metrics-port", str(taken.server_port))
        assert service.process.wait(DEADLINE) == 2
    error, remedy = service.log.read_text().splitlines()
    assert error == f"error: metrics cannot be served on 127.0.0.1:{taken.server_port}: Address already in use"
    assert remedy == "help: another --metrics-port"
