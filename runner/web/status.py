"""The status page of a job, and what can be done there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path, Query, Request
from starlette.responses import Response, StreamingResponse

from runner.domain.access import Role
from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.http import acts
from runner.http.callers import Operator, Reader
from runner.http.doors import LARGEST, Doors, In
from runner.http.masking import masked
from runner.http.shares import LENGTHS
from runner.web.previews import previews
from runner.web.rendering import back, page, pages, reason, to
from runner.web.session import Form

status = pages()

Id = Annotated[int, Path(ge=1, le=LARGEST)]
Line = Annotated[int | None, Query(ge=1, le=LARGEST)]
RunNumber = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
TAIL = 1000  # lines of the log that come with the page
BEFORE = 100  # of them before the one that an address names
PAGE = 5000


@dataclass(frozen=True, slots=True)
class Step:
    """One of the way that a job goes. `key` is what a handler calls it."""

    key: str
    label: str
    is_done: bool
    is_current: bool


@status.get("/jobs/{job_id}")
def one_job(
    request: Request, doors: In, caller: Reader, job_id: Id, line: Line = None, run: RunNumber = None
) -> Response:
    now = doors.now()
    with doors.reading():
        job = doors.job(job_id, caller)
        values: dict[str, Any] = {
            "job": doors.views.view([job], now)[0], "steps": steps(job, _declared(doors, job)), "line": line,
            "position": doors.jobs.position(job, now) if job.status == JobState.PENDING else None, "run": run,
            "lines": _lines(doors, job_id, line, run), "outputs": previews(doors, job_id),
        }  # fmt: skip
    values |= {
        "is_over": job.completed_at is not None, "payload": masked(job.payload), "result": masked(job.result),
        "may_act": caller.role.may(Role.OPERATOR) and caller.sees(job.project_id), "lengths": LENGTHS, "tail": TAIL,
    }  # fmt: skip
    return page(request, "job.html", **values)


def _declared(doors: Doors, job: Job) -> tuple[str, ...]:
    revision = doors.revisions.current()
    job_type = revision.definitions.job_types.get(job.type) if revision is not None else None
    return job_type.steps if job_type is not None else ()


def steps(job: Job, declared: tuple[str, ...]) -> list[Step]:
    """Queued, what the type declares, complete. A step that nobody declared stands where it is said."""
    named = declared or ("running",)
    is_running = job.status == JobState.RUNNING
    if job.status == JobState.COMPLETED:
        at = len(named) + 1
    elif job.current_step in named and (is_running or job.completed_at is not None):
        at = named.index(job.current_step) + 1
    else:
        at = 1 if is_running or (job.completed_at is not None and job.run_number > 0) else 0
    labels = [("queued", "Queued"), *((one, _title(one)) for one in named), ("complete", "Complete")]
    is_whole = job.status == JobState.COMPLETED
    return [Step(key, label, n < at or is_whole, n == at and not is_whole) for n, (key, label) in enumerate(labels)]


def _title(step: str) -> str:
    return step.replace("_", " ").capitalize()


def _lines(doors: Doors, job_id: int, line: int | None, run: int | None) -> list[Any]:
    """The newest; with a line in the address those around it, and what follows comes by the stream."""
    if line is None:
        return list(doors.logs.newest(job_id, LARGEST, TAIL, run))
    before = doors.logs.newest(job_id, line, BEFORE, run)
    after = before[-1].id if before else line
    return [*before, *doors.logs.lines(job_id, after=after or 0, limit=TAIL, run=run)]


@status.get("/jobs/{job_id}/log.txt")
def raw_log(doors: In, caller: Reader, job_id: Id, run: RunNumber = None) -> Response:
    """All of it, or of one run, as a file."""
    doors.job(job_id, caller)
    headers = {"Content-Disposition": f'attachment; filename="job-{job_id}.log"'}
    return StreamingResponse(_text(doors, job_id, run), media_type="text/plain; charset=utf-8", headers=headers)


def _text(doors: Doors, job_id: int, run: int | None) -> Iterator[bytes]:
    after = 0
    while found := doors.logs.lines(job_id, after=after, limit=PAGE, run=run):
        after = found[-1].id or after
        text = "".join(f"{line.at.isoformat()} {line.level} {line.message}\n" for line in found)
        yield text.encode("utf-8", "replace")


@status.get("/jobs/{job_id}/cancel")
def ask_to_cancel(request: Request, doors: In, caller: Operator, job_id: Id) -> Response:
    """Where there is no script, the question is a page."""
    return page(request, "cancel.html", job=doors.job(job_id, caller))


@status.post("/jobs/{job_id}/cancel")
def cancel(request: Request, doors: In, caller: Operator, job_id: Id, form: Form) -> Response:
    given = dict(form)
    acts.cancel(doors, caller, job_id, reason(given))
    return back(request, given, f"/jobs/{job_id}")


@status.post("/jobs/{job_id}/retry")
def retry(request: Request, doors: In, caller: Operator, job_id: Id) -> Response:
    acts.retry(doors, caller, job_id)
    return to(request, f"/jobs/{job_id}")
