"""How fast `runner serve` drains no-op jobs, beside the bare driver on the same table and a peer, in one run.

`python -m benchmarks.throughput [--jobs N] [--backlog N] [--folder F] [--no-peer]`. Everything runs with the shipped
defaults but the concurrency. What was drained is checked: one attempt each, the fence of its run, the result.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.claims import BARE_CLAIM, BARE_SETTLE
from benchmarks.measure import machine

ROOT = Path(__file__).parents[1]
FILE = """
version: 1
job_types:
  due: {handler: handlers.nothing.nothing}
"""
HANDLER = """
def nothing(ctx, payload):
    return payload["n"]
"""
BULK = 50_000
PAIR_SECONDS = 3.0
PEER = "huey==3.5.4"
PEER_PROGRAM = """
import json, sys, time
from huey import SqliteHuey
from huey.consumer import Consumer
huey = SqliteHuey(filename=sys.argv[1], fsync=True)
count, done = int(sys.argv[2]), [0, 0.0, 0.0]

@huey.task()
def nothing(n):
    if done[0] == 0:
        done[1] = time.perf_counter()
    done[0] += 1
    done[2] = time.perf_counter()

with huey.storage.db() as connection:
    connection.executemany(
        "insert into task (queue, data, priority) values (?, ?, 0)",
        ((huey.name, memoryview(huey.serialize_task(nothing.s(n)))) for n in range(count)),
    )
consumer = Consumer(huey, workers=1)
consumer.start()
while done[0] < count:
    time.sleep(0.05)
consumer.stop(graceful=True)
print(json.dumps(count / (done[2] - done[1])))
"""


@dataclass(frozen=True, slots=True)
class Drain:
    """What one drain was: jobs per second, from the first start to the last completion as the database has them."""

    concurrency: int
    jobs: int
    depth: int
    per_second: float
    cpu: float  # seconds of this machine's processors for each second of the drain


def drain(folder: Path, jobs: int, concurrency: int, depth: int | None = None) -> Drain:
    """Enqueue, start `runner serve`, wait until `jobs` of `depth` are done."""
    depth = depth or jobs
    _project(folder, depth)
    with _serving(folder, concurrency) as process, closing(_open(folder)) as database:
        before = 0.0  # until the first has completed: the start
        while (done := _completed(database)) < jobs:
            if process.poll() is not None:
                raise SystemExit("runner serve has ended")
            if done == 0:
                before = _cpu(process.pid)
            time.sleep(0.1)
        cpu = _cpu(process.pid) - before
    with closing(_open(folder)) as database:
        _check(database, jobs if depth == jobs else None)
        began, ended, done = database.execute(
            "SELECT min(started_at), max(completed_at), count(*) FROM background_jobs WHERE status = 'completed'"
        ).fetchone()
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
    return Drain(concurrency, jobs, depth, done / seconds, cpu / seconds)


def pairs(folder: Path, depth: int) -> float:
    """Claims and completions a second, one at a time, each in a transaction of its own, on the same table."""
    _project(folder, depth)
    now = "2999-01-01 00:00:00.000000"
    with closing(_open(folder)) as database:
        database.execute("PRAGMA synchronous = FULL")
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < PAIR_SECONDS and done < depth:
            with _transaction(database):
                job_id, _ = database.execute(BARE_CLAIM, ("t", now, now)).fetchone()
            with _transaction(database):
                database.execute(BARE_SETTLE, (now, "1", job_id, "t"))
            done += 1
        return done / (time.perf_counter() - began)


def peer(folder: Path, jobs: int) -> float:
    """huey's drain rate on its SQLite storage with fsync, one worker thread, installed into its own environment."""
    environment, program, database = folder / "peer", folder / "peer.py", folder / "peer.db"
    python = environment / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, PEER], check=True)
    program.write_text(PEER_PROGRAM)
    for file in folder.glob("peer.db*"):
        file.unlink()
    done = subprocess.run(
        [python, program, database, str(jobs)], check=True, stdout=subprocess.PIPE, text=True, cwd=folder
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def _project(folder: Path, jobs: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "handlers").mkdir(parents=True)
    (folder / "handlers" / "__init__.py").touch()
    (folder / "handlers" / "nothing.py").write_text(HANDLER)
    (folder / "schedules.yaml").write_text(FILE)
    _runner(folder, "apply")
    for start in range(0, jobs, BULK):
        lines = [json.dumps({"type": "due", "payload": {"n": n}}) for n in range(start, min(start + BULK, jobs))]
        (folder / "bulk.jsonl").write_text("\n".join(lines))
        _runner(folder, "enqueue", "--bulk", "bulk.jsonl")


def _runner(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "runner", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                   env=_environment())  # fmt: skip


@contextmanager
def _serving(folder: Path, concurrency: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "runner", "serve", "--concurrency", str(concurrency)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log, env=_environment())
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def _open(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "runner.db", isolation_level=None, timeout=60)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    yield
    database.execute("COMMIT")


def _completed(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT count(*) FROM background_jobs WHERE completed_at IS NOT NULL").fetchone()[0])


def _cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _check(database: sqlite3.Connection, all_of_them: int | None) -> None:
    """Attempts, results and fences of what was drained."""
    wrong = database.execute(
        "SELECT count(*) FROM background_jobs WHERE status = 'completed' AND NOT (attempt = 1 AND run_number = 1 "
        "AND length(claim_token) = 32 AND result = json_extract(payload, '$.n') AND started_at <= completed_at)"
    ).fetchone()[0]
    again = database.execute("SELECT count(*) FROM job_attempts WHERE outcome <> 'released'").fetchone()[0]
    if wrong or again or (all_of_them is not None and _completed(database) != all_of_them):
        raise SystemExit(f"the drain was not right: {wrong} wrong rows, {again} runs again")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.throughput", description=__doc__)
    parser.add_argument("--jobs", type=int, default=40_000)
    parser.add_argument("--backlog", type=int, default=1_000_000, help="depth of the deep table; 0: none")
    parser.add_argument("--concurrency", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as place:
        folder = Path(place)
        for turn in range(options.repeat):
            bare = pairs(folder / "bare", options.jobs)
            theirs = None if options.no_peer else peer(folder, options.jobs)
            few = drain(folder / "few", min(options.jobs, 5_000), 2)
            many = drain(folder / "many", options.jobs, options.concurrency)
            for one in (few, many):
                beside = "" if theirs is None else f", {one.per_second / theirs:.2f} of {PEER} ({theirs:,.0f}/s)"
                print(
                    f"run {turn + 1}: {one.jobs:,} jobs, concurrency {one.concurrency}: {one.per_second:,.0f}/s, "
                    f"{one.per_second / bare:.2f} of bare pairs ({bare:,.0f}/s){beside}, {one.cpu:.2f} cpu",
                    flush=True,
                )
        if options.backlog:
            deep = drain(folder / "deep", options.jobs, options.concurrency, options.backlog)
            print(f"with a backlog of {options.backlog:,}: {deep.per_second:,.0f}/s, "
                  f"{many.per_second / deep.per_second - 1:+.0%} per job")  # fmt: skip


if __name__ == "__main__":
    main()
