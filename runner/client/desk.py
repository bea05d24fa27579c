"""The desk of a server: each call of `Desk` as a request, and its answer as a database would give it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from runner.client.stream import Event, Stream
from runner.client.wire import Answer, Wire
from runner.domain.desk import Inside, PlanCall, Planned, Rows, Turn, View, Wanted
from runner.domain.errors import (
    BulkRefused,
    ConfigInvalid,
    NotAllowed,
    NotFound,
    PayloadInvalid,
    RunnerError,
    ServerUnreachable,
    UnknownJobType,
    UsageError,
)
from runner.domain.job import Enqueued, JobFilter, JobState
from runner.domain.plain import require_storable, timed
from runner.domain.schedule import priority_of

if TYPE_CHECKING:
    from runner.domain.overview import WorkerView

LARGEST = 2**63 - 1  # what a server can count
MOST_IN_BULK = 1000
MOST_LINES = 10_000  # of a log, in one answer
AT_LEAST = 2.0  # seconds after which there is a turn anyhow
WORKERS_KEPT = 5.0  # seconds that the list of workers is believed
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
JOB_TIMES = ("scheduled_for", "run_at", "created_at", "started_at", "completed_at", "last_heartbeat")
RUN_TIMES = ("started_at", "finished_at")
SCHEDULE_TIMES = ("paused_at", "last_run", "next_run", "cursor", "retired_at", "created_at", "updated_at")
SLOT_TIMES = ("slot", "first_slot", "decided_at")


class ServerDesk:
    """See `Desk`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._workers: tuple[float, Sequence[WorkerView]] = (-WORKERS_KEPT, ())

    @property
    def place(self) -> str:
        return self._wire.place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()

    def now(self) -> datetime:
        return self._wire.now()

    # ---- jobs

    def enqueue(self, wanted: Wanted) -> Enqueued:
        answer = self._wire.post("/api/jobs", _new_job(wanted), **_once(wanted))
        return _enqueued([answer.data], answer)[0]

    def enqueue_many(self, wanted: Sequence[Wanted]) -> list[Enqueued]:
        if len(wanted) > MOST_IN_BULK:
            raise UsageError(f"{len(wanted):,} jobs, and a server takes {MOST_IN_BULK:,} at once", "split the file")
        bodies = []
        for at, one in enumerate(wanted):
            try:
                bodies.append(_new_job(one))
            except RunnerError as error:
                raise BulkRefused(at, error) from None
        if not bodies:
            return []
        try:
            answer = self._wire.post("/api/jobs/bulk", {"jobs": bodies}, **_once(wanted[0]))
        except (PayloadInvalid, UnknownJobType, UsageError) as error:  # of one alone, it is told as of one alone
            raise BulkRefused(0, error) if len(bodies) == 1 else error from None
        return _enqueued(answer.data["jobs"], answer)

    def jobs(self, where: JobFilter, *, limit: int, after: int | None) -> tuple[list[View], int | None]:
        found = self._wire.get(
            "/api/jobs", status=where.status, type=where.type, queue=where.queue, schedule=where.schedule,
            project_id=where.project_id, since=where.since, until=where.until, q=where.q, limit=limit,
            after=None if after is None else min(after, LARGEST),
        )  # fmt: skip
        return [_job(one) for one in found["jobs"]], found["next"]

    def job(self, job_id: int) -> View:
        return _job(self._wire.get(_job_path(job_id)))

    def lines(self, job_id: int, *, after: int) -> Iterator[View]:
        path = _job_path(job_id, "/logs")
        page = self._wire.get(path, after=min(after, LARGEST), limit=MOST_LINES)
        return self._further(path, page)

    def _further(self, path: str, page: Mapping[str, Any]) -> Iterator[View]:
        while True:
            yield from (timed(line, "at") for line in page["lines"])
            if page["next"] is None:
                return
            page = self._wire.get(path, after=page["next"], limit=MOST_LINES)

    def follow(self, job_id: int, *, after: int | None, limit: timedelta | None) -> Iterator[Turn]:
        self.job(job_id)  # the first try is made as any other: a stream waits for longer
        ends = None if limit is None else time.monotonic() + limit.total_seconds()
        watched = _Watched(self, job_id)
        with Stream(self._wire, job_id, LARGEST if after is None else min(after, LARGEST)) as stream:
            is_over = False
            while not is_over:
                left = AT_LEAST if ends is None else min(AT_LEAST, ends - time.monotonic())
                lines = watched.hear(stream.take(left))
                if watched.job is not None and (watched.is_whole or (lines and after is not None)):
                    yield Turn(self.now(), watched.job, lines, watched.has_ended)
                is_over = ends is not None and time.monotonic() >= ends

    def cancel(self, job_id: int, reason: str) -> str:
        return str(self._wire.post(_job_path(job_id, "/cancel"), {"reason": reason}).data["result"])

    def retry(self, job_id: int) -> str:
        return str(self._wire.post(_job_path(job_id, "/retry")).data["result"])

    # ---- schedules

    def schedules(self, *, retired: bool) -> list[View]:
        return [timed(one, *SCHEDULE_TIMES) for one in self._wire.get("/api/schedules", retired=retired)["schedules"]]

    def upcoming(self, name: str | None, count: int, now: datetime | None) -> list[View]:
        """Of the revision in force."""
        found = self._wire.get("/api/upcoming", name=name, count=count, now=now)["schedules"]
        return [one | {"next": [timed(fire, "utc") for fire in one["next"]]} for one in found]

    def pause(self, name: str, reason: str | None) -> View:
        return timed(self._wire.post(_schedule_path(name, "/pause"), {"reason": reason}).data, *SCHEDULE_TIMES)

    def resume(self, name: str) -> View:
        return timed(self._wire.post(_schedule_path(name, "/resume")).data, *SCHEDULE_TIMES)

    def trigger(self, name: str) -> Enqueued:
        answer = self._wire.post(_schedule_path(name, "/trigger"))
        return _enqueued([answer.data], answer)[0]

    def backfill(self, name: str, first: datetime, last: datetime) -> list[Enqueued]:
        body = {"from": first.isoformat(), "to": last.isoformat()}
        answer = self._wire.post(_schedule_path(name, "/backfill"), body)
        return _enqueued(answer.data["jobs"], answer)

    def history(self, name: str | None, limit: int) -> list[View]:
        if name is not None:
            _schedule_path(name)
        return [timed(one, *SLOT_TIMES) for one in self._wire.get("/api/slots", schedule=name, limit=limit)["slots"]]

    # ---- operation

    def plan(self, call: PlanCall) -> Planned:
        """The server judges the file: by its own environment, and without importing anything."""
        body = {"source": _text(call.path), "name": str(call.path), "next": call.upcoming, "form": call.form}
        if call.now is not None:
            body["now"] = call.now.isoformat()
        try:
            data = self._wire.post("/api/config/plan", body).data
        except ConfigInvalid as error:
            raise ConfigInvalid(str(call.path), error.problems) from None
        return Planned(data, data.pop("shown") or "")

    def reload(self) -> None:
        self._wire.post("/api/config/reload")

    def inside(self, rows: Rows) -> Inside:
        from runner.domain.overview_data import ended_from, overview_from, running_from

        found = self._wire.get("/api/stats", fires=rows.fires, rows=rows.jobs, skipped=rows.skipped)
        if "database" not in found:
            raise NotAllowed("this key is bound to projects, and what is asked for belongs to none",
                             "a key without --project; runner jobs list shows the jobs of its projects")  # fmt: skip
        seen, skipped = overview_from(found)
        running, ended = running_from(found["running"]), ended_from(found["ended"])
        return Inside(datetime.fromisoformat(found["at"]), found["database"], seen, skipped, running, ended)

    def workers(self) -> Sequence[WorkerView]:
        from runner.domain.overview_data import worker_from

        asked, known = self._workers
        if time.monotonic() - asked >= WORKERS_KEPT:
            with suppress(NotAllowed, ServerUnreachable):  # a key of projects sees none; a watch outlives its server
                known = [worker_from(one) for one in self._wire.get("/api/workers")["workers"]]
            self._workers = (time.monotonic(), known)
        return known

    def changes(self) -> Callable[[], bool]:
        return lambda: True


@dataclass(slots=True)
class _Watched:
    """A job as its events tell it."""

    desk: ServerDesk
    job_id: int
    job: View | None = None
    has_ended: bool = False

    @property
    def is_whole(self) -> bool:
        """Of a job that has ended there may be more to come, until its end is told."""
        return self.job is not None and (self.has_ended or self.job["completed_at"] is None)

    def hear(self, events: Sequence[Event]) -> list[View]:
        """The lines of its log that came."""
        lines = []
        for event in events:
            match event.name:
                case "snapshot":
                    self.job = _watched(_job(event.data))
                case "end":
                    self.job, self.has_ended = _watched(_job(event.data)), True
                case "progress" if self.job is not None:
                    told = ("progress", "current_step", "message")
                    self.job = self.job | {name: event.data[name] for name in told}
                case "log":
                    lines.append(timed(event.data, "at"))
        if not self.has_ended and _is_news(events):
            with suppress(ServerUnreachable):  # who comes again begins with a snapshot
                self.job = _watched(self.desk.job(self.job_id))  # a state comes without the attempts
        return lines


def _is_news(events: Sequence[Event]) -> bool:
    return any(event.name == "state" for event in events)


def _watched(job: View) -> View:
    """Without what only `jobs show` tells."""
    return {name: value for name, value in job.items() if name not in ("outputs", "queue_position")}


def _job(data: Mapping[str, Any]) -> View:
    return timed(data, *JOB_TIMES) | {"attempts": [timed(one, *RUN_TIMES) for one in data["attempts"]]}


def _job_path(job_id: int, more: str = "") -> str:
    if not 1 <= job_id <= LARGEST:
        raise NotFound(f"there is no job {job_id}", "runner jobs list")
    return f"/api/jobs/{job_id}{more}"


def _schedule_path(name: str, more: str = "") -> str:
    if NAME.fullmatch(name) is None:
        raise NotFound(f"there is no schedule {name!r} in the database", "runner schedules list")
    return f"/api/schedules/{quote(name, safe='')}{more}"


def _new_job(wanted: Wanted) -> dict[str, Any]:
    if wanted.project_id is not None:
        require_storable(wanted.project_id, "project_id")
    said = {
        "priority": None if wanted.priority is None else priority_of(wanted.priority),
        "run_at": None if wanted.run_at is None else wanted.run_at.isoformat(),
        "delay": None if wanted.delay is None else wanted.delay.total_seconds(),
        "project_id": wanted.project_id,
    }
    told = {name: value for name, value in said.items() if value is not None}
    return {"type": wanted.type, "payload": wanted.payload} | told


def _once(wanted: Wanted) -> dict[str, str]:
    """Whatever is lost on the way, the jobs are made once."""
    trace = {} if wanted.traceparent is None else {"traceparent": wanted.traceparent}
    return {"Idempotency_Key": str(uuid.uuid4())} | trace


def _enqueued(found: Sequence[Mapping[str, Any]], answer: Answer) -> list[Enqueued]:
    """The answer to a second try calls all of them duplicates: of the first, which was ours too."""
    is_replayed = "Idempotency-Replayed" in answer.headers
    return [Enqueued(one["id"], JobState(one["status"]), one["duplicate"] and not is_replayed) for one in found]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        from runner.config.load import load

        raise ConfigInvalid(str(path), load(path, environ={}).problems) from None
