"""The hot statements on PostgreSQL: what each job passes through once, by the driver itself.

Others claim at the same time. Candidates are found without a lock, one index seek for each lane and priority; then so
many of each lane are locked as are wanted, and those that somebody else has locked are skipped. Predicates stand in the
statements as they stand in the partial indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import psycopg
from sqlalchemy import Connection

from runner.domain.job import Run
from runner.storage.dialects import Claim, End, Lanes, went_with_commit
from runner.storage.journey import Rows, Step, array, go
from runner.storage.serial import parsed, policy_from

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
SEEKING: Step = (SEEKS, {})
# A statement of its own, before the claim: read committed takes its snapshot before it waits for a lock, so that who
# locks and counts in one statement counts too few. A full limit is not locked; nobody waits. What it locked is kept in
# a setting of the transaction, so that the claim can follow in the same journey to the server.
LIMITS = """
SELECT set_config('runner.locked', coalesce(array_agg(locked.name), '{}')::text, true) FROM (
  SELECT m.name FROM limits m
  WHERE m.name = ANY(%(names)s::text[]) AND m.max > (
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
  progress = coalesce(v.progress, j.progress), completed_at = %(now)s, limit_name = NULL, unique_key = NULL
FROM unnest(%(status)s::text[], %(result)s::text[], %(error)s::text[], %(stalls)s::int[], %(progress)s::float8[],
    %(id)s::bigint[], %(token)s::text[]) AS v(status, result, error, stalls, progress, id, token)
WHERE j.id = v.id AND j.claim_token = v.token AND j.status || '' = 'running'
RETURNING j.id"""
COLUMNS = ("status", "result", "error", "stalls", "progress", "id", "token")  # of an `End`
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
    *_, rows = _together(connection, [SEEKING, *_claim(wanted, now)], commits=True)
    return _runs(rows, wanted, now)


def finish(connection: Connection, ends: Sequence[End], now: datetime) -> list[bool]:
    _, rows, _ = _together(connection, [SEEKING, _finish(ends, now), (AS_BEFORE, {})])
    return _written(rows, ends)


def finish_and_claim(
    connection: Connection, ends: Sequence[End], wanted: Claim, now: datetime
) -> tuple[list[bool], list[Run]]:
    steps = [SEEKING, _finish(ends, now), *_claim(wanted, now)]
    _, written, *_, claimed = _together(connection, steps, commits=True)
    return _written(written, ends), _runs(claimed, wanted, now)


def _together(connection: Connection, steps: Sequence[Step], *, commits: bool = False) -> list[Rows]:
    """One journey: the beginning of the transaction goes with it, and its end where it `commits`."""
    try:
        return go(connection, steps, commits=commits)
    except psycopg.Error as error:
        if commits and is_lost(error):
            went_with_commit(connection)
        raise


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection broke, so that nobody knows what was carried out; else the server says that it was not.

    What libpq itself finds has no SQLSTATE, nor has what the driver refuses before it sends anything.
    """
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(GONE)


def _claim(wanted: Claim, now: datetime) -> list[Step]:
    """The last gives what was claimed."""
    named = sorted({limit for limit in wanted.lanes.values() if limit is not None})
    values = _of_lanes(wanted.lanes, wanted.schedules) | {
        "limits": array(list(wanted.lanes.values())), "free": wanted.free, "token": wanted.token,
        "worker": wanted.worker_id, "now": now,
    }  # fmt: skip
    step = _CLAIMS[bool(named), wanted.schedules is not None], values
    return [(LIMITS, {"names": array(named)}), step] if named else [step]


def _finish(ends: Sequence[End], now: datetime) -> Step:
    columns = dict(zip(COLUMNS, map(array, zip(*ends, strict=True)), strict=True))
    return FINISH, columns | {"now": now}


def _written(rows: Sequence[tuple[int]], ends: Sequence[End]) -> list[bool]:
    if len(rows) == len(ends):
        return [True] * len(ends)
    written = {job_id for (job_id,) in rows}
    return [end[5] in written for end in ends]


def _runs(rows: Sequence[Sequence[Any]], wanted: Claim, now: datetime) -> list[Run]:
    payloads = parsed([row[3] for row in rows])
    runs = [_as_run(row, payload, wanted, now) for row, payload in zip(rows, payloads, strict=True)]
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
GONE = ("08", "57P")
_URGENCY = attrgetter("priority", "run_at", "id")


def _of_lanes(lanes: Lanes, schedules: frozenset[str] | None) -> dict[str, Any]:
    values = {"queues": array([queue for queue, _ in lanes]), "types": array([name for _, name in lanes])}
    return values if schedules is None else values | {"schedules": array(sorted(schedules))}


def _as_run(row: Sequence[Any], payload: Any, wanted: Claim, started_at: datetime) -> Run:
    (job_id, kind, queue, _, priority, attempt, max_attempts, number, stalls, policy, run_at, created_at,
     project_id, schedule_name, scheduled_for) = row  # fmt: skip
    return Run(
        job_id, kind, queue, payload, priority, attempt, max_attempts, number, stalls, wanted.token,
        wanted.worker_id, policy_from(policy), run_at, started_at, created_at, project_id, schedule_name, scheduled_for,
    )  # fmt: skip


def _cursor(connection: Connection) -> Any:
    """The driver's own cursor, in the transaction of this connection."""
    return connection.connection.dbapi_connection.cursor()  # type: ignore[union-attr]
