"""Moving up: everything from one database to another, whichever they are, and the work goes on there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from runner.domain.access import Role, new_key
from runner.domain.access_rows import AuditEntry
from runner.domain.errors import Conflict, DatabaseUnavailable
from runner.domain.job import JobState, UniqueKey
from runner.domain.outcome import Completed, Failed
from runner.domain.said import LogLine, OutputPiece, Progress, Writes
from runner.storage import copying
from runner.storage.access import AccessStore
from runner.storage.copying import JOBS, copy_all
from runner.storage.database import Database
from runner.storage.idempotency import Once, OnceStore
from runner.storage.setup import HEAD, version
from tests.contract.databases import DIALECTS, everything
from tests.contract.processes import fire_due
from tests.factories import (
    HOUR,
    NOW,
    Stores,
    end,
    make_definitions,
    make_edit,
    make_job,
    make_new_job,
    make_running,
    make_schedule,
    make_worker,
    start,
)


@pytest.fixture(params=sorted(DIALECTS))
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database, of each kind."""
    made = Database(DIALECTS[request.param].nothing_yet(tmp_path), busy_timeout=timedelta(seconds=20))
    yield made
    made.close()


def fill(stores: Stores) -> None:
    """Rows in every state, and in every table."""
    stores.revisions.apply(make_edit(make_definitions(make_schedule(), limits={"api": 2})), NOW)
    assert fire_due(stores.database, (NOW + 25 * HOUR).isoformat())
    stores.workers.register(make_worker("w1", queues={"only": ["default"]}))
    payload = {"é\u2028": [1, 1.5, 12345678901234567890, None, True], "text": 'it\'s "so"\n\\'}
    for state in JobState:
        make_job(stores, state, payload=payload)
    stores.jobs.enqueue(make_new_job(unique=UniqueKey("k", "finished", NOW + HOUR), run_at=NOW + HOUR), NOW)
    run = make_running(stores)
    said = Writes(run, Progress(50, "half", "é"), (LogLine(NOW, "info", "line"),),
                  (OutputPiece(NOW, "page", "text/html", b"\x00\xff<p>", False),))  # fmt: skip
    assert stores.logs.write([said]) == set()
    end(stores, run, Failed("ValueError: again"))
    start(stores, run.id, now=NOW + HOUR)
    access = AccessStore(stores.database)
    access.add(new_key(), Role.VIEWER, ["shop"], NOW, by="test")
    access.audit([AuditEntry(at=NOW, who="key 1", address="::1", action="pause", target="daily")])
    OnceStore(stores.database).enqueue(Once("", "k", "d"), [], NOW)
    stores.jobs.enqueue_many([make_new_job(payload={"n": n}) for n in range(2500)], NOW)


def test_everything_is_moved_and_the_work_goes_on(stores: Stores, database: Database, other: Database) -> None:
    """The same rows, equal checksums, and new jobs get new numbers."""
    fill(stores)
    there = Stores(other)

    copied = copy_all(database, other)

    assert everything(other) == everything(database)
    rows = {one.table: one.rows for one in copied}
    assert rows["background_jobs"] == 2508
    assert all(rows.values()), rows
    assert version(other) == HEAD
    newest = max(job.id or 0 for job in stores.jobs.find(there_is_all(), limit=1)[0])
    assert there.jobs.enqueue(make_new_job(), NOW).id == newest + 1
    run = make_running(there, worker_id="w1")
    assert there.logs.write([Writes(run, None, (LogLine(NOW, "info", "on"),))]) == set()
    assert end(there, run, Completed("1")).lost == frozenset()


def test_numbers_are_not_given_twice(stores: Stores, database: Database, other: Database) -> None:
    """`job-7` is one job, also where the newest were deleted before the copy."""
    made = [one.id for one in stores.jobs.enqueue_many([make_new_job()] * 5, NOW)]
    with database.write() as connection:
        connection.execute(delete(JOBS).where(JOBS.c.id > made[2]))

    copy_all(database, other)

    assert Stores(other).jobs.enqueue(make_new_job(), NOW).id == made[-1] + 1


def there_is_all() -> Any:
    from runner.storage.jobs import JobFilter

    return JobFilter()


def test_a_target_that_holds_something_is_refused(stores: Stores, database: Database, other: Database) -> None:
    """Nothing is mixed, and nothing is overwritten."""
    fill(stores)
    copy_all(database, other)
    before = everything(other)

    with pytest.raises(Conflict, match=r"is not empty: .* has rows"):
        copy_all(database, other)
    assert everything(other) == before


def test_a_copy_that_differs_is_told_and_taken_back(
    stores: Stores, database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof can fail: a row that is lost on the way leaves the target empty."""
    fill(stores)
    whole = copying._copy

    def lossy(source: Any, target: Any, table: Any, rows: Any) -> None:
        whole(source, target, table, rows)
        if table.name == "job_logs":
            target.execute(update(table).values(message="another"))

    monkeypatch.setattr(copying, "_copy", lossy)
    with pytest.raises(DatabaseUnavailable, match=r"job_logs has \d+ rows in .* or not the same in them"):
        copy_all(database, other)
    assert all(not rows for rows in everything(other).values())


def test_a_source_that_is_not_there_is_told(other: Database, tmp_path: Path) -> None:
    nothing = Database(f"sqlite:///{tmp_path}/nothing.db")
    with pytest.raises(DatabaseUnavailable, match="there is no database at"):
        copy_all(nothing, other)
    nothing.close()


def test_a_dry_run_works_on_what_is_open(stores: Stores, database: Database, tmp_path: Path) -> None:
    """The copy of a database that is no file: definitions, ledger and open jobs."""
    fill(stores)
    with database.read() as connection:
        copying.copy_open(connection, tmp_path / "copy.db")
    copy = Database(f"sqlite:///{tmp_path}/copy.db")
    try:
        counts = Stores(copy).jobs.counts()
        assert counts == stores.jobs.counts() | {"completed": 0, "failed": 0, "cancelled": 0}
        assert Stores(copy).revisions.current() == stores.revisions.current()
    finally:
        copy.close()
