"""The hot statements on SQLite: what each job passes through once, by the driver itself.

They run in a transaction that holds the write lock: nobody else claims meanwhile, so that the claim may look step by
step. Each step is one index seek, for each lane (a queue and a type) that this worker may run, and each priority that
waits there: jobs for later, unknown types and full limits cost nothing at any depth. One statement that did it all
took nine times as long for a single job. `INDEXED BY` keeps stale or missing statistics from choosing another index.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection

from runner.domain.job import Run
from runner.storage.serial import policy_from

# Not a row of values compared with another: SQLite walks from there to the next that is greater.
NEXT_PRIORITY = """
SELECT priority FROM background_jobs INDEXED BY jobs_claim
WHERE status = 'pending' AND waiting_for IS NULL AND queue = ? AND type = ? AND priority > ?
ORDER BY priority LIMIT 1"""
DUE = """
SELECT run_at, id FROM background_jobs INDEXED BY jobs_claim
WHERE status = 'pending' AND waiting_for IS NULL AND queue = ? AND type = ? AND priority = ? AND run_at <= ? {only}
ORDER BY run_at, id LIMIT ?"""
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
RETURNING id, type, queue, payload, priority, attempt, max_attempts, run_number, stalls, claim_token, worker_id, policy,
  run_at, started_at, created_at, project_id, schedule_name, scheduled_for"""
FINISH = """
UPDATE background_jobs SET
  status = ?, result = ?, error = ?, completed_at = ?, stalls = ?, progress = coalesce(?, progress),
  limit_name = NULL, unique_key = NULL
WHERE id = ? AND claim_token = ? AND status = 'running'"""

Lanes = Mapping[tuple[str, str], str | None]  # (queue, type) -> the name of its limit


def claim(
    connection: Connection, lanes: Lanes, free: int, schedules: frozenset[str] | None, token: str, worker_id: str,
    now: datetime,
) -> list[Run]:  # fmt: skip
    """The most urgent due jobs of these lanes, now running: by priority, then `run_at`, then id."""
    cursor = _cursor(connection)
    runs: list[Run] = []
    for limit, ids in _picked(cursor, lanes, free, schedules, stamp(now)).items():
        rows = cursor.execute(START, (token, worker_id, stamp(now), limit, json.dumps(ids)))
        runs += [_as_run(row) for row in rows]
    return sorted(runs, key=lambda run: (run.priority, run.run_at, run.id))


def finish(connection: Connection, rows: Sequence[Sequence[Any]]) -> list[bool]:
    """Write the ends of runs, values in the order of FINISH; which of them still held their claim."""
    cursor = _cursor(connection)
    return [cursor.execute(FINISH, row).rowcount == 1 for row in rows]


def _picked(
    cursor: Any, lanes: Lanes, free: int, schedules: frozenset[str] | None, now: str
) -> dict[str | None, list[int]]:  # fmt: skip
    """Limit -> the ids to start under it."""
    rooms: dict[str, int] = {}
    picked: dict[str | None, list[int]] = {}
    left = free
    groups = sorted(_groups(cursor, lanes), key=itemgetter(2))
    for _, of_one_priority in groupby(groups, key=itemgetter(2)):
        taken: Counter[str] = Counter()
        due = sorted(
            (run_at, job_id, limit)
            for limit, group in ((lanes[group[:2]], group) for group in of_one_priority)
            for run_at, job_id in _due(cursor, group, min(left, _room(cursor, rooms, limit, left)), schedules, now)
        )
        for _, job_id, limit in due:
            if left == 0:
                return picked
            if limit is not None:
                if taken[limit] == rooms[limit]:
                    continue
                taken[limit] += 1
            picked.setdefault(limit, []).append(job_id)
            left -= 1
        for limit, count in taken.items():
            rooms[limit] -= count
        if left == 0:
            break
    return picked


def _groups(cursor: Any, lanes: Lanes) -> Iterator[tuple[str, str, int]]:
    """Each (queue, type, priority) of these lanes that has a pending job."""
    for queue, kind in lanes:
        priority = 0
        while found := cursor.execute(NEXT_PRIORITY, (queue, kind, priority)).fetchone():
            priority = found[0]
            yield queue, kind, priority


def _room(cursor: Any, rooms: dict[str, int], limit: str | None, most: int) -> int:
    """How many jobs of this limit may start; none where the limit is not known."""
    if limit is None:
        return most
    if limit not in rooms:
        found = cursor.execute(FREE, (limit,)).fetchone()
        rooms[limit] = max(found[0], 0) if found else 0
    return rooms[limit]


def _due(
    cursor: Any, group: tuple[str, str, int], most: int, schedules: frozenset[str] | None, now: str
) -> Sequence[tuple[str, int]]:  # fmt: skip
    if most == 0:
        return ()
    only = () if schedules is None else (json.dumps(sorted(schedules)),)
    statement = _DUE_OF_ALL if schedules is None else _DUE_OF_SCHEDULES
    return cursor.execute(statement, (*group, now, *only, most)).fetchall()  # type: ignore[no-any-return]


_DUE_OF_ALL = DUE.format(only="")
_DUE_OF_SCHEDULES = DUE.format(only=ONLY_SCHEDULES)


def _as_run(row: Sequence[Any]) -> Run:
    (job_id, kind, queue, payload, priority, attempt, max_attempts, number, stalls, token, worker_id, policy, run_at,
     started_at, created_at, project_id, schedule_name, scheduled_for) = row  # fmt: skip
    return Run(
        job_id, kind, queue, json.loads(payload), priority, attempt, max_attempts, number, stalls, token, worker_id,
        policy_from(policy), moment(run_at), moment(started_at), moment(created_at), project_id, schedule_name,
        None if scheduled_for is None else moment(scheduled_for),
    )  # fmt: skip


def stamp(when: datetime) -> str:
    """A time as SQLAlchemy stores it."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def _cursor(connection: Connection) -> Any:
    """The driver's own cursor, in the transaction of this connection."""
    return connection.connection.cursor()
