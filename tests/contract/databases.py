"""The databases that the contract suite runs on, and what it does to them. Another database is another entry here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, select, text

from runner.domain.rows import Row
from runner.storage import hot_postgres, journey, migrations, rows_postgres
from runner.storage.database import Database
from runner.storage.journey import Rows, Step
from runner.storage.setup import HEAD, TABLES, prepare
from tests.contract.postgres import new_database

assert migrations.TABLES, "every table is known to the metadata once the migrations are imported"


@cache
def _sqlite_template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        database = Database(f"sqlite:///{path}")
        prepare(database)
        database.close()
        return path.read_bytes()


def _open_sqlite(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'runner.db'}", busy_timeout=timedelta(seconds=60))


def _renew_sqlite(database: Database) -> None:
    database.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database.path}{suffix}").unlink(missing_ok=True)
    database.path.write_bytes(_sqlite_template())


def _open_postgres(folder: Path) -> Database:
    database = Database(new_database(f"runner_test_{os.getpid()}"), busy_timeout=timedelta(seconds=60))
    prepare(database)
    return database


def _renew_postgres(database: Database) -> None:
    """TRUNCATE takes longer, for it makes new files."""
    with database.write() as connection:
        found = migrations.at(connection)
    if found != HEAD:
        with database.write() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        database.server._was_found = False  # type: ignore[attr-defined]
        prepare(database)
    with database.write() as connection:
        for name in sorted(database.server.tables(connection) - {"alembic_version", *TABLES}):
            connection.execute(text(f'DROP TABLE "{name}" CASCADE'))
        for table in Row.metadata.sorted_tables:
            connection.execute(table.delete())
            if table.name in COUNTED:
                connection.execute(text(f"ALTER SEQUENCE {table.name}_id_seq RESTART"))


@cache
def _kept_postgres(number: int) -> Database:
    database = Database(new_database(f"runner_bench_{os.getpid()}_{number}"))
    prepare(database)
    return database


def postgres_as_new(number: int) -> str:
    """The URL of a database without rows; each number is another one, made once for all tests."""
    database = _kept_postgres(number)
    _renew_postgres(database)
    database.close()
    return database.url


COUNTED = ("audit_log", "background_jobs", "job_logs", "job_outputs")


@dataclass(frozen=True)
class Dialect:
    """How a database is opened, and made as new: the current schema and no rows, whatever a test did to it."""

    open: Callable[[Path], Database]
    renew: Callable[[Database], None]
    nothing_yet: Callable[[Path], str]  # the URL of a database that was never set up


DIALECTS = {
    "sqlite": Dialect(_open_sqlite, _renew_sqlite, lambda folder: f"sqlite:///{folder}/empty.db"),
    "postgresql": Dialect(_open_postgres, _renew_postgres, lambda folder: new_database(f"runner_empty_{os.getpid()}")),
}


def engines(database: Database) -> tuple[Engine, ...]:
    return database._durable, database._relaxed, database._reader


def everything(database: Database) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, to compare before and after."""
    with database.read() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in Row.metadata.sorted_tables
        }


# ---- work and faults: SQLite tells the steps of its virtual machine


class Steps:
    """How much work statements were, in tens of steps of SQLite's virtual machine; `budget` stops them there."""

    def __init__(self, budget: int | None = None) -> None:
        self.tens = 0
        self.budget = budget

    def __call__(self) -> int:
        self.tens += 1
        return int(self.is_spent)

    @property
    def is_spent(self) -> bool:
        return self.budget is not None and self.tens > self.budget


def broken_off(database: Database, budget: int) -> AbstractContextManager[Steps]:
    """Statements are broken off somewhere, after more of their work where the budget is greater."""
    return steps(database, budget) if database.is_file else _statements(database, budget // 10)


@contextmanager
def _statements(database: Database, budget: int) -> Iterator[Steps]:
    """PostgreSQL does not say how far it is: a statement is refused as soon as so many were asked."""
    counted = Steps(budget)

    class Counting(psycopg.Cursor[Any]):
        def execute(self, *arguments: Any, **options: Any) -> Any:
            if counted():
                raise psycopg.errors.QueryCanceled("canceling statement due to the test")
            return super().execute(*arguments, **options)

    def watch(connection: Any, *_: Any) -> None:
        connection.cursor_factory = Counting

    def leave(connection: Any, *_: Any) -> None:
        if connection is not None:
            connection.cursor_factory = psycopg.Cursor

    def counting(connection: Any, steps: Sequence[Step], **options: Any) -> list[Rows]:
        """What goes there together is refused by the server, in the middle."""
        if connection.connection.dbapi_connection.cursor_factory is Counting:
            steps = [BREAK_OFF if counted() else step for step in steps]
        return journey.go(connection, steps, **options)

    with _at_each_checkout(database, watch, leave), pytest.MonkeyPatch.context() as patch:
        for module in (hot_postgres, rows_postgres):
            patch.setattr(module, "go", counting)
        yield counted


CANCELLED = "RAISE EXCEPTION 'canceling statement due to the test' USING ERRCODE = 'query_canceled'"
BREAK_OFF: Step = (f"DO $$ BEGIN {CANCELLED}; END $$", {})


@contextmanager
def steps(database: Database, budget: int | None = None) -> Iterator[Steps]:
    """Count the steps of all statements in the block; beyond `budget` SQLite breaks them off (`interrupted`)."""
    counted = Steps(budget)

    def watch(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(counted, 10)

    def leave(connection: Any, *_: Any) -> None:
        if connection is not None:
            connection.set_progress_handler(None, 0)

    with _at_each_checkout(database, watch, leave):
        yield counted


@contextmanager
def _at_each_checkout(
    database: Database, watch: Callable[..., None], leave: Callable[..., None]
) -> Iterator[None]:  # fmt: skip
    for engine in engines(database):
        event.listen(engine, "checkout", watch)
        event.listen(engine, "checkin", leave)
    database.close()  # connections are held; from here on they are fetched anew
    try:
        yield
    finally:
        database.close()
        for engine in engines(database):
            event.remove(engine, "checkout", watch)
            event.remove(engine, "checkin", leave)
