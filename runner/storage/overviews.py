"""Looks inside, from any process: short reads of indexes, whatever the number of jobs that have ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, literal_column, select

from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleSlot, ScheduleStatus, SlotOutcome
from runner.domain.overview import (
    DatabaseMark,
    EndedJob,
    FiredJob,
    LimitView,
    NextFire,
    Overview,
    QueueView,
    RevisionMark,
    RunningJob,
    ScheduleSums,
    Skips,
    SlotView,
    WorkerView,
    life,
)
from runner.domain.pace import Pace
from runner.domain.revision import ConfigRevision, Limit
from runner.domain.worker import WorkerStatus
from runner.storage.database import Database
from runner.storage.pace import Paces
from runner.storage.setup import HEAD
from runner.storage.strips import last_jobs, strips

JOBS = Job.__table__  # type: ignore[attr-defined]
LIMITS = Limit.__table__  # type: ignore[attr-defined]
REVISIONS = ConfigRevision.__table__  # type: ignore[attr-defined]
SCHEDULES = ScheduleStatus.__table__  # type: ignore[attr-defined]
SLOTS = ScheduleSlot.__table__  # type: ignore[attr-defined]
WORKERS = WorkerStatus.__table__  # type: ignore[attr-defined]


class Overviews:
    """`is_free` asks the lock of a worker: True where its process is gone, None where the lock cannot tell."""

    def __init__(self, database: Database, is_free: Callable[[Path], bool | None]) -> None:
        self._database = database
        self._is_free = is_free
        self._paces = Paces(database)

    def look(self, now: datetime, *, fires: int = 5) -> Overview:
        with self._database.read() as connection:
            revision = _revision(connection)
            workers = self._workers(connection, revision, now)
            queues = _marked(_queues(connection, now), workers)
            following = [NextFire(*row) for row in connection.execute(_FIRES, {"n": fires})]
            return Overview(now, revision, workers, queues, _schedules(connection), following)

    def workers(self, now: datetime) -> list[WorkerView]:
        """These alone: quick, however much waits."""
        with self._database.read() as connection:
            return self._workers(connection, _revision(connection), now)

    def skipped(self, since: datetime) -> list[Skips]:
        """What was decided not to run since then, the most slots first."""
        with self._database.read() as connection:
            rows = connection.execute(_SKIPPED, {"since": since}).all()
            return [
                Skips(row.schedule_name, row.outcome, row.slots, row.last, _reason(connection, row)) for row in rows
            ]

    def running(self, limit: int) -> list[RunningJob]:
        """What runs, the longest first."""
        with self._database.read() as connection:
            return [RunningJob(**row) for row in connection.execute(_RUNNING, {"n": limit}).mappings()]

    def ended(self, limit: int) -> list[EndedJob]:
        """What has ended, the last first."""
        with self._database.read() as connection:
            return [EndedJob(**row) for row in connection.execute(_ENDED, {"n": limit}).mappings()]

    def limits(self) -> list[LimitView]:
        """Each named limit, and how many of its jobs run."""
        with self._database.read() as connection:
            running = {row.limit_name: row.jobs for row in connection.execute(_RUNNING_BY_LIMIT)}
            return [LimitView(row.name, row.max, running.get(row.name, 0)) for row in connection.execute(_LIMITS)]

    def strips(self, names: Sequence[str], count: int) -> Mapping[str, Sequence[SlotView]]:
        return strips(self._database, names, count)

    def last_jobs(self, names: Sequence[str]) -> Mapping[str, FiredJob]:
        return last_jobs(self._database, names)

    def pace(self, now: datetime) -> Pace:
        return self._paces.look(now)

    def database(self) -> DatabaseMark:
        sizes = self._database.sizes()
        return DatabaseMark(self._database.server.name, HEAD, sizes["bytes"], sizes["wal_bytes"])

    def _workers(self, connection: Connection, revision: RevisionMark | None, now: datetime) -> list[WorkerView]:
        running = {row.worker_id: row.jobs for row in connection.execute(_RUNNING_BY_WORKER)}
        rows = [WorkerStatus.loaded(row) for row in connection.execute(_WORKERS).mappings()]
        return [self._seen(row, running.get(row.id, 0), revision, now) for row in rows]

    def _seen(self, row: WorkerStatus, running: int, revision: RevisionMark | None, now: datetime) -> WorkerView:
        lock = self._is_free(Path(row.lock_file)) if row.lock_file else None
        return WorkerView(row, life(row, now, lock), running, _is_current(row, revision))


def _is_current(row: WorkerStatus, revision: RevisionMark | None) -> bool | None:
    """By its number too: a comment changes the hash of a file, and nothing else."""
    if revision is None or row.config_sha256 is None:
        return None
    return row.config_revision == revision.number or row.config_sha256 == revision.sha256


def _marked(queues: Sequence[QueueView], workers: Sequence[WorkerView]) -> list[QueueView]:
    return [
        QueueView(
            one.name, one.due, one.scheduled, one.running, one.oldest_due,
            is_taken=any(worker.takes(one.name) for worker in workers),
        )
        for one in queues
    ]  # fmt: skip


def _revision(connection: Connection) -> RevisionMark | None:
    row = connection.execute(_REVISION).one_or_none()
    return None if row is None else RevisionMark(*row)


def _queues(connection: Connection, now: datetime) -> list[QueueView]:
    found: dict[str, dict[str, Any]] = {}
    for row in connection.execute(_PENDING, {"now": now}):
        oldest = row.first if row.due else None
        found[row.queue] = {"due": row.due, "scheduled": row.jobs - row.due, "oldest_due": oldest}
    for row in connection.execute(_WAITING):
        entry = found.setdefault(row.queue, {"scheduled": 0})
        entry["scheduled"] += row.jobs
    for row in connection.execute(_RUNNING_BY_QUEUE):
        found.setdefault(row.queue, {})["running"] = row.jobs
    return [QueueView(name, **values) for name, values in sorted(found.items())]


def _schedules(connection: Connection) -> ScheduleSums:
    counts = {row.kind: row.schedules for row in connection.execute(_SCHEDULES)}
    return ScheduleSums(**counts)


def _reason(connection: Connection, skips: Row[Any]) -> str | None:
    mine = (SLOTS.c.schedule_name == skips.schedule_name, SLOTS.c.slot == skips.last)
    statement = select(SLOTS.c.reason).where(*mine)
    reason: str | None = connection.execute(statement).scalar_one()
    return reason


def _is(state: JobState) -> Any:
    # In the statement, not in a parameter: only then are the partial indexes usable.
    return JOBS.c.status == literal_column(f"'{state.value}'")


_REVISION = (
    select(REVISIONS.c.number, REVISIONS.c.sha256, REVISIONS.c.applied_at, REVISIONS.c.applied_by)
    .order_by(REVISIONS.c.number.desc())
    .limit(1)
)
_WORKERS = select(WORKERS).order_by(WORKERS.c.started_at, WORKERS.c.id)
_IS_DUE = JOBS.c.run_at <= bindparam("now", type_=JOBS.c.run_at.type)
_PENDING = (
    select(
        JOBS.c.queue, func.count().label("jobs"), func.sum(case((_IS_DUE, 1), else_=0)).label("due"),
        func.min(JOBS.c.run_at).label("first"),
    )
    .where(_is(JobState.PENDING), JOBS.c.waiting_for.is_(None))
    .group_by(JOBS.c.queue)
)  # fmt: skip
_WAITING = (
    select(JOBS.c.queue, func.count().label("jobs"))
    .where(_is(JobState.PENDING), JOBS.c.waiting_for.is_not(None))
    .group_by(JOBS.c.queue)
)
_RUNNING_BY_QUEUE = select(JOBS.c.queue, func.count().label("jobs")).where(_is(JobState.RUNNING)).group_by(JOBS.c.queue)
_RUNNING_BY_WORKER = (
    select(JOBS.c.worker_id, func.count().label("jobs")).where(_is(JobState.RUNNING)).group_by(JOBS.c.worker_id)
)
_RUNNING_BY_LIMIT = (
    select(JOBS.c.limit_name, func.count().label("jobs"))
    .where(_is(JobState.RUNNING), JOBS.c.limit_name.is_not(None))
    .group_by(JOBS.c.limit_name)
)
_LIMITS = select(LIMITS.c.name, LIMITS.c.max).order_by(LIMITS.c.name)
_KIND = case(
    (SCHEDULES.c.retired_at.is_not(None), "retired"),
    (~SCHEDULES.c.enabled, "disabled"),
    (SCHEDULES.c.paused_at.is_not(None), "paused"),
    else_="active",
).label("kind")
_SCHEDULES = select(_KIND, func.count().label("schedules")).group_by(_KIND)
_FIRES = (
    select(SCHEDULES.c.name, func.coalesce(SCHEDULES.c.job_type, SCHEDULES.c.workflow, ""), SCHEDULES.c.next_run)
    .where(
        SCHEDULES.c.next_run.is_not(None), SCHEDULES.c.retired_at.is_(None), SCHEDULES.c.paused_at.is_(None),
        SCHEDULES.c.enabled,
    )
    .order_by(SCHEDULES.c.next_run, SCHEDULES.c.name)
    .limit(bindparam("n"))
)  # fmt: skip
_SKIPPED = (
    select(
        SLOTS.c.schedule_name, SLOTS.c.outcome, func.sum(SLOTS.c.slot_count).label("slots"),
        func.max(SLOTS.c.slot).label("last"),
    )
    .where(
        SLOTS.c.decided_at >= bindparam("since", type_=SLOTS.c.decided_at.type),
        SLOTS.c.outcome != SlotOutcome.ENQUEUED,
    )
    .group_by(SLOTS.c.schedule_name, SLOTS.c.outcome)
    .order_by(func.sum(SLOTS.c.slot_count).desc(), SLOTS.c.schedule_name, SLOTS.c.outcome)
)  # fmt: skip
_RUNNING = (
    select(
        JOBS.c.id, JOBS.c.type, JOBS.c.worker_id, JOBS.c.attempt, JOBS.c.max_attempts, JOBS.c.progress,
        JOBS.c.current_step.label("step"), JOBS.c.message, JOBS.c.started_at,
        JOBS.c.cancel_requested_at.is_not(None).label("is_cancelling"),
    )
    .where(_is(JobState.RUNNING))
    .order_by(JOBS.c.started_at, JOBS.c.id)
    .limit(bindparam("n"))
)  # fmt: skip
_ENDED = (
    select(JOBS.c.id, JOBS.c.type, JOBS.c.status, JOBS.c.error, JOBS.c.started_at, JOBS.c.completed_at)
    .where(JOBS.c.completed_at.is_not(None))
    .order_by(JOBS.c.completed_at.desc(), JOBS.c.id.desc())
    .limit(bindparam("n"))
)
