"""The claim stays flat: one index serves it on every path, and its work does not grow with what it may not take."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import insert, literal, select, text

from runner.domain.errors import DatabaseUnavailable
from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.storage import hot_sqlite
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from runner.storage.jobs import JobFilter
from tests.contract.databases import steps
from tests.factories import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    Stores,
    make_definitions,
    make_edit,
    make_job,
    make_new_job,
    make_worker,
    start,
)

JOBS = Job.__table__  # type: ignore[attr-defined]
STATEMENTS = {
    "priorities": hot_sqlite.NEXT_PRIORITY,
    "claim": hot_sqlite._DUE_OF_ALL,
    "claim of schedules": hot_sqlite._DUE_OF_SCHEDULES,
    "lanes": hot_sqlite.LANES,
    "next due": hot_sqlite._NEXT_DUE_OF_ALL,
    "next due of schedules": hot_sqlite._NEXT_DUE_OF_SCHEDULES,
}


def plan(database: Database, statement: str) -> list[str]:
    places = re.findall(r"\?(\d*)", statement)
    values = (None,) * max(int(number) if number else len(places) for number in [*places, "0"])
    with database.write() as connection:
        return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]


def no_statistics(database: Database) -> None:
    with database.write() as connection:
        assert connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'")).first() is None


def statistics_of_an_empty_table(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("ANALYZE"))


def stale_statistics(database: Database) -> None:
    """As if the table had been large and every pending job in one lane, and the other indexes tiny."""
    with database.write() as connection:
        connection.execute(text("ANALYZE"))
        connection.execute(text("DELETE FROM sqlite_stat1"))
        indexes = [index.name for index in JOBS.indexes]
        for name in indexes:
            said = "2000000 2000000 2000000 2000000 2000000 1" if name == "jobs_claim" else "2 1 1"
            connection.execute(
                text("INSERT INTO sqlite_stat1 VALUES ('background_jobs', :name, :said)"), {"name": name, "said": said}
            )
    database.close()  # statistics are read when a connection opens


STATISTICS = {"none": no_statistics, "of an empty table": statistics_of_an_empty_table, "stale": stale_statistics}


@pytest.mark.parametrize("statistics", sorted(STATISTICS))
@pytest.mark.parametrize("statement", sorted(STATEMENTS))
def test_pending_rows_are_found_by_one_index_whatever_the_statistics_on_sqlite(
    database: Database, statement: str, statistics: str
) -> None:
    """The claim's index serves every path to a pending row; stale statistics choose no other."""
    STATISTICS[statistics](database)

    lines = plan(database, STATEMENTS[statement])
    seeks = [line for line in lines if re.search(r"\b(i|j|background_jobs) USING\b.*INDEX jobs_claim", line)]
    touched = [line for line in lines if re.search(r"(SEARCH|SCAN) (i|j|k|r|background_jobs)\b", line)]
    rest = [line for line in touched if line not in seeks]

    assert seeks
    assert all("queue=?" in line or statement == "lanes" for line in seeks), lines
    if statement == "priorities":
        assert all("(queue=? AND type=? AND priority>?)" in line for line in seeks), seeks
    assert all("(rowid=?)" in line or "jobs_limit (limit_name=?)" in line for line in rest), rest
    if "claim" in statement:
        assert any("(queue=? AND type=? AND priority=? AND run_at<?)" in line for line in seeks), seeks


@pytest.mark.parametrize("index", sorted(str(index.name) for index in JOBS.indexes if index.name != "jobs_claim"))
@pytest.mark.parametrize("statement", ["claim", "priorities", "lanes", "next due"])
def test_no_other_index_is_usable_for_pending_rows_on_sqlite(database: Database, statement: str, index: str) -> None:
    """Every other index leaves the claim's rows out, so that no planner can ever choose it."""
    asked = STATEMENTS[statement].replace("INDEXED BY jobs_claim", f"INDEXED BY {index}")

    with pytest.raises(DatabaseUnavailable, match="no query solution"):
        plan(database, asked)


def test_the_limit_is_counted_by_its_own_index_on_sqlite(database: Database) -> None:
    """The count reads at most as many entries as the limit has running rows."""
    lines = plan(database, hot_sqlite.FREE)

    assert any(
        re.fullmatch(r"SEARCH background_jobs USING (COVERING )?INDEX jobs_limit \(limit_name=\?\)", line)
        for line in lines
    )


def test_many_ends_are_written_by_their_ids_on_sqlite(database: Database) -> None:
    """One statement for all of them, and a seek for each."""
    lines = plan(database, hot_sqlite.FINISH_MANY)

    assert "SEARCH background_jobs USING INTEGER PRIMARY KEY (rowid=?)" in lines


def test_failures_are_found_among_many_that_completed_on_sqlite(stores: Stores, database: Database) -> None:
    """The index of the others would cost each job two entries; failures are rare, and what is looked for."""
    row = {"type": "mail", "queue": "default", "payload": {}, "policy": "{}", "created_at": NOW, "run_at": NOW,
           "completed_at": NOW, "max_attempts": 1}  # fmt: skip
    with database.write() as connection:
        states = [JobState.FAILED, JobState.CANCELLED, *[JobState.COMPLETED] * DEPTH]
        connection.execute(insert(JOBS), [row | {"status": state} for state in states])

    with steps(database, budget=500):
        found, _ = stores.jobs.find(JobFilter(status=(JobState.FAILED,)))
        both, _ = stores.jobs.find(JobFilter(status=(JobState.CANCELLED, JobState.FAILED)))

    assert [job.status for job in (*found, *both)] == ["failed", "cancelled", "failed"]


# ---- depth: the work of a claim, counted in steps of SQLite's machine

DEPTH = 20_000


def multiply(database: Database, job_id: int | None, times: int) -> None:
    """That many more rows like this one."""
    numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < times))
    columns = [column for column in JOBS.c if column.name != "id"]
    copies = select(*columns).where(JOBS.c.id == job_id).join_from(JOBS, numbers, literal(True))
    with database.write(durable=False) as connection:
        connection.execute(insert(JOBS).from_select(columns, copies))


def due(stores: Stores, depth: int) -> None:
    multiply(stores.database, make_job(stores, now=NOW - HOUR).id, depth)


def later(stores: Stores, depth: int) -> None:
    multiply(stores.database, make_job(stores, priority=1, run_at=NOW + DAY).id, depth)


def behind_a_full_limit(stores: Stores, depth: int) -> None:
    if stores.jobs.counts()["running"] == 0:
        start(stores, make_job(stores, type="sync").id or 0, limit="api")
    multiply(stores.database, make_job(stores, type="sync", priority=1).id, depth)


def of_an_unknown_type(stores: Stores, depth: int) -> None:
    multiply(stores.database, make_job(stores, type="unknown", priority=1).id, depth)


def in_a_foreign_queue(stores: Stores, depth: int) -> None:
    multiply(stores.database, make_job(stores, queue="foreign", priority=1).id, depth)


def finished(stores: Stores, depth: int) -> None:
    multiply(stores.database, make_job(stores, JobState.COMPLETED).id, depth)


HEAPS = (due, later, behind_a_full_limit, of_an_unknown_type, in_a_foreign_queue, finished)


@pytest.mark.parametrize("heap", HEAPS, ids=lambda heap: heap.__name__)
def test_the_work_of_a_claim_does_not_grow_with_the_heap_on_sqlite(
    database: Database, stores: Stores, heap: Callable[[Stores, int], None]
) -> None:
    """Future jobs, unknown types, foreign queues and full limits cost nothing at any depth."""
    stores.revisions.apply(make_edit(make_definitions(limits={"api": 1})), NOW)
    lanes = [Lane("default", "mail"), Lane("default", "sync", "api")]

    def works() -> dict[str, int]:
        work = {}
        for free in (1, 10):
            stores.jobs.enqueue_many([make_new_job(priority=6)] * 20, NOW - MINUTE)
            with steps(database) as counted:
                runs = stores.claims.claim(ClaimRequest("w1", lanes, free), NOW)
            assert len(runs) == free
            work[f"claim {free}"] = counted.tens
        with steps(database) as counted:
            assert stores.claims.lanes()
        work["lanes"] = counted.tens
        with steps(database) as counted:
            stores.claims.next_due(lanes)
        work["next due"] = counted.tens
        with steps(database) as counted:
            stores.claims.promote(NOW)
        work["promote"] = counted.tens
        with steps(database) as counted:
            stores.jobs.cancel(stores.jobs.enqueue(make_new_job(), NOW).id, NOW)
        work["cancel"] = counted.tens
        return work

    stores.workers.register(make_worker("w0"))
    heap(stores, 100)
    shallow = works()
    heap(stores, DEPTH)
    deep = works()

    assert min(shallow.values()) >= 0
    assert {name: (work, deep[name]) for name, work in shallow.items() if deep[name] > work * 1.3 + 20} == {}


def test_the_measure_sees_a_walk_on_sqlite(database: Database, stores: Stores) -> None:
    """The counter of the test above is no blunt one: a walk over the same heap is a hundred times as much."""
    later(stores, 100)
    statement = select(JOBS.c.id).where(JOBS.c.status == "pending", JOBS.c.run_at <= NOW - timedelta(days=999))

    def walk() -> int:
        with steps(database) as counted, database.read() as connection:
            connection.execute(statement).all()
        return counted.tens

    shallow = walk()
    later(stores, DEPTH)

    assert walk() > shallow * 100


HOT = {
    **{name: statement for name, statement in STATEMENTS.items() if "schedules" not in name},
    "room of a limit": hot_sqlite.FREE,
    "start": hot_sqlite.START,
    "finish": hot_sqlite.FINISH,
    "finish many": hot_sqlite.FINISH_MANY,
}


@pytest.mark.parametrize("name", HOT)
def test_what_each_job_passes_through_is_planned_once_on_sqlite(database: Database, name: str) -> None:
    """By the library that `serve` uses: to plan a claim anew for other values takes twice as long as to run it."""
    pysqlite3 = pytest.importorskip("pysqlite3")
    with database.read() as connection:
        schema = connection.execute(text("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")).scalars()
        ours = pysqlite3.connect(":memory:")
        ours.executescript(";".join(one for one in schema if one))
    planned = list[int]()
    ours.set_authorizer(lambda action, *_: planned.append(action) or 0)
    for turn in range(2):
        ours.execute(HOT[name], values(HOT[name], turn)).fetchall()
        if turn == 0:
            assert planned, "the library tells when it plans"
            planned.clear()
    assert not planned


def values(statement: str, turn: int) -> tuple[object, ...]:
    """Of the kinds that it is called with, others each turn."""
    numbers = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    count = max(numbers) if numbers else statement.count("?")
    held = [f"[{turn}]" if "json_each(?)" in statement or "json_each(?1)" in statement else turn + 1] * count
    return tuple(held)
