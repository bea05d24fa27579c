"""What is too old to keep. Nothing that an unfinished job owns or names is ever touched."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Select, delete, exists, func, select, tuple_, update

from runner.domain.access_rows import AuditEntry
from runner.domain.job import JobState
from runner.domain.job_rows import Job, JobAttempt, JobLog, JobOutput
from runner.domain.ledger import ScheduleSlot
from runner.domain.revision import ConfigRevision
from runner.domain.worker import WorkerStatus
from runner.storage import poke
from runner.storage.database import Database

JOBS = Job.__table__  # type: ignore[attr-defined]
ATTEMPTS = JobAttempt.__table__  # type: ignore[attr-defined]
LOGS = JobLog.__table__  # type: ignore[attr-defined]
OUTPUTS = JobOutput.__table__  # type: ignore[attr-defined]
SLOTS = ScheduleSlot.__table__  # type: ignore[attr-defined]
REVISIONS = ConfigRevision.__table__  # type: ignore[attr-defined]
WORKERS = WorkerStatus.__table__  # type: ignore[attr-defined]
AUDIT = AuditEntry.__table__  # type: ignore[attr-defined]

PARTS = ((LOGS, (LOGS.c.id,)), (OUTPUTS, (OUTPUTS.c.id,)), (ATTEMPTS, (ATTEMPTS.c.job_id, ATTEMPTS.c.run_number)))
TEXTS = 20  # revisions at a time: their texts are large


class PruneStore:
    """Each call is one short transaction over at most `batch` rows and gives how many it was; 0 means: no more.

    May be lost by a power cut: then it is done again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def parts(self, before: datetime, *, batch: int = 500) -> int:
        """Log lines, outputs and attempts of the jobs that go next: one job may have a hundred thousand."""
        left = batch
        with self._database.write(durable=False) as connection:
            for table, key in PARTS:
                some = select(*key).where(table.c.job_id.in_(_finished(before, batch))).limit(left)
                left -= connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
        return batch - left

    def jobs(self, before: datetime, *, batch: int = 500) -> int:
        """Jobs that ended before that time, the oldest first, and what is left of their parts."""
        with self._database.write(durable=False) as connection:
            ids = list(connection.execute(_finished(before, batch)).scalars())
            if not ids:
                return 0
            for table, _ in PARTS:
                connection.execute(delete(table).where(table.c.job_id.in_(ids)))
            connection.execute(delete(JOBS).where(JOBS.c.id.in_(ids)))
        return len(ids)

    def slots(self, before: datetime, *, batch: int = 500) -> int:
        """Ledger rows that were decided before that time, but for the newest of each schedule."""
        later = SLOTS.alias("later")
        newest = select(func.max(later.c.slot)).where(later.c.schedule_name == SLOTS.c.schedule_name).scalar_subquery()
        is_needed = exists().where(JOBS.c.id == SLOTS.c.job_id, JOBS.c.completed_at.is_(None))
        some = (
            select(SLOTS.c.schedule_name, SLOTS.c.slot)
            .where(SLOTS.c.decided_at < before, SLOTS.c.slot < newest, ~is_needed)
            .order_by(SLOTS.c.decided_at)
            .limit(batch)
        )
        with self._database.write(durable=False) as connection:
            statement = delete(SLOTS).where(tuple_(SLOTS.c.schedule_name, SLOTS.c.slot).in_(some))
            return connection.execute(statement).rowcount

    def revisions(self, before: datetime, *, batch: int = TEXTS) -> int:
        """The texts of revisions that were out of force by then, and that no unfinished job names.

        Their rows stay: a file that was applied once, on whatever machine it still lies, is never taken for a new one.
        """
        then = select(func.max(REVISIONS.c.number)).where(REVISIONS.c.applied_at < before).scalar_subquery()
        old = select(REVISIONS.c.number).where(REVISIONS.c.number < then, REVISIONS.c.source != "")
        with self._database.read() as connection:
            numbers = set(connection.execute(old).scalars())
            if numbers:  # no index knows who names a revision: this is not asked under the write lock
                named = select(JOBS.c.revision).where(JOBS.c.completed_at.is_(None)).distinct()
                numbers -= set(connection.execute(named).scalars())
        if not numbers:
            return 0
        going = sorted(numbers)[:batch]
        with self._database.write(durable=False) as connection:
            emptied = update(REVISIONS).where(REVISIONS.c.number.in_(going)).values(source="", body="")
            return connection.execute(emptied).rowcount

    def audit(self, before: datetime, *, batch: int = 500) -> int:
        """What was done over HTTP before that time, the oldest first."""
        some = select(AUDIT.c.id).where(AUDIT.c.at < before).order_by(AUDIT.c.at).limit(batch)
        with self._database.write(durable=False) as connection:
            return connection.execute(delete(AUDIT).where(AUDIT.c.id.in_(some))).rowcount

    def workers(self, before: datetime, *, batch: int = 500) -> int:
        """Rows of workers that nobody has heard of since, and that hold no job."""
        holds = exists().where(JOBS.c.worker_id == WORKERS.c.id, JOBS.c.status == JobState.RUNNING)
        some = select(WORKERS.c.id).where(WORKERS.c.last_heartbeat < before, ~holds).limit(batch)
        with self._database.write(durable=False) as connection:
            return connection.execute(delete(WORKERS).where(WORKERS.c.id.in_(some))).rowcount

    def sockets(self) -> None:
        """The sockets of killed workers."""
        if self._database.is_file:
            poke.sweep(self._database.path)


def _finished(before: datetime, batch: int) -> Select[tuple[int]]:
    return select(JOBS.c.id).where(JOBS.c.completed_at < before).order_by(JOBS.c.completed_at, JOBS.c.id).limit(batch)
