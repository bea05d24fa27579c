"""Failed jobs by what they said: one statement over the newest, the same on every database."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, text

from runner.domain.failures import essence
from runner.domain.job import JobState
from runner.storage import failures
from runner.storage.database import Database
from runner.storage.failures import JOBS, FailureStore
from tests.factories import DAY, HOUR, NOW, Stores, make_job


@pytest.fixture
def store(database: Database) -> FailureStore:
    return FailureStore(database)


def fail(database: Database, *errors: str | None, **values: object) -> None:
    """Jobs that ended so, an hour apart, the last of them now."""
    rows = [
        {
            "type": "mail", "queue": "default", "status": "failed", "priority": 5, "payload": {}, "run_at": NOW,
            "attempt": 3, "max_attempts": 3, "run_number": 3, "stalls": 0, "policy": "{}", "progress": 0.0,
            "created_at": NOW - DAY, "completed_at": NOW - HOUR * (len(errors) - 1 - n), "error": error,
        } | values
        for n, error in enumerate(errors)
    ]  # fmt: skip
    with database.write() as connection:
        connection.execute(insert(JOBS), rows)


def test_a_group_is_counted_with_its_first_and_last_time(
    database: Database, stores: Stores, store: FailureStore
) -> None:
    """Of each type its own; what has not failed is not counted; an error without words is a group too."""
    fail(database, "OSError: disk 1 full\n\nTraceback ...", "OSError: disk 22 full\n\nother", "KeyError: 'a'", None)
    fail(database, "OSError: disk 1 full", type="sync")
    for state in JobState:
        if state is not JobState.FAILED:
            make_job(stores, state)
    groups = {(one.type, one.error): one for one in store.groups()}
    disk = groups["mail", "OSError: disk <n> full"]
    assert (disk.count, disk.first, disk.last, disk.newest) == (2, NOW - 3 * HOUR, NOW - 2 * HOUR, 2)
    assert {key: one.count for key, one in groups.items()} == {
        ("mail", "OSError: disk <n> full"): 2, ("mail", "KeyError: 'a'"): 1, ("mail", "no error was told"): 1,
        ("sync", "OSError: disk <n> full"): 1,
    }  # fmt: skip
    assert store.groups()[0] == disk


def test_what_the_database_says_is_what_is_grouped(database: Database, store: FailureStore) -> None:
    """Numbers are levelled in the statement already, and the text is the same group as without."""
    said = "ValueError: row 1934567 of 0x7f3a at 10.0.0.7:80, 2026-03-01T10:00:00Z, id 9f86d081884c7d65\nmore 5"
    fail(database, said, said.replace("7", "8"))
    (found,) = store.groups()
    assert (found.error, found.count) == (essence(said), 2)


def test_what_ended_earlier_and_what_others_own_is_left_out(database: Database, store: FailureStore) -> None:
    """A time, and the projects of the caller."""
    fail(database, "a", "a", "a", project_id="shop")
    fail(database, "a", project_id="blog")
    fail(database, "a")
    assert [one.count for one in store.groups()] == [5]
    assert [one.count for one in store.groups(["shop"])] == [3]
    assert [one.count for one in store.groups(["shop"], NOW - HOUR)] == [2]
    assert list(store.groups([])) == []


def test_only_the_newest_are_looked_at(
    database: Database, store: FailureStore, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """However many there are."""
    monkeypatch.setattr(failures, "NEWEST", 2)
    fail(database, "a", "b", "b")
    assert [(one.error, one.count) for one in store.groups()] == [("b", 2)]


def test_the_jobs_of_a_group_come_newest_first(database: Database, store: FailureStore) -> None:
    """From the one that was the newest when it was asked, and no more than are wanted."""
    fail(database, "a 1", "b", "a 2", "a 3")
    fail(database, "a 4", type="sync")
    group = next(one for one in store.groups() if one.type == "mail" and one.count == 3)
    assert store.members(group, upto=9, limit=9) == [4, 3, 1]
    assert store.members(group, upto=3, limit=9) == [3, 1]
    assert store.members(group, upto=9, limit=1) == [4]
    assert store.members(group, ["shop"], upto=9, limit=9) == []
    assert store.members(group, None, NOW - HOUR, upto=9, limit=9) == [4, 3]


def test_failures_are_found_by_their_index_on_sqlite(database: Database, store: FailureStore) -> None:
    """The table is not walked through. (The planner of a server goes by statistics.)"""
    with database.read() as connection:
        statement = str(failures._newest(None).element.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = " ".join(row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")))
    assert "jobs_failed" in plan
    assert "TEMP B-TREE" not in plan
