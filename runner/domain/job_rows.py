"""The rows of jobs: the job itself, its earlier runs, its log and its outputs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, Text
from sqlmodel import Field

from runner.domain.job import JobState
from runner.domain.rows import BIG, JSON_VALUE, SOON, Row, partial_index
from runner.domain.schedule import DEFAULT_QUEUE


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
        partial_index("jobs_failed", "status", "id", where="status IN ('failed', 'cancelled')"),
        partial_index("jobs_finished", "completed_at", "id", where="completed_at IS NOT NULL"),
        # Room on each page of PostgreSQL: what a running job says rewrites its row in place, without any index.
        {"sqlite_autoincrement": True, "postgresql_with": {"fillfactor": "70", **SOON}},
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
    __table_args__ = ({"postgresql_with": SOON},)

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
    __table_args__ = (
        Index("job_logs_job", "job_id", "id"), {"sqlite_autoincrement": True, "postgresql_with": SOON},
    )  # fmt: skip

    id: int | None = Field(default=None, sa_column=Column(BIG, primary_key=True, autoincrement=True))
    job_id: int = Field(sa_column=Column(BIG, nullable=False))
    run_number: int
    at: datetime
    level: str = "info"
    message: str = Field(sa_column=Column(Text, nullable=False))


class JobOutput(Row, table=True):
    """One piece of something that a job shows; the pieces of one name, in order of `id`, are the whole."""

    __tablename__ = "job_outputs"
    __table_args__ = (
        Index("job_outputs_job", "job_id", "name", "id"), {"sqlite_autoincrement": True, "postgresql_with": SOON},
    )  # fmt: skip

    id: int | None = Field(default=None, sa_column=Column(BIG, primary_key=True, autoincrement=True))
    job_id: int = Field(sa_column=Column(BIG, nullable=False))
    run_number: int
    name: str
    media_type: str
    at: datetime
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
