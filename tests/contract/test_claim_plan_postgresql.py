"""The claim stays flat on PostgreSQL: each path to a pending row is a seek in one index, whatever statistics say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import text

from runner.storage import hot_postgres
from runner.storage.database import Database
from tests.factories import DAY, HOUR, NOW, Stores, make_definitions, make_edit, make_job, make_new_job

LANES = {("default", "mail"): None, ("default", "sync"): "api", ("slow", "mail"): None}
VALUES: dict[str, Any] = {
    "queues": [queue for queue, _ in LANES], "types": [name for _, name in LANES], "limits": list(LANES.values()),
    "locked": ["api"], "free": 5, "most": None, "token": "t" * 32, "worker": "w1", "now": NOW, "schedules": ["nightly"],
}  # fmt: skip
STATEMENTS: dict[str, tuple[str, Any]] = {
    "claim": (hot_postgres._CLAIM_ALL, VALUES),
    "lanes": (hot_postgres.LANES, None),
    "next due": (hot_postgres._NEXT_DUE_OF_ALL, VALUES),
}
DEPTH = 20_000


def plan(database: Database, statement: str, values: Any) -> list[str]:
    with database.write() as connection:
        cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
        rows = cursor.execute(f"EXPLAIN (COSTS OFF) {statement}", values).fetchall()
        return [str(row[0]).strip() for row in rows]


def heap(stores: Stores) -> None:
    """Jobs that are due, for later, of foreign queues and unknown types, and some that run or have ended."""
    some = [make_new_job(), make_new_job(priority=1, run_at=NOW + DAY), make_new_job("unknown", priority=1),
            make_new_job(queue="foreign"), make_new_job("sync")]  # fmt: skip
    stores.jobs.enqueue_many(some * (DEPTH // len(some)), NOW - HOUR)


@pytest.mark.parametrize("statistics", ["none", "of an empty table", "fresh"])
def test_pending_rows_are_found_by_one_index_on_postgresql(database: Database, stores: Stores, statistics: str) -> None:
    stores.revisions.apply(make_edit(make_definitions(limits={"api": 1})), NOW)
    if statistics == "of an empty table":
        analyze(database)
    heap(stores)
    if statistics == "fresh":
        analyze(database)
    for name, (statement, values) in STATEMENTS.items():
        lines = plan(database, statement, values)
        used = {
            found for line in lines for found in re.findall(r"Scan (?:using|on) (jobs_\w+|pk_background_jobs)", line)
        }
        assert "jobs_claim" in used, (name, lines)
        rest = {"jobs_limit", "jobs_worker", "pk_background_jobs"}  # of what runs, and of what was chosen
        assert used <= {"jobs_claim", *rest}, (name, lines)
        assert not any("Seq Scan on background_jobs" in line for line in lines), (name, lines)


def analyze(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("ANALYZE background_jobs"))


def test_what_may_not_be_taken_costs_a_claim_nothing_on_postgresql(database: Database, stores: Stores) -> None:
    """Counted in buffers that the statement touched: twenty thousand rows for later and of others change nothing."""

    def touched() -> int:
        with database.write() as connection:
            cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
            statement = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {hot_postgres._CLAIM_ALL}"
            (answer,) = cursor.execute(statement, VALUES | {"free": 1, "most": 1}).fetchone()
            connection.connection.driver_connection.rollback()  # type: ignore[union-attr]
            top = answer[0]["Plan"]
            return int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])

    make_job(stores, now=NOW - HOUR)
    analyze(database)
    shallow = touched()
    heap(stores)
    analyze(database)
    assert touched() < shallow + 200
