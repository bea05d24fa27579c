"""The hot statements on PostgreSQL: what each job passes through once, by the driver itself.

Others claim at the same time. Candidates are found without a lock, one index seek for each lane and priority; then so
many of each lane are locked as are wanted, and those that somebody else has locked are skipped. Predicates stand in the
statements as they stand in the partial indexes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from typing import Any

from sqlalchemy import JSON, Column, Connection, Table

from runner.domain.job import Run
from runner.storage.dialects import End, Lanes, compact_json
from runner.storage.serial import policy_from

# A statement of its own, before the claim: read committed takes its snapshot before it waits for a lock, so that who
# locks and counts in one statement counts too few. A full limit is not locked; nobody waits.
LIMITS = """
SELECT m.name FROM limits m
WHERE m.name = ANY(%s) AND m.max > (
  SELECT count(*) FROM background_jobs r WHERE r.status = 'running' AND r.limit_name = m.name)
ORDER BY m.name FOR UPDATE SKIP LOCKED"""
# Of one lane and priority, as many as could start at all; of a limit, as many as have room.
CLAIM = """
WITH lanes AS MATERIALIZED (SELECT * FROM unnest(%(queues)s::text[], %(types)s::text[], %(limits)s::text[])
    AS l(queue, type, lim)),
free AS MATERIALIZED (
  SELECT m.name, m.max - (
    SELECT count(*) FROM background_jobs r WHERE r.status = 'running' AND r.limit_name = m.name) AS room
  FROM limits m WHERE m.name = ANY(%(locked)s)),
candidates AS MATERIALIZED (
  SELECT x.* FROM (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) p(priority)
  CROSS JOIN LATERAL (
    SELECT y.* FROM (
      SELECT l.queue, l.type, l.lim, p.priority, i.run_at, i.id, f.room,
        row_number() OVER (PARTITION BY l.lim ORDER BY i.run_at, i.id) AS place
      FROM lanes l LEFT JOIN free f ON f.name = l.lim
      CROSS JOIN LATERAL (
        SELECT j.run_at, j.id FROM background_jobs j
        WHERE j.status = 'pending' AND j.waiting_for IS NULL
          AND j.queue = l.queue AND j.type = l.type AND j.priority = p.priority AND j.run_at <= %(now)s {only}
        ORDER BY j.run_at, j.id
        LIMIT CASE WHEN l.lim IS NULL THEN %(free)s ELSE least(greatest(coalesce(f.room, 0), 0), %(free)s) END) i) y
    WHERE y.lim IS NULL OR y.place <= y.room
    ORDER BY y.run_at, y.id LIMIT %(free)s) x
  LIMIT %(most)s),
ranked AS (
  SELECT c.*, row_number() OVER (PARTITION BY c.lim ORDER BY c.priority, c.run_at, c.id) AS rank FROM candidates c),
wanted AS (
  SELECT * FROM ranked WHERE lim IS NULL OR rank <= room ORDER BY priority, run_at, id LIMIT %(free)s),
quota AS MATERIALIZED (
  SELECT queue, type, priority, lim, count(*) AS many FROM wanted GROUP BY queue, type, priority, lim),
picked AS MATERIALIZED (
  SELECT i.id FROM quota q CROSS JOIN LATERAL (
    SELECT j.id FROM background_jobs j
    WHERE j.status = 'pending' AND j.waiting_for IS NULL
      AND j.queue = q.queue AND j.type = q.type AND j.priority = q.priority AND j.run_at <= %(now)s {only}
    ORDER BY j.run_at, j.id LIMIT q.many FOR UPDATE SKIP LOCKED) i)
UPDATE background_jobs j SET
  status = 'running', claim_token = %(token)s, worker_id = %(worker)s, started_at = %(now)s,
  run_number = j.run_number + 1, attempt = j.attempt + 1, progress = 0, current_step = NULL, message = NULL,
  limit_name = (SELECT l.lim FROM lanes l WHERE l.queue = j.queue AND l.type = j.type),
  unique_key = CASE WHEN j.unique_until = 'started' THEN NULL ELSE j.unique_key END
WHERE j.id = ANY(ARRAY(SELECT id FROM picked))
RETURNING j.id, j.type, j.queue, j.payload, j.priority, j.attempt, j.max_attempts, j.run_number, j.stalls,
  j.claim_token, j.worker_id, j.policy, j.run_at, j.created_at, j.project_id, j.schedule_name, j.scheduled_for"""
ONLY_SCHEDULES = "AND j.schedule_name = ANY(%(schedules)s)"
FINISH = """
UPDATE background_jobs j SET
  status = v.status, result = v.result::json, error = v.error, stalls = v.stalls,
  progress = coalesce(v.progress, j.progress), completed_at = %s, limit_name = NULL, unique_key = NULL
FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::float8[], %s::bigint[], %s::text[])
  AS v(status, result, error, stalls, progress, id, token)
WHERE j.id = v.id AND j.claim_token = v.token AND j.status = 'running'
RETURNING j.id"""
HOLD = """
SELECT pg_advisory_xact_lock(7217002, hashtext(current_schema() || '.' || name))
FROM (SELECT unnest(%s::text[]) AS name ORDER BY 1) AS named"""
# A loose scan over the claim's index: one seek for each queue and each type, however many rows they have.
LANES = """
WITH RECURSIVE
queues(queue) AS (
  (SELECT queue FROM background_jobs WHERE status = 'pending' AND waiting_for IS NULL ORDER BY queue LIMIT 1)
  UNION ALL
  SELECT (SELECT j.queue FROM background_jobs j
          WHERE j.status = 'pending' AND j.waiting_for IS NULL AND j.queue > queues.queue ORDER BY j.queue LIMIT 1)
  FROM queues WHERE queues.queue IS NOT NULL),
pairs(queue, type) AS (
  SELECT q.queue, (SELECT j.type FROM background_jobs j
                   WHERE j.status = 'pending' AND j.waiting_for IS NULL AND j.queue = q.queue
                   ORDER BY j.type LIMIT 1)
  FROM queues q WHERE q.queue IS NOT NULL
  UNION ALL
  SELECT pairs.queue, (SELECT j.type FROM background_jobs j
                       WHERE j.status = 'pending' AND j.waiting_for IS NULL
                         AND j.queue = pairs.queue AND j.type > pairs.type ORDER BY j.type LIMIT 1)
  FROM pairs WHERE pairs.type IS NOT NULL)
SELECT queue, type FROM pairs WHERE type IS NOT NULL"""
NEXT_DUE = """
SELECT min(i.run_at)
FROM unnest(%(queues)s::text[], %(types)s::text[]) AS l(queue, type)
CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) p(priority)
CROSS JOIN LATERAL (
  SELECT j.run_at FROM background_jobs j
  WHERE j.status = 'pending' AND j.waiting_for IS NULL AND j.queue = l.queue AND j.type = l.type
    AND j.priority = p.priority {only} ORDER BY j.run_at, j.id LIMIT 1) i"""


def claim(
    connection: Connection, lanes: Lanes, free: int, schedules: frozenset[str] | None, token: str, worker_id: str,
    now: datetime,
) -> list[Run]:  # fmt: skip
    cursor = _cursor(connection)
    named = sorted({limit for limit in lanes.values() if limit is not None})
    locked = [name for (name,) in cursor.execute(LIMITS, (named,)).fetchall()] if named else []
    values = _of_lanes(lanes, schedules) | {
        "limits": list(lanes.values()), "locked": locked, "free": free, "token": token, "worker": worker_id, "now": now,
        "most": None if named else free,  # what has no room at one priority may have taken it at another
    }  # fmt: skip
    rows = cursor.execute(_CLAIM_ALL if schedules is None else _CLAIM_OF_SCHEDULES, values).fetchall()
    runs = [_as_run(row, now) for row in rows]
    runs.sort(key=_URGENCY)
    return runs


def finish(connection: Connection, ends: Sequence[End], now: datetime) -> list[bool]:
    rows = _cursor(connection).execute(FINISH, (now, *(list(column) for column in zip(*ends, strict=True)))).fetchall()
    if len(rows) == len(ends):
        return [True] * len(ends)
    written = {job_id for (job_id,) in rows}
    return [end[5] in written for end in ends]


def now(connection: Connection) -> datetime:
    told: datetime = _cursor(connection).execute("SELECT clock_timestamp()").fetchone()[0]
    return told.astimezone(UTC)


def hold(connection: Connection, schedules: Sequence[str]) -> None:
    """In the order of their names: who holds one never waits for who waits for it."""
    _cursor(connection).execute(HOLD, (sorted(schedules),))


def lanes(connection: Connection) -> list[tuple[str, str]]:
    return _cursor(connection).execute(LANES).fetchall()  # type: ignore[no-any-return]


def next_due(connection: Connection, lanes: Lanes, schedules: frozenset[str] | None) -> datetime | None:
    statement = _NEXT_DUE_OF_ALL if schedules is None else _NEXT_DUE_OF_SCHEDULES
    due: datetime | None = _cursor(connection).execute(statement, _of_lanes(lanes, schedules)).fetchone()[0]
    return due if due is None else due.astimezone(UTC)


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
    """Numbers are taken first, so that the rows can go by COPY, which is several times as quick and gives none back."""
    cursor = _cursor(connection)
    columns = [table.c[name] for name in rows[0]]
    sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
    ids = [
        number for (number,) in cursor.execute(f"SELECT nextval({sequence}) FROM generate_series(1, %s)", (len(rows),))
    ]
    names = ", ".join(column.name for column in columns)
    with cursor.copy(f"COPY {table.name} (id, {names}) FROM STDIN") as copy:
        for job_id, row in zip(ids, rows, strict=True):
            copy.write_row((job_id, *(_copied(column, row[column.name]) for column in columns)))
    return ids


def counted(connection: Connection, table: Table) -> int:
    cursor, sequence = _sequence(connection, table)
    if sequence is None:
        return 0
    last, was_called = cursor.execute(f"SELECT last_value, is_called FROM {sequence}").fetchone()
    return int(last) if was_called else 0


def count_from(connection: Connection, table: Table, last: int) -> None:
    cursor, sequence = _sequence(connection, table)
    if sequence is not None:
        cursor.execute("SELECT setval(%s, %s)", (sequence, last))


def _sequence(connection: Connection, table: Table) -> tuple[Any, str | None]:
    """Its name as SQL writes it, or None."""
    column = table.autoincrement_column
    cursor = _cursor(connection)
    if column is None:
        return cursor, None
    return cursor, cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", (table.name, column.name)).fetchone()[0]


def _copied(column: Column[Any], value: Any) -> Any:
    """COPY knows no types of columns: JSON goes as text, and a word of an enumeration as it is written."""
    if isinstance(column.type, JSON):
        return compact_json(value)
    return value.value if isinstance(value, Enum) else value


_CLAIM_ALL = CLAIM.format(only="")
_CLAIM_OF_SCHEDULES = CLAIM.format(only=ONLY_SCHEDULES)
_NEXT_DUE_OF_ALL = NEXT_DUE.format(only="")
_NEXT_DUE_OF_SCHEDULES = NEXT_DUE.format(only=ONLY_SCHEDULES)
_URGENCY = attrgetter("priority", "run_at", "id")


def _of_lanes(lanes: Lanes, schedules: frozenset[str] | None) -> dict[str, Any]:
    values: dict[str, Any] = {"queues": [queue for queue, _ in lanes], "types": [name for _, name in lanes]}
    return values if schedules is None else values | {"schedules": sorted(schedules)}


def _as_run(row: Sequence[Any], started_at: datetime) -> Run:
    (job_id, kind, queue, payload, priority, attempt, max_attempts, number, stalls, token, worker_id, policy, run_at,
     created_at, project_id, schedule_name, scheduled_for) = row  # fmt: skip
    return Run(
        job_id, kind, queue, payload, priority, attempt, max_attempts, number, stalls, token, worker_id,
        policy_from(policy), run_at, started_at, created_at, project_id, schedule_name, scheduled_for,
    )  # fmt: skip


def _cursor(connection: Connection) -> Any:
    """The driver's own cursor, in the transaction of this connection."""
    return connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
