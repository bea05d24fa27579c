"""The composition root: settings in, stores and loops out. Nothing else knows how they are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from random import Random
from typing import TYPE_CHECKING, Any

import runner
from runner.config.intake import Call, Intake, after
from runner.domain.errors import DatabaseUnavailable, NotFound
from runner.domain.job import Enqueued, NewJob, Run
from runner.domain.schedule import Definitions, Schedule
from runner.domain.worker import WorkerStatus
from runner.engine.backends import EventLoop, Threads
from runner.engine.capture import capturing
from runner.engine.context import Child
from runner.engine.executor import Executor, Finished
from runner.engine.follower import Follower
from runner.engine.heartbeat import PATIENCE, Heart, Pulse, WorkerLock, introduce, is_free, new_worker_id
from runner.engine.janitor import Janitor
from runner.engine.lease import Lease
from runner.engine.loop import Clock
from runner.engine.process import Processes
from runner.engine.recorder import Recorder
from runner.engine.reloader import Reloader
from runner.engine.run_once import Options, RunOnce
from runner.engine.scheduler import Scheduler
from runner.engine.service import Loop, Service
from runner.engine.wake import Ear
from runner.engine.watch import FolderWatch
from runner.engine.worker import EVERYTHING, Selection, Worker
from runner.settings import Settings
from runner.storage.claims import ClaimStore
from runner.storage.database import Database
from runner.storage.dialects import sqlite_library
from runner.storage.jobs import JobStore
from runner.storage.logs import LogStore
from runner.storage.overviews import Overviews
from runner.storage.pruning import PruneStore
from runner.storage.revisions import RevisionStore
from runner.storage.schedules import ScheduleStore
from runner.storage.setup import prepare, require_current
from runner.storage.views import JobViews
from runner.storage.workers import WorkerStore
from runner.telemetry import ClaimLost, Events, ServiceStarted, inside

if TYPE_CHECKING:
    from runner.domain.plan import Stored


@dataclass(frozen=True, slots=True)
class Roles:
    """What a process does: fire schedules, run jobs, and which."""

    fires: bool = True
    runs: bool = True
    selection: Selection = EVERYTHING


FLUSH = 0.25  # seconds between two writes of what runs say


class App:
    """The stores of one database and what works on them. Close it when done."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.environ = environ
        self.events = Events()
        self.around: Callable[[Run], AbstractContextManager[None]] = inside
        self.traceparent: Callable[[Run], str | None] = lambda run: run.policy.traceparent
        self.database = Database(settings.database_url, busy_timeout=settings.busy_timeout)
        self.jobs = JobStore(self.database)
        self.claims = ClaimStore(self.database)
        self.logs = LogStore(self.database)
        self.schedules = ScheduleStore(self.database)
        self.revisions = RevisionStore(self.database)
        self.workers = WorkerStore(self.database)
        self.pruning = PruneStore(self.database)
        self.views = JobViews(self.database)
        self.overviews = Overviews(self.database, is_free)

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
    def worker(
        self,
        definitions: Definitions,
        clock: Clock,
        selection: Selection = EVERYTHING,
        follower: Follower | None = None,
    ) -> Iterator[Worker]:
        """A registered worker with its beat and its flush; at the end it is forgotten, holding nothing.

        Each beat tells what the follower says, and at once where it says something new.
        """
        worker_id = new_worker_id()
        recorder = Recorder(self.logs, self.events.emit)
        stalled_after = self.settings.stalled_after.total_seconds()
        lease = Lease(stalled_after * PATIENCE)
        executor = _executor(recorder, clock, lease)
        executor.around = self.around
        made = Worker(
            worker_id, self.settings.concurrency, self.claims, executor, recorder, self.events.emit, Random(),
            lambda run, finished: self._children(run, finished, clock.now()), selection,
        )  # fmt: skip
        made.know(definitions)
        with closing(Ear(self.database, worker_id, clock.wake)) as ear, self._beating(
            worker_id, partial(self._introduction, worker_id, selection, ear), follower,
            lambda: self._stop_what_is_lost(worker_id, executor), lease.renewed_by,
        ) as heart:  # fmt: skip
            guard = Pulse(lambda: _give_up_where_unheard(heart, executor), stalled_after / 12, "heartbeat-guard")
            flush = Pulse(recorder.flush, FLUSH, "recorder")
            recorder.connect(lambda run: self._lost(executor, run), flush.ring)
            for one in (guard, flush):
                one.start()
            try:
                with capturing():
                    yield made
            finally:
                flush.close()
                guard.close()
                executor.close()

    @contextmanager
    def _beating(
        self,
        worker_id: str,
        introduction: Callable[[WorkerLock, Mapping[str, Any]], WorkerStatus],
        follower: Follower | None,
        taken_for_dead: Callable[[], None] = lambda: None,
        renewed: Callable[[Callable[[], None]], None] = lambda beat: beat(),
    ) -> Iterator[Heart]:
        """The lock, the row and the beat of a process. Where others took it for dead, it makes itself known again."""
        said: Callable[[], Mapping[str, Any]] = follower.said if follower is not None else dict
        lock = WorkerLock(self.database.path, worker_id)
        self.workers.register(introduction(lock, said()))

        def lost() -> None:
            self.workers.register(introduction(lock, said()))
            taken_for_dead()

        interval, stalled_after = self.settings.heartbeat.total_seconds(), self.settings.stalled_after.total_seconds()
        heart = Heart(self.workers, worker_id, interval, stalled_after, self.events.emit, lost, said)
        pulse = Pulse(lambda: renewed(heart.beat), interval, "heartbeat")
        if follower is not None:
            follower.news = pulse.ring
        pulse.start()
        try:
            yield heart
        finally:
            self.workers.forget(worker_id)
            pulse.close()
            lock.close()

    def presence(self, follower: Follower) -> AbstractContextManager[Heart]:
        """The row and the beat of a process that runs no jobs: what it says of its file is seen too."""
        worker_id = new_worker_id()
        return self._beating(worker_id, partial(self._introduction, worker_id, EVERYTHING, None), follower)

    def run_once(self, worker: Worker, scheduler: Scheduler, clock: Clock, options: Options) -> RunOnce:
        janitor = Janitor(worker.worker_id, self.workers, self.claims, self.pruning, self.events.emit, Random())
        made = RunOnce(worker, scheduler, janitor, self.jobs, clock, options)
        self.events.subscribe(made.note)
        return made

    def follower(self, *, applies: bool) -> Follower:
        return Follower(self.reloader, self.workers, self.events.emit, applies=applies)

    @contextmanager
    def service(self, follower: Follower, roles: Roles, definitions: Definitions) -> Iterator[Service]:
        """The loops of a long-lived process, not started yet. The beat stops last."""
        emit = self.events.emit
        with ExitStack() as stack:
            clocks = {name: Clock() for name in ("worker", "scheduler", "janitor", "reloader")}
            worker = None
            if roles.runs:
                worker = stack.enter_context(self.worker(definitions, clocks["worker"], roles.selection, follower))
                worker.changed = self.database.changes()
            else:
                stack.enter_context(self.presence(follower))
            scheduler = self.scheduler()
            ticks: dict[str, Callable[[datetime], float]] = {"reloader": follower.tick}
            if worker is not None:
                ticks["worker"] = worker.tick
                ticks["janitor"] = self._janitor(worker.worker_id, scheduler).tick
            if roles.fires:
                ticks["scheduler"] = scheduler.tick
            loops = [Loop(name, tick, clocks[name], emit) for name, tick in ticks.items()]
            follower.listeners.append(lambda found: _take_over(found, worker, clocks))

            def reload() -> None:
                follower.look_again()
                clocks["reloader"].wake()

            watch = FolderWatch(self.settings.folder, self.database.path.name, clocks["reloader"].wake)
            watch.start()
            stack.callback(watch.close)
            started = self._started(worker, roles, definitions)
            yield Service(loops, worker, self.settings.shutdown_grace, emit, reload, started)

    def _started(self, worker: Worker | None, roles: Roles, definitions: Definitions) -> ServiceStarted:
        revision = self.revisions.current()
        library, is_affected = sqlite_library()
        return ServiceStarted(
            runner.__version__,
            self.database.url,
            revision.number if revision else None,
            self.settings.concurrency if roles.runs else 0,
            len(definitions.schedules) if roles.fires else 0,
            tuple(sorted(roles.selection.queues or ())),
            worker.worker_id if worker else None,
            sqlite_version=library,
            is_sqlite_affected=is_affected,
        )

    def _janitor(self, worker_id: str, scheduler: Scheduler) -> Janitor:
        return Janitor(
            worker_id, self.workers, self.claims, self.pruning, self.events.emit, Random(),
            interval=min(self.settings.heartbeat.total_seconds(), 5.0), retention=self.settings.retention,
            refresh=scheduler.refresh,
        )  # fmt: skip

    def _introduction(
        self, worker_id: str, selection: Selection, ear: Ear | None, lock: WorkerLock, said: Mapping[str, Any]
    ) -> WorkerStatus:
        return introduce(
            lock,
            worker_id,
            version=runner.__version__,
            concurrency=self.settings.concurrency if ear is not None else 0,
            stalled_after=self.settings.stalled_after,
            wake_socket=ear.name if ear is not None else None,
            queues=_told(selection),
            said=said,
        )

    def _lost(self, executor: Executor, run: Run) -> None:
        if executor.request_stop(run.id, "lost", "the run is no longer ours", run.claim_token):
            self.events.emit(ClaimLost(run, datetime.now(UTC)))

    def _stop_what_is_lost(self, worker_id: str, executor: Executor) -> None:
        """Another worker rescued us: stop the runs that are no longer ours."""
        running = executor.running()  # before we ask what is held: what begins meanwhile is held
        held = self.claims.held(worker_id)
        for run in running:
            if run.claim_token not in held:
                self._lost(executor, run)

    def _children(self, run: Run, finished: Finished, now: datetime) -> list[NewJob]:
        intake = self.intake()
        trace = self.traceparent(run)
        return [child_job(intake, child, run, now, trace) for child in finished.children]

    def close(self) -> None:
        self.database.close()


def _executor(recorder: Recorder, clock: Clock, lease: Lease) -> Executor:
    executor = Executor(recorder, clock.wake, clock.now, lease)
    executor.add("thread", Threads)
    executor.add("async", EventLoop)
    executor.add("process", lambda done: Processes(done, recorder, lease))
    return executor


def _take_over(found: Definitions, worker: Worker | None, clocks: Mapping[str, Clock]) -> None:
    """A good file: its job types to the worker, its schedules to the scheduler."""
    if worker is not None:
        worker.know(found)
    for name in ("worker", "scheduler"):
        clocks[name].wake()


def _told(selection: Selection) -> dict[str, list[str]] | None:
    """The queues that a worker takes, for its row."""
    if selection.queues is not None:
        return {"only": sorted(selection.queues - selection.exclude_queues)}
    return {"except": sorted(selection.exclude_queues)} if selection.exclude_queues else None


def _give_up_where_unheard(heart: Heart, executor: Executor) -> None:
    """Before the others take our runs, end them: a job must not run twice at the same time."""
    if not heart.is_well:
        executor.stop_all("shutdown", "released: the worker could not write its heartbeat")


def child_job(intake: Intake, child: Child, run: Run, now: datetime, traceparent: str | None = None) -> NewJob:
    """The job that a handler asked for with `ctx.enqueue`."""
    options = dict(child.options)
    delay = options.pop("delay", None)
    if delay is not None:
        options["run_at"] = after(now, delay)
    options.setdefault("project_id", run.project_id)
    call = replace(Call(**options), parent_id=run.id, traceparent=traceparent)
    return intake.job(child.type, child.payload, now, call)


def open_existing(settings: Settings, environ: Mapping[str, str]) -> App:
    """An App on a database that must be there already."""
    app = App(settings, environ)
    if not app.look():
        raise DatabaseUnavailable(f"there is no database at {app.database.path} yet", "runner apply creates it")
    return app
