"""A job: its states, its row, what is known before it is enqueued, and the claim that lets a worker run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, Text
from sqlmodel import Field

from runner.domain.retry import RetryPolicy
from runner.domain.rows import Row, partial_index
from runner.domain.schedule import DEFAULT_QUEUE, OnStall, UniqueUntil


class JobState(StrEnum):
    """A waiting retry, a snoozed job and a job for tomorrow are all `pending` with a later `run_at`."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
UNFINISHED = frozenset({JobState.PENDING, JobState.RUNNING})

WAITING_FOR_OVERLAP = "overlap"  # a job that starts when the earlier ones of its schedule have ended


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """What a job carries along from its enqueue on: a reload changes nothing of it."""

    timeout: timedelta = timedelta(minutes=10)
    retry: RetryPolicy = RetryPolicy()
    on_stall: OnStall = "retry"
    max_stalls: int = 3


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """The key that makes another job a duplicate, until when, and at the latest until `expires_at`."""

    key: str
    until: UniqueUntil
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as it is handed to the store. `run_at` None means now; `revision` is where its policy came from."""

    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    priority: int = 5
    run_at: datetime | None = None
    policy: JobPolicy = JobPolicy()
    project_id: str | None = None
    schedule_name: str | None = None
    scheduled_for: datetime | None = None
    waiting_for: str | None = None
    unique: UniqueKey | None = None
    parent_id: int | None = None
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The answer to an enqueue. A duplicate names the job that was there already."""

    id: int
    status: JobState
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One claimed job, as much of it as running and settling it needs. `claim_token` is its fence."""

    id: int
    type: str
    queue: str
    payload: Mapping[str, Any]
    priority: int
    attempt: int
    max_attempts: int
    run_number: int
    stalls: int
    claim_token: str
    worker_id: str
    policy: JobPolicy
    run_at: datetime
    started_at: datetime
    created_at: datetime
    project_id: str | None = None
    schedule_name: str | None = None
    scheduled_for: datetime | None = None
    cancel_requested: bool = False


BIG = BigInteger().with_variant(Integer, "sqlite")
JSON_VALUE = JSON(none_as_null=True)


class Job(Row, table=True):
    """A row of `background_jobs`: read as a snapshot, changed through the store alone."""

    __tablename__ = "background_jobs"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'running', 'completed', 'failed', 'cancelled')", name="status"),
        CheckConstraint("(completed_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))", name="finish"),
        CheckConstraint("priority BETWEEN 1 AND 10", name="priority"),
        # The claim seeks in this one. No other index may be usable for its query: stale statistics would choose it.
        partial_index(
            "jobs_claim",
            "queue",
            "type",
            "priority",
            "run_at",
            "id",
            where="status = 'pending' AND waiting_for IS NULL",
        ),
        partial_index("jobs_limit", "limit_name", where="status = 'running' AND limit_name IS NOT NULL"),
        partial_index("jobs_worker", "worker_id", where="status = 'running'"),
        partial_index("jobs_unique", "unique_key", unique=True, where="unique_key IS NOT NULL"),
        partial_index("jobs_waiting", "schedule_name", "id", where="waiting_for IS NOT NULL"),
        partial_index(
            "jobs_schedule_open", "schedule_name", "id", where="schedule_name IS NOT NULL AND completed_at IS NULL"
        ),
        partial_index("jobs_schedule", "schedule_name", "id", where="schedule_name IS NOT NULL"),
        partial_index("jobs_project", "project_id", "id", where="project_id IS NOT NULL"),
        partial_index("jobs_status", "status", "id", where="status <> 'pending'"),
        partial_index("jobs_finished", "completed_at", "id", where="completed_at IS NOT NULL"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=Column(BIG, primary_key=True, autoincrement=True))
    type: str
    queue: str = DEFAULT_QUEUE
    status: str = JobState.PENDING
    priority: int = 5
    payload: Any = Field(default_factory=dict, sa_column=Column(JSON_VALUE, nullable=False))
    result: Any = Field(default=None, sa_column=Column(JSON_VALUE))
    error: str | None = Field(default=None, sa_column=Column(Text))
    progress: float = 0.0
    current_step: str | None = None
    message: str | None = None
    project_id: str | None = None
    schedule_name: str | None = None
    scheduled_for: datetime | None = None
    run_at: datetime
    attempt: int = 0
    max_attempts: int = 3
    run_number: int = 0
    stalls: int = 0
    claim_token: str | None = None
    worker_id: str | None = None
    limit_name: str | None = None
    waiting_for: str | None = None
    unique_key: str | None = None
    unique_until: str | None = None
    unique_expires_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    policy: str = Field(default="{}", sa_column=Column(Text, nullable=False))
    revision: int | None = None
    parent_id: int | None = Field(default=None, sa_column=Column(BIG))
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None


class JobAttempt(Row, table=True):
    """A run that was superseded: it failed, stalled, was snoozed or released, or an operator asked again."""

    __tablename__ = "job_attempts"

    job_id: int = Field(sa_column=Column(BIG, primary_key=True, autoincrement=False))
    run_number: int = Field(primary_key=True)
    attempt: int
    claim_token: str
    worker_id: str | None = None
    started_at: datetime | None = None
    finished_at: datetime
    outcome: str
    error: str | None = Field(default=None, sa_column=Column(Text))


class JobLog(Row, table=True):
    """One line of a job's log. `id` orders the lines and is what a reader resumes from."""

    __tablename__ = "job_logs"
    __table_args__ = (Index("job_logs_job", "job_id", "id"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, sa_column=Column(BIG, primary_key=True, autoincrement=True))
    job_id: int = Field(sa_column=Column(BIG, nullable=False))
    run_number: int
    at: datetime
    level: str = "info"
    message: str = Field(sa_column=Column(Text, nullable=False))


class JobOutput(Row, table=True):
    """One piece of something that a job shows; the pieces of one name, in order of `id`, are the whole."""

    __tablename__ = "job_outputs"
    __table_args__ = (Index("job_outputs_job", "job_id", "name", "id"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, sa_column=Column(BIG, primary_key=True, autoincrement=True))
    job_id: int = Field(sa_column=Column(BIG, nullable=False))
    run_number: int
    name: str
    media_type: str
    at: datetime
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
