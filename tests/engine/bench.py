"""An App on a database of its own, with a clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import runner.assembly  # noqa: F401 - by a thread of a test it would be parsed beside others, which Python 3.11 cannot
from runner.app import App
from runner.domain.job import JobState
from runner.domain.job_rows import Job, JobAttempt
from runner.domain.ledger import ScheduleSlot
from runner.domain.schedule import Definitions, JobType, RunnerOptions, Schedule
from runner.engine.loop import Clock
from runner.engine.run_once import Options, RunOnce
from runner.engine.scheduler import Scheduler
from runner.engine.worker import EVERYTHING, Selection, Worker
from runner.settings import Settings
from runner.telemetry import Event
from tests.contract.databases import _sqlite_template as sqlite_template
from tests.contract.databases import postgres_as_new
from tests.factories import NOW, make_definitions, make_edit, make_new_job, make_policy
from tests.waiting import eventually

DEADLINE = 40.0  # seconds: a test that waits longer has failed
HANDLERS = "tests.engine.sample_handlers"


def kind(name: str, handler: str | None = None, **values: Any) -> JobType:
    """A job type that runs the sample handler of its name."""
    return JobType(name, f"{HANDLERS}.{handler or name}", **values)


class StillClock(Clock):
    """A clock that is moved by hand; waits are real and end when somebody rings."""

    def __init__(self, time: datetime = NOW) -> None:
        super().__init__()
        self.time = time

    def now(self) -> datetime:
        return self.time


@dataclass
class Bench:
    """The stores and the engine as `App` puts them together."""

    app: App
    clock: StillClock = field(default_factory=StillClock)
    events: list[Event] = field(default_factory=list)
    definitions: Definitions = field(default_factory=Definitions)

    def define(
        self, *types: JobType, schedules: Sequence[Schedule] = (), limits: dict[str, int] | None = None, **values: Any
    ) -> Definitions:
        """Apply a file with these job types and schedules, now."""
        self.definitions = make_definitions(
            *schedules,
            job_types={one.name: one for one in types},
            limits=limits,
            runner=RunnerOptions(handler_packages=("tests",)),
            **values,
        )
        before = self.app.revisions.current()
        self.app.revisions.apply(make_edit(self.definitions, before.number if before else 0), self.clock.now())
        return self.definitions

    def enqueue(self, type_name: str, payload: dict[str, Any] | None = None, **values: Any) -> int:
        """A job with the policy of its type, due now; types that the file does not name are possible here."""
        known = self.definitions.job_types.get(type_name)
        if known is not None:
            policy = make_policy(
                retry=known.retry, timeout=known.timeout, on_stall=known.on_stall, max_stalls=known.max_stalls
            )
            values = {"policy": policy, "queue": known.queue, "priority": known.priority} | values
        return self.app.jobs.enqueue(make_new_job(type_name, payload=payload or {}, **values), self.clock.now()).id

    @contextmanager
    def worker(self, concurrency: int = 2, selection: Selection = EVERYTHING) -> Iterator[Worker]:
        with self.app.worker(self.definitions, self.clock, selection) as worker:
            worker.concurrency = concurrency
            yield worker

    @contextmanager
    def drain(
        self,
        options: Options | None = None,
        *,
        concurrency: int = 2,
        selection: Selection = EVERYTHING,
        window: timedelta | None = None,
        only: Callable[[Schedule], bool] | None = None,
        clock: Clock | None = None,
    ) -> Iterator[RunOnce]:
        """A run-once that fails the test where it does not end by itself."""
        clock = clock or self.clock
        given = options or Options()
        scheduler = self.app.scheduler(window=window, only=only)
        with self.app.worker(self.definitions, clock, selection) as worker:
            worker.concurrency = concurrency
            ending = replace(given, timeout=given.timeout or timedelta(seconds=DEADLINE))
            made = self.app.run_once(worker, scheduler, clock, ending)
            yield made
            assert given.timeout is not None or made._stop != "timeout", "run-once did not end by itself"

    def scheduler(self, **values: Any) -> Scheduler:
        return self.app.scheduler(**values)

    def until(self, worker: Worker, condition: Callable[[], object], what: str = "the condition") -> None:
        """Tick until it holds."""

        def tick_and_look() -> object:
            worker.tick(self.clock.now())
            return condition()

        eventually(tick_and_look, what)

    def run(self, worker: Worker, *job_ids: int) -> list[Job]:
        """Tick until none of these jobs is running or due."""
        self.until(worker, lambda: not any(map(self._is_open, job_ids)), f"the end of jobs {job_ids}")
        return [self.job(job_id) for job_id in job_ids]

    def run_one(self, type_name: str, payload: dict[str, Any] | None = None, **values: Any) -> Job:
        """One job on a worker of its own, through one attempt."""
        with self.worker() as worker:
            return self.run(worker, self.enqueue(type_name, payload, **values))[0]

    def _is_open(self, job_id: int) -> bool:
        job = self.job(job_id)
        return job.status == JobState.RUNNING or (job.status == JobState.PENDING and job.run_at <= self.clock.now())

    def job(self, job_id: int) -> Job:
        return self.app.jobs.get(job_id)

    def state(self, job_id: int) -> str:
        return self.job(job_id).status

    def all_jobs(self, **where: Any) -> list[Job]:
        from runner.storage.jobs import JobFilter

        return self.app.jobs.find(JobFilter(**where), limit=10_000)[0][::-1]

    def attempts(self, job_id: int) -> list[JobAttempt]:
        return self.app.jobs.attempts([job_id])[job_id]

    def lines(self, job_id: int) -> list[str]:
        return [line.message for line in self.app.logs.lines(job_id)]

    def slots(self, name: str | None = None) -> list[ScheduleSlot]:
        """The ledger, oldest first."""
        return self.app.schedules.history(name, limit=10_000)[::-1]

    def of(self, event: type[Event]) -> list[Any]:
        return [one for one in self.events if isinstance(one, event)]


@contextmanager
def on(dialect: str) -> Iterator[None]:
    """The databases of benches are of this kind meanwhile."""
    _kinds.append(dialect)
    try:
        yield
    finally:
        _kinds.pop()
        _places.clear()


_kinds = ["sqlite"]
_places: dict[Path, str] = {}  # on PostgreSQL: folder -> URL


def _url_of(folder: Path) -> str:
    """The database of this folder, made where there is none."""
    if _kinds[-1] == "postgresql":
        if folder not in _places:
            _places[folder] = postgres_as_new(len(_places))
        return _places[folder]
    path = folder / "runner.db"
    if not path.exists():
        path.write_bytes(sqlite_template())
    return f"sqlite:///{path}"


def open_app(folder: Path, url: str | None = None, **values: Any) -> App:
    """An App on the database of this folder; several may be open at once."""
    given: dict[str, Any] = {"busy_timeout": timedelta(seconds=60)}
    return App(Settings(folder / "schedules.yaml", url or _url_of(folder), **(given | values)), {})


def make_bench(folder: Path, **values: Any) -> Bench:
    made = Bench(open_app(folder, **values))
    made.app.events.subscribe(made.events.append)
    return made
