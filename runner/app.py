"""The composition root: settings in, stores and loops out. Nothing else knows how they are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner.config.intake import Call, Intake
from runner.domain.errors import DatabaseUnavailable, RunnerError
from runner.domain.job import Enqueued, Run
from runner.domain.schedule import Definitions, Schedule
from runner.engine.follower import Follower
from runner.engine.heartbeat import is_free
from runner.engine.reloader import Reloader
from runner.engine.scheduler import Scheduler
from runner.settings import Settings
from runner.storage.claims import ClaimStore
from runner.storage.database import Database
from runner.storage.jobs import JobStore
from runner.storage.logs import LogStore
from runner.storage.overviews import Overviews
from runner.storage.pruning import PruneStore
from runner.storage.revisions import RevisionStore
from runner.storage.schedules import ScheduleStore
from runner.storage.setup import HEAD, prepare, require_current
from runner.storage.views import JobViews
from runner.storage.workers import WorkerStore
from runner.telemetry import Events, inside

if TYPE_CHECKING:
    from runner.assembly import Roles
    from runner.domain.plan import Stored
    from runner.engine.loop import Clock
    from runner.engine.run_once import Options, RunOnce
    from runner.engine.service import Service
    from runner.engine.worker import Selection, Worker
    from runner.http.binding import Bound


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

    def now(self) -> datetime:
        """The time by which all processes go that share this database."""
        return self.database.now()

    def look(self) -> bool:
        """For commands that only read: whether there is a database. One with another schema is an error."""
        if not self.database.exists:
            return False
        require_current(self.database)
        return True

    def about(self) -> dict[str, Any]:
        """What the database is: where, how large, of which schema."""
        there = self.database.exists
        sizes = self.database.sizes() if there else {"bytes": 0, "wal_bytes": 0, "journal_mode": None}
        return {"path": self.database.place, "exists": there, **sizes, "schema": HEAD if there else None}

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
        revision = self.revisions.in_force()
        return Intake(revision.definitions, revision.number, self.environ)

    def enqueue(self, type_name: str, payload: Any, call: Call) -> Enqueued:
        now = self.now()
        return self.jobs.enqueue(self.intake().job(type_name, payload, now, call), now)

    def scheduler(
        self, *, window: timedelta | None = None, only: Callable[[Schedule], bool] | None = None
    ) -> Scheduler:
        every = only or (lambda schedule: True)
        return Scheduler(self.schedules, self.revisions, self.claims, self.environ, self.events.emit, window, every)

    def worker(
        self, definitions: Definitions, clock: Clock, selection: Selection | None = None,
        follower: Follower | None = None,
    ) -> AbstractContextManager[Worker]:  # fmt: skip
        """A registered worker with its beat; at the end it is forgotten, holding nothing."""
        from runner import assembly

        return assembly.worker(self, definitions, clock, selection, follower)

    def run_once(self, worker: Worker, scheduler: Scheduler, clock: Clock, options: Options) -> RunOnce:
        from runner import assembly

        return assembly.run_once(self, worker, scheduler, clock, options)

    def service(self, follower: Follower, roles: Roles, definitions: Definitions) -> AbstractContextManager[Service]:
        """The loops of a long-lived process, not started yet."""
        from runner import assembly

        return assembly.service(self, follower, roles, definitions)

    def http(
        self, bound: Bound, service: Service, follower: Follower, metrics: Callable[[], bytes]
    ) -> AbstractContextManager[str]:
        """The jobs API of a long-lived process, answering; who may call it."""
        from runner import serving

        return serving.of_service(self, bound, service, follower, metrics)

    def follower(self, *, applies: bool) -> Follower:
        return Follower(self.reloader, self.workers, self.events.emit, applies=applies)

    def close(self) -> None:
        self.database.close()


def open_existing(settings: Settings, environ: Mapping[str, str]) -> App:
    """An App on a database that must be there already."""
    app = App(settings, environ)
    try:
        if not app.look():
            raise DatabaseUnavailable(*app.database.server.missing)
    except RunnerError:
        app.close()
        raise
    return app
