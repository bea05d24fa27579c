"""How much work waits in each queue, for metrics: read from indexes alone, at any number of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func, literal_column, select

from runner.domain.depth import QueueDepth
from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.storage.database import Database

JOBS = Job.__table__  # type: ignore[attr-defined]


def _counted(status: JobState, *more: Any) -> Any:
    # The status stands in the statement, not in a parameter: every planner then sees that a partial index serves it.
    here = JOBS.c.status == literal_column(f"'{status.value}'")
    return (
        select(JOBS.c.queue, func.count().label("jobs"), func.min(JOBS.c.run_at).label("first"))
        .where(here, *more)
        .group_by(JOBS.c.queue)
    )


_PENDING = _counted(JobState.PENDING, JOBS.c.waiting_for.is_(None))
_WAITING = _counted(JobState.PENDING, JOBS.c.waiting_for.is_not(None))
_RUNNING = _counted(JobState.RUNNING)


def queue_depths(database: Database, now: datetime) -> list[QueueDepth]:
    """The unfinished jobs by queue and state. Those that wait for an earlier one of their schedule are not overdue."""
    with database.read() as connection:
        pending = connection.execute(_PENDING).all()
        waiting = {row.queue: row.jobs for row in connection.execute(_WAITING)}
        running = connection.execute(_RUNNING).all()
    found = [
        QueueDepth(row.queue, JobState.PENDING, row.jobs + waiting.pop(row.queue, 0), _since(row.first, now))
        for row in pending
    ]
    found += [QueueDepth(queue, JobState.PENDING, jobs) for queue, jobs in waiting.items()]
    return found + [QueueDepth(row.queue, JobState.RUNNING, row.jobs) for row in running]


def _since(first: datetime, now: datetime) -> float | None:
    return None if first > now else (now - first).total_seconds()
