"""The databases that the contract suite runs on, and what it does to them. Another database is another entry here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, select

from runner.domain.rows import Row
from runner.storage import migrations
from runner.storage.database import Database
from runner.storage.setup import prepare

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


@dataclass(frozen=True)
class Dialect:
    """How a database is opened, and made as new: the current schema and no rows, whatever a test did to it."""

    open: Callable[[Path], Database]
    renew: Callable[[Database], None]


DIALECTS = {"sqlite": Dialect(_open_sqlite, _renew_sqlite)}


def engines(database: Database) -> tuple[Engine, ...]:
    return database._durable, database._relaxed, database._reader


def everything(database: Database) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, to compare before and after."""
    with database.read() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in Row.metadata.sorted_tables
        }


# ---- SQLite alone: steps of its virtual machine


class Steps:
    """How much work statements were, in tens of steps of SQLite's virtual machine; `budget` stops them there."""

    def __init__(self, budget: int | None = None) -> None:
        self.tens = 0
        self.budget = budget

    def __call__(self) -> int:
        self.tens += 1
        return int(self.budget is not None and self.tens > self.budget)


@contextmanager
def steps(database: Database, budget: int | None = None) -> Iterator[Steps]:
    """Count the steps of all statements in the block; beyond `budget` SQLite breaks them off (`interrupted`)."""
    counted = Steps(budget)

    def watch(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(counted, 10)

    def leave(connection: Any, *_: Any) -> None:
        if connection is not None:
            connection.set_progress_handler(None, 0)

    for engine in engines(database):
        event.listen(engine, "checkout", watch)
        event.listen(engine, "checkin", leave)
    database.close()  # connections are held; from here on they are fetched anew
    try:
        yield counted
    finally:
        database.close()
        for engine in engines(database):
            event.remove(engine, "checkout", watch)
            event.remove(engine, "checkin", leave)
