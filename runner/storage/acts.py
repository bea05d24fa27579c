"""What operators do to jobs, one or many, in the transaction of the caller: cancel, and retry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, insert, select, update

from runner.domain.access_rows import AuditEntry
from runner.domain.errors import Conflict, NotFound, RunnerError
from runner.domain.job import JobState
from runner.domain.job_rows import Job, JobAttempt
from runner.storage.access import note_all
from runner.storage.dialects import hot
from runner.storage.poke import mark
from runner.storage.settling import promote

JOBS = Job.__table__  # type: ignore[attr-defined]
ATTEMPTS = JobAttempt.__table__  # type: ignore[attr-defined]

Acted = JobState | Conflict | NotFound  # the state that a job is in now, or why it could not be done


def hold_schedules(connection: Connection, job_ids: Sequence[int]) -> None:
    """Those that have fired these jobs, before any row of a job is locked."""
    fired_by = connection.execute(_FIRED_BY, {"b_ids": job_ids}).scalars().all()
    if fired_by:
        hot(connection).hold(connection, sorted(fired_by))


def cancel_jobs(connection: Connection, job_ids: Sequence[int], now: datetime, reason: str) -> list[Acted]:
    """Cancel what is pending of these jobs and ask what is running to stop. Their schedules are held.

    Call it after the jobs that wait for them were inserted: where nothing runs, these may start.
    """
    if not job_ids:
        return []
    held = _held(connection, job_ids)
    pending, running = (_in(held, state) for state in (JobState.PENDING, JobState.RUNNING))
    if pending:
        connection.execute(_CANCEL_PENDING, {"b_ids": pending, "b_now": now, "b_reason": reason})
    if running:
        connection.execute(_CANCEL_RUNNING, {"b_ids": running, "b_now": now, "b_reason": reason})
    if pending or running:
        mark(connection)
    promote(connection, now)
    return [_cancelled(job_id, held.get(job_id)) for job_id in job_ids]


def retry_jobs(connection: Connection, job_ids: Sequence[int], now: datetime) -> list[Acted]:
    """Those that are finished are pending again, with all their attempts; their history and their policy stay."""
    held = _held(connection, job_ids)
    finished = [job_id for job_id, state in held.items() if state.is_terminal]
    if finished:
        connection.execute(_KEEP_LAST_RUN, {"b_ids": finished})
        connection.execute(_RETRY, {"b_ids": finished, "b_now": now})
        mark(connection)
    return [_retried(job_id, held.get(job_id)) for job_id in job_ids]


def noted(connection: Connection, answers: list[Acted], audit: Sequence[AuditEntry]) -> list[Acted]:
    """The answers, once the entries of what was done are written."""
    if audit:
        pairs = zip(audit, answers, strict=True)
        note_all(connection, [entry for entry, answer in pairs if not isinstance(answer, RunnerError)])
    return answers


def _held(connection: Connection, job_ids: Sequence[int]) -> dict[int, JobState]:
    """Ours until the commit, in the order in which everybody locks them."""
    return {row.id: JobState(row.status) for row in connection.execute(_HELD, {"b_ids": job_ids})}


def _in(held: dict[int, JobState], wanted: JobState) -> list[int]:
    return [job_id for job_id, state in held.items() if state is wanted]


def _cancelled(job_id: int, was: JobState | None) -> Acted:
    match was:
        case None:
            return _missing(job_id)
        case JobState.PENDING:
            return JobState.CANCELLED
        case JobState.RUNNING:
            return JobState.RUNNING
    return Conflict(f"job {job_id} is already {was}", f"runner jobs show {job_id}")


def _retried(job_id: int, was: JobState | None) -> Acted:
    if was is None:
        return _missing(job_id)
    if was.is_terminal:
        return JobState.PENDING
    return Conflict(f"job {job_id} is {was}, not finished", f"runner jobs show {job_id}")


def _missing(job_id: int) -> NotFound:
    return NotFound(f"there is no job {job_id}", "runner jobs list")


_THESE = JOBS.c.id.in_(bindparam("b_ids", expanding=True))
_FIRED_BY = select(JOBS.c.schedule_name).where(_THESE, JOBS.c.schedule_name.is_not(None)).distinct()
_HELD = select(JOBS.c.id, JOBS.c.status).where(_THESE).order_by(JOBS.c.id).with_for_update(key_share=True)
_CANCEL_PENDING = (
    update(JOBS)
    .where(_THESE, JOBS.c.status == JobState.PENDING)
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
    .where(_THESE, JOBS.c.status == JobState.RUNNING)
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
    ).where(_THESE, JOBS.c.claim_token.is_not(None)),
)  # fmt: skip
_RETRY = (
    update(JOBS)
    .where(_THESE, JOBS.c.completed_at.is_not(None))
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
