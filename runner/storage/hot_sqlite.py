"""The hot statements on SQLite: what each job passes through once, by the driver itself.

They run in a transaction that holds the write lock: nobody else claims meanwhile, so that the claim may look step by
step. Each step is one index seek, for each lane (a queue and a type) that this worker may run, and each priority that
waits there: jobs for later, unknown types and full limits cost nothing at any depth. One statement that did it all
took nine times as long for a single job. `INDEXED BY` keeps stale or missing statistics from choosing another index.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import Connection

from runner.domain.job import Run
from runner.storage.dialects import Claim, End, Lanes
from runner.storage.serial import parsed, policy_from

# Not a row of values compared with another: SQLite walks from there to the next that is greater.
NEXT_PRIORITY = """
SELECT priority FROM background_jobs INDEXED BY jobs_claim
WHERE status = 'pending' AND waiting_for IS NULL AND queue = ? AND type = ? AND priority > ?
ORDER BY priority LIMIT 1"""
# `? + 0`: a bare parameter as the limit is looked at by the planner, which then plans anew for each claim.
DUE = """
SELECT run_at, id FROM background_jobs INDEXED BY jobs_claim
WHERE status = 'pending' AND waiting_for IS NULL AND queue = ? AND type = ? AND priority = ? AND run_at <= ? {only}
ORDER BY run_at, id LIMIT ? + 0"""
ONLY_SCHEDULES = "AND schedule_name IN (SELECT value FROM json_each(?))"
FREE = """
SELECT max - (SELECT count(*) FROM background_jobs WHERE status = 'running' AND limit_name = limits.name)
FROM limits WHERE name = ?"""
START = """
UPDATE background_jobs SET
  status = 'running', claim_token = ?, worker_id = ?, started_at = ?, run_number = run_number + 1,
  attempt = attempt + 1, progress = 0, current_step = NULL, message = NULL, limit_name = ?,
  unique_key = CASE WHEN unique_until = 'started' THEN NULL ELSE unique_key END
WHERE id IN (SELECT value FROM json_each(?))
RETURNING id, type, queue, payload, priority, attempt, max_attempts, run_number, stalls, policy, run_at,
  created_at, project_id, schedule_name, scheduled_for"""
FINISH = """
UPDATE background_jobs SET
  status = ?1, result = ?2, error = ?3, stalls = ?4, progress = coalesce(?5, progress), completed_at = ?8,
  limit_name = NULL, unique_key = NULL
WHERE id = ?6 AND claim_token = ?7 AND status = 'running'"""
FINISH_MANY = """
UPDATE background_jobs SET
  status = v.status, result = v.result, error = v.error, stalls = v.stalls,
  progress = coalesce(v.progress, background_jobs.progress), completed_at = ?, limit_name = NULL, unique_key = NULL
FROM (SELECT value ->> 0 AS status, value ->> 1 AS result, value ->> 2 AS error, value ->> 3 AS stalls,
  value ->> 4 AS progress, value ->> 5 AS id, value ->> 6 AS token FROM json_each(?)) AS v
WHERE background_jobs.id = v.id AND claim_token = v.token AND background_jobs.status = 'running'"""
MANY = 8  # from so many on, one statement for all is quicker than one for each

# A loose scan over the claim's index: one seek for each queue and each type, however many rows they have.
LANES = """
WITH RECURSIVE
queues(queue) AS (
  SELECT min(queue) FROM background_jobs INDEXED BY jobs_claim WHERE status = 'pending' AND waiting_for IS NULL
  UNION ALL
  SELECT (SELECT min(j.queue) FROM background_jobs j INDEXED BY jobs_claim
          WHERE j.status = 'pending' AND j.waiting_for IS NULL AND j.queue > queues.queue)
  FROM queues WHERE queues.queue IS NOT NULL),
pairs(queue, type) AS (
  SELECT q.queue, (SELECT min(j.type) FROM background_jobs j INDEXED BY jobs_claim
                   WHERE j.status = 'pending' AND j.waiting_for IS NULL AND j.queue = q.queue)
  FROM queues q WHERE q.queue IS NOT NULL
  UNION ALL
  SELECT pairs.queue, (SELECT min(j.type) FROM background_jobs j INDEXED BY jobs_claim
                       WHERE j.status = 'pending' AND j.waiting_for IS NULL
                         AND j.queue = pairs.queue AND j.type > pairs.type)
  FROM pairs WHERE pairs.type IS NOT NULL)
SELECT queue, type FROM pairs WHERE type IS NOT NULL
"""

ONLY_OF_LANE = "AND i.schedule_name IN (SELECT value FROM json_each(?2))"
NEXT_DUE = """
WITH lanes(queue, type) AS MATERIALIZED (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
SELECT min(due) AS due FROM (
  SELECT (SELECT i.run_at FROM background_jobs i INDEXED BY jobs_claim
          WHERE i.status = 'pending' AND i.waiting_for IS NULL AND i.queue = l.queue AND i.type = l.type
            AND i.priority = p.priority {only} ORDER BY i.run_at LIMIT 1) AS due
  FROM lanes l CROSS JOIN (SELECT column1 AS priority FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10))) p)
"""


def claim(connection: Connection, wanted: Claim, now: datetime) -> list[Run]:
    cursor, at = _cursor(connection), stamp(now)
    started_at = moment(at)
    runs: list[Run] = []
    for limit, ids in _picked(cursor, wanted.lanes, wanted.free, wanted.schedules, at).items():
        rows = cursor.execute(
            START, (wanted.token, wanted.worker_id, at, limit, f"[{','.join(map(str, ids))}]")
        ).fetchall()
        payloads = parsed([row[3] for row in rows])
        runs += [_as_run(row, payload, wanted, started_at) for row, payload in zip(rows, payloads, strict=True)]
    runs.sort(key=_URGENCY)
    return runs


def finish(connection: Connection, ends: Sequence[End], now: datetime) -> list[bool]:
    """Many go in one statement, in which other threads of Python may work meanwhile."""
    cursor, at = _cursor(connection), stamp(now)
    if len(ends) >= MANY:
        cursor.execute("SAVEPOINT finish")
        if cursor.execute(FINISH_MANY, (at, json.dumps(ends))).rowcount == len(ends):
            return [True] * len(ends)
        cursor.execute("ROLLBACK TO finish")  # some are lost: one by one, to know which
    return [cursor.execute(FINISH, (*end, at)).rowcount == 1 for end in ends]


def finish_and_claim(
    connection: Connection, ends: Sequence[End], wanted: Claim, now: datetime
) -> tuple[list[bool], list[Run]]:
    return finish(connection, ends, now), claim(connection, wanted, now)


def now(connection: Connection) -> datetime:
    """Of this machine: there is no other."""
    return datetime.now(UTC)


def hold(connection: Connection, schedules: Sequence[str]) -> None:
    """Nobody else writes."""


def lanes(connection: Connection) -> list[tuple[str, str]]:
    return _cursor(connection).execute(LANES).fetchall()  # type: ignore[no-any-return]


def next_due(connection: Connection, lanes: Lanes, schedules: frozenset[str] | None) -> datetime | None:
    among = json.dumps(list(lanes))
    if schedules is None:
        found = _cursor(connection).execute(_NEXT_DUE_OF_ALL, (among,)).fetchone()[0]
    else:
        values = (among, json.dumps(sorted(schedules)))
        found = _cursor(connection).execute(_NEXT_DUE_OF_SCHEDULES, values).fetchone()[0]
    return None if found is None else moment(found)


def _picked(
    cursor: Any, lanes: Lanes, free: int, schedules: frozenset[str] | None, now: str
) -> dict[str | None, list[int]]:  # fmt: skip
    """Limit -> the ids to start under it."""
    rooms: dict[str, int] = {}
    picked: dict[str | None, list[int]] = {}
    left = free
    waiting = {lane: found for lane in lanes if (found := _next_priority(cursor, lane, 0)) is not None}
    while waiting:
        priority = min(waiting.values())
        first = [lane for lane, found in waiting.items() if found == priority]
        due = [
            (run_at, job_id, limit)
            for lane, limit in ((lane, lanes[lane]) for lane in first)
            for run_at, job_id in _due(
                cursor, lane, priority, min(left, _room(cursor, rooms, limit, left)), schedules, now
            )
        ]
        if len(first) > 1:
            due.sort(key=itemgetter(0, 1))
        left -= _take(due, left, rooms, picked)
        if left == 0:
            break
        for lane in first:
            found = _next_priority(cursor, lane, priority)
            if found is None:
                del waiting[lane]
            else:
                waiting[lane] = found
    return picked


def _take(
    due: Sequence[tuple[str, int, str | None]], left: int, rooms: dict[str, int], picked: dict[str | None, list[int]]
) -> int:  # fmt: skip
    """Move up to `left` of what is due, in its order, where the limits leave room; how many."""
    count = 0
    for _, job_id, limit in due:
        if count == left:
            break
        if limit is not None:
            if rooms[limit] == 0:
                continue
            rooms[limit] -= 1
        picked.setdefault(limit, []).append(job_id)
        count += 1
    return count


def _next_priority(cursor: Any, lane: tuple[str, str], after: int) -> int | None:
    """The next priority at which jobs wait in this lane."""
    found = cursor.execute(NEXT_PRIORITY, (*lane, after)).fetchone()
    return None if found is None else found[0]


def _room(cursor: Any, rooms: dict[str, int], limit: str | None, most: int) -> int:
    """How many jobs of this limit may start; none where the limit is not known."""
    if limit is None:
        return most
    if limit not in rooms:
        found = cursor.execute(FREE, (limit,)).fetchone()
        rooms[limit] = max(found[0], 0) if found else 0
    return rooms[limit]


def _due(
    cursor: Any, lane: tuple[str, str], priority: int, most: int, schedules: frozenset[str] | None, now: str
) -> Sequence[tuple[str, int]]:  # fmt: skip
    if most == 0:
        return ()
    only = () if schedules is None else (json.dumps(sorted(schedules)),)
    statement = _DUE_OF_ALL if schedules is None else _DUE_OF_SCHEDULES
    return cursor.execute(statement, (*lane, priority, now, *only, most)).fetchall()  # type: ignore[no-any-return]


_DUE_OF_ALL = DUE.format(only="")
_DUE_OF_SCHEDULES = DUE.format(only=ONLY_SCHEDULES)
_NEXT_DUE_OF_ALL = NEXT_DUE.format(only="")
_NEXT_DUE_OF_SCHEDULES = NEXT_DUE.format(only=ONLY_OF_LANE)
_URGENCY = attrgetter("priority", "run_at", "id")


def _as_run(row: Sequence[Any], payload: Any, wanted: Claim, started_at: datetime) -> Run:
    (job_id, kind, queue, _, priority, attempt, max_attempts, number, stalls, policy, run_at, created_at,
     project_id, schedule_name, scheduled_for) = row  # fmt: skip
    due = moment(run_at)
    return Run(
        job_id, kind, queue, payload, priority, attempt, max_attempts, number, stalls, wanted.token,
        wanted.worker_id, policy_from(policy), due, started_at, due if created_at == run_at else moment(created_at),
        project_id, schedule_name, None if scheduled_for is None else moment(scheduled_for),
    )  # fmt: skip


@lru_cache(maxsize=4)
def stamp(when: datetime) -> str:
    """A time as SQLAlchemy stores it."""
    return when.astimezone(UTC).isoformat(" ", "microseconds").removesuffix("+00:00")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def _cursor(connection: Connection) -> Any:
    """The driver's own cursor, in the transaction of this connection."""
    return connection.connection.dbapi_connection.cursor()  # type: ignore[union-attr]
