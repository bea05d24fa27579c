"""How rows come in on PostgreSQL, by the driver itself: one by one, many at a time, with numbers of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import JSON, Connection, Table
from sqlalchemy.dialects import postgresql

from runner.domain.revision import Revision
from runner.storage.dialects import compact_json, went_with_commit
from runner.storage.hot_postgres import is_lost
from runner.storage.journey import array, go

LARGEST = 64_000_000  # characters of one statement; the server takes a gigabyte
# What nearly every job begins with stands in the statement: fewer values to send.
FIRST: Mapping[str, object] = {"status": "pending", "progress": 0.0, "attempt": 0, "run_number": 0, "stalls": 0}
UNDER = """
WHERE EXISTS (SELECT 1 FROM (SELECT * FROM config_revisions ORDER BY number DESC LIMIT 1) newest
              WHERE number = %(u_number)s AND sha256 = %(u_sha256)s AND applied_at = %(u_applied_at)s)"""


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
    """One statement: what is the same in all rows is sent once, the rest as an array for each column."""
    columns = {name: _column([row[name] for row in rows], name in _json_columns(table)) for name in rows[0]}
    several = {name: column for name, column in columns.items() if isinstance(column, list)}
    if len(rows) > 1 and sum(len(str(text)) for column in several.values() for text in column) > LARGEST:
        half = len(rows) // 2
        return [*insert_many(connection, table, rows[:half]), *insert_many(connection, table, rows[half:])]
    alike = {name: column for name, column in columns.items() if name not in several and column is not None}
    statement = _statement_of_many(table, tuple(alike), tuple(several))
    values = alike | {name: array(column) for name, column in several.items()} | {"u_count": len(rows)}
    made = _driver(connection).cursor(row_factory=tuple_row).execute(statement, values, prepare=True)
    return [number for (number,) in made.fetchall()]


def _column(values: list[Any], is_json: bool) -> Any:
    """One value where it is the same in all rows. JSON is text from here on."""
    first = values[0]
    if is_json:
        is_alike = all(value is first for value in values)  # for 1 is equal to true
        return _json(first) if is_alike else [_json(value) for value in values]
    return first if values.count(first) == len(values) else values


def _json(value: Any) -> str | None:
    return None if value is None else compact_json(value)


@cache
def _statement_of_many(table: Table, alike: Sequence[str], several: Sequence[str]) -> str:
    """In the order of the rows, so that the numbers are too."""
    types = {name: table.c[name].type.compile(dialect=_DIALECT) for name in (*alike, *several)}
    places = ", ".join(
        [f"%({name})s::{types[name]}" for name in alike] + [f"{name}::{types[name]}" for name in several]
    )
    source = (
        f"unnest({', '.join(f'%({name})s::text[]' for name in several)})"
        if several
        else "generate_series(1, %(u_count)s)"
    )
    return f"""
INSERT INTO {table.name} ({", ".join((*alike, *several))})
SELECT {places} FROM {source} WITH ORDINALITY AS u({", ".join((*(several or ("each",)), "place"))}) ORDER BY place
RETURNING id"""


def insert_alone(
    connection: Connection, table: Table, row: Mapping[str, Any], under: Revision | None, told: str | None
) -> int | None:
    """One statement is a transaction by itself: one journey to the server, where begin and commit make it three."""
    statement, values = _of_one(table, row, is_under=under is not None)
    if under is not None:
        values |= {"u_number": under.number, "u_sha256": under.sha256, "u_applied_at": under.applied_at}
    try:
        (rows,) = go(connection, [(statement, values)], is_alone=True, behind=told)
    except psycopg.Error as error:
        if is_lost(error):
            went_with_commit(connection)
        raise
    return int(rows[0][0]) if rows else None


def _of_one(table: Table, row: Mapping[str, Any], *, is_under: bool = False) -> tuple[str, dict[str, Any]]:
    json_columns = _json_columns(table)
    values = {
        name: compact_json(value) if name in json_columns else value
        for name, value in row.items()
        if value is not None and FIRST.get(name) != value  # the rest is NULL
    }
    return _insert_statement(table, tuple(values), is_under), values


@cache
def _insert_statement(table: Table, names: Sequence[str], is_under: bool) -> str:
    """With the types of the columns, which the server does not see behind a SELECT."""
    casts = [f"%({name})s::{table.c[name].type.compile(dialect=_DIALECT)}" for name in names]
    first = {name: f"'{value}'" for name, value in FIRST.items() if name not in names}
    columns, values = ", ".join([*names, *first]), ", ".join([*casts, *first.values()])
    return f"INSERT INTO {table.name} ({columns}) SELECT {values} {UNDER if is_under else ''} RETURNING id"


@cache
def _json_columns(table: Table) -> frozenset[str]:
    """The driver knows no types of columns: JSON goes as text."""
    return frozenset(column.name for column in table.columns if isinstance(column.type, JSON))


def counted(connection: Connection, table: Table) -> int:
    driver, sequence = _sequence(connection, table)
    if sequence is None:
        return 0
    last, was_called = driver.execute(f"SELECT last_value, is_called FROM {sequence}").fetchone()
    return int(last) if was_called else 0


def count_from(connection: Connection, table: Table, last: int) -> None:
    driver, sequence = _sequence(connection, table)
    if sequence is not None:
        driver.execute("SELECT setval(%s, %s)", (sequence, last))


def _sequence(connection: Connection, table: Table) -> tuple[Any, str | None]:
    """Its name as SQL writes it, or None."""
    column = table.autoincrement_column
    driver = _driver(connection)
    if column is None:
        return driver, None
    return driver, driver.execute("SELECT pg_get_serial_sequence(%s, %s)", (table.name, column.name)).fetchone()[0]


def _driver(connection: Connection) -> Any:
    """The driver's own connection, in the transaction of this one."""
    return connection.connection.driver_connection


_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
