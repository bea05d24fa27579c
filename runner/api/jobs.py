"""The routes of jobs: list, create, one, its log and its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Header, Path, Query, Request
from starlette.responses import Response

from runner.api import answers, bodies
from runner.api.bodies import LARGEST, Storable
from runner.api.intake import enqueue
from runner.api.routing import WITH_BODY, also, here, problems, router
from runner.domain.access import Caller
from runner.domain.duration import parse_duration
from runner.domain.errors import NotFound
from runner.domain.job import Enqueued
from runner.http.answers import Json
from runner.http.callers import Operator, Reader, Viewer
from runner.http.doors import In
from runner.http.frames import covered
from runner.storage.jobs import JobFilter

jobs = router("/api/jobs", "jobs")

Id = Annotated[int, Path(ge=1, le=LARGEST, description="The number of a job.")]
KeyHeader = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255,
           description="The same request with the same key makes its jobs once, for a day."),
]  # fmt: skip
TraceHeader = Annotated[str | None, Header(alias="traceparent", include_in_schema=False)]
DUPLICATE: dict[int | str, dict[str, Any]] = {
    200: {"model": answers.EnqueuedBody, "description": "A duplicate: the job that is there already"}
}
MOST_LINES = 10_000


@jobs.get("", response_model=answers.JobsBody, summary="List jobs, newest first")
def list_jobs(doors: In, caller: Viewer, query: Annotated[bodies.JobQuery, Query()]) -> Response:
    now = doors.now()
    where = conditions(query, caller, now)
    with doors.reading():
        found, following = doors.jobs.find(where, limit=query.limit, after=query.after, offset=query.offset)
        total, shown = doors.jobs.count(where), doors.views.view(found, now) if found else []
    return Json({"jobs": shown, "total": total, "limit": query.limit, "offset": query.offset, "next": following})


def conditions(given: bodies.JobConditions, caller: Caller, now: datetime) -> JobFilter:
    """What is asked for, of what the caller may see."""
    return JobFilter(
        tuple(given.status), tuple(given.type), given.queue, given.schedule, given.project_id,
        _ago(given.since, now), _ago(given.until, now), given.q, caller.projects,
    )  # fmt: skip


def _ago(given: datetime | str | None, now: datetime) -> datetime | None:
    return now - parse_duration(given) if isinstance(given, str) else given


@jobs.post(
    "", status_code=201, response_model=answers.EnqueuedBody, summary="Enqueue a job",
    responses=DUPLICATE | problems(*WITH_BODY, 404, 409),
)  # fmt: skip
def create(
    request: Request, doors: In, caller: Operator, body: bodies.NewJobBody, key: KeyHeader = None,
    traceparent: TraceHeader = None,
) -> Response:  # fmt: skip
    made = enqueue(doors, caller, [body], key, traceparent)[0]
    where = {"Location": here(request, f"/api/jobs/{made.id}")}
    return Json(enqueued(made), 200 if made.duplicate else 201, headers=where | replayed([made]))


def replayed(made: Sequence[Enqueued]) -> dict[str, str]:
    """The header by which a client tells that the jobs are those of his own first request."""
    return {"Idempotency-Replayed": "true"} if any(one.replayed for one in made) else {}


def enqueued(made: Enqueued) -> dict[str, Any]:
    return {"id": made.id, "status": made.status, "duplicate": made.duplicate}


@jobs.get("/{job_id:int}", response_model=answers.OneJobBody, summary="One job", responses=problems(404))
def one_job(doors: In, caller: Reader, job_id: Id) -> Response:
    with doors.reading():
        job = doors.job(job_id, caller)
        found = doors.views.whole(job, doors.now())
    return Json(found if caller.sees(job.project_id) else covered(found))


@jobs.get(
    "/{job_id:int}/logs", response_model=answers.LogsBody, summary="Lines of its log",
    responses=also("text/plain") | problems(404),
)  # fmt: skip
def log_lines(
    request: Request, doors: In, caller: Reader, job_id: Id,
    after: Annotated[int, Query(ge=0, le=LARGEST, description="Only lines with an id above this.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_LINES)] = 1000,
) -> Response:  # fmt: skip
    """As JSON; as plain text where `Accept` asks for `text/plain`."""
    doors.job(job_id, caller)
    found = doors.logs.lines(job_id, after=after, limit=limit)
    following = found[-1].id if len(found) == limit else None
    if _wants_text(request):
        text = "".join(f"{line.at.isoformat()} {line.level} {line.message}\n" for line in found)
        return Response(text.encode("utf-8", "replace"), media_type="text/plain; charset=utf-8")
    return Json({"lines": [line.model_dump(exclude={"job_id"}) for line in found], "next": following})


def _wants_text(request: Request) -> bool:
    return request.headers.get("accept", "").partition(";")[0].strip() == "text/plain"


@jobs.get(
    "/{job_id:int}/outputs/{name:path}", summary="What it shows, as a file",
    responses=also("*/*") | problems(404),
)  # fmt: skip
def output(doors: In, caller: Reader, job_id: Id, name: Storable) -> Response:
    """As an attachment that no browser runs: it is what a handler wrote."""
    doors.job(job_id, caller)
    found = doors.logs.output(job_id, name)
    if found is None:
        raise NotFound(f"job {job_id} has no output {name!r}", f"GET /api/jobs/{job_id}")
    media_type, data = found
    headers = {"Content-Disposition": "attachment", "Content-Security-Policy": "sandbox; default-src 'none'"}
    return Response(data, media_type=media_type, headers=headers)
