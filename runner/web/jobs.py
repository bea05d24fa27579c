"""The list of jobs: what is in progress, which renews itself, and below it the archive."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import Request
from starlette.responses import Response

from runner.domain.access import Caller
from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.http.callers import Viewer
from runner.http.doors import Doors, In
from runner.web import filters
from runner.web.filters import Filter
from runner.web.rendering import page, pages

jobs = pages()

MOST_ACTIVE = 20
ROWS = 50


@jobs.get("/jobs")
def list_jobs(request: Request, doors: In, caller: Viewer, part: str = "") -> Response:
    """With `part=live` only what is in progress: cheap to ask for again and again."""
    now = doors.now()
    found = filters.checked(Filter.of(request.query_params), now)
    with doors.reading():
        active, more = in_progress(doors, found, caller, now)
        values: dict[str, Any] = {"active": active, "more": more}
        if part != "live":
            values |= _archive(doors, found, caller, now)
    return page(request, "jobs_live.html" if part == "live" else "jobs.html", **values)


def _archive(doors: Doors, found: Filter, caller: Caller, now: datetime) -> dict[str, Any]:
    where = found.where(filters.TABS[found.state], caller, now)
    rows, following = doors.jobs.find(where, limit=ROWS, after=found.after)
    return {
        "filter": found, "tabs": filters.counts(doors, found, caller, now), "following": following,
        "rows": doors.views.view(rows, now) if rows else [], "types": _types(doors),
    }  # fmt: skip


def in_progress(doors: Doors, found: Filter, caller: Caller, now: datetime) -> tuple[list[dict[str, Any]], bool]:
    """What runs, then what waits; and whether there is more."""
    chosen: list[Job] = []
    more = False
    for state in (JobState.RUNNING, JobState.PENDING):
        left = MOST_ACTIVE - len(chosen)
        rows, following = doors.jobs.find(found.where((state,), caller, now), limit=max(left, 1))
        more = more or following is not None or (not left and bool(rows))
        chosen += rows[:left]
    return doors.views.view(chosen, now) if chosen else [], more


def _types(doors: Doors) -> list[str]:
    revision = doors.revisions.current()
    return sorted(revision.definitions.job_types) if revision is not None else []
