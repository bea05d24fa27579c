"""How a database would carry out what a call asks of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from runner.storage.database import Database

TABLES = tuple(f"SCAN {name}" for name in ("background_jobs", "schedule_slots", "cron_schedules"))


def plans(database: Database, call: Callable[[], object]) -> list[list[str]]:
    """The plan of each statement that the call reads by."""
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(database._reader, "before_cursor_execute", note)
    try:
        call()
    finally:
        event.remove(database._reader, "before_cursor_execute", note)
    word = "EXPLAIN QUERY PLAN" if database.is_file else "EXPLAIN"
    with database.read() as connection:
        return [
            [
                str(row[-1 if database.is_file else 0]).strip()
                for row in connection.exec_driver_sql(f"{word} {one}", given)
            ]
            for one, given in asked
        ]


def walked(plan: list[str]) -> list[str]:
    """Where a table is read from one end to the other."""
    return [line for line in plan if (line.startswith(TABLES) and "INDEX" not in line) or "Seq Scan on" in line]
