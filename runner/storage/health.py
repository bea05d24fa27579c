"""What `doctor` and `status` ask a database about itself."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select

from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleSlot
from runner.domain.revision import ConfigRevision
from runner.domain.worker import WorkerStatus
from runner.storage.database import Database

JOBS = Job.__table__  # type: ignore[attr-defined]
REVISIONS = ConfigRevision.__table__  # type: ignore[attr-defined]
SLOTS = ScheduleSlot.__table__  # type: ignore[attr-defined]
WORKERS = WorkerStatus.__table__  # type: ignore[attr-defined]


class _NotMeant(Exception):
    """Takes a trial back."""


def try_writing(database: Database) -> None:
    """Write and take it back. Raises DatabaseUnavailable where it cannot be written."""
    try:
        with database.write() as connection:
            connection.execute(WORKERS.update().values(beats=WORKERS.c.beats + 1))
            raise _NotMeant
    except _NotMeant:
        pass


def newest(database: Database) -> datetime | None:
    """The newest time that a clock has left in the rows that are quick to ask."""
    with database.read() as connection:
        found = [connection.execute(statement).scalar() for statement in _NEWEST]
    return max((time for time in found if time is not None), default=None)


_NEWEST = (
    select(func.max(REVISIONS.c.applied_at)),
    select(func.max(WORKERS.c.last_heartbeat)),
    select(func.max(SLOTS.c.decided_at)),
    select(JOBS.c.created_at).order_by(JOBS.c.id.desc()).limit(1),
    select(func.max(JOBS.c.completed_at)).where(JOBS.c.completed_at.is_not(None)),
)
