"""How long the page of failures takes with a hundred thousand of them: `python -m benchmarks.failures [--jobs N]`.

On both databases, with errors that differ in a number, and with errors of which no two are alike but for their ids.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import insert

from runner.storage.database import Database
from runner.storage.failures import JOBS, FailureStore
from tests.contract.databases import DIALECTS
from tests.factories import NOW

TRACE = "\n".join(f'  File "handlers/sync.py", line {n}, in run\n    call(argument, {n})' for n in range(25))
KINDS: dict[str, Callable[[int, Random], str]] = {
    "numbers": lambda n, rng: f"ValueError: row {n} of feed {n} at 10.0.{n % 250}.1:{5000 + n % 1000}",
    "ids": lambda n, rng: f"ValueError: row {n} of feed {UUID(int=rng.getrandbits(128))}",
}
BATCH = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    jobs = parser.parse_args().jobs
    for name, dialect in DIALECTS.items():
        for kind in KINDS:
            database = dialect.open(Path(tempfile.mkdtemp()))
            dialect.renew(database)
            _fill(database, kind, jobs)
            _measure(f"{name:<11} {kind:<8}", FailureStore(database))
            database.close()


def _fill(database: Database, kind: str, jobs: int) -> None:
    rng = Random(1)
    for start in range(0, jobs, BATCH):
        with database.write() as connection:
            connection.execute(insert(JOBS), [_row(n, KINDS[kind](n, rng)) for n in range(start, start + BATCH)])


def _row(n: int, error: str) -> dict[str, Any]:
    return {
        "type": f"type{n % 20}", "queue": "default", "status": "failed", "priority": 5, "payload": {"n": n},
        "run_at": NOW, "attempt": 3, "max_attempts": 3, "run_number": 3, "stalls": 0, "policy": "{}", "progress": 0.0,
        "created_at": NOW, "completed_at": NOW + timedelta(seconds=n), "error": f"{error}\n\nTraceback\n{TRACE}\n",
    }  # fmt: skip


def _measure(title: str, store: FailureStore) -> None:
    began = time.perf_counter()
    groups = store.groups()
    grouped = time.perf_counter() - began
    began = time.perf_counter()
    members = store.members(groups[0], upto=2**62, limit=1000)
    found = time.perf_counter() - began
    tracemalloc.start()
    store.groups()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    jobs = sum(group.count for group in groups)
    print(
        f"{title} {jobs:,} failures in {len(groups)} groups: {grouped:.2f} s, {peak:.1f} MB; "
        f"{len(members):,} of a group: {found:.2f} s"
    )


if __name__ == "__main__":
    main()
