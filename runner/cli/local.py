"""The desk of a database that this process opens itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import TracebackType
from typing import Self

from runner.app import App
from runner.config.intake import Call, after
from runner.config.payload_checks import payload_problems
from runner.domain.desk import Inside, PlanCall, Planned, Rows, Turn, View, Wanted
from runner.domain.errors import BulkRefused, DatabaseUnavailable, NotFound, RunnerError, UsageError
from runner.domain.job import Enqueued, JobFilter
from runner.domain.lifecycle import cancel_result
from runner.domain.overview import WorkerView
from runner.domain.plan import plan as make_plan
from runner.domain.plan import report
from runner.domain.upcoming import upcoming
from runner.engine.reloader import applied_by, read
from runner.settings import Settings

LARGEST = 2**63 - 1  # what a database can count
LOOK = 0.25  # seconds between two questions whether anything was committed
AT_LEAST = 2.0  # seconds after which is looked anyhow: time and death commit nothing
LATELY = timedelta(hours=24)  # how far back skipped slots are counted


class DatabaseDesk:
    """See `Desk`. The database is opened by the first call that needs it; none is created."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ

    @cached_property
    def _app(self) -> App:
        return App(self._settings, self._environ)

    @property
    def _there(self) -> App:
        """For calls that cannot do without."""
        if not self._app.look():
            raise DatabaseUnavailable(*self._app.database.server.missing)
        return self._app

    @property
    def place(self) -> str:
        return self._app.database.place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "_app" in self.__dict__:
            self._app.close()

    def now(self) -> datetime:
        return self._app.now()

    # ---- jobs

    def enqueue(self, wanted: Wanted) -> Enqueued:
        app = self._there
        return app.enqueue(wanted.type, wanted.payload, _call(wanted, app.now()))

    def enqueue_many(self, wanted: Sequence[Wanted]) -> list[Enqueued]:
        app = self._there
        now, intake, made = app.now(), app.intake(), []
        for at, one in enumerate(wanted):
            try:
                made.append(intake.job(one.type, one.payload, now, _call(one, now)))
            except RunnerError as error:
                raise BulkRefused(at, error) from None
        return app.jobs.enqueue_many(made, now)

    def jobs(self, where: JobFilter, *, limit: int, after: int | None) -> tuple[list[View], int | None]:
        if not self._app.look():
            return [], None
        found, following = self._app.jobs.find(where, limit=limit, after=None if after is None else min(after, LARGEST))
        return self._app.views.view(found, self._app.now()) if found else [], following

    def job(self, job_id: int) -> View:
        app = self._there
        return app.views.whole(app.jobs.get(_countable(job_id)), app.now())

    def lines(self, job_id: int, *, after: int) -> Iterator[View]:
        app = self._there
        app.jobs.get(_countable(job_id))
        return _Lines(app, job_id, min(after, LARGEST)).new()

    def follow(self, job_id: int, *, after: int | None, limit: timedelta | None) -> Iterator[Turn]:
        app = self._there
        log = _Lines(app, _countable(job_id), min(after or 0, LARGEST))
        for _ in _looks(app, limit):
            now = app.now()
            job = app.views.view([app.jobs.get(job_id)], now)[0]  # before its lines: the last come with its end
            is_last = job["completed_at"] is not None
            yield Turn(now, job, log.new() if after is not None else (), is_last)

    def cancel(self, job_id: int, reason: str) -> str:
        app = self._there
        return cancel_result(app.jobs.cancel(_countable(job_id), app.now(), reason))

    def retry(self, job_id: int) -> str:
        app = self._there
        app.jobs.retry(_countable(job_id), app.now())
        return "pending"

    # ---- schedules

    def schedules(self, *, retired: bool) -> list[View]:
        return [row.data for row in self._app.schedules.all(retired=retired)] if self._app.look() else []

    def upcoming(self, name: str | None, count: int, now: datetime | None) -> list[View]:
        """Of the file: needs no database."""
        known = read(self._settings.config, self._environ, import_handlers=False).require().schedules
        if name is not None and name not in known:
            raise NotFound(f"there is no schedule {name!r} in the file", f"known: {', '.join(known) or 'none'}")
        chosen = [one for one in known.values() if name in (None, one.name)]
        return [upcoming(schedule, count, now or datetime.now(UTC)) for schedule in chosen]

    def pause(self, name: str, reason: str | None) -> View:
        app = self._there
        return app.schedules.pause(name, app.now(), by=applied_by(), reason=reason).data

    def resume(self, name: str) -> View:
        app = self._there
        return app.schedules.resume(name, app.now()).data

    def trigger(self, name: str) -> Enqueued:
        app = self._there
        return app.scheduler().trigger(name, app.now())

    def backfill(self, name: str, first: datetime, last: datetime) -> list[Enqueued]:
        app = self._there
        return app.scheduler().backfill(name, first, last, app.now())

    def history(self, name: str | None, limit: int) -> list[View]:
        rows = self._app.schedules.history(name, limit=limit) if self._app.look() else []
        return [row.model_dump() for row in rows]

    # ---- operation

    def plan(self, call: PlanCall) -> Planned:
        loaded = read(call.path, self._environ, import_handlers=call.import_handlers)
        wanted = loaded.require()
        stored, now = self._app.stored(), call.now or datetime.now(UTC)
        made = make_plan(stored, wanted, now, upcoming=call.upcoming, payload_problems=payload_problems)
        return Planned(report.as_json(made), report.shown(made, call.form, source=str(loaded.path)))

    def reload(self) -> None:
        raise UsageError(
            "nobody here is to be told: a process follows its file by itself",
            "--server URL tells one over HTTP; here: kill -HUP PID, with the PID that runner status names",
        )

    def inside(self, rows: Rows) -> Inside:
        app = self._app
        there, now = app.look(), app.now()
        if not there:
            return Inside(now, app.about(), None)
        seen = app.overviews.look(now, fires=rows.fires)
        skipped = app.overviews.skipped(now - LATELY) if rows.skipped else []
        running, ended = (app.overviews.running(rows.jobs), app.overviews.ended(rows.jobs)) if rows.jobs else ([], [])
        return Inside(now, app.about(), seen, skipped, running, ended)

    def workers(self) -> Sequence[WorkerView]:
        return self._app.overviews.workers(self._app.now())

    def changes(self) -> Callable[[], bool]:
        return self._app.database.changes()


def _call(wanted: Wanted, now: datetime) -> Call:
    run_at = wanted.run_at if wanted.delay is None else after(now, wanted.delay)
    return Call(wanted.priority, run_at, wanted.project_id, traceparent=wanted.traceparent)


def _countable(job_id: int) -> int:
    if abs(job_id) > LARGEST:
        raise NotFound(f"there is no job {job_id}", "runner jobs list")
    return job_id


def _looks(app: App, limit: timedelta | None) -> Iterator[None]:
    """A turn whenever something may have changed, a few a second at most, until the time is up."""
    changed = app.database.changes()
    began = time.monotonic()
    ends = began + limit.total_seconds() if limit is not None else None
    looked = began - AT_LEAST
    while True:
        if changed() or time.monotonic() - looked >= AT_LEAST:
            yield
            looked = time.monotonic()
        left = LOOK if ends is None else min(LOOK, ends - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


@dataclass(slots=True)
class _Lines:
    """The log of a job from where somebody stands in it."""

    app: App
    job_id: int
    after: int

    def new(self) -> Iterator[View]:
        while lines := self.app.logs.lines(self.job_id, after=self.after):
            for line in lines:
                self.after = line.id or self.after
                yield line.model_dump(exclude={"job_id"})
