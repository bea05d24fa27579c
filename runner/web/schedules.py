"""The pages of schedules: when each fires, what became of its slots, and what can be done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Annotated, Any

from fastapi import Path, Request
from starlette.responses import Response

from runner.domain.access import Caller
from runner.domain.ledger import ScheduleStatus
from runner.domain.overview import FiredJob, SlotView
from runner.domain.plan import Fire
from runner.domain.schedule import Schedule
from runner.domain.timing import in_words
from runner.domain.upcoming import upcoming
from runner.http import acts
from runner.http.callers import Operator, Viewer
from runner.http.doors import Doors, In
from runner.storage.serial import schedule_from
from runner.web.file import file_view
from runner.web.rendering import back, page, pages, reason, to
from runner.web.session import Form

schedules = pages()

Name = Annotated[str, Path(pattern=r"^[^\x00]+$")]
ROWS = 25  # schedules of a page
SLOTS = 30
FIRES = 10


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule with what became of it lately."""

    row: ScheduleStatus
    schedule: Schedule
    slots: Sequence[SlotView]
    last: FiredJob | None

    @property
    def words(self) -> str:
        return in_words(self.schedule)


@schedules.get("/schedules")
def list_schedules(request: Request, doors: In, caller: Viewer, after: str = "", retired: str = "") -> Response:
    """By name, a page at a time."""
    file = file_view(request, doors, caller)
    with doors.reading():
        rows = [row for row in doors.schedules.all(retired=bool(retired)) if caller.sees(_project(row))]
        # By code point, as the place of the next page is compared: a database may order names by a language.
        rest = sorted((row for row in rows if row.name > after), key=attrgetter("name"))
        shown, more = rest[:ROWS], len(rest) > ROWS
        seen = views(doors, caller, shown)
    values: dict[str, Any] = {
        "schedules": seen, "total": len(rows), "following": shown[-1].name if more else None, "after": after,
        "retired": bool(retired), "at": doors.now(), "file": file,
    }  # fmt: skip
    return page(request, "schedules.html", **values)


@schedules.get("/schedules/{name}")
def one_schedule(request: Request, doors: In, caller: Viewer, name: Name) -> Response:
    now, file = doors.now(), file_view(request, doors, caller)
    with doors.reading():
        row = doors.schedule(name, caller)
        (view,) = views(doors, caller, [row])
    fires: Sequence[Mapping[str, Any]] = upcoming(view.schedule, FIRES, now)["next"] if not row.retired_at else ()
    values: dict[str, Any] = {
        "view": view, "fires": [(one["utc"], Fire(one["utc"], row.timezone).local) for one in fires], "at": now,
        "file": file and file.of_schedule(name),
    }  # fmt: skip
    return page(request, "schedule.html", **values)


def views(doors: Doors, caller: Caller, rows: Sequence[ScheduleStatus]) -> list[ScheduleView]:
    names = [row.name for row in rows]
    strips, last = doors.overviews.strips(names, SLOTS), doors.overviews.last_jobs(names)
    return [
        ScheduleView(
            row, schedule_from(row.spec),
            [replace(one, job=_seen(one.job, caller)) for one in strips[row.name]], _seen(last.get(row.name), caller),
        )
        for row in rows
    ]  # fmt: skip


def _project(row: ScheduleStatus) -> str | None:
    project: str | None = row.spec.get("project_id")
    return project


def _seen(job: FiredJob | None, caller: Caller) -> FiredJob | None:
    """A schedule may have had another project when it started this one."""
    return job if job is not None and caller.sees(job.project_id) else None


@schedules.get("/schedules/{name}/pause")
def ask_to_pause(request: Request, doors: In, caller: Operator, name: Name) -> Response:
    """Where there is no script, the question is a page."""
    return page(request, "pause.html", row=doors.schedule(name, caller))


@schedules.post("/schedules/{name}/pause")
def pause(request: Request, doors: In, caller: Operator, name: Name, form: Form) -> Response:
    given = dict(form)
    acts.pause(doors, caller, name, reason(given))
    return back(request, given, f"/schedules/{name}")


@schedules.post("/schedules/{name}/resume")
def resume(request: Request, doors: In, caller: Operator, name: Name, form: Form) -> Response:
    acts.resume(doors, caller, name)
    return back(request, dict(form), f"/schedules/{name}")


@schedules.post("/schedules/{name}/trigger")
def trigger(request: Request, doors: In, caller: Operator, name: Name) -> Response:
    """To the page of the job, where it can be watched."""
    return to(request, f"/jobs/{acts.trigger(doors, caller, name).id}")
