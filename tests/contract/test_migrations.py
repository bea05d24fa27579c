"""The schema and its history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from runner.domain.errors import DatabaseUnavailable
from runner.domain.outcome import Completed
from runner.storage import migrations
from runner.storage.database import Database, DatabaseMissing
from runner.storage.setup import HEAD, TABLES, prepare, require_current, version
from tests.contract.databases import DIALECTS, everything
from tests.factories import (
    NOW,
    Stores,
    end,
    make_definitions,
    make_edit,
    make_new_job,
    make_running,
    make_schedule,
    make_worker,
)


def layout(connection: Connection) -> dict[str, Any]:
    """Tables, columns, indexes and their conditions, as the database itself tells them."""
    return _layout_on_sqlite(connection) if connection.dialect.name == "sqlite" else _layout_on_postgresql(connection)


def _layout_on_sqlite(connection: Connection) -> dict[str, Any]:
    names = [
        str(row.name)
        for row in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"))
        if not row.name.startswith("sqlite_") and row.name != "alembic_version"
    ]
    columns = {name: connection.execute(text(f"PRAGMA table_info({name})")).all() for name in names}
    created = connection.execute(
        text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name")
    )
    indexes = {row.name: " ".join(str(row.sql).split()) for row in created}
    tables = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    extras = {
        row.name: ("AUTOINCREMENT" in row.sql, sorted(part for part in row.sql.split("\n") if "CHECK" in part))
        for row in tables
        if row.name in names
    }
    return {
        "columns": {
            name: [tuple(row)[1:] for row in sorted(rows, key=lambda row: row.name)] for name, rows in columns.items()
        },
        "indexes": indexes,
        "extras": {name: (auto, [part.strip(" ,\t") for part in checks]) for name, (auto, checks) in extras.items()},
    }


def _layout_on_postgresql(connection: Connection) -> dict[str, Any]:
    columns: dict[str, list[tuple[Any, ...]]] = {}
    for row in connection.execute(
        text(
            "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name, is_identity "
            "FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2"
        )
    ):
        columns.setdefault(row.table_name, []).append(tuple(row)[1:])
    columns.pop("alembic_version", None)
    indexes = connection.execute(text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"))
    checks = connection.execute(
        text("SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
             "WHERE connamespace = current_schema()::regnamespace AND conname NOT LIKE 'alembic%' ORDER BY 1, 2")
    )  # fmt: skip
    settings = connection.execute(
        text("SELECT relname, reloptions FROM pg_class "
             "WHERE relnamespace = current_schema()::regnamespace AND reloptions IS NOT NULL ORDER BY 1")
    )  # fmt: skip
    return {
        "columns": columns,
        "indexes": {row[0]: row[1] for row in indexes if not row[0].startswith("alembic_version")},
        "extras": [tuple(row) for row in checks],
        "settings": {row.relname: sorted(row.reloptions) for row in settings},
    }


@pytest.fixture
def empty(dialect: str, tmp_path: Path) -> Iterator[Database]:
    """Where nothing was ever set up."""
    database = Database(DIALECTS[dialect].nothing_yet(tmp_path), busy_timeout=timedelta(seconds=5))
    yield database
    database.close()


def test_a_fresh_database_has_what_the_models_say(database: Database) -> None:
    """The migrations and the models agree."""
    with database.read() as connection:
        assert migrations.drift(connection) == []


def test_migrations_and_models_make_the_same_tables(database: Database, empty: Database) -> None:
    """Down to the conditions of the partial indexes, the checks and the autoincrement, which drift() does not see."""
    with empty.write(create=True) as connection:
        migrations.METADATA.create_all(connection)
        wanted = layout(connection)
    with database.read() as connection:
        found = layout(connection)

    assert found["indexes"] == wanted["indexes"]
    assert found["columns"] == wanted["columns"]
    assert found["extras"] == wanted["extras"]
    assert found.get("settings") == wanted.get("settings")


def test_the_head_that_start_up_trusts_is_the_last_migration() -> None:
    """HEAD is written down, because asking Alembic costs a fifth of a second at each start."""
    assert migrations.head() == HEAD


def test_there_is_one_line_of_migrations() -> None:
    """One head, each migration with a way down."""
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))

    assert len(scripts.get_heads()) == 1
    assert all(callable(script.module.downgrade) for script in scripts.walk_revisions())


def test_up_down_up_loses_nothing_that_it_should_keep(database: Database, stores: Stores) -> None:
    """Down to nothing takes our tables and leaves those of the program; up again gives the same tables."""
    stores.jobs.enqueue(make_new_job(), NOW)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE theirs (name TEXT)"))
        connection.execute(text("INSERT INTO theirs VALUES ('kept')"))
        first = layout(connection)

    with database.write() as connection:
        migrations.downgrade(connection, "base")
    assert version(database) is None
    with database.write() as connection:
        assert set(layout(connection)["columns"]) == {"theirs"}

    prepare(database)

    with database.read() as connection:
        assert layout(connection) == first
        assert connection.execute(text("SELECT name FROM theirs")).scalar_one() == "kept"
    assert stores.jobs.enqueue(make_new_job(), NOW).id


def test_each_step_keeps_the_rows_on_its_way_up(database: Database, stores: Stores) -> None:
    """Down to the first schema and up again keeps what that has a place for; the indexes, too."""
    stores.revisions.apply(make_edit(make_definitions(make_schedule(), limits={"a": 1})), NOW)
    stores.jobs.enqueue(make_new_job(payload={"x": [1, None]}), NOW)
    run = make_running(stores, worker_id="w1")
    stores.workers.register(make_worker("w2", wake_socket="runner.db.w2.sock", queues=["a"], lock_file="/there"))
    before = everything(database)
    with database.read() as connection:
        tables = layout(connection)
    with database.write() as connection:
        migrations.downgrade(connection, "0001")
        assert "wake_socket" not in {column[0] for column in layout(connection)["columns"]["workers"]}
        assert connection.execute(text("SELECT count(*) FROM workers WHERE lock_file = '/there'")).scalar_one() == 1
    prepare(database)

    for row in before["workers"]:
        row["wake_socket"] = None  # the one thing for which 0001 has no place
    assert everything(database) == before
    with database.read() as connection:
        assert layout(connection) == tables
    assert end(stores, run, Completed()).lost == frozenset()


def test_the_settings_of_the_tables_come_and_go_on_postgresql(database: Database, stores: Stores) -> None:
    """0005 leaves room on the pages of jobs and has large tables cleaned up soon; back, they are as they were."""
    stores.jobs.enqueue(make_new_job(), NOW)
    before = everything(database)
    with database.write() as connection:
        wanted = layout(connection)["settings"]
        assert "fillfactor=70" in wanted["background_jobs"]
        assert all("autovacuum_vacuum_scale_factor=0.02" in settings for settings in wanted.values())
        assert sorted(wanted) == ["background_jobs", "job_attempts", "job_logs", "job_outputs", "schedule_slots"]
        migrations.downgrade(connection, "0004")
        assert layout(connection)["settings"] == {}
    prepare(database)

    with database.read() as connection:
        assert layout(connection)["settings"] == wanted
        assert migrations.drift(connection) == []
    assert everything(database) == before


def broken_off(database: Database) -> None:
    with database.write(create=True) as connection:
        migrations.upgrade(connection)
        raise RuntimeError


def test_a_migration_that_is_broken_off_leaves_nothing(empty: Database) -> None:
    """The set-up is one transaction: a failure leaves a database without tables, and the next start sets it up."""
    with pytest.raises(RuntimeError):
        broken_off(empty)
    with empty.write(create=True) as connection:
        assert layout(connection)["columns"] == {}

    prepare(empty)

    assert version(empty) == HEAD


def pretend(database: Database, number: str) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :number"), {"number": number})


@pytest.mark.parametrize("door", [prepare, require_current])
def test_a_newer_schema_is_refused(database: Database, stores: Stores, door: Any) -> None:
    """A database from a newer version: one clear error, and nothing in it is changed."""
    stores.jobs.enqueue(make_new_job(), NOW)
    pretend(database, "9999")
    before = everything(database)

    with pytest.raises(DatabaseUnavailable, match="schema 9999, which is newer") as caught:
        door(database)

    assert "pip install --upgrade" in (caught.value.hint or "")
    assert (everything(database), version(database)) == (before, "9999")
    with database.write() as connection, pytest.raises(DatabaseUnavailable, match="newer"):
        migrations.downgrade(connection, "base")


def test_those_who_never_migrate_say_what_to_do(database: Database, empty: Database) -> None:
    """`plan`, `validate`, the lists and `doctor` never create or migrate a database."""
    require_current(database)
    with pytest.raises(DatabaseMissing, match=r"there is no database|was never set up"):
        require_current(empty)
    assert not empty.exists

    pretend(database, "0000")
    with pytest.raises(DatabaseUnavailable, match="older schema 0000") as caught:
        require_current(database)
    assert caught.value.hint == "runner migrate up"


def test_an_empty_file_is_no_database_yet_on_sqlite(empty: Database) -> None:
    """A file of no bytes is missing to those who look, and set up by those who may."""
    empty.path.touch()

    assert not empty.exists
    with pytest.raises(DatabaseMissing, match=r"there is no database|was never set up"):
        require_current(empty)
    assert empty.path.stat().st_size == 0
    prepare(empty)

    assert version(empty) == HEAD


def test_a_database_without_tables_was_never_set_up(empty: Database) -> None:
    """What `migrate down base` leaves, or a program's own tables: told by those who look, set up by those who may."""
    with empty.write(create=True) as connection:
        connection.execute(text("CREATE TABLE theirs (name TEXT)"))

    with pytest.raises(DatabaseUnavailable, match="was never set up"):
        require_current(empty)
    prepare(empty)

    assert version(empty) == HEAD


def test_the_tables_that_are_ours_by_name_are_those_of_the_models() -> None:
    """TABLES is written down for the same reason as HEAD."""
    assert sorted(migrations.METADATA.tables) == list(TABLES)


@pytest.mark.parametrize("door", [prepare, require_current, version])
@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["CREATE TABLE background_jobs (id)"], "it has a table background_jobs that is not ours"),
        (["CREATE TABLE workers (id)", "CREATE TABLE limits (id)"], "it has a table limits that is not ours"),
        (
            ["CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('0001')"],
            "it has the schema 0001 of another program",
        ),
    ],
)
def test_a_database_of_something_else_is_refused_and_left_alone_on_sqlite(
    empty: Database, statements: list[str], said: str, door: Any
) -> None:
    """Tables that only bear the names of ours: one clear error at both doors, and not a byte of the file changes."""
    with sqlite3.connect(empty.path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    before = empty.path.read_bytes()

    with pytest.raises(DatabaseUnavailable, match=f"belongs to something else: {said}") as caught:
        door(empty)

    assert str(empty.path) in caught.value.message
    assert "--database-url" in (caught.value.hint or "")
    assert empty.path.read_bytes() == before
