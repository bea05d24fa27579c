"""A database of the first released schema, with rows in every state: none is lost on its way up, and work goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from runner.domain.job import JobState
from runner.domain.outcome import Cancelled, Completed
from runner.storage import migrations
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from runner.storage.dialects import rows_of
from runner.storage.setup import HEAD, prepare, version
from tests.contract.databases import DIALECTS
from tests.contract.first_schema import ROWS
from tests.contract.test_migrations import layout
from tests.contract.test_schedules import decide
from tests.factories import NOW, Stores, end, make_new_job

JOBS = migrations.METADATA.tables["background_jobs"]


@pytest.fixture
def old(dialect: str, tmp_path: Path) -> Iterator[Database]:
    """As the first release has left it."""
    made = Database(DIALECTS[dialect].nothing_yet(tmp_path), busy_timeout=timedelta(seconds=5))
    with made.write(create=True) as connection:
        migrations.upgrade(connection, "0001")
        for table, rows in ROWS.items():
            for row in rows:
                columns = ", ".join(row)
                connection.execute(
                    text(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(f':{name}' for name in row)})"), row
                )
        rows_of(connection).count_from(connection, JOBS, 20)  # the last ones were pruned
    yield made
    made.close()


def told(connection: Connection) -> dict[str, list[Any]]:
    """The columns that the first schema has, as the database gives them."""
    found = {}
    for table, rows in ROWS.items():
        columns = ", ".join(sorted({name for row in rows for name in row}))
        found[table] = sorted(map(str, connection.execute(text(f"SELECT {columns} FROM {table}")).all()))
    return found


def test_the_first_schema_is_brought_up_with_all_its_rows(old: Database, database: Database) -> None:
    """Each value is what it was; tables and indexes are those of a fresh database."""
    with old.read() as connection:
        before = told(connection)

    prepare(old)

    assert version(old) == HEAD
    with old.read() as connection, database.read() as fresh:
        assert told(connection) == before
        assert layout(connection) == layout(fresh)
        assert migrations.drift(connection) == []


def test_work_goes_on_after_the_upgrade(old: Database) -> None:
    """What was pending is claimed in its order and under its limit, what ran is settled by its token, and so on."""
    prepare(old)
    stores = Stores(old)
    revision = stores.revisions.current()
    assert revision is not None
    assert sorted(revision.definitions.schedules) == ["morning", "nightly"]
    assert [worker.id for worker in stores.workers.all()] == ["w1"]
    assert stores.jobs.counts() == {"pending": 6, "running": 2, "completed": 1, "failed": 2, "cancelled": 1}

    running = {run.id: run for run in stores.claims.running_of(["w1"])}
    assert {number: reason for number, (_, reason) in stores.claims.cancel_requests("w1").items()} == {
        7: "no longer wanted"
    }
    request = ClaimRequest("w2", [Lane("default", "mail", "api")], 9)
    assert [run.id for run in stores.claims.claim(request, NOW)] == [2], "of two places one was taken"
    assert end(stores, running[7], Cancelled("no longer wanted")).lost == frozenset()
    assert end(stores, running[6], Completed("1")).lost == frozenset()
    assert stores.jobs.get(5).waiting_for is None, "what waited for it may start"
    assert [run.id for run in stores.claims.claim(request, NOW)] == [1]

    assert stores.jobs.get(8).result == {"sent": [1, "é"], "ok": None}
    assert [line.message for line in stores.logs.lines(8)] == ["é\nhello"]
    assert [one.run_number for one in stores.jobs.attempts([9])[9]] == [1, 2]
    stores.jobs.retry(9, NOW)
    assert (stores.jobs.get(9).status, stores.jobs.get(9).run_number) == (JobState.PENDING, 3)
    assert stores.jobs.enqueue(make_new_job(), NOW).id == 21, "no number is given twice"


def test_schedules_go_on_after_the_upgrade(old: Database) -> None:
    """The slot that is due fires, what was paused stays so, and what was retired is not there."""
    prepare(old)
    stores = Stores(old)
    assert stores.schedules.due(NOW) == ["nightly"]
    fired = stores.schedules.fire("nightly", NOW, decide(NOW), lambda one: make_new_job(schedule_name="nightly"))
    assert fired is not None
    assert [(slot.slot, slot.outcome) for slot in fired.slots] == [(NOW, "skipped_overlap")]
    assert stores.schedules.get("nightly").next_run == NOW + timedelta(minutes=10)
    assert stores.schedules.get("morning").paused_at == datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
    assert [row.slot_count for row in stores.schedules.history("nightly")] == [1, 1, 23]
