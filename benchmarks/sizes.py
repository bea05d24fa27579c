"""Whether the tables stay as small as what is in them: sizes under load on PostgreSQL, round after round.

A server of its own, two `runner serve`, fifty schedules that fire every second. Each round enqueues, waits until all is
done, and prunes what ended before the round began. `python -m benchmarks.sizes [--minutes N] [--jobs N] [--kept N]`;
`--plain` takes the settings of the tables away, to see what they are for. Fails where the tables still grow at the end.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from runner.domain.job import NewJob
from runner.storage.database import Database
from runner.storage.jobs import JobStore
from runner.storage.pruning import PruneStore
from runner.storage.setup import TABLES
from tests.contract.postgres import Server

ROOT = Path(__file__).parents[1]
SERVES, SCHEDULES, BULK = 2, 50, 2_000
LONGEST = 300.0  # seconds that a round may take
SHOWN = ("background_jobs", "job_logs", "job_attempts", "schedule_slots", "cron_schedules", "workers")
ROOM = 1.25  # of the middle third: what the last third may be

FILE = """
version: 1
runner: {concurrency: 50, heartbeat: 1s, stalled_after: 30s}
defaults: {retry: {max_attempts: 3, delay: 0s}}
job_types:
  quick: {handler: handlers.load.quick}
  slow: {handler: handlers.load.slow}
schedules:
"""
HANDLERS = """
import asyncio


def quick(ctx, payload):
    ctx.log("begun")
    ctx.log("ended")
    if payload.get("n", 1) % 20 == 0 and ctx.attempt == 1:
        raise RuntimeError("the first attempt fails")
    return payload


async def slow(ctx, payload):
    for step in range(8):
        await asyncio.sleep(0.25)
        ctx.progress(step * 12, step="reading", message=f"{step} of 8")
    return payload
"""
LOOK = """
SELECT relname, pg_table_size(relid), pg_indexes_size(relid), n_dead_tup, n_tup_upd, n_tup_hot_upd
FROM pg_stat_user_tables WHERE relname = ANY(%s)"""
OPTIONS = "SELECT option_name FROM pg_class, pg_options_to_table(reloptions) WHERE oid = %s::regclass"
KEPT = """
INSERT INTO background_jobs (type, queue, status, priority, payload, result, progress, attempt, max_attempts,
  run_number, stalls, claim_token, policy, run_at, created_at, started_at, completed_at)
SELECT 'quick', 'default', 'completed', 5, '{}', '{}', 100, 1, 3, 1, 0, md5(n::text), '{}', ends, ends, ends, ends
FROM generate_series(1, %s) n, (SELECT now() + interval '1 day' AS ends) later"""
LEFT = "SELECT count(*) FROM background_jobs WHERE completed_at IS NULL AND schedule_name IS NULL"


@dataclass(frozen=True, slots=True)
class Table:
    """Bytes with TOAST, bytes of its indexes, dead rows, updates, and those of them that were heap-only."""

    heap: int
    indexes: int
    dead: int
    updates: int
    hot: int


@dataclass(frozen=True, slots=True)
class Round:
    """What was there at its end, before its jobs were pruned."""

    seconds: float
    jobs: int
    tables: dict[str, Table]

    @property
    def size(self) -> int:
        return sum(one.heap + one.indexes for one in self.tables.values())


def rounds(folder: Path, minutes: float, jobs: int, kept: int, is_plain: bool) -> Iterator[Round]:
    server = Server.start(folder / "pg", "fsync=on")
    _make_project(folder)
    _call(folder, server, "apply")
    with ExitStack() as stack:
        stack.callback(server.remove)
        database = stack.enter_context(closing(Database(server.url)))
        look = stack.enter_context(psycopg.connect(server.url, autocommit=True))
        if is_plain:
            _forget_settings(look)
        look.execute(KEPT, (kept,))
        look.execute("VACUUM ANALYZE")
        for number in range(SERVES):
            stack.enter_context(_serving(folder, server, number))
        began, done, before = time.monotonic(), 0, database.now()
        while time.monotonic() - began < minutes * 60:
            round_began = database.now()
            _enqueue(JobStore(database), jobs, round_began)
            _wait(look)
            done += jobs
            yield Round(time.monotonic() - began, done, _look(look))
            _prune(PruneStore(database), before)
            before = round_began


def _make_project(folder: Path) -> None:
    (folder / "handlers").mkdir(parents=True)
    (folder / "handlers" / "__init__.py").touch()
    (folder / "handlers" / "load.py").write_text(HANDLERS)
    entries = (f"  s{n:02}: {{job: quick, every: 1s, overlap: allow}}\n" for n in range(SCHEDULES))
    (folder / "schedules.yaml").write_text(FILE + "".join(entries))


def _environment(server: Server) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "DATABASE_URL": server.url}


def _call(folder: Path, server: Server, *words: str) -> None:
    command = [sys.executable, "-m", "runner", *words]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=_environment(server))


@contextmanager
def _serving(folder: Path, server: Server, number: int) -> Iterator[None]:
    with (folder / f"log-{number}").open("wb") as log:
        command = [sys.executable, "-m", "runner", "serve"]
        process = subprocess.Popen(command, cwd=folder, stderr=log, env=_environment(server))
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _forget_settings(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    for table in TABLES:
        names = connection.execute(OPTIONS, (table,)).fetchall()
        for (name,) in names:
            connection.execute(f"ALTER TABLE {table} RESET ({name})")


def _enqueue(store: JobStore, jobs: int, now: datetime) -> None:
    """One in fifty says how far it is for two seconds; of the others one in twenty fails once."""
    made = [NewJob("slow" if n % 50 == 1 else "quick", {"n": n, "text": "x" * (n % 400)}) for n in range(jobs)]
    for start in range(0, jobs, BULK):
        store.enqueue_many(made[start : start + BULK], now)


def _wait(look: psycopg.Connection[tuple[object, ...]]) -> None:
    deadline = time.monotonic() + LONGEST
    while (row := look.execute(LEFT).fetchone()) and row[0]:
        if time.monotonic() > deadline:
            raise SystemExit(f"{row[0]} jobs are left after {LONGEST:g} s")
        time.sleep(0.2)


def _look(look: psycopg.Connection[tuple[object, ...]]) -> dict[str, Table]:
    rows = look.execute(LOOK, (list(SHOWN),)).fetchall()
    return {str(name): Table(*map(int, values)) for name, *values in rows}  # type: ignore[call-overload]


def _prune(store: PruneStore, before: datetime) -> None:
    duties: tuple[Callable[[datetime], int], ...] = (store.parts, store.jobs, store.slots)
    for duty in duties:
        while duty(before):
            pass


def table(found: Sequence[Round]) -> str:
    """A line for about each tenth of the time: MB of the rows and of the indexes, and dead rows in thousands."""
    head = ["seconds", "jobs", *SHOWN, "all", "dead rows"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    for one in found[:: max(len(found) // 12, 1)]:
        cells = [f"{one.seconds:.0f}", f"{one.jobs:,}"]
        cells += [f"{_mb(one.tables[name].heap)} + {_mb(one.tables[name].indexes)}" for name in SHOWN]
        cells += [_mb(one.size), f"{sum(each.dead for each in one.tables.values()) / 1000:.0f}k"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def heap_only(last: Round) -> str:
    shares = (
        f"{name} {one.hot / one.updates:.0%} of {one.updates:,}" for name, one in last.tables.items() if one.updates
    )
    return "heap-only updates: " + ", ".join(sorted(shares))


def growth(found: Sequence[Round]) -> float:
    """The median of the last third beside that of the middle third: 1 is flat."""
    third = max(len(found) // 3, 1)
    middle, last = found[third : 2 * third] or found, found[-third:]
    return statistics.median(one.size for one in last) / statistics.median(one.size for one in middle)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.sizes", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--jobs", type=int, default=5_000, help="in each round (5,000)")
    parser.add_argument("--kept", type=int, default=1_000_000, help="ended jobs that stay (1,000,000)")
    parser.add_argument("--plain", action="store_true", help="without the settings of the tables")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runner-sizes-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        (folder / "pg").mkdir()
        found = []
        for one in rounds(folder, options.minutes, options.jobs, options.kept, options.plain):
            found.append(one)
            sys.stderr.write(f"{one.seconds:5.0f} s  {one.jobs:9,} jobs  {_mb(one.size)} MB\n")
    print(f"MB of rows + MB of indexes, at the end of a round of {options.jobs:,} jobs, before it is pruned")
    print()
    print(table(found))
    print()
    print(heap_only(found[-1]))
    print(f"the last third beside the middle one: {growth(found):.2f}")
    return int(growth(found) > ROOM)


if __name__ == "__main__":
    sys.exit(main())
