"""How rows come in on SQLite, in a transaction that holds the write lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.sqlite import insert

from runner.domain.revision import Revision
from runner.storage.revisions import is_in_force


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
    """AUTOINCREMENT counts up by one within a transaction that holds the write lock, so the last id tells them all;
    asking for each with RETURNING takes twice as long."""
    connection.execute(insert(table), rows)
    last = int(connection.exec_driver_sql("SELECT last_insert_rowid()").scalar_one())
    return range(last - len(rows) + 1, last + 1)


def insert_alone(
    connection: Connection, table: Table, row: Mapping[str, Any], under: Revision | None, told: str | None
) -> int | None:
    if under is not None and not is_in_force(connection, under):
        return None
    return insert_many(connection, table, [row])[0]


def counted(connection: Connection, table: Table) -> int:
    if not _has_counter(table):
        return 0
    found = _cursor(connection).execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).fetchone()
    return int(found[0]) if found else 0


def count_from(connection: Connection, table: Table, last: int) -> None:
    if not _has_counter(table):
        return
    cursor = _cursor(connection)
    cursor.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))  # where it has none yet, too
    cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, last))


def _has_counter(table: Table) -> bool:
    """Of other tables the next number is one above the highest."""
    return bool(table.dialect_options["sqlite"]["autoincrement"])


def _cursor(connection: Connection) -> Any:
    """The driver's own cursor, in the transaction of this connection."""
    return connection.connection.cursor()
