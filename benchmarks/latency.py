"""How soon an idle worker starts a job that another process enqueues, beside a bare wake-up and claim.

The probe is two bare processes on the same schema: this one inserts, commits (`synchronous=FULL`) and sends one
datagram; the other waits on its socket and claims with one UPDATE in one transaction. Ours is `runner.enqueue` here
and `runner serve` there. They take turns, so that both meet the same noise. Time runs from the moment before the
COMMIT, and once more from the call, until the claim is committed (the probe) or the first line of the handler (ours).

`python -m benchmarks.latency [--times N] [--pause SECONDS]`
"""

from __future__ import annotations

import argparse
import json
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine, event

import runner
from benchmarks.claims import BARE_CLAIM
from benchmarks.measure import Row, machine
from runner.storage.database import Database
from runner.storage.setup import prepare

TIMES, PAUSE, WARM_UP = 300, 0.02, 30
LONGEST = 30.0  # seconds that anything may take
GOALS = {"p50": (0.50, 3.0), "p99": (0.99, 8.0)}

SCHEDULES = "version: 1\njob_types:\n  stamp: {handler: handlers.stamp.run}\n"
HANDLER = "import time\n\n\ndef run(ctx, payload):\n    return time.monotonic_ns()\n"
BARE_INSERT = """
INSERT INTO background_jobs (type, queue, status, priority, payload, policy, progress, attempt, max_attempts,
  run_number, stalls, run_at, created_at)
VALUES ('due', 'default', 'pending', 5, '{}', '{}', 0, 0, 3, 0, 0, ?, ?)
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Pickup:
    """One job: nanoseconds of the clock that all processes share."""

    call: int
    commit: int
    start: int


def run(folder: Path, depth: int, schedules: int) -> list[Row]:
    ours, bare = ([_since("commit", one) for one in each] for each in measure(folder, TIMES, PAUSE))
    return [Row("start a job that another process commits (idle worker)", ours, "bare wake-up and claim", bare)]


def _since(moment: str, pickup: Pickup) -> float:
    return float(pickup.start - getattr(pickup, moment)) / 1e9


def measure(folder: Path, times: int, pause: float) -> tuple[list[Pickup], list[Pickup]]:
    """Of `runner serve`, and of the probe."""
    with _probe(folder / "bare") as probe, _serve(folder / "ours") as ours:
        for _ in range(WARM_UP):
            probe.enqueue()
            ours.enqueue()
            time.sleep(pause)
        for _ in range(times):
            probe.enqueue()
            time.sleep(pause / 2)
            ours.enqueue()
            time.sleep(pause / 2)
        return ours.pickups()[WARM_UP:], probe.pickups()[WARM_UP:]


# ---- ours


class _Ours:
    def __init__(self, database: Path) -> None:
        self._database = database
        self._began: dict[int, tuple[int, int]] = {}
        self._commit = 0
        event.listen(Engine, "commit", self._note)

    def _note(self, connection: object) -> None:
        self._commit = time.monotonic_ns()

    def enqueue(self) -> None:
        call = time.monotonic_ns()
        job = runner.enqueue("stamp", database_url=str(self._database))
        self._began[job.id] = call, self._commit

    def pickups(self) -> list[Pickup]:
        event.remove(Engine, "commit", self._note)
        with closing(sqlite3.connect(self._database)) as connection:
            _until(lambda: self._unfinished(connection) == 0, "the jobs to end")
            rows = connection.execute("SELECT id, result FROM background_jobs ORDER BY id").fetchall()
        assert len(rows) == len(self._began)
        return [Pickup(*self._began[job_id], int(stamp)) for job_id, stamp in rows]

    def _unfinished(self, connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM background_jobs WHERE completed_at IS NULL").fetchone()[0])


@contextmanager
def _serve(folder: Path) -> Iterator[_Ours]:
    (folder / "handlers").mkdir(parents=True)
    (folder / "handlers" / "__init__.py").touch()
    (folder / "handlers" / "stamp.py").write_text(HANDLER)
    (folder / "schedules.yaml").write_text(SCHEDULES)
    database = folder / "runner.db"
    with (folder / "serve.log").open("wb") as log, _ended(
        subprocess.Popen([sys.executable, "-m", "runner", "serve"], cwd=folder, stderr=log), signal.SIGTERM
    ):  # fmt: skip
        _until(lambda: _has_worker(database), f"runner serve to start: {folder / 'serve.log'}")
        yield _Ours(database)


def _has_worker(database: Path) -> bool:
    if not database.exists():
        return False
    with closing(sqlite3.connect(database)) as connection:
        try:
            return bool(connection.execute("SELECT count(*) FROM workers").fetchone()[0])
        except sqlite3.OperationalError:
            return False


# ---- the probe


class _Probe:
    def __init__(self, database: Path, place: str, worker: subprocess.Popen[bytes]) -> None:
        self._connection = _bare(database, "FULL")
        self._place, self._worker = place, worker
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._began: dict[int, tuple[int, int]] = {}

    def enqueue(self) -> None:
        call = time.monotonic_ns()
        now = _text()
        self._connection.execute("BEGIN IMMEDIATE")
        ((job_id,),) = self._connection.execute(BARE_INSERT, (now, now)).fetchall()
        commit = time.monotonic_ns()
        self._connection.execute("COMMIT")
        self._sender.sendto(b"\0", self._place)
        self._began[job_id] = call, commit

    def pickups(self) -> list[Pickup]:
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.close()
        stamps = json.loads(self._worker.stdout.read())
        assert len(stamps) == len(self._began)
        return [Pickup(*self._began[job_id], stamp) for job_id, stamp in stamps]


@contextmanager
def _probe(folder: Path) -> Iterator[_Probe]:
    folder.mkdir(parents=True)
    database = Database(str(folder / "bare.db"))
    prepare(database)
    database.close()
    place = str(folder / "s")
    command = [sys.executable, "-m", "benchmarks.latency", "--probe", str(database.path), place]
    with _ended(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE), signal.SIGKILL) as worker:
        _until(lambda: Path(place).exists(), "the probe to start")
        yield _Probe(database.path, place, worker)


def _probe_worker(database: Path, place: str) -> None:
    """Wait, claim, note the time; at the end of the input, tell all of them."""
    connection = _bare(database, "NORMAL")
    poked = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    poked.bind(place)
    stamps = []
    while poked in select.select([poked, sys.stdin], [], [])[0]:
        poked.recv(1)
        now = _text()
        connection.execute("BEGIN IMMEDIATE")
        rows = connection.execute(BARE_CLAIM, (uuid4().hex, now, now)).fetchall()
        connection.execute("COMMIT")
        stamps += [(job_id, time.monotonic_ns()) for job_id, _ in rows]
    print(json.dumps(stamps))


def _bare(database: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection


# ---- both


def _text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


@contextmanager
def _ended(process: subprocess.Popen[bytes], by: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.send_signal(by)
        process.wait(LONGEST)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _until(condition: object, what: str) -> None:
    deadline = time.monotonic() + LONGEST
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            sys.exit(f"waited {LONGEST:g} s for {what}")
        time.sleep(0.05)


def _at(share: float, values: list[float]) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.latency", description=__doc__)
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--pause", type=float, default=PAUSE, help="seconds between two enqueues of each kind")
    parser.add_argument("--probe", nargs=2, metavar=("DATABASE", "SOCKET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        _probe_worker(Path(options.probe[0]), options.probe[1])
        return
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder:
        ours, bare = measure(Path(folder), options.times, options.pause)
    print(f"{machine()}; {options.times} enqueues of each kind, {options.pause * 1000:g} ms apart;", end=" ")
    print("milliseconds to the start\n")
    print("| from | | runner serve | bare probe | ratio | goal |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for moment in ("commit", "call"):
        for name, (share, goal) in GOALS.items():
            mine, theirs = (_at(share, [_since(moment, one) * 1000 for one in each]) for each in (ours, bare))
            asked = f"at most {goal:g}" if moment == "commit" else ""
            print(f"| {moment} | {name} | {mine:.2f} | {theirs:.2f} | {mine / theirs:.2f} | {asked} |")


if __name__ == "__main__":
    main()
