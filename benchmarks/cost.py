"""What one job costs a PostgreSQL server: processor, write-ahead log and disk, from enqueue to prune.

A server of its own with fsync on; jobs are enqueued one by one and in bulk, drained by one `runner serve`, and pruned.
`python -m benchmarks.cost [--jobs N] [--concurrency N]`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg

from benchmarks.sizes import LEFT, _make_project, _serving, _wait
from runner.domain.job import NewJob
from runner.storage.database import Database
from runner.storage.jobs import JobStore
from runner.storage.pruning import PruneStore
from runner.storage.setup import TABLES, prepare
from tests.contract.postgres import Server

TICKS = os.sysconf("SC_CLK_TCK")
SIZE = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class WHERE relname = ANY(%s)"
FILE = "version: 1\njob_types:\n  quick: {handler: handlers.load.quick}\n"
HANDLER = "def quick(ctx, payload):\n    return payload\n"


@dataclass(slots=True)
class Cost:
    """Of one step: how long, what the server's processes used, what went to the log, how much the tables grew."""

    what: str
    jobs: int
    seconds: float = 0.0
    cpu: float = 0.0
    wal: int = 0
    disk: int = 0

    def __str__(self) -> str:
        each = 1e6 / self.jobs
        cells = (f"{self.jobs / self.seconds:,.0f}", f"{self.cpu * each:.0f}", f"{self.wal / self.jobs:,.0f}",
                 f"{self.disk / self.jobs:,.0f}")  # fmt: skip
        return f"| {self.what} | {' | '.join(cells)} |"


@contextmanager
def costing(server: Server, look: psycopg.Connection[tuple[object, ...]], what: str, jobs: int) -> Iterator[Cost]:
    found = Cost(what, jobs)
    began, cpu, wal, disk = (
        time.monotonic(),
        _cpu(server),
        _number(look, "SELECT pg_current_wal_lsn() - '0/0'"),
        _disk(look),
    )
    yield found
    found.seconds, found.cpu = time.monotonic() - began, _cpu(server) - cpu
    found.wal, found.disk = _number(look, "SELECT pg_current_wal_lsn() - '0/0'") - wal, _disk(look) - disk


def _cpu(server: Server) -> float:
    """Seconds of the server's processes, of those that have ended too."""
    assert server.process is not None
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(server.process.pid)], stdout=subprocess.PIPE, check=True)
    own = _ticks(server.process.pid, 11, 15)
    return (own + sum(_ticks(int(pid), 11, 13) for pid in listed.stdout.split())) / TICKS


def _ticks(pid: int, first: int, last: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return sum(map(int, fields[first:last]))


def _number(look: psycopg.Connection[tuple[object, ...]], query: str, *values: object) -> int:
    (found,) = look.execute(query, values or None).fetchone() or (0,)
    return int(str(found))


def _disk(look: psycopg.Connection[tuple[object, ...]]) -> int:
    return _number(look, SIZE, list(TABLES))


def measure(folder: Path, jobs: int, concurrency: int) -> Iterator[Cost]:
    (folder / "pg").mkdir()
    server = Server.start(folder / "pg", "fsync=on", "autovacuum=off")
    _make_project(folder)
    (folder / "schedules.yaml").write_text(f"{FILE}runner: {{concurrency: {concurrency}}}\n")
    (folder / "handlers" / "load.py").write_text(HANDLER)
    with ExitStack() as stack:
        stack.callback(server.remove)
        database = stack.enter_context(closing(Database(server.url)))
        prepare(database)
        look = stack.enter_context(psycopg.connect(server.url, autocommit=True))
        store = JobStore(database)
        with costing(server, look, "enqueue, one by one", jobs // 10) as one:
            for n in range(jobs // 10):
                store.enqueue(NewJob("quick", {"n": n}), database.now())
        yield one
        with costing(server, look, "enqueue, 1,000 at a time", jobs) as many:
            for start in range(0, jobs, 1000):
                store.enqueue_many([NewJob("quick", {"n": n}) for n in range(start, start + 1000)], database.now())
        yield many
        total = _number(look, LEFT)
        with _serving(folder, server, 0):
            while _number(look, LEFT) == total:
                time.sleep(0.01)
            left = _number(look, LEFT)
            with costing(server, look, f"claim and settle, {concurrency} at once", left) as drained:
                _wait(look)
        yield drained
        look.execute("VACUUM")
        with costing(server, look, "prune", total) as pruned:
            while PruneStore(database).jobs(database.now() + timedelta(hours=1)):
                pass
        yield pruned


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.cost", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=100)
    options = parser.parse_args()
    print("| step | jobs a second | server, µs of processor | bytes of log | bytes of tables and indexes |")
    print("|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="runner-cost-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        for cost in measure(folder, options.jobs, options.concurrency):
            print(cost, flush=True)


if __name__ == "__main__":
    main()
