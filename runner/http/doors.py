"""All that the API and the pages work with: the stores, and the few callables that stand for the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from runner.config.intake import Intake
from runner.config.load import Loaded
from runner.domain.access import Caller
from runner.domain.access_rows import AuditEntry
from runner.domain.errors import NotFound
from runner.domain.job import Enqueued
from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleStatus
from runner.domain.plan import Stored
from runner.http.hub import Hub
from runner.http.limits import Places
from runner.http.rounds import Rounds
from runner.storage.access import AccessStore
from runner.storage.failures import FailureStore
from runner.storage.idempotency import OnceStore
from runner.storage.jobs import JobStore
from runner.storage.logs import LogStore
from runner.storage.overviews import Overviews
from runner.storage.revisions import RevisionStore
from runner.storage.schedules import ScheduleStore
from runner.storage.views import JobViews

LARGEST = 2**63 - 1  # what a database can count
STREAMS = 2000  # open at once in one process
STREAMS_OF_ONE = 1000


@dataclass(frozen=True, slots=True)
class Engine:
    """What the process that serves can do besides the stores. None: this one does not."""

    trigger: Callable[[str, datetime, AuditEntry | None], Enqueued]
    backfill: Callable[[str, datetime, datetime, datetime, AuditEntry | None], list[Enqueued]]
    reload: Callable[[], None] | None = None
    file: Callable[[], Loaded | None] = lambda: None  # as it is now, checked
    file_problem: Callable[[], str | None] = lambda: None
    metrics: Callable[[], bytes] | None = None
    is_stopping: Callable[[], bool] = lambda: False
    rounds: Rounds | None = None


@dataclass(frozen=True, slots=True)
class Doors:
    """Of one database. Safe to share between requests, each of which is served in a thread."""

    jobs: JobStore
    views: JobViews
    logs: LogStore
    once: OnceStore
    schedules: ScheduleStore
    revisions: RevisionStore
    overviews: Overviews
    access: AccessStore
    engine: Engine
    now: Callable[[], datetime]
    stored: Callable[[], Stored]
    environ: Mapping[str, str]
    streams: Places
    hub: Hub
    reading: Callable[[], AbstractContextManager[object]]  # what is read meanwhile is of one snapshot
    failures: FailureStore
    database: Callable[[], Mapping[str, Any]] = dict  # what it is, for who looks inside

    def job(self, job_id: int, caller: Caller) -> Job:
        """One that the caller may see. What belongs to others is not there."""
        job = self.jobs.get(job_id) if abs(job_id) <= LARGEST else None
        if job is None or not caller.reads(job_id, job.project_id):
            raise no_job(job_id)
        return job

    def schedule(self, name: str, caller: Caller) -> ScheduleStatus:
        """One that the caller may see."""
        row = self.schedules.get(name)
        if not caller.sees(row.spec.get("project_id")):
            raise NotFound(f"there is no schedule {name!r} in the database", "GET /api/schedules")
        return row

    def intake(self) -> Intake:
        revision = self.revisions.in_force()
        return Intake(revision.definitions, revision.number, self.environ)

    def entry(self, caller: Caller, action: str, target: str, detail: str | None = None) -> AuditEntry:
        """Who does it: for the store, which writes it with what is done, in one transaction."""
        return AuditEntry(
            at=self.now(), who=caller.name, address=caller.address, action=action, target=target, detail=detail
        )

    def audit(self, caller: Caller, action: str, *targets: str, detail: str | None = None) -> None:
        """Of what changes nothing in the database."""
        self.access.audit([self.entry(caller, action, one, detail) for one in targets])


def no_job(job_id: int) -> NotFound:
    return NotFound(f"there is no job {job_id}", "GET /api/jobs")


async def _doors(request: Request) -> Doors:
    doors: Doors = request.app.state.doors
    return doors


In = Annotated[Doors, Depends(_doors)]
