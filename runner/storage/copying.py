"""Moving everything from one database to another, of whatever kind, and proof that it arrived."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, Table, func, insert, select, text

from runner.domain.errors import Conflict, DatabaseUnavailable
from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.storage.database import Database
from runner.storage.dialects import rows_of
from runner.storage.migrations import METADATA
from runner.storage.setup import prepare, require_current

BATCH = 1000
JOBS = Job.__table__  # type: ignore[attr-defined]
SAID = {"job_logs", "job_outputs", "job_attempts"}  # which nobody needs who runs what is open


@dataclass(frozen=True, slots=True)
class Copied:
    """What one table holds now, in both: its rows, and a checksum over them in the order of their keys."""

    table: str
    rows: int
    checksum: str


def copy_all(source: Database, target: Database, told: Callable[[Copied], None] = lambda copied: None) -> list[Copied]:
    """Copy every row. The target must be empty, and stays empty where anything differs or breaks off."""
    if not source.exists:
        raise DatabaseUnavailable(*source.server.missing)
    require_current(source)
    prepare(target)
    done: list[Copied] = []
    with source.read() as reading, target.write(alone=True) as writing:
        _refuse_what_is_full(target, writing)
        for table in METADATA.sorted_tables:
            _copy(reading, writing, table, select(table))
            _go_on_counting(reading, writing, table)
            before, after = _sum(reading, table), _sum(writing, table)
            if before != after:
                raise DatabaseUnavailable(
                    f"{table.name} has {before.rows:,} rows in {source.place} and {after.rows:,} in {target.place}, or "
                    "not the same in them",
                    "nothing was copied; try again, and tell us if it stays so",
                )
            done.append(after)
            told(after)
    return done


def copy_open(connection: Connection, path: Path) -> None:
    """Copy what a dry run works on into a new SQLite file: all but jobs that have ended and what jobs have said."""
    target = Database(f"sqlite:///{path}")
    try:
        prepare(target)
        with target.write() as writing:
            for table in METADATA.sorted_tables:
                rows = select(table)
                if table is JOBS:
                    rows = rows.where(JOBS.c.status.in_((JobState.PENDING, JobState.RUNNING)))
                if table.name not in SAID:
                    _copy(connection, writing, table, rows)
                    _go_on_counting(connection, writing, table)
    finally:
        target.close()


def _refuse_what_is_full(target: Database, connection: Connection) -> None:
    for table in METADATA.sorted_tables:
        if connection.execute(select(text("1")).select_from(table).limit(1)).first() is not None:
            raise Conflict(
                f"the target {target.place} is not empty: {table.name} has rows", "give a database that holds nothing"
            )


def _copy(source: Connection, target: Connection, table: Table, rows: Select[Any]) -> None:
    for batch in _batches(source, rows.order_by(*table.primary_key)):
        target.execute(insert(table), batch)


def _batches(connection: Connection, rows: Select[Any]) -> Iterator[list[dict[str, Any]]]:
    found = connection.execute(rows.execution_options(stream_results=True, max_row_buffer=BATCH))
    for batch in found.mappings().partitions(BATCH):
        yield [dict(row) for row in batch]


def _go_on_counting(source: Connection, target: Connection, table: Table) -> None:
    """New rows get numbers that were never given, also where the last ones were deleted since: `job-7` is one job."""
    column = table.autoincrement_column
    if column is None:
        return
    last = max(rows_of(source).counted(source, table), source.execute(select(func.max(column))).scalar() or 0)
    if last:
        rows_of(target).count_from(target, table, last)


def _sum(connection: Connection, table: Table) -> Copied:
    digest, rows = hashlib.sha256(), 0
    for batch in _batches(connection, select(table).order_by(*table.primary_key)):
        for row in batch:
            digest.update(json.dumps(_plain(row), sort_keys=True).encode())
        rows += len(batch)
    return Copied(table.name, rows, digest.hexdigest()[:16])


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same text for the same values, whichever database they were read from."""
    return {name: _told(value) for name, value in row.items()}


def _told(value: Any) -> Any:
    match value:
        case datetime():
            return value.timestamp()
        case bytes() | memoryview():
            return bytes(value).hex()
        case bool() | int() | float() | str() | None:
            return value
    return json.dumps(value, sort_keys=True)
