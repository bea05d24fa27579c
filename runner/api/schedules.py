"""The routes of schedules: as the command line has them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import Response

from runner.api import answers, bodies
from runner.api.bodies import Storable
from runner.api.jobs import DUPLICATE, enqueued
from runner.api.routing import WITH_BODY, here, problems, router
from runner.domain.errors import NotFound
from runner.domain.upcoming import upcoming
from runner.http import acts
from runner.http.answers import Json
from runner.http.callers import Operator, Viewer
from runner.http.doors import In
from runner.storage.serial import schedule_from

schedules = router("/api/schedules", "schedules")
ledger = router("/api", "schedules")

Name = Annotated[Storable, Path(description="The name of a schedule.")]
MOST = 1000
MOST_ROWS = 10_000


@schedules.get("", response_model=answers.SchedulesBody, summary="List the schedules of the database")
def list_schedules(
    doors: In, caller: Viewer, retired: Annotated[bool, Query(description="Also those that left the file.")] = False
) -> Response:
    rows = doors.schedules.all(retired=retired)
    return Json({"schedules": [row.data for row in rows if caller.sees(row.spec.get("project_id"))]})


@schedules.get("/{name}", response_model=answers.ScheduleBody, summary="One schedule", responses=problems(404))
def one_schedule(doors: In, caller: Viewer, name: Name) -> Response:
    return Json(doors.schedule(name, caller).data)


@schedules.get("/{name}/next", response_model=answers.NextBody, summary="When it fires next", responses=problems(404))
def next_fires(
    doors: In, caller: Viewer, name: Name, count: Annotated[int, Query(ge=1, le=MOST)] = 3
) -> Response:  # fmt: skip
    """By the scheduler's own function, in UTC and in the zone of the schedule."""
    row = doors.schedule(name, caller)
    return Json(upcoming(schedule_from(row.spec), count, doors.now()))


@schedules.get(
    "/{name}/history", response_model=answers.HistoryBody, summary="What became of its slots", responses=problems(404)
)
def history(doors: In, caller: Viewer, name: Name, limit: Annotated[int, Query(ge=1, le=MOST)] = 50) -> Response:
    """The newest first: whether each ran, and if not, why."""
    doors.schedule(name, caller)
    return Json({"slots": [row.model_dump() for row in doors.schedules.history(name, limit=limit)]})


@schedules.post(
    "/{name}/pause", response_model=answers.ScheduleBody, summary="Fire nothing until it is resumed",
    responses=problems(*WITH_BODY, 404),
)  # fmt: skip
def pause(doors: In, caller: Operator, name: Name, body: bodies.PauseBody | None = None) -> Response:
    """A reload of the file does not touch it."""
    return Json(acts.pause(doors, caller, name, body.reason if body is not None else None).data)


@schedules.post(
    "/{name}/resume", response_model=answers.ScheduleBody, summary="End a pause", responses=problems(404, 409)
)
def resume(doors: In, caller: Operator, name: Name) -> Response:
    """What was missed is not made up."""
    return Json(acts.resume(doors, caller, name).data)


@schedules.post(
    "/{name}/trigger", status_code=201, response_model=answers.EnqueuedBody, summary="Run it now",
    responses=DUPLICATE | problems(404, 409),
)  # fmt: skip
def trigger(request: Request, doors: In, caller: Operator, name: Name) -> Response:
    """Ignores pause, jitter and time, obeys its overlap policy."""
    made = acts.trigger(doors, caller, name)
    where = {"Location": here(request, f"/api/jobs/{made.id}")}
    return Json(enqueued(made), 200 if made.duplicate else 201, headers=where)


@schedules.post(
    "/{name}/backfill", status_code=201, response_model=answers.BulkAnswer, summary="Enqueue past slots",
    responses=problems(*WITH_BODY, 404, 409),
)  # fmt: skip
def backfill(doors: In, caller: Operator, name: Name, body: bodies.BackfillBody) -> Response:
    doors.schedule(name, caller)
    entry = doors.entry(caller, "backfill", f"schedule {name}")
    made = doors.engine.backfill(name, body.start, body.end, doors.now(), entry)
    return Json({"jobs": [enqueued(one) for one in made]}, 201)


@ledger.get("/upcoming", response_model=answers.UpcomingBody, summary="When schedules fire next",
            responses=problems(404))  # fmt: skip
def fires(
    doors: In, caller: Viewer,
    name: Annotated[str | None, Query(description="One schedule; all if left out.")] = None,
    count: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 3,
    now: Annotated[bodies.Moment | None, Query(description="The time to count from; that of the server.")] = None,
) -> Response:  # fmt: skip
    """Those of the revision in force, by the scheduler's own function."""
    revision = doors.revisions.current()
    found = revision.definitions.schedules if revision is not None else {}
    known = {one.name: one for one in found.values() if caller.sees(one.project_id)}
    if name is not None and name not in known:
        remedy = f"known: {', '.join(known) or 'none'}"
        raise NotFound(f"there is no schedule {name!r} in the revision in force", remedy)
    since = now or doors.now()
    return Json({"schedules": [upcoming(one, count, since) for one in known.values() if name in (None, one.name)]})


@ledger.get("/slots", response_model=answers.HistoryBody, summary="What became of slots", responses=problems(404))
def slots(
    doors: In, caller: Viewer,
    schedule: Annotated[Storable | None, Query(description="Of one schedule; of all if left out.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
) -> Response:  # fmt: skip
    """The newest first: whether each ran, and if not, why."""
    if schedule is not None:
        doors.schedule(schedule, caller)
    mine = None
    if caller.is_bound:
        mine = [row.name for row in doors.schedules.all(retired=True) if caller.sees(row.spec.get("project_id"))]
    found = doors.schedules.history(schedule, limit=limit, among=mine)
    return Json({"slots": [row.model_dump() for row in found]})
