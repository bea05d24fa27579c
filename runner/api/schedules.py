"""The routes of schedules: as the command line has them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import Response

from runner.api import answers, bodies
from runner.api.jobs import DUPLICATE, enqueued
from runner.api.routing import WITH_BODY, here, problems, router
from runner.domain.ledger import ScheduleStatus
from runner.domain.upcoming import upcoming
from runner.http.answers import Json
from runner.http.callers import Operator, Viewer
from runner.http.doors import In
from runner.storage.serial import schedule_from

schedules = router("/api/schedules", "schedules")

Name = Annotated[str, Path(description="The name of a schedule.")]
MOST = 1000


@schedules.get("", response_model=answers.SchedulesBody, summary="List the schedules of the database")
def list_schedules(
    doors: In, caller: Viewer, retired: Annotated[bool, Query(description="Also those that left the file.")] = False
) -> Response:
    rows = doors.schedules.all(retired=retired)
    return Json({"schedules": [_data(row) for row in rows if caller.sees(row.spec.get("project_id"))]})


def _data(row: ScheduleStatus) -> dict[str, Any]:
    return row.model_dump(exclude={"spec"}) | {"state": row.state}


@schedules.get("/{name}", response_model=answers.ScheduleBody, summary="One schedule", responses=problems(404))
def one_schedule(doors: In, caller: Viewer, name: Name) -> Response:
    return Json(_data(doors.schedule(name, caller)))


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
    doors.schedule(name, caller)
    reason = body.reason if body is not None else None
    row = doors.schedules.pause(name, doors.now(), by=caller.name, reason=reason)
    doors.audit(caller, "pause", f"schedule {name}", detail=reason)
    return Json(_data(row))


@schedules.post(
    "/{name}/resume", response_model=answers.ScheduleBody, summary="End a pause", responses=problems(404, 409)
)
def resume(doors: In, caller: Operator, name: Name) -> Response:
    """What was missed is not made up."""
    doors.schedule(name, caller)
    row = doors.schedules.resume(name, doors.now())
    doors.audit(caller, "resume", f"schedule {name}")
    return Json(_data(row))


@schedules.post(
    "/{name}/trigger", status_code=201, response_model=answers.EnqueuedBody, summary="Run it now",
    responses=DUPLICATE | problems(404, 409),
)  # fmt: skip
def trigger(request: Request, doors: In, caller: Operator, name: Name) -> Response:
    """Ignores pause, jitter and time, obeys its overlap policy."""
    doors.schedule(name, caller)
    made = doors.engine.trigger(name, doors.now())
    doors.audit(caller, "trigger", f"schedule {name}", detail=f"job {made.id}")
    where = {"Location": here(request, f"/api/jobs/{made.id}")}
    return Json(enqueued(made), 200 if made.duplicate else 201, headers=where)


@schedules.post(
    "/{name}/backfill", status_code=201, response_model=answers.BulkAnswer, summary="Enqueue past slots",
    responses=problems(*WITH_BODY, 404, 409),
)  # fmt: skip
def backfill(doors: In, caller: Operator, name: Name, body: bodies.BackfillBody) -> Response:
    doors.schedule(name, caller)
    made = doors.engine.backfill(name, body.start, body.end, doors.now())
    doors.audit(caller, "backfill", f"schedule {name}", detail=f"{len(made)} jobs")
    return Json({"jobs": [enqueued(one) for one in made]}, 201)
