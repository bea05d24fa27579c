"""A job: its states, what is known before it is enqueued, and the claim that lets a worker run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from runner.domain.retry import RetryPolicy
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

WAITING_FOR_OVERLAP = "overlap"  # a job that starts when the earlier ones of its schedule have ended


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """What a job carries along from its enqueue on: a reload changes nothing of it.

    `traceparent` is the trace of whoever enqueued it, in the form of W3C trace context.
    """

    timeout: timedelta = timedelta(minutes=10)
    retry: RetryPolicy = RetryPolicy()
    on_stall: OnStall = "retry"
    max_stalls: int = 3
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """The key that makes another job a duplicate, until when, and at the latest until `expires_at`."""

    key: str
    until: UniqueUntil
    expires_at: datetime | None = None


NOTHING: Mapping[str, Any] = {}


class NewJob(NamedTuple):
    """A job as it is handed to the store. `run_at` None means now; `revision` is where its policy came from.

    A tuple, as the answer: thousands are enqueued in one call.
    """

    type: str
    payload: Mapping[str, Any] = NOTHING
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


class Enqueued(NamedTuple):
    """The answer to an enqueue. A duplicate names the job that was there already.

    `replayed`: it was made by the same request, which came before with its idempotency key.
    """

    id: int
    status: JobState
    duplicate: bool = False
    replayed: bool = False


class Run(NamedTuple):
    """One claimed job, as much of it as running and settling it needs. `claim_token` is its fence.

    A tuple: thousands are made each second, and a frozen dataclass takes ten times as long.
    """

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


@dataclass(frozen=True, slots=True)
class InFlight:
    """How many unfinished jobs a type or a schedule has."""

    queued: int = 0
    retrying: int = 0
    running: int = 0
