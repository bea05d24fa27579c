"""The hot statements on PostgreSQL: what each job passes through once, by the driver itself.

Others claim at the same time. Candidates are found without a lock, one index seek for each lane and priority; then so
many of each lane are locked as are wanted, and those that somebody else has locked are skipped. Predicates stand in the
statements as they stand in the partial indexes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import Any

from sqlalchemy import JSON, Connection, Table

from runner.domain.job import Run
from runner.storage.dialects import Claim, End, Lanes, compact_json
from runner.storage.serial import policy_from

# Prepared once for each connection, with plans that know no values: to plan the claim takes longer than to run it. Such
# a plan may have been made when the table was empty, or by stale statistics; so that it is right for any size, only
# walks along an index, row by row, are allowed. All of it ends with the transaction.
_WALKS = {"plan_cache_mode": ("force_generic_plan", "auto")} | {
    f"enable_{way}": ("off", "on") for way in ("seqscan", "hashjoin", "mergejoin", "bitmapscan")
}
SEEKS, AS_BEFORE = (
    "SELECT " + ", ".join(f"set_config('{name}', '{values[which]}', true)" for name, values in _WALKS.items())
    for which in (0, 1)
)
# A statement of its own, before the claim: read committed takes its snapshot before it waits for a lock, so that who
# locks and counts in one statement counts too few. A full limit is not locked; nobody waits. What it locked is kept in
# a setting of the transaction, so that the claim can follow in the same journey to the server.
LIMITS = """
SELECT set_config('runner.locked', coalesce(array_agg(locked.name), '{}')::text, true) FROM (
  SELECT m.name FROM limits m
  WHERE m.name = ANY(%s::text[]) AND m.max > (
    SELECT count(*) FROM background_jobs r WHERE r.status = 'running' AND r.limit_name = m.name)
  ORDER BY m.name FOR UPDATE SKIP LOCKED) locked"""
PRIORITIES = "(VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) p(priority)"
DUE = """
      SELECT j.run_at, j.id FROM background_jobs j
      WHERE j.status = 'pending' AND j.waiting_for IS NULL
        AND j.queue = {lane}.queue AND j.type = {lane}.type AND j.priority = {of}.priority
        AND j.run_at <= %(now)s {only}
      ORDER BY j.run_at, j.id"""
# Of one lane and priority, as many as could start at all.
CANDIDATES = """
wanted AS MATERIALIZED (
  SELECT x.* FROM {priorities} CROSS JOIN LATERAL (
    SELECT l.queue, l.type, NULL::text AS lim, p.priority, i.run_at, i.id
    FROM lanes l CROSS JOIN LATERAL ({due} LIMIT %(free)s) i
    ORDER BY i.run_at, i.id LIMIT %(free)s) x
  LIMIT %(free)s)"""
# Of a limit, as many as have room. What has none at one priority may have taken it at another: so no LIMIT at the end.
LIMITED_CANDIDATES = """
free AS MATERIALIZED (
  SELECT m.name, m.max - (
    SELECT count(*) FROM background_jobs r WHERE r.status = 'running' AND r.limit_name = m.name) AS room
  FROM limits m WHERE m.name = ANY(current_setting('runner.locked')::text[])),
candidates AS MATERIALIZED (
  SELECT x.* FROM {priorities} CROSS JOIN LATERAL (
    SELECT y.* FROM (
      SELECT l.queue, l.type, l.lim, p.priority, i.run_at, i.id, f.room,
        row_number() OVER (PARTITION BY l.lim ORDER BY i.run_at, i.id) AS place
      FROM lanes l LEFT JOIN free f ON f.name = l.lim
      CROSS JOIN LATERAL ({due}
        LIMIT CASE WHEN l.lim IS NULL THEN %(free)s ELSE least(greatest(coalesce(f.room, 0), 0), %(free)s) END) i) y
    WHERE y.lim IS NULL OR y.place <= y.room
    ORDER BY y.run_at, y.id LIMIT %(free)s) x),
ranked AS (
  SELECT c.*, row_number() OVER (PARTITION BY c.lim ORDER BY c.priority, c.run_at, c.id) AS rank FROM candidates c),
wanted AS MATERIALIZED (
  SELECT * FROM ranked WHERE lim IS NULL OR rank <= room ORDER BY priority, run_at, id LIMIT %(free)s)"""
CLAIM = """
WITH lanes AS MATERIALIZED (SELECT * FROM unnest(%(queues)s::text[], %(types)s::text[], %(limits)s::text[])
    AS l(queue, type, lim)),{candidates},
picked AS MATERIALIZED (
  SELECT i.id FROM (
    SELECT queue, type, priority, count(*) AS many FROM wanted GROUP BY queue, type, priority) q
  CROSS JOIN LATERAL ({due} LIMIT q.many FOR UPDATE SKIP LOCKED) i)
UPDATE background_jobs j SET
  status = 'running', claim_token = %(token)s, worker_id = %(worker)s, started_at = %(now)s,
  run_number = j.run_number + 1, attempt = j.attempt + 1, progress = 0, current_step = NULL, message = NULL,
  limit_name = {limit},
  unique_key = CASE WHEN j.unique_until = 'started' THEN NULL ELSE j.unique_key END
WHERE j.id = ANY(ARRAY(SELECT id FROM picked))
RETURNING j.id, j.type, j.queue, j.payload::text, j.priority, j.attempt, j.max_attempts, j.run_number, j.stalls,
  j.policy, j.run_at, j.created_at, j.project_id, j.schedule_name, j.scheduled_for"""
OF_LANE = "(SELECT l.lim FROM lanes l WHERE l.queue = j.queue AND l.type = j.type)"
ONLY_SCHEDULES = "AND coalesce(j.schedule_name, '') = ANY(%(schedules)s::text[])"
# By the primary key alone: written like this, `status` is no invitation to walk through all that runs. (So with the
# schedules above.)
FINISH = """
UPDATE background_jobs j SET
  status = v.status, result = v.result::json, error = v.error, stalls = v.stalls,
  progress = coalesce(v.progress, j.progress), completed_at = %s, limit_name = NULL, unique_key = NULL
FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::float8[], %s::bigint[], %s::text[])
  AS v(status, result, error, stalls, progress, id, token)
WHERE j.id = v.id AND j.claim_token = v.token AND j.status || '' = 'running'
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


def claim(connection: Connection, wanted: Claim, now: datetime) -> list[Run]:
    with _seeking(connection) as driver:
        rows = _claim(driver, wanted, now)
    return _runs(rows.fetchall(), wanted, now)


def finish(connection: Connection, ends: Sequence[End], now: datetime) -> list[bool]:
    with _seeking(connection) as driver:
        rows = _finish(driver, ends, now)
        driver.execute(AS_BEFORE, prepare=True)
    return _written(rows.fetchall(), ends)


def finish_and_claim(
    connection: Connection, ends: Sequence[End], wanted: Claim, now: datetime
) -> tuple[list[bool], list[Run]]:
    with _seeking(connection) as driver:
        written = _finish(driver, ends, now)
        claimed = _claim(driver, wanted, now)
    return _written(written.fetchall(), ends), _runs(claimed.fetchall(), wanted, now)


@contextmanager
def _seeking(connection: Connection) -> Iterator[Any]:
    """What is executed in here goes to the server in one journey. The connection of the driver."""
    driver: Any = connection.connection.driver_connection
    with driver.pipeline():
        driver.execute(SEEKS, prepare=True)
        yield driver


def _claim(driver: Any, wanted: Claim, now: datetime) -> Any:
    named = sorted({limit for limit in wanted.lanes.values() if limit is not None})
    if named:
        driver.execute(LIMITS, (_array(named),), prepare=True)
    values = _of_lanes(wanted.lanes, wanted.schedules) | {
        "limits": _array(wanted.lanes.values()), "free": wanted.free, "token": wanted.token,
        "worker": wanted.worker_id, "now": now,
    }  # fmt: skip
    return driver.execute(_CLAIMS[bool(named), wanted.schedules is not None], values, prepare=True)


def _finish(driver: Any, ends: Sequence[End], now: datetime) -> Any:
    states, results, errors, stalls, progress, ids, tokens = (_array(column) for column in zip(*ends, strict=True))
    return driver.execute(FINISH, (now, states, results, errors, stalls, progress, ids, tokens), prepare=True)


def _array(values: Iterable[object]) -> str:
    """As PostgreSQL writes one. What the driver makes of a list takes several times as long."""
    return f"{{{','.join([_element(value) for value in values])}}}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (int, float)):
        return str(value)
    text = str(value)
    if text.isalnum() and text.upper() != "NULL":
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _written(rows: Sequence[tuple[int]], ends: Sequence[End]) -> list[bool]:
    if len(rows) == len(ends):
        return [True] * len(ends)
    written = {job_id for (job_id,) in rows}
    return [end[5] in written for end in ends]


def _runs(rows: Sequence[Sequence[Any]], wanted: Claim, now: datetime) -> list[Run]:
    runs = [_as_run(row, wanted, now) for row in rows]
    runs.sort(key=_URGENCY)
    return runs


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
    """Of many, numbers are taken first, so that they can go by COPY, which is several times as quick and gives none
    back."""
    driver: Any = connection.connection.driver_connection
    if len(rows) == 1:
        return [_insert(driver, table, rows[0])]
    sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
    numbers = driver.execute(f"SELECT nextval({sequence}) FROM generate_series(1, %s)", (len(rows),)).fetchall()
    ids = [number for (number,) in numbers]
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]  # the rest is NULL
    columns = [_copied([row[name] for row in rows], name in _json_columns(table)) for name in names]
    lines = map("\t".join, zip(map(str, ids), *columns, strict=True))
    with driver.cursor().copy(f"COPY {table.name} (id, {', '.join(names)}) FROM STDIN") as copy:
        copy.write("\n".join(lines))
    return ids


def _insert(driver: Any, table: Table, row: Mapping[str, Any]) -> int:
    written = [compact_json(value) if name in _json_columns(table) else value for name, value in row.items()]
    statement = f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))}) RETURNING id"
    with driver.pipeline():  # the beginning of the transaction goes with it
        made = driver.execute(statement, written, prepare=True)
    return int(made.fetchone()[0])


@cache
def _json_columns(table: Table) -> frozenset[str]:
    """The driver knows no types of columns: JSON goes as text."""
    return frozenset(column.name for column in table.columns if isinstance(column.type, JSON))


def _copied(values: Sequence[Any], is_json: bool) -> Sequence[str]:
    """A column as COPY reads it. What is the same in all rows is written once."""
    first = values[0]
    if all(value is first for value in values):
        return [_text(first, is_json)] * len(values)
    return [_text(value, is_json) for value in values]


def _text(value: Any, is_json: bool) -> str:
    if is_json:
        value = compact_json(value)
    elif value is None:
        return "\\N"
    text = str(value)
    if "\\" in text or not text.isprintable():
        return text.translate(_ESCAPED)
    return text


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


def _claim_statement(is_limited: bool, is_of_schedules: bool) -> str:
    only = ONLY_SCHEDULES if is_of_schedules else ""
    candidates = (LIMITED_CANDIDATES if is_limited else CANDIDATES).format(
        priorities=PRIORITIES, due=DUE.format(lane="l", of="p", only=only)
    )
    return CLAIM.format(
        candidates=candidates, due=DUE.format(lane="q", of="q", only=only), limit=OF_LANE if is_limited else "NULL"
    )


_CLAIMS = {(limited, of): _claim_statement(limited, of) for limited in (False, True) for of in (False, True)}
_NEXT_DUE_OF_ALL = NEXT_DUE.format(only="")
_NEXT_DUE_OF_SCHEDULES = NEXT_DUE.format(only=ONLY_SCHEDULES)
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_URGENCY = attrgetter("priority", "run_at", "id")
_parsed = json.JSONDecoder().decode  # `json.loads` looks first for what we never have


def _of_lanes(lanes: Lanes, schedules: frozenset[str] | None) -> dict[str, Any]:
    values = {"queues": _array(queue for queue, _ in lanes), "types": _array(name for _, name in lanes)}
    return values if schedules is None else values | {"schedules": _array(sorted(schedules))}


def _as_run(row: Sequence[Any], wanted: Claim, started_at: datetime) -> Run:
    (job_id, kind, queue, payload, priority, attempt, max_attempts, number, stalls, policy, run_at, created_at,
     project_id, schedule_name, scheduled_for) = row  # fmt: skip
    return Run(
        job_id, kind, queue, _parsed(payload), priority, attempt, max_attempts, number, stalls, wanted.token,
        wanted.worker_id, policy_from(policy), run_at, started_at, created_at, project_id, schedule_name, scheduled_for,
    )  # fmt: skip


def _cursor(connection: Connection) -> Any:
    """The driver's own cursor, in the transaction of this connection."""
    return connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
