"""Claim, settle and progress on a deep table, beside the bare driver on the same table."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from uuid import uuid4

from benchmarks.measure import Row, timed
from runner.domain.job import NewJob
from runner.domain.lifecycle import settle
from runner.domain.outcome import Completed
from runner.domain.said import Progress, Writes
from runner.storage.claims import ClaimRequest, ClaimStore, Lane
from runner.storage.database import Database
from runner.storage.jobs import JobStore
from runner.storage.logs import LogStore
from runner.storage.revisions import LIMITS
from runner.storage.settling import Settlement
from runner.storage.setup import prepare

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = 300

BARE_CLAIM = """
UPDATE background_jobs SET status = 'running', claim_token = ?, worker_id = 'bare', started_at = ?,
  run_number = run_number + 1, attempt = attempt + 1
WHERE id = (SELECT id FROM background_jobs INDEXED BY jobs_claim
            WHERE status = 'pending' AND waiting_for IS NULL AND queue = 'default' AND type = 'due' AND priority = 5
              AND run_at <= ? ORDER BY run_at, id LIMIT 1)
RETURNING id, payload
"""
BARE_SETTLE = (
    "UPDATE background_jobs SET status = 'completed', completed_at = ?, result = ?, progress = 100 "
    "WHERE id = ? AND claim_token = ? AND status = 'running'"
)
SHAPES: dict[str, Callable[[int], NewJob]] = {
    "due": lambda n: NewJob("due", {"n": n}),
    "for later, all priority 1": lambda n: NewJob("due", {"n": n}, priority=1, run_at=NOW + timedelta(days=30)),
    "waiting for a full limit": lambda n: NewJob("limited", {"n": n}, priority=1),
    "of a type that this worker does not know": lambda n: NewJob("unknown", {"n": n}, priority=1),
}


def run(folder: Path, depth: int, schedules: int) -> list[Row]:
    rows = [_claim(folder, name, shape, depth) for name, shape in SHAPES.items()]
    return [*rows, *_pair(folder, depth), _progress(folder)]


def _open(folder: Path, name: str) -> tuple[Database, ClaimStore, ClaimRequest]:
    database = Database(str(folder / f"{name}.db"))
    prepare(database)
    with database.write() as connection:
        connection.execute(LIMITS.insert(), {"name": "full", "max": 1})
    lanes = [Lane("default", "due"), Lane("default", "limited", "full")]
    return database, ClaimStore(database), ClaimRequest("bench", lanes, 1)


def _fill(database: Database, shape: Callable[[int], NewJob], depth: int) -> None:
    jobs = JobStore(database)
    for start in range(0, depth, 20_000):
        jobs.enqueue_many([shape(n) for n in range(start, min(start + 20_000, depth))], NOW)


def _claim(folder: Path, name: str, shape: Callable[[int], NewJob], depth: int) -> Row:
    """One job claimed at a time, with a thousand due jobs behind the others."""
    database, claims, request = _open(folder, f"claim-{len(name)}")
    if "limit" in name:
        JobStore(database).enqueue(NewJob("limited"), NOW)
        claims.claim(ClaimRequest("other", [Lane("default", "limited", "full")], 1), NOW)
    _fill(database, shape, depth)
    _fill(database, SHAPES["due"], 1_000)
    ours = timed(lambda: claims.claim(request, NOW), TIMES)
    theirs = _bare_claims(database)
    database.close()
    return Row(f"claim one of {depth:,} {name}", ours, "bare claim", theirs, goal=0.010)


def _bare(database: Database, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(database.path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _bare_claims(database: Database) -> list[float]:
    connection = _bare(database, "NORMAL")
    found = timed(lambda: connection.execute(BARE_CLAIM, (uuid4().hex, _text(NOW), _text(NOW))).fetchall(), TIMES)
    connection.close()
    return found


def _pair(folder: Path, depth: int) -> list[Row]:
    """Settle one job and claim the next in one durable transaction; the bare driver takes two."""
    database, claims, request = _open(folder, "pair")
    _fill(database, SHAPES["due"], min(depth, 100_000))
    rng = Random(1)
    running = claims.claim(request, NOW)

    def ours() -> None:
        nonlocal running
        one = Settlement(running[0], settle(running[0], Completed('{"n":1}'), NOW, rng))
        running = claims.settle([one], NOW, request).claimed

    found = timed(ours, TIMES)
    connection = _bare(database, "FULL")

    def bare() -> None:
        token = uuid4().hex
        job_id, _ = connection.execute(BARE_CLAIM, (token, _text(NOW), _text(NOW))).fetchone()
        connection.execute(BARE_SETTLE, (_text(NOW), '{"n":1}', job_id, token))

    theirs = timed(bare, TIMES)
    connection.close()
    fifty = ClaimRequest("bench", request.lanes, 50)
    running = claims.claim(fifty, NOW)

    def batch() -> None:
        nonlocal running
        ends = [Settlement(run, settle(run, Completed('{"n":1}'), NOW, rng)) for run in running]
        running = claims.settle(ends, NOW, fifty).claimed

    batches = [seconds / 50 for seconds in timed(batch, 60)]
    database.close()
    return [
        Row("settle one and claim the next (on disk)", found, "bare claim + settle", theirs),
        Row("the same in batches of 50, per job", batches, "bare claim + settle", theirs),
    ]


def _progress(folder: Path) -> Row:
    database, claims, request = _open(folder, "progress")
    JobStore(database).enqueue(NewJob("due"), NOW)
    held = claims.claim(request, NOW)[0]
    logs, numbers = LogStore(database), count()
    ours = timed(lambda: logs.write([Writes(held, Progress(next(numbers) / 10))]), TIMES)
    connection = _bare(database, "NORMAL")
    statement = "UPDATE background_jobs SET progress = ? WHERE id = ? AND claim_token = ? AND status = 'running'"
    theirs = timed(lambda: connection.execute(statement, (99.0, held.id, held.claim_token)), TIMES)
    connection.close()
    database.close()
    return Row("update the progress of a job", ours, "bare update", theirs, goal=0.005)
