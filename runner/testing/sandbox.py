"""A whole file in a test: its own database, a clock that stands still, and a drain that jumps over waits."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from runner.app import App
from runner.config.intake import Call
from runner.config.report import as_text
from runner.domain.errors import RunnerError
from runner.domain.job_rows import Job
from runner.domain.schedule import Definitions
from runner.engine.run_once import Options, Report
from runner.engine.scheduler import Scheduler
from runner.engine.worker import Worker
from runner.settings import Settings
from runner.storage.database import Database
from runner.storage.jobs import JobFilter
from runner.storage.revisions import Edit
from runner.storage.serial import to_text
from runner.storage.setup import prepare
from runner.testing.clock import FrozenClock

Source = str | Path | Definitions
Wanted = str | tuple[str, Mapping[str, Any]]  # a job type, or a job type and a payload


class SandboxError(RunnerError):
    """The file has problems, a schedule could not be fired, or a handler did not end."""


@dataclass(frozen=True, slots=True)
class DrainedJob:
    """A job after a drain: how it stands, and what its last run said."""

    id: int
    type: str
    status: str
    payload: Any
    result: Any
    error: str | None
    attempt: int
    runs: int
    progress: float
    schedule_name: str | None
    scheduled_for: datetime | None
    parent_id: int | None
    run_at: datetime
    completed_at: datetime | None
    lines: list[str] = field(default_factory=list)
    outputs: dict[str, bytes] = field(default_factory=dict)


class Sandbox:
    """`with Sandbox("schedules.yaml") as box:` enqueue and trigger, drain, move the clock, drain again.

    `source` is a path, or Definitions. Raises SandboxError where the file has problems.
    """

    def __init__(
        self, source: Source, clock: FrozenClock | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.clock = clock or FrozenClock()
        self._folder = tempfile.TemporaryDirectory(prefix="runner-sandbox-")
        path = Path(self._folder.name) / "runner.db"
        path.write_bytes(_empty_database())
        config = Path("schedules.yaml") if isinstance(source, Definitions) else Path(source)
        settings = Settings(config, f"sqlite:///{path}", concurrency=1)
        self._app = App(settings, os.environ if environ is None else environ)
        with ExitStack() as stack:
            stack.callback(self.close)
            self._definitions = self._apply(source)
            stack.pop_all()

    def _apply(self, source: Source) -> Definitions:
        if not isinstance(source, Definitions):
            loaded = self._app.reloader.read()
            if not loaded.ok:
                raise SandboxError(as_text(loaded.problems, loaded.source, str(loaded.path)))
            revision, _ = self._app.reloader.apply(loaded, self.clock.now())
            return revision.definitions
        text = to_text(source)
        edit = Edit(source, text, hashlib.sha256(text.encode()).hexdigest(), 0, "a test")
        self._app.revisions.apply(edit, self.clock.now())
        return source

    def enqueue(
        self,
        type: str,  # noqa: A002 - the word of the format
        payload: Mapping[str, Any] | None = None,
        *,
        priority: int | str | None = None,
        run_at: datetime | None = None,
        project_id: str | None = None,
    ) -> int:
        """The id of a new job, by the rules of the file: defaults filled in, an unknown type or key refused."""
        now = self.clock.now()
        job = self._app.intake().job(type, dict(payload or {}), now, Call(priority, run_at, project_id))
        return self._app.jobs.enqueue(job, now).id

    def trigger(self, schedule: str) -> int:
        """The id of the job of a schedule that is run by hand, now."""
        return self._app.scheduler().trigger(schedule, self.clock.now()).id

    def drain(self, *, wait: timedelta | None = None, timeout: float = 60.0) -> list[DrainedJob]:
        """Fire what is due now, and run all pending jobs, with their retries and child jobs. Returns these jobs.

        The clock jumps to what is due next, by no more than `wait` in all; slots that come meanwhile are left to the
        next drain. `timeout` is real seconds. Raises SandboxError.
        """
        until = None if wait is None else self.clock.now() + wait
        found: set[int] = set()
        with self._app.worker(self._definitions, self.clock) as worker:
            self.clock.is_busy = worker.has_work
            scheduler = self._app.scheduler()
            while True:
                left = None if until is None else until - self.clock.now()
                report = self._run_once(worker, scheduler, left, timeout)
                found |= {job.id for job in report.jobs if job.id is not None}
                due = worker.next_due()
                if due is None or due <= self.clock.now() or (until is not None and due > until):
                    break
                self.clock.move(due - self.clock.now())
                scheduler = self._app.scheduler(only=lambda schedule: False)
        return [self._told(job) for job in self._app.jobs.get_many(sorted(found))]

    def _run_once(self, worker: Worker, scheduler: Scheduler, wait: timedelta | None, timeout: float) -> Report:
        """With a timeout of our own: that of a run-once limits each jump to what is left of it."""
        once = self._app.run_once(worker, scheduler, self.clock, Options(wait=wait))
        timer = threading.Timer(timeout, once.stop, ["timeout"])
        timer.start()
        try:
            report = once.run()
        finally:
            timer.cancel()
        _require_end(report, timeout)
        return report

    def jobs(self) -> list[DrainedJob]:
        """All jobs of the sandbox, in the order in which they were made."""
        found, _ = self._app.jobs.find(JobFilter(), limit=10_000)
        return [self._told(job) for job in sorted(found, key=lambda job: job.id or 0)]

    def _told(self, job: Job) -> DrainedJob:
        job_id = job.id or 0
        shown = {name: data for name, (_, data) in self._app.logs.outputs(job_id).items()}
        return DrainedJob(
            job_id, job.type, job.status, job.payload, job.result, job.error, job.attempt, job.run_number, job.progress,
            job.schedule_name, job.scheduled_for, job.parent_id, job.run_at, job.completed_at,
            [line.message for line in self._app.logs.lines(job_id)], shown,
        )  # fmt: skip

    def close(self) -> None:
        self._app.close()
        self._folder.cleanup()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()


def drain(
    source: Source,
    *jobs: Wanted,
    trigger: Iterable[str] = (),
    clock: FrozenClock | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[DrainedJob]:
    """Enqueue these jobs (a type, or a type and a payload), trigger these schedules, run until nothing is due.

    What else is due at the time of the clock is fired and run too. The database is thrown away.
    """
    with Sandbox(source, clock, environ) as box:
        for job in jobs:
            name, payload = (job, {}) if isinstance(job, str) else job
            box.enqueue(name, payload)
        for schedule in trigger:
            box.trigger(schedule)
        return box.drain()


def _require_end(report: Report, timeout: float) -> None:
    if report.stopped_by is not None:
        left = [f"job {job.id} ({job.type}) is {job.status}" for job in report.jobs if job.completed_at is None]
        raise SandboxError(f"the drain did not end within {timeout:g} s: {', '.join(left) or 'nothing is left'}")
    if report.refused:
        raise SandboxError("; ".join(report.refused))


@cache
def _empty_database() -> bytes:
    """A database with our tables: made once in a process, because making it takes longer than most tests."""
    with tempfile.TemporaryDirectory(prefix="runner-sandbox-") as folder:
        database = Database(f"sqlite:///{folder}/runner.db")
        prepare(database)
        database.close()
        return database.path.read_bytes()
