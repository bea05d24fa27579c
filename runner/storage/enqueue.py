"""The way in: rows for new jobs, on a connection of ours or on a program's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from runner.domain.job import Enqueued, JobState, NewJob, UniqueKey
from runner.domain.job_rows import Job
from runner.domain.revision import Revision
from runner.storage.dialects import INSERTS, rows_of
from runner.storage.poke import Bell, mark
from runner.storage.revisions import is_in_force
from runner.storage.serial import policy_text

JOBS = Job.__table__  # type: ignore[attr-defined]

_INSERT = insert(JOBS).returning(JOBS.c.id)
_INSERT_UNIQUE = {
    name: insert_of(JOBS)
    .on_conflict_do_nothing(index_elements=[JOBS.c.unique_key], index_where=JOBS.c.unique_key.is_not(None))
    .returning(JOBS.c.id)
    for name, insert_of in INSERTS.items()
}
_EXPIRE = (
    update(JOBS)
    .where(JOBS.c.unique_key == bindparam("b_key"), JOBS.c.unique_expires_at <= bindparam("b_now"))
    .values(unique_key=None)
)
_HOLDER = select(JOBS.c.id, JOBS.c.status).where(JOBS.c.unique_key == bindparam("b_key"))
BATCH = 1000


def insert_jobs(connection: Connection, jobs: Sequence[NewJob], now: datetime) -> list[Enqueued]:
    """Insert jobs in order, in the caller's transaction. A duplicate gives the job that holds its key."""
    if jobs:
        mark(connection)
    if not any(job.unique for job in jobs):
        return _insert_plain(connection, jobs, now)
    return [
        _insert_unique(connection, job, job.unique, now) if job.unique else _insert_plain(connection, [job], now)[0]
        for job in jobs
    ]


def insert_alone(
    connection: Connection, job: NewJob, now: datetime, under: Revision | None, bell: Bell
) -> Enqueued | None:
    """Insert a job, as all that the transaction does. None where another revision is in force than `under`."""
    if job.unique is None:
        told = bell.along()
        made = None
        try:
            made = rows_of(connection).insert_alone(connection, JOBS, _values(job, now), under, told)
        finally:
            if told is None:
                mark(connection)
            elif made is None:
                bell.tell(())  # it may not have gone, and others may have left theirs to it
        return None if made is None else Enqueued(made, JobState.PENDING)
    mark(connection)
    if under is not None and not is_in_force(connection, under):
        return None
    return _insert_unique(connection, job, job.unique, now)


def _insert_plain(connection: Connection, jobs: Sequence[NewJob], now: datetime) -> list[Enqueued]:
    if len(jobs) == 1:
        (made_id,) = rows_of(connection).insert_many(connection, JOBS, [_values(jobs[0], now)])
        return [Enqueued(made_id, JobState.PENDING)]
    made: list[Enqueued] = []
    for start in range(0, len(jobs), BATCH):
        batch = [_values(job, now) for job in jobs[start : start + BATCH]]
        made += [Enqueued(id_, JobState.PENDING) for id_ in rows_of(connection).insert_many(connection, JOBS, batch)]
    return made


def _insert_unique(connection: Connection, job: NewJob, unique: UniqueKey, now: datetime) -> Enqueued:
    connection.execute(_EXPIRE, {"b_key": unique.key, "b_now": now})
    while True:
        made = connection.execute(_INSERT_UNIQUE[connection.dialect.name], _values(job, now)).scalar_one_or_none()
        if made is not None:
            return Enqueued(made, JobState.PENDING)
        holder = connection.execute(_HOLDER, {"b_key": unique.key}).one_or_none()
        if holder is not None:
            return Enqueued(holder.id, JobState(holder.status), duplicate=True)
        # It ended between the two statements, which only happens where writers work side by side: its key is free.


def _values(job: NewJob, now: datetime) -> dict[str, Any]:
    unique = job.unique
    return {
        "type": job.type,
        "queue": job.queue,
        "status": JobState.PENDING.value,
        "priority": job.priority,
        "payload": job.payload,
        "project_id": job.project_id,
        "schedule_name": job.schedule_name,
        "scheduled_for": job.scheduled_for,
        "run_at": job.run_at or now,
        "max_attempts": job.policy.retry.max_attempts,
        "waiting_for": job.waiting_for,
        "unique_key": unique.key if unique else None,
        "unique_until": unique.until if unique else None,
        "unique_expires_at": unique.expires_at if unique else None,
        "policy": policy_text(job.policy),
        "revision": job.revision,
        "parent_id": job.parent_id,
        "created_at": now,
        "progress": 0.0,
        "attempt": 0,
        "run_number": 0,
        "stalls": 0,
    }
