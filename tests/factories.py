"""Data for tests: values and rows that hold together, as the stores themselves would have made them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

from sqlalchemy import update

from runner.domain.applying import definition_values
from runner.domain.job import JobPolicy, JobState, NewJob, Run
from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleStatus
from runner.domain.lifecycle import settle
from runner.domain.outcome import Cancelled, Completed, Failed, Outcome
from runner.domain.retry import RetryPolicy
from runner.domain.schedule import Definitions, JobType, Schedule
from runner.domain.timing import timing
from runner.domain.worker import WorkerStatus
from runner.storage.claims import ClaimRequest, ClaimStore, Lane
from runner.storage.database import Database
from runner.storage.jobs import JobStore
from runner.storage.logs import LogStore
from runner.storage.pruning import PruneStore
from runner.storage.revisions import Edit, RevisionStore
from runner.storage.schedules import ScheduleStore
from runner.storage.serial import to_data, to_text
from runner.storage.settling import Settled, Settlement
from runner.storage.workers import WorkerStore

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

ENDS: dict[JobState, Outcome] = {
    JobState.COMPLETED: Completed('{"sent":1}'),
    JobState.FAILED: Failed("ValueError: no such address", for_good=True),
    JobState.CANCELLED: Cancelled("cancelled by the handler"),
}


@dataclass(frozen=True)
class Stores:
    """Every door to one database."""

    database: Database
    jobs: JobStore = field(init=False)
    claims: ClaimStore = field(init=False)
    logs: LogStore = field(init=False)
    schedules: ScheduleStore = field(init=False)
    revisions: RevisionStore = field(init=False)
    workers: WorkerStore = field(init=False)
    pruning: PruneStore = field(init=False)

    def __post_init__(self) -> None:
        stores = {
            "jobs": JobStore,
            "claims": ClaimStore,
            "logs": LogStore,
            "schedules": ScheduleStore,
            "revisions": RevisionStore,
            "workers": WorkerStore,
            "pruning": PruneStore,
        }
        for name, store in stores.items():
            object.__setattr__(self, name, store(self.database))


# ---- values


def make_policy(*, retry: RetryPolicy | None = None, **values: Any) -> JobPolicy:
    return JobPolicy(retry=retry or RetryPolicy(), **values)


def make_new_job(type: str = "mail", **values: Any) -> NewJob:  # noqa: A002 - the word of the table
    return NewJob(type=type, **values)


def make_run(**values: Any) -> Run:
    """A claimed job that no database knows: for the rules alone."""
    policy = values.pop("policy", JobPolicy())
    given: dict[str, Any] = {
        "id": 1,
        "type": "mail",
        "queue": "default",
        "payload": {},
        "priority": 5,
        "attempt": 1,
        "max_attempts": policy.retry.max_attempts,
        "run_number": 1,
        "stalls": 0,
        "claim_token": uuid4().hex,
        "worker_id": "w1",
        "policy": policy,
        "run_at": NOW - MINUTE,
        "started_at": NOW,
        "created_at": NOW - HOUR,
    }
    return Run(**(given | values))


def make_job_type(name: str = "mail", **values: Any) -> JobType:
    return JobType(name, values.pop("handler", f"handlers.{name}.run"), **values)


def make_schedule(name: str = "nightly", **values: Any) -> Schedule:
    """Every ten minutes unless told otherwise."""
    if "cron" not in values and "every" not in values:
        values["every"] = 10 * MINUTE
    if "job" not in values and "workflow" not in values:
        values["job"] = "mail"
    return Schedule(name, **values)


def make_definitions(*schedules: Schedule, limits: dict[str, int] | None = None, **values: Any) -> Definitions:
    """A file with these schedules, and a job type for each of their targets."""
    types = values.pop("job_types", None)
    if types is None:
        names = {schedule.job for schedule in schedules if schedule.job} | {"mail"}
        types = {name: make_job_type(name) for name in sorted(names)}
    return Definitions(
        job_types=types, schedules={one.name: one for one in schedules}, limits=dict(limits or {}), **values
    )


def make_edit(definitions: Definitions, base: int = 0, source: str | None = None) -> Edit:
    text = to_text(definitions) if source is None else source
    return Edit(definitions, text, hashlib.sha256(text.encode()).hexdigest(), base, "a test")


def make_status(schedule: Schedule, *, cursor: datetime = NOW - DAY, **values: Any) -> ScheduleStatus:
    """The row of a schedule, as applying it at `cursor` leaves it."""
    following = timing(schedule).next(cursor) if schedule.enabled else None
    owned = definition_values(schedule) | {"spec": to_data(schedule), "cursor": cursor, "next_run": following}
    times = {"created_at": cursor, "updated_at": cursor}
    return ScheduleStatus(name=schedule.name, **(owned | times | values))


def make_worker(worker_id: str = "w1", **values: Any) -> WorkerStatus:
    given: dict[str, Any] = {
        "id": worker_id,
        "host": "here",
        "pid": 4711,
        "version": "0",
        "started_at": NOW,
        "last_heartbeat": NOW,
    }
    return WorkerStatus(**(given | values))


# ---- rows


def make_job(
    stores: Stores, state: JobState = JobState.PENDING, *, now: datetime = NOW, worker_id: str = "w1", **values: Any
) -> Job:
    """A job in that state, with all that belongs to it: a running one has a worker, a start and a token."""
    made = stores.jobs.enqueue(make_new_job(**values), now)
    if state is not JobState.PENDING:
        run = start(stores, made.id, now=now, worker_id=worker_id)
        if state.is_terminal:
            end(stores, run, ENDS[state], now=now)
    return stores.jobs.get(made.id)


def make_running(stores: Stores, *, now: datetime = NOW, worker_id: str = "w1", **values: Any) -> Run:
    """A running job, as its worker sees it."""
    return start(stores, stores.jobs.enqueue(make_new_job(**values), now).id, now=now, worker_id=worker_id)


def start(
    stores: Stores, job_id: int, *, now: datetime = NOW, worker_id: str = "w1", limit: str | None = None
) -> Run:  # fmt: skip
    """Claim exactly this job, whatever else is waiting: by way of a queue that no other job is in."""
    job = stores.jobs.get(job_id)
    if worker_id not in {worker.id for worker in stores.workers.all()}:
        stores.workers.register(make_worker(worker_id, started_at=now, last_heartbeat=now))
    alone = f"only-{job_id}"
    _move(stores, job_id, alone)
    claimed = stores.claims.claim(
        ClaimRequest(worker_id, [Lane(alone, job.type, limit)], 1), max(now, job.run_at)
    )  # fmt: skip
    _move(stores, job_id, job.queue)
    assert len(claimed) == 1, f"job {job_id} could not be claimed: it is {job.status}, waiting for {job.waiting_for}"
    return claimed[0]._replace(queue=job.queue)


def end(
    stores: Stores, run: Run, outcome: Outcome, *, now: datetime = NOW, children: tuple[NewJob, ...] = ()
) -> Settled:
    """Settle one run as the engine would."""
    transition = settle(run, outcome, now, Random(0))
    return stores.claims.settle([Settlement(run, transition, children)], now)


def _move(stores: Stores, job_id: int, queue: str) -> None:
    table = Job.__table__  # type: ignore[attr-defined]
    with stores.database.write(durable=False) as connection:
        connection.execute(update(table).where(table.c.id == job_id).values(queue=queue))
