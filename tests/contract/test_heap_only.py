"""What changes often is rewritten in place on PostgreSQL: no index has an entry for it, and its page has room."""

from __future__ import annotations

import re
from random import Random

import pytest
from sqlalchemy import Index, text

from runner.domain.job_rows import Job
from runner.domain.rows import Row
from runner.domain.said import Progress, Writes
from runner.domain.worker import WorkerStatus
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from tests.factories import NOW, SECOND, Stores, make_new_job, make_worker
from tests.waiting import eventually

DEADLINE = 30.0  # seconds in which the server has counted
COUNTS = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = :table")
CHANGED = {
    Job: {"progress", "current_step", "message"},
    WorkerStatus: {
        "last_heartbeat",
        "beats",
        "config_sha256",
        "config_revision",
        "config_problem",
        "config_problem_at",
    },
}  # by each progress, and by each beat


def named(index: Index) -> set[str]:
    """The columns of an index, and those of its condition."""
    condition = index.dialect_options["postgresql"]["where"]
    return {column.name for column in index.columns} | set(re.findall(r"\w+", str(condition)))


@pytest.mark.parametrize(("model", "changed"), CHANGED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_no_index_knows_what_beats_and_progress_change(model: type[Row], changed: set[str]) -> None:
    """Neither among its columns nor in its condition, which counts as much."""
    table = model.__table__  # type: ignore[attr-defined]
    assert changed <= set(table.c.keys())
    assert {index.name for index in table.indexes if named(index) & changed} == set()


def counted(database: Database, table: str, at_least: int, since: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Updates, and those that were heap-only, once the server has counted so many: it does when who made them goes."""
    database.close()

    def found() -> tuple[int, int] | None:
        with database.read() as connection:
            updates, heap_only = connection.execute(COUNTS, {"table": table}).one()
        return (updates - since[0], heap_only - since[1]) if updates - since[0] >= at_least else None

    return eventually(found, f"{at_least} counted updates")


def test_progress_is_written_in_place_on_postgresql(database: Database, stores: Stores) -> None:
    """Eight times for each of two hundred jobs that run at once; nine of ten rows find room on their own page."""
    rng, lanes = Random(1), [Lane("default", "mail")]
    stores.jobs.enqueue_many([make_new_job(payload={"text": "x" * rng.randint(0, 400)}) for _ in range(1000)], NOW)
    runs = stores.claims.claim(ClaimRequest("w1", lanes, 200), NOW)
    before = counted(database, "background_jobs", 0)

    for step in range(8):
        stores.logs.write([Writes(run, progress=Progress(step * 12, "reading", f"{step} of 8")) for run in runs])

    updates, heap_only = counted(database, "background_jobs", 8 * len(runs), before)
    assert updates == 8 * len(runs)
    assert heap_only >= 0.9 * updates


def test_beats_are_written_in_place_on_postgresql(database: Database, stores: Stores) -> None:
    """Forty of each of fifty workers."""
    workers = [make_worker(f"w{number:015}", lock_file=f"/there/runner.{number:015}.lock") for number in range(50)]
    for worker in workers:
        stores.workers.register(worker)
    before = counted(database, "workers", 0)

    for beat in range(40):
        for worker in workers:
            assert stores.workers.beat(worker.id, NOW + beat * SECOND, "a" * 64, 3)

    updates, heap_only = counted(database, "workers", 2000, before)
    assert updates == 2000
    assert heap_only >= 0.95 * updates
