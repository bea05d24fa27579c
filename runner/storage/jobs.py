"""The jobs table for people and programs: enqueue, look, cancel, retry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)

from runner.domain.access_rows import AuditEntry
from runner.domain.errors import NotFound, RunnerError
from runner.domain.job import Enqueued, InFlight, JobState, NewJob
from runner.domain.job import JobFilter as JobFilter
from runner.domain.job_rows import Job, JobAttempt
from runner.domain.revision import Revision
from runner.storage.acts import Acted, cancel_jobs, hold_schedules, noted, retry_jobs
from runner.storage.database import Database, persistent
from runner.storage.enqueue import insert_alone, insert_jobs
from runner.storage.states import counts, newest_first

JOBS = Job.__table__  # type: ignore[attr-defined]
ATTEMPTS = JobAttempt.__table__  # type: ignore[attr-defined]
FARTHEST = 10_000  # a place in the queue beyond this is not counted


class Head(NamedTuple):
    """Of a job, what says who may do what to it."""

    status: JobState
    project_id: str | None


class JobStore:
    """Jobs as rows. What a run writes goes through `ClaimStore` and `LogStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enqueue(self, job: NewJob, now: datetime) -> Enqueued:
        """On disk when this returns."""
        made = self.enqueue_under(None, job, now)
        assert made is not None, "under whatever revision"
        return made

    @persistent
    def enqueue_under(self, revision: Revision | None, job: NewJob, now: datetime) -> Enqueued | None:
        """Where that revision is in force, which the job was made by; None where it is another, and nothing is done."""
        with self._database.write() as connection:
            return insert_alone(connection, job, now, revision, self._database.bell)

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
                found += [Job.loaded(row) for row in connection.execute(statement).mappings()]
        return found

    def find(
        self, where: JobFilter, *, limit: int = 50, after: int | None = None, offset: int = 0
    ) -> tuple[list[Job], int | None]:
        """Newest first, and the cursor of the next page (`after` of the next call) or None at the end."""
        statement = _filtered(select(JOBS), where).limit(limit + 1).offset(offset)
        if after is not None:
            statement = statement.where(JOBS.c.id < after)
        with self._database.read() as connection:
            statement = newest_first(connection, statement, where.status)
            rows = [Job.loaded(row) for row in connection.execute(statement).mappings()]
        return rows[:limit], rows[limit - 1].id if len(rows) > limit else None

    def find_ids(self, where: JobFilter, *, limit: int, upto: int | None = None) -> list[int]:
        """Newest first, from `upto` on: a job as a whole may be large."""
        statement = _filtered(select(JOBS.c.id), where).limit(limit)
        if upto is not None:
            statement = statement.where(JOBS.c.id <= upto)
        with self._database.read() as connection:
            return list(connection.execute(newest_first(connection, statement, where.status)).scalars())

    def heads(self, job_ids: Sequence[int]) -> dict[int, Head]:
        """Of the jobs that exist, what says who may do what to them."""
        with self._database.read() as connection:
            found = connection.execute(_HEADS, {"b_ids": job_ids})
            return {row.id: Head(JobState(row.status), row.project_id) for row in found}

    def in_claim_order(self, now: datetime, *, limit: int) -> list[Job]:
        """What is due, most urgent first: what workers would take, limits aside."""
        due = (JOBS.c.status == JobState.PENDING, JOBS.c.waiting_for.is_(None), JOBS.c.run_at <= now)
        statement = select(JOBS).where(*due).order_by(JOBS.c.priority, JOBS.c.run_at, JOBS.c.id).limit(limit)
        with self._database.read() as connection:
            return [Job.loaded(row) for row in connection.execute(statement).mappings()]

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
                found[row["job_id"]].append(JobAttempt.loaded(row))
        return found

    def cancel(
        self, job_id: int, now: datetime, reason: str = "cancelled by an operator", audit: AuditEntry | None = None
    ) -> JobState:
        """Cancel a pending job at once, ask a running one to stop; the answer is the state it is in now."""
        return _only(self.cancel_many([job_id], now, reason, [audit] if audit is not None else ()))

    @persistent
    def cancel_many(
        self, job_ids: Sequence[int], now: datetime, reason: str, audit: Sequence[AuditEntry] = ()
    ) -> list[Acted]:
        """One transaction; of each what became of it. `audit` has an entry for each, or none."""
        with self._database.write() as connection:
            hold_schedules(connection, job_ids)
            return noted(connection, cancel_jobs(connection, job_ids, now, reason), audit)

    def retry(self, job_id: int, now: datetime, audit: AuditEntry | None = None) -> None:
        """A finished job is pending again, with all its attempts; its history and its policy stay."""
        _only(self.retry_many([job_id], now, [audit] if audit is not None else ()))

    @persistent
    def retry_many(
        self, job_ids: Sequence[int], now: datetime, audit: Sequence[AuditEntry] = ()
    ) -> list[Acted]:  # fmt: skip
        """One transaction; of each what became of it. `audit` has an entry for each, or none."""
        with self._database.write() as connection:
            return noted(connection, retry_jobs(connection, job_ids, now), audit)

    def in_flight(self) -> dict[tuple[str, str | None], InFlight]:
        """Unfinished jobs by (type, schedule or None)."""
        with self._database.read() as connection:
            rows = connection.execute(_IN_FLIGHT).all()
        return {(row.type, row.schedule_name): InFlight(row.queued, row.retrying, row.running) for row in rows}

    def counts(self, where: JobFilter | None = None) -> dict[str, int]:
        """How many are in each state: of all, by indexes alone; of those that a filter finds, by one walk."""
        with self._database.read() as connection:
            if where is None:
                return counts(connection)
            statement = _filtered(select(JOBS.c.status, func.count().label("jobs")), where).group_by(JOBS.c.status)
            found = {row.status: row.jobs for row in connection.execute(statement)}
        return {state.value: found.get(state.value, 0) for state in JobState}


_HEADS = select(JOBS.c.id, JOBS.c.status, JOBS.c.project_id).where(JOBS.c.id.in_(bindparam("b_ids", expanding=True)))
_BY_ID = select(JOBS).where(JOBS.c.id == bindparam("b_id"))
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


def _only(answers: Sequence[Acted]) -> JobState:
    (answer,) = answers
    if isinstance(answer, RunnerError):
        raise answer
    return answer


def _get(connection: Connection, job_id: int) -> Job:
    row = connection.execute(_BY_ID, {"b_id": job_id}).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}", "runner jobs list")
    return Job.loaded(row)


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
