"""What an answer of `runner serve` costs, and how soon a line of a log is with each of many readers.

A real `serve` on SQLite with shipped settings but the concurrency, a key of the database, jobs that run meanwhile; the
clients are processes of their own (`benchmarks.http_clients`). Costs are seconds of the server's processor, read from
/proc, because on a shared machine rates say as much of the neighbours.
`python -m benchmarks.http [--streams N] [--seconds S] [--rate R]`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import machine

ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
GRACE = 1.0
SETTINGS = f"runner: {{concurrency: 8, shutdown_grace: {GRACE:g}s}}\n"
FILE = f"""
version: 1
{SETTINGS}
job_types:
  quick: {{handler: handlers.load.quick, payload_schema: {{properties: {{n: {{type: integer}}}}}}}}
  talks: {{handler: handlers.load.talks}}
"""
HANDLERS = """
import time


def quick(ctx, payload):
    return payload


def talks(ctx, payload):
    while True:
        ctx.log(f"at {time.monotonic_ns()}")
        time.sleep(0.5)  # the pace of its words
"""
JOB = json.dumps({"type": "quick", "payload": {"n": 7}})
LONGEST = 60.0


@dataclass
class Served:
    """A process of `runner serve`."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int
    key: str

    @property
    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def memory(self) -> float:
        """MiB that it holds."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found.group(1)) / 1024 if found else 0.0

    def stop(self) -> float:
        """Seconds until it has ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LONGEST)
        return time.monotonic() - began


@dataclass
class Cost:
    """Of requests to one route or a mix."""

    what: str
    found: dict[str, Any]
    cpu: float

    def __str__(self) -> str:
        count = sum(self.found["statuses"].values())
        rate, each = count / self.found["seconds"], self.cpu / count * 1000
        told = " ".join(f"{status}: {n}" for status, n in sorted(self.found["statuses"].items()))
        p50, p99 = (quantile(self.found["lasted"], share) * 1000 for share in (0.5, 0.99))
        return f"| {self.what} | {rate:,.0f} | {each:.2f} | {p50:.1f} | {p99:.1f} | {told} |"


HEAD = """| requests | a second | ms of processor each | p50, ms | p99, ms | answers |
|---|---:|---:|---:|---:|---|"""


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else float("nan")


# ---- processes


def project(folder: Path) -> str:
    """A folder to serve; the key."""
    (folder / "handlers").mkdir(parents=True)
    (folder / "handlers" / "__init__.py").touch()
    (folder / "handlers" / "load.py").write_text(HANDLERS)
    (folder / "schedules.yaml").write_text(FILE)
    _runner(folder, "apply")
    return str(json.loads(_runner(folder, "keys", "create", "--role", "admin", "-o", "json"))["key"])


def _runner(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "runner", *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True, env=_environ()).stdout


def _environ() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RUNNER_", "DATABASE_URL"))}
    return clean | {"PYTHONPATH": str(ROOT), "RUNNER_LOG_FORMAT": "json"}


@contextmanager
def serving(folder: Path, key: str, *arguments: str) -> Iterator[Served]:
    log = folder / f"serve-{len(list(folder.glob('serve-*')))}.log"
    command = [sys.executable, "-m", "runner", "serve", "--port", "0", *arguments]
    with log.open("wb") as told:
        process = subprocess.Popen(command, cwd=folder, stderr=told, env=_environ())
    try:
        until = time.monotonic() + LONGEST
        while not (found := re.search(r'"address": ?"http://127.0.0.1:(\d+)"', log.read_text())):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"runner serve did not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield Served(folder, process, int(found.group(1)), key)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ask(served: Served, what: str, routes: list[tuple[str, str, str | None]], seconds: float, rate: float = 0) -> Cost:
    given = {"port": served.port, "key": served.key, "routes": routes, "seconds": seconds, "rate": rate,
             "connections": 32 if rate else 8}  # fmt: skip
    before = served.cpu
    command = [sys.executable, "-m", "benchmarks.http_clients", "ask", json.dumps(given)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(what, json.loads(done.stdout), served.cpu - before)


@dataclass
class Readers:
    """A process that reads streams."""

    process: subprocess.Popen[str]

    def mark(self) -> list[float]:
        """The delays since the last mark, in ms."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: list[float] = json.loads(self.process.stdout.readline())
        return found

    def finish(self) -> int:
        """When the server has ended the streams: how many were cut off instead."""
        out, _ = self.process.communicate(timeout=LONGEST)
        return int(json.loads(out.splitlines()[-1])["broken"])


@contextmanager
def reading(served: Served, jobs: list[int], streams: int) -> Iterator[Readers]:
    given = {"port": served.port, "key": served.key, "jobs": jobs, "streams": streams}
    command = [sys.executable, "-m", "benchmarks.http_clients", "read", json.dumps(given)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "open":
            raise SystemExit("the streams could not be opened")
        yield Readers(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


# ---- the measurement


def talking(served: Served, count: int) -> list[int]:
    """Jobs that run and say a line every half second."""
    return [int(json.loads(_runner(served.folder, "enqueue", "talks", "-o", "json"))["id"]) for _ in range(count)]


def costs(served: Served, seconds: float) -> Iterator[Cost]:
    """Each route by itself."""
    made = ask(served, "create", [("POST", "/api/jobs", JOB)], seconds)
    yield made
    for what, path in (("health", "/healthz"), ("get one", "/api/jobs/1"), ("list 50", "/api/jobs"),
                       ("status page", "/jobs/1"), ("jobs page", "/jobs"), ("dashboard", "/")):  # fmt: skip
        yield ask(served, what, [("GET", path, None)], seconds)


def mix(job: int) -> list[tuple[str, str, str | None]]:
    """As clients of a running service ask: half look at one job, a fifth make one, the rest list and look around."""
    create, one = ("POST", "/api/jobs", JOB), ("GET", f"/api/jobs/{job}", None)
    others = [(path, None) for path in ("/api/jobs?limit=20", f"/jobs/{job}", "/api/stats")]
    return [create, create, one, one, one, one, one, *(("GET", *other) for other in others)]


def told(what: str, delays: list[float]) -> str:
    p50, p99 = quantile(delays, 0.5), quantile(delays, 0.99)
    return f"| {what} | {len(delays):,} | {p50:.0f} | {p99:.0f} | {max(delays, default=0):.0f} |"


def measure(folder: Path, count: int, seconds: float, rate: float) -> None:
    key = project(folder)
    with ExitStack() as stack:
        served = stack.enter_context(serving(folder, key))
        print(HEAD)
        for cost in costs(served, seconds):
            print(cost, flush=True)
        jobs = talking(served, 4)
        here = stack.enter_context(reading(served, jobs[:1], count))
        here.mark()
        time.sleep(seconds)
        alone, before = here.mark(), served.cpu
        time.sleep(seconds)
        idle = (served.cpu - before) / seconds
        here.mark()
        print(ask(served, f"mix, {rate:g} a second, {count} streams open", mix(jobs[1]), seconds * 2, rate), flush=True)
        beside = here.mark()
        print(ask(served, f"mix, as fast as it goes, {count} streams open", mix(jobs[1]), seconds * 2), flush=True)
        busy = here.mark()
        other = stack.enter_context(serving(folder, key, "--no-worker", "--no-scheduler"))
        there = stack.enter_context(reading(other, jobs[2:3], count))
        there.mark()
        time.sleep(seconds)
        apart = there.mark()
        print()
        print(LINES)
        for what, delays in (("no requests beside them", alone), (f"{rate:g} requests a second beside them", beside),
                             ("as many as it answers", busy), ("the job runs in another process", apart)):  # fmt: skip
            print(told(what, delays))
        print()
        print(f"{served.memory:.0f} MiB; {idle:.2f} processors while a line goes to {count} readers twice a second")
        lasted = served.stop()
        broken = here.finish()
        print(f"SIGTERM: {lasted:.2f} s, of them {GRACE:g} s grace for {len(jobs)} jobs; {broken} streams were cut off")
        other.stop()


LINES = """| a line of a log, to all its readers | lines read | p50, ms | p99, ms | the last, ms |
|---|---:|---:|---:|---:|"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.http", description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second beside the streams")
    options = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="runner-http-") as place:
        measure(Path(place), options.streams, options.seconds, options.rate)


if __name__ == "__main__":
    main()
