"""The composition root: settings in, stores and loops out. Nothing else knows how they are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

import runner
from runner.config.intake import Call, Intake, after
from runner.domain.errors import DatabaseUnavailable, NotFound
from runner.domain.job import Enqueued, NewJob, Run
from runner.domain.schedule import Definitions, Schedule
from runner.engine.backends import EventLoop, Threads
from runner.engine.context import Child
from runner.engine.executor import Executor, Finished
from runner.engine.heartbeat import Pulse, WorkerLock, beat, introduce, new_worker_id
from runner.engine.janitor import Janitor
from runner.engine.loop import Clock
from runner.engine.process import Processes
from runner.engine.recorder import Recorder
from runner.engine.reloader import Reloader
from runner.engine.run_once import Options, RunOnce
from runner.engine.scheduler import Scheduler
from runner.engine.worker import EVERYTHING, Selection, Worker
from runner.settings import Settings
from runner.storage.claims import ClaimStore
from runner.storage.database import Database
from runner.storage.jobs import JobStore
from runner.storage.logs import LogStore
from runner.storage.revisions import RevisionStore
from runner.storage.schedules import ScheduleStore
from runner.storage.setup import prepare, require_current
from runner.storage.views import JobViews
from runner.storage.workers import WorkerStore
from runner.telemetry import ClaimLost, Events

if TYPE_CHECKING:
    from runner.domain.plan import Stored

FLUSH = 0.25  # seconds between two writes of what runs say


class App:
    """The stores of one database and what works on them. Close it when done."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.environ = environ
        self.events = Events()
        self.database = Database(settings.database_url, busy_timeout=settings.busy_timeout)
        self.jobs = JobStore(self.database)
        self.claims = ClaimStore(self.database)
        self.logs = LogStore(self.database)
        self.schedules = ScheduleStore(self.database)
        self.revisions = RevisionStore(self.database)
        self.workers = WorkerStore(self.database)
        self.views = JobViews(self.database)

    def prepare(self) -> None:
        """Create the database or bring its schema up; for commands that change something."""
        prepare(self.database)

    def look(self) -> bool:
        """For commands that only read: whether there is a database. One with another schema is an error."""
        if not self.database.exists:
            return False
        require_current(self.database)
        return True

    @cached_property
    def reloader(self) -> Reloader:
        return Reloader(self.settings.config, self.environ, self.revisions, self.schedules)

    def stored(self) -> Stored:
        """What the database says, for a plan; nothing where there is none yet."""
        from runner.domain.plan import Stored

        if not self.look():
            return Stored(0, None, {}, {})
        revision = self.revisions.current()
        statuses = {row.name: row for row in self.schedules.all(retired=True)}
        number, definitions = (revision.number, revision.definitions) if revision else (0, None)
        return Stored(number, definitions, statuses, self.jobs.in_flight())

    def intake(self) -> Intake:
        """What turns a call into a job: the revision in force, never a file."""
        revision = self.revisions.current()
        if revision is None:
            raise NotFound("the database holds no revision yet, so it knows no job types", "runner apply")
        return Intake(revision.definitions, revision.number, self.environ)

    def enqueue(self, type_name: str, payload: Any, call: Call) -> Enqueued:
        now = datetime.now(UTC)
        return self.jobs.enqueue(self.intake().job(type_name, payload, now, call), now)

    def scheduler(
        self, *, window: timedelta | None = None, only: Callable[[Schedule], bool] | None = None
    ) -> Scheduler:
        every = only or (lambda schedule: True)
        return Scheduler(self.schedules, self.revisions, self.claims, self.environ, self.events.emit, window, every)

    @contextmanager
    def worker(self, definitions: Definitions, clock: Clock, selection: Selection = EVERYTHING) -> Iterator[Worker]:
        """A registered worker with its beat and its flush; at the end it is forgotten, holding nothing."""
        worker_id = new_worker_id()
        recorder = Recorder(self.logs, self.events.emit)
        executor = Executor(recorder, clock.wake, clock.now)
        executor.add("thread", Threads)
        executor.add("async", EventLoop)
        executor.add("process", lambda done: Processes(done, recorder))
        made = Worker(
            worker_id, self.settings.concurrency, self.claims, executor, recorder, self.events.emit, Random(),
            lambda run, finished: self._children(run, finished, clock.now()), selection,
        )  # fmt: skip
        made.know(definitions)
        lock = WorkerLock(self.database.path, worker_id)
        self.workers.register(self._introduction(lock, worker_id))
        pulse = Pulse(
            lambda: beat(
                self.workers, worker_id, lambda: None, lambda: self._taken_for_dead(executor, lock, worker_id)
            ),
            self.settings.heartbeat.total_seconds(),
            "heartbeat",
        )
        flush = Pulse(recorder.flush, FLUSH, "recorder")
        recorder.connect(lambda run: self._lost(executor, run), flush.ring)
        pulse.start()
        flush.start()
        try:
            yield made
        finally:
            flush.close()
            executor.close()
            self.workers.forget(worker_id)
            pulse.close()
            lock.close()

    def run_once(self, worker: Worker, scheduler: Scheduler, clock: Clock, options: Options) -> RunOnce:
        janitor = Janitor(worker.worker_id, self.workers, self.claims, self.jobs, self.events.emit, Random())
        made = RunOnce(worker, scheduler, janitor, self.jobs, clock, options)
        self.events.subscribe(made.note)
        return made

    def _introduction(self, lock: WorkerLock, worker_id: str) -> Any:
        return introduce(
            lock,
            worker_id,
            version=runner.__version__,
            concurrency=self.settings.concurrency,
            stalled_after=self.settings.stalled_after,
        )

    def _lost(self, executor: Executor, run: Run) -> None:
        if executor.request_stop(run.id, "lost", "the run is no longer ours", run.claim_token):
            self.events.emit(ClaimLost(run, datetime.now(UTC)))

    def _taken_for_dead(self, executor: Executor, lock: WorkerLock, worker_id: str) -> None:
        """Another worker rescued us: be known again, and stop the runs that are no longer ours."""
        self.workers.register(self._introduction(lock, worker_id))
        running = executor.running()  # before we ask what is held: what begins meanwhile is held
        held = self.claims.held(worker_id)
        for run in running:
            if run.claim_token not in held:
                self._lost(executor, run)

    def _children(self, run: Run, finished: Finished, now: datetime) -> list[NewJob]:
        intake = self.intake()
        return [child_job(intake, child, run, now) for child in finished.children]

    def close(self) -> None:
        self.database.close()


def child_job(intake: Intake, child: Child, run: Run, now: datetime) -> NewJob:
    """The job that a handler asked for with `ctx.enqueue`."""
    options = dict(child.options)
    delay = options.pop("delay", None)
    if delay is not None:
        options["run_at"] = after(now, delay)
    options.setdefault("project_id", run.project_id)
    return intake.job(child.type, child.payload, now, replace(Call(**options), parent_id=run.id))


def open_existing(settings: Settings, environ: Mapping[str, str]) -> App:
    """An App on a database that must be there already."""
    app = App(settings, environ)
    if not app.look():
        raise DatabaseUnavailable(f"there is no database at {app.database.path} yet", "runner apply creates it")
    return app
