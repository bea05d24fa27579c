"""What answers hold, for the OpenAPI document: they are written as the stores give them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from runner.domain.job import JobState


class ProblemEntry(BaseModel):
    path: str
    code: str
    message: str
    help: str | None = None
    line: int | None = Field(None, description="Of a file.")
    column: int | None = None
    severity: Literal["error", "warning"] | None = None


class FirstRefused(BaseModel):
    """Of several jobs the first that is refused, and why, as it would be told of it alone."""

    index: int
    type: str
    detail: str
    help: str | None = None


class ProblemBody(BaseModel):
    """Every error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    help: str | None = None
    errors: list[ProblemEntry] = Field(default_factory=list)
    first: FirstRefused | None = None


class Attempt(BaseModel):
    run_number: int
    attempt: int
    worker_id: str | None
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str | None
    error: str | None


class JobBody(BaseModel):
    """A job, as `runner jobs show -o json` gives it."""

    id: int
    type: str
    status: JobState
    display_state: str = Field(description="In words: retrying, scheduled, parked, waiting_for_limit, cancelling, ...")
    queue: str
    priority: int
    payload: Any
    result: Any
    error: str | None
    progress: float
    current_step: str | None
    message: str | None
    project_id: str | None
    schedule_name: str | None
    scheduled_for: datetime | None
    run_at: datetime
    attempt: int
    max_attempts: int
    run_number: int
    worker_id: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    parent_id: int | None
    revision: int | None
    stalls: int
    last_heartbeat: datetime | None
    attempts: list[Attempt]


class OutputBody(BaseModel):
    name: str
    media_type: str
    bytes: int


class OneJobBody(JobBody):
    queue_position: int | None = Field(description="Of a due one: 1 is claimed next. Null beyond 10,000.")
    outputs: list[OutputBody]


class JobsBody(BaseModel):
    jobs: list[JobBody]
    total: int
    limit: int
    offset: int
    next: int | None = Field(description="`after` of the next page; null at the end.")


class EnqueuedBody(BaseModel):
    id: int
    status: JobState
    duplicate: bool


class BulkAnswer(BaseModel):
    jobs: list[EnqueuedBody]


class StateBody(BaseModel):
    id: int
    status: JobState
    result: Literal["cancelled", "asked to stop", "pending"]


class ActionEntry(BaseModel):
    id: int
    result: str | None
    error: str | None


class ActionAnswer(BaseModel):
    dry_run: bool
    matched: int
    jobs: list[ActionEntry]


class LogEntry(BaseModel):
    id: int
    run_number: int
    at: datetime
    level: str
    message: str


class LogsBody(BaseModel):
    lines: list[LogEntry]
    next: int | None = Field(description="`after` of the next page; null where there is nothing more yet.")


class ScheduleBody(BaseModel):
    """A schedule of the database, as `runner schedules list -o json` gives it."""

    name: str
    job_type: str | None
    workflow: str | None
    expression: str
    timezone: str
    enabled: bool
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    last_run: datetime | None
    next_run: datetime | None
    cursor: datetime
    retired_at: datetime | None
    revision: int | None
    created_at: datetime
    updated_at: datetime
    state: Literal["active", "paused", "disabled", "retired"]


class SchedulesBody(BaseModel):
    schedules: list[ScheduleBody]


class FireBody(BaseModel):
    utc: datetime
    local: datetime


class NextBody(BaseModel):
    name: str
    cron: str
    timezone: str
    enabled: bool
    words: str
    next: list[FireBody]


class UpcomingBody(BaseModel):
    """As `runner schedules next -o json` gives it."""

    schedules: list[NextBody]


class SlotBody(BaseModel):
    schedule_name: str
    slot: datetime
    outcome: str
    reason: str | None
    job_id: int | None
    blocker_id: int | None
    first_slot: datetime | None
    slot_count: int
    decided_at: datetime


class HistoryBody(BaseModel):
    slots: list[SlotBody]


class RevisionBody(BaseModel):
    number: int
    sha256: str
    applied_at: datetime
    applied_by: str


class FileProblemBody(BaseModel):
    message: str
    since: datetime | None
    processes: int


class ConfigBody(BaseModel):
    revision: RevisionBody | None
    problems: list[FileProblemBody] = Field(description="Why edits of the file are not in force.")
    definitions: dict[str, Any] | None = Field(description="What the revision in force says, resolved.")


class ReloadBody(BaseModel):
    result: Literal["the file is read again"]


class PlanAnswer(BaseModel):
    """As `runner plan -o json` gives it."""

    format_version: int
    base_revision: int
    now: datetime
    changes: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    removals: list[str]
    summary: dict[str, Any]
    shown: str | None = Field(description="In words, where `form` asks for them.")


class WorkersBody(BaseModel):
    """As in `runner status -o json`."""

    workers: list[dict[str, Any]]


class DatabaseBody(BaseModel):
    path: str
    exists: bool
    bytes: int
    wal_bytes: int | None
    journal_mode: str | None
    schema_: str | None = Field(alias="schema")


class RunningBody(BaseModel):
    id: int
    type: str
    worker_id: str | None
    attempt: int
    max_attempts: int
    progress: float
    step: str | None
    message: str | None
    started_at: datetime
    is_cancelling: bool


class EndedBody(BaseModel):
    id: int
    type: str
    status: JobState
    error: str | None
    started_at: datetime | None
    completed_at: datetime


class StatsBody(BaseModel):
    """As `runner status -o json`, with the number of jobs in each state. For a key of projects, that number alone."""

    at: datetime
    jobs: dict[str, int]
    revision: RevisionBody | None = None
    problems: list[FileProblemBody] = Field(default_factory=list)
    workers: list[dict[str, Any]] = Field(default_factory=list)
    queues: list[dict[str, Any]] = Field(default_factory=list)
    schedules: dict[str, int] | None = None
    next: list[dict[str, Any]] = Field(default_factory=list)
    skipped: list[dict[str, Any]] = Field(default_factory=list)
    database: DatabaseBody | None = None
    running: list[RunningBody] = Field(default_factory=list, description="The longest first, where `rows` asks.")
    ended: list[EndedBody] = Field(default_factory=list, description="The last first, where `rows` asks.")


class AuditBody(BaseModel):
    id: int
    at: datetime
    who: str
    address: str
    action: str
    target: str
    detail: str | None


class AuditsBody(BaseModel):
    entries: list[AuditBody]
    next: int | None
