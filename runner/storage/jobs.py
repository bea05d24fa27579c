"""The jobs table for people and programs: enqueue, look, cancel, retry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)

from runner.domain.errors import Conflict, NotFound
from runner.domain.job import Enqueued, InFlight, JobState, NewJob
from runner.domain.job_rows import Job, JobAttempt
from runner.storage.database import Database, persistent
from runner.storage.dialects import hot
from runner.storage.enqueue import insert_jobs
from runner.storage.poke import mark
from runner.storage.settling import promote

JOBS = Job.__table__  # type: ignore[attr-defined]
ATTEMPTS = JobAttempt.__table__  # type: ignore[attr-defined]
FARTHEST = 10_000  # a place in the queue beyond this is not counted
TERMINAL = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a listing shows: all conditions that are set hold. `q` is looked for in error, message and id.

    `projects` are those that the caller may see at all; None: all, and jobs of none.
    """

    status: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    queue: str | None = None
    schedule: str | None = None
    project_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None
    projects: tuple[str, ...] | None = None


class JobStore:
    """Jobs as rows. What a run writes goes through `ClaimStore` and `LogStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enqueue(self, job: NewJob, now: datetime) -> Enqueued:
        return self.enqueue_many([job], now)[0]

    @persistent
    def enqueue_many(self, jobs: Sequence[NewJob], now: datetime) -> list[Enqueued]:
        """All or none; on disk when this returns."""
        with self._database.write() as connection:
            return insert_jobs(connection, jobs, now)

    def get(self, job_id: int) -> Job:
        with self._database.read() as connection:
            return _get(connection, job_id)

    def get_many(self, job_ids: Sequence[int]) -> list[Job]:
        """Those of the jobs that exist, by id."""
        found: list[Job] = []
        with self._database.read() as connection:
            for start in range(0, len(job_ids), 1000):
                statement = select(JOBS).where(JOBS.c.id.in_(job_ids[start : start + 1000])).order_by(JOBS.c.id)
                found += [Job(**row) for row in connection.execute(statement).mappings()]
        return found

    def find(
        self, where: JobFilter, *, limit: int = 50, after: int | None = None, offset: int = 0
    ) -> tuple[list[Job], int | None]:
        """Newest first, and the cursor of the next page (`after` of the next call) or None at the end."""
        statement = _filtered(select(JOBS), where).order_by(JOBS.c.id.desc()).limit(limit + 1).offset(offset)
        if after is not None:
            statement = statement.where(JOBS.c.id < after)
        with self._database.read() as connection:
            rows = [Job(**row) for row in connection.execute(statement).mappings()]
        return rows[:limit], rows[limit - 1].id if len(rows) > limit else None

    def in_claim_order(self, now: datetime, *, limit: int) -> list[Job]:
        """What is due, most urgent first: what workers would take, limits aside."""
        due = (JOBS.c.status == JobState.PENDING, JOBS.c.waiting_for.is_(None), JOBS.c.run_at <= now)
        statement = select(JOBS).where(*due).order_by(JOBS.c.priority, JOBS.c.run_at, JOBS.c.id).limit(limit)
        with self._database.read() as connection:
            return [Job(**row) for row in connection.execute(statement).mappings()]

    def count(self, where: JobFilter) -> int:
        with self._database.read() as connection:
            return int(connection.execute(_filtered(select(func.count()).select_from(JOBS), where)).scalar_one())

    def position(self, job: Job, now: datetime) -> int | None:
        """Its place in its queue, in claim order and limits aside; None beyond 10,000, or where it is not due."""
        if job.waiting_for is not None or job.run_at > now:
            return None
        mine = {"b_queue": job.queue, "b_priority": job.priority, "b_run_at": job.run_at, "b_id": job.id}
        with self._database.read() as connection:
            found = int(connection.execute(_AHEAD, mine | {"b_now": now, "b_most": FARTHEST}).scalar_one())
        return None if found >= FARTHEST else found + 1

    def attempts(self, job_ids: Sequence[int]) -> dict[int, list[JobAttempt]]:
        """The superseded runs of these jobs, in order."""
        found: dict[int, list[JobAttempt]] = {job_id: [] for job_id in job_ids}
        statement = (
            select(ATTEMPTS).where(ATTEMPTS.c.job_id.in_(job_ids)).order_by(ATTEMPTS.c.job_id, ATTEMPTS.c.run_number)
        )
        with self._database.read() as connection:
            for row in connection.execute(statement).mappings():
                found[row["job_id"]].append(JobAttempt(**row))
        return found

    @persistent
    def cancel(self, job_id: int, now: datetime, reason: str = "cancelled by an operator") -> JobState:
        """Cancel a pending job at once, ask a running one to stop; the answer is the state it is in now."""
        values = {"b_id": job_id, "b_now": now, "b_reason": reason}
        with self._database.write() as connection:
            fired_by = connection.execute(_FIRED_BY, values).scalar()
            if fired_by is not None:
                hot(connection).hold(connection, [fired_by])
            if connection.execute(_CANCEL_PENDING, values).rowcount:
                promote(connection, now)
                return JobState.CANCELLED
            if connection.execute(_CANCEL_RUNNING, values).rowcount:
                mark(connection)
                return JobState.RUNNING
            job = _get(connection, job_id)
        raise Conflict(f"job {job_id} is already {job.status}", f"runner jobs show {job_id}")

    @persistent
    def retry(self, job_id: int, now: datetime) -> None:
        """A finished job is pending again, with all its attempts; its history and its policy stay."""
        with self._database.write() as connection:
            job = _get(connection, job_id, select(JOBS).with_for_update())
            if job.status not in TERMINAL:
                raise Conflict(f"job {job_id} is {job.status}, not finished", f"runner jobs show {job_id}")
            connection.execute(_KEEP_LAST_RUN, {"b_id": job_id})
            connection.execute(_RETRY, {"b_id": job_id, "b_now": now})
            mark(connection)

    def in_flight(self) -> dict[tuple[str, str | None], InFlight]:
        """Unfinished jobs by (type, schedule or None)."""
        with self._database.read() as connection:
            rows = connection.execute(_IN_FLIGHT).all()
        return {(row.type, row.schedule_name): InFlight(row.queued, row.retrying, row.running) for row in rows}

    def counts(self) -> dict[str, int]:
        with self._database.read() as connection:
            found = {row.status: row.n for row in connection.execute(_COUNTS)}
        return {state.value: found.get(state.value, 0) for state in JobState}


_BY_ID = select(JOBS)
_FIRED_BY = select(JOBS.c.schedule_name).where(JOBS.c.id == bindparam("b_id"))
_CANCEL_PENDING = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("b_id"), JOBS.c.status == JobState.PENDING)
    .values(
        status=JobState.CANCELLED,
        completed_at=bindparam("b_now"),
        error=bindparam("b_reason"),
        waiting_for=None,
        unique_key=None,
    )
)
_CANCEL_RUNNING = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("b_id"), JOBS.c.status == JobState.RUNNING)
    .values(
        cancel_requested_at=func.coalesce(
            JOBS.c.cancel_requested_at, bindparam("b_now", type_=JOBS.c.cancel_requested_at.type)
        ),
        cancel_reason=bindparam("b_reason"),
    )
)
_KEEP_LAST_RUN = insert(ATTEMPTS).from_select(
    ["job_id", "run_number", "attempt", "claim_token", "worker_id", "started_at", "finished_at", "outcome", "error"],
    select(
        JOBS.c.id, JOBS.c.run_number, JOBS.c.attempt, JOBS.c.claim_token, JOBS.c.worker_id, JOBS.c.started_at,
        JOBS.c.completed_at, JOBS.c.status, JOBS.c.error,
    ).where(JOBS.c.id == bindparam("b_id"), JOBS.c.claim_token.is_not(None)),
)  # fmt: skip
_RETRY = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("b_id"), JOBS.c.completed_at.is_not(None))
    .values(
        status=JobState.PENDING,
        run_at=bindparam("b_now"),
        attempt=0,
        stalls=0,
        completed_at=None,
        started_at=None,
        result=None,
        claim_token=None,
        worker_id=None,
        cancel_requested_at=None,
        cancel_reason=None,
    )
)
_PLACE = tuple_(bindparam("b_priority", type_=JOBS.c.priority.type), bindparam("b_run_at", type_=JOBS.c.run_at.type),
                bindparam("b_id", type_=JOBS.c.id.type))  # fmt: skip
_AHEAD = select(func.count()).select_from(
    select(literal(1))
    .select_from(JOBS)
    .where(
        JOBS.c.status == literal_column("'pending'"), JOBS.c.waiting_for.is_(None),
        JOBS.c.queue == bindparam("b_queue"),
        JOBS.c.run_at <= bindparam("b_now", type_=JOBS.c.run_at.type),
        tuple_(JOBS.c.priority, JOBS.c.run_at, JOBS.c.id) < _PLACE,
    )
    .limit(bindparam("b_most"))
    .subquery()
)  # fmt: skip
_COUNTS = select(JOBS.c.status, func.count().label("n")).group_by(JOBS.c.status)
_PENDING = JOBS.c.status == JobState.PENDING
_IN_FLIGHT = (
    select(
        JOBS.c.type,
        JOBS.c.schedule_name,
        func.sum((_PENDING & (JOBS.c.attempt == 0)).cast(JOBS.c.attempt.type)).label("queued"),
        func.sum((_PENDING & (JOBS.c.attempt > 0)).cast(JOBS.c.attempt.type)).label("retrying"),
        func.sum((JOBS.c.status == JobState.RUNNING).cast(JOBS.c.attempt.type)).label("running"),
    )
    .where(JOBS.c.status.in_((JobState.PENDING, JobState.RUNNING)))
    .group_by(JOBS.c.type, JOBS.c.schedule_name)
)


def cancel_jobs(connection: Connection, job_ids: Sequence[int], now: datetime, reason: str) -> None:
    """Cancel what is pending of these jobs and ask what is running to stop, in the caller's transaction.

    Call it after the jobs that wait for them were inserted: where nothing runs, these may start.
    """
    for job_id in job_ids:
        values = {"b_id": job_id, "b_now": now, "b_reason": reason}
        if not connection.execute(_CANCEL_PENDING, values).rowcount:
            connection.execute(_CANCEL_RUNNING, values)
    if job_ids:
        mark(connection)
        promote(connection, now)


def _get(connection: Connection, job_id: int, statement: Select[Any] = _BY_ID) -> Job:
    row = connection.execute(statement.where(JOBS.c.id == job_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}", "runner jobs list")
    return Job(**row)


def _filtered(statement: Select[Any], where: JobFilter) -> Select[Any]:
    equal = {JOBS.c.queue: where.queue, JOBS.c.schedule_name: where.schedule, JOBS.c.project_id: where.project_id}
    for column, value in equal.items():
        if value is not None:
            statement = statement.where(column == value)
    if where.projects is not None:
        statement = statement.where(JOBS.c.project_id.in_(where.projects))
    if where.status:
        statement = statement.where(JOBS.c.status.in_(where.status))
        if set(where.status) <= {JobState.FAILED, JobState.CANCELLED}:
            statement = statement.where(text("status IN ('failed', 'cancelled')"))  # letter by letter, for jobs_failed
    if where.type:
        statement = statement.where(JOBS.c.type.in_(where.type))
    if where.since is not None:
        statement = statement.where(JOBS.c.created_at >= where.since)
    if where.until is not None:
        statement = statement.where(JOBS.c.created_at < where.until)
    if where.q:
        found = [column.contains(where.q, autoescape=True) for column in (JOBS.c.error, JOBS.c.message, JOBS.c.type)]
        same = JOBS.c.id == int(where.q) if where.q.isdecimal() and len(where.q) < 19 else literal(False)
        statement = statement.where(or_(same, *found))
    return statement
