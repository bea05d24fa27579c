"""The first page: how things are, each number a link to what it counts."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import Response

from runner.domain.access import Caller
from runner.domain.job import JobState
from runner.http.callers import Viewer
from runner.http.doors import Doors, In
from runner.web import filters, zones
from runner.web.charts import hour
from runner.web.filters import Filter
from runner.web.jobs import in_progress
from runner.web.rendering import page, pages

dashboard = pages()

FAILURES = 5
FIRES = 6
STATES = ("running", "pending", "completed", "failed", "cancelled")


@dashboard.get("/")
def look(request: Request, doors: In, caller: Viewer) -> Response:
    now, everything = doors.now(), Filter()
    with doors.reading():
        counted = filters.counts(doors, everything, caller, now)
        failed, _ = doors.jobs.find(everything.where((JobState.FAILED,), caller, now), limit=FAILURES)
        active, more = in_progress(doors, everything, caller, now)
        values: dict[str, Any] = {
            "counts": {state: counted[state] for state in STATES}, "active": active, "more": more,
            "failures": doors.views.view(failed, now) if failed else [],
        }  # fmt: skip
        values |= _operation(doors, caller, zones.chosen(request))
    return page(request, "dashboard.html", **values)


def _operation(doors: Doors, caller: Caller, zone: str) -> dict[str, Any]:
    """What belongs to no project is not told to a key that is bound to some."""
    if caller.is_bound:
        return {"seen": None, "idle": []}
    now = doors.now()
    seen = doors.overviews.look(now, fires=FIRES)
    return {"seen": seen, "idle": seen.untaken, "hour": hour(doors.overviews.pace(now), zone)}
