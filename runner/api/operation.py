"""The routes of operation: the file in force, who runs jobs, how much waits, who did what."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from runner.api import answers, bodies
from runner.api.bodies import LARGEST
from runner.api.routing import WITH_BODY, problems, router
from runner.config.load import load_text
from runner.config.payload_checks import payload_problems
from runner.domain.job import JobFilter
from runner.domain.overview_data import overview_data, worker_data
from runner.domain.plan import plan as make_plan
from runner.domain.plan import report
from runner.http.answers import Json
from runner.http.callers import OverallAdmin, OverallOperator, OverallViewer, Viewer
from runner.http.doors import In
from runner.http.problems import Refused
from runner.storage.serial import to_data

operation = router("/api", "operation")
LATELY = timedelta(hours=24)  # how far back skipped slots are counted
MOST_ROWS = 1000


@operation.get("/config", response_model=answers.ConfigBody, summary="The revision in force, and problems of the file")
def config(doors: In, caller: OverallViewer) -> Response:
    revision = doors.revisions.current()
    seen = doors.overviews.look(doors.now(), fires=0)
    return Json(
        {
            "revision": seen.revision and asdict(seen.revision),
            "problems": [asdict(problem) for problem in seen.problems],
            "definitions": to_data(revision.definitions) if revision is not None else None,
        }
    )


@operation.post(
    "/config/reload", status_code=202, response_model=answers.ReloadBody, summary="Read the file at once",
)  # fmt: skip
def reload(doors: In, caller: OverallOperator) -> Response:
    """As SIGHUP does; `GET /api/config` tells what came of it."""
    if doors.engine.reload is None:
        raise Refused(503, "this process follows no file")
    doors.audit(caller, "reload", "config")  # before it is done: it is no transaction that could hold both
    doors.engine.reload()
    return Json({"result": "the file is read again"}, 202)


@operation.post(
    "/config/plan", response_model=answers.PlanAnswer, summary="What applying a file would do",
    responses=problems(*WITH_BODY),
)  # fmt: skip
def plan(doors: In, caller: OverallAdmin, body: bodies.PlanBody) -> Response:
    """Changes nothing, and imports no handler: only the text is looked at."""
    wanted = load_text(body.source, environ=doors.environ).require()
    now = body.now or doors.now()
    made = make_plan(doors.stored(), wanted, now, upcoming=body.next, payload_problems=payload_problems)
    return Json(report.as_json(made) | {"shown": report.shown(made, body.form, source=body.name) or None})


@operation.get("/workers", response_model=answers.WorkersBody, summary="The processes that serve this database")
def workers(doors: In, caller: OverallViewer) -> Response:
    return Json({"workers": [worker_data(one) for one in doors.overviews.workers(doors.now())]})


@operation.get("/stats", response_model=answers.StatsBody, summary="How things are")
def stats(
    doors: In, caller: Viewer,
    fires: Annotated[int, Query(ge=0, le=MOST_ROWS, description="How many next fires.")] = 5,
    rows: Annotated[int, Query(ge=0, le=MOST_ROWS, description="How many jobs that run, and that have ended.")] = 0,
    skipped: Annotated[bool, Query(description="Also slots that were skipped in the last 24 hours.")] = True,
) -> Response:  # fmt: skip
    """As `runner status` tells it. A key that is bound to projects is told of their jobs alone."""
    now = doors.now()
    with doors.reading():
        counts = doors.jobs.counts(JobFilter(projects=caller.projects) if caller.is_bound else None)
        if caller.is_bound:
            return Json({"at": now, "jobs": counts})
        seen = doors.overviews.look(now, fires=fires)
        lately = doors.overviews.skipped(now - LATELY) if skipped else []
        jobs: dict[str, Any] = {
            "running": doors.overviews.running(rows) if rows else [],
            "ended": doors.overviews.ended(rows) if rows else [],
        }
    return Json({"at": now, "jobs": counts} | overview_data(seen, lately) | {"database": doors.database()} | jobs)


@operation.get("/audit", response_model=answers.AuditsBody, summary="Who cancelled, paused, triggered")
def audit(
    doors: In, caller: OverallAdmin, limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=1, le=LARGEST, description="`next` of the page before.")] = None,
) -> Response:  # fmt: skip
    """The newest first."""
    found = doors.access.audited(limit=limit, before=before)
    following = found[-1].id if len(found) == limit else None
    return Json({"entries": [one.model_dump() for one in found], "next": following})
