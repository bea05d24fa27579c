"""The routes that change jobs which are there: cancel, retry, one or many; and many new ones at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from runner.api import answers, bodies
from runner.api.intake import enqueue
from runner.api.jobs import Id, KeyHeader, TraceHeader, conditions, enqueued
from runner.api.routing import WITH_BODY, problems, router
from runner.domain.access import Caller
from runner.domain.errors import Conflict, NotFound, UsageError
from runner.domain.job import JobState
from runner.http.answers import Json
from runner.http.callers import Operator
from runner.http.doors import Doors, In

actions = router("/api/jobs", "jobs")

REASON = "cancelled over HTTP"
ASKED: dict[int | str, dict[str, Any]] = {
    202: {"model": answers.StateBody, "description": "It runs, and is asked to stop"}
}
DUPLICATES: dict[int | str, dict[str, Any]] = {
    200: {"model": answers.BulkAnswer, "description": "All were there already"}
}


@actions.post(
    "/bulk", status_code=201, response_model=answers.BulkAnswer, summary="Enqueue up to 1,000 jobs, all or none",
    responses=DUPLICATES | problems(*WITH_BODY, 404, 409),
)  # fmt: skip
def bulk(
    doors: In, caller: Operator, body: bodies.BulkBody, key: KeyHeader = None, traceparent: TraceHeader = None
) -> Response:
    made = enqueue(doors, caller, body.jobs, key, traceparent)
    return Json({"jobs": [enqueued(one) for one in made]}, 200 if all(one.duplicate for one in made) else 201)


@actions.post("/{job_id}/cancel", response_model=answers.StateBody, summary="Cancel a job",
              responses=ASKED | problems(*WITH_BODY, 404, 409))  # fmt: skip
def cancel(doors: In, caller: Operator, job_id: Id, body: bodies.CancelBody | None = None) -> Response:
    """A pending one at once; a running one is asked to stop."""
    return _cancel(doors, caller, job_id, body.reason if body is not None else None)


@actions.delete("/{job_id}", response_model=answers.StateBody, summary="Cancel a job",
                responses=ASKED | problems(404, 409))  # fmt: skip
def delete(doors: In, caller: Operator, job_id: Id) -> Response:
    """The same as cancel: nothing is removed."""
    return _cancel(doors, caller, job_id, None)


def _cancel(doors: Doors, caller: Caller, job_id: int, reason: str | None) -> Response:
    doors.job(job_id, caller)
    state, result = _cancelled(doors, job_id, reason)
    doors.audit(caller, "cancel", f"job {job_id}", detail=reason)
    return Json({"id": job_id, "status": state, "result": result}, 202 if state is JobState.RUNNING else 200)


def _cancelled(doors: Doors, job_id: int, reason: str | None) -> tuple[JobState, str]:
    state = doors.jobs.cancel(job_id, doors.now(), reason or REASON)
    return state, "cancelled" if state is JobState.CANCELLED else "asked to stop"


@actions.post("/{job_id}/retry", response_model=answers.StateBody, summary="Put a finished job back",
              responses=problems(404, 409))  # fmt: skip
def retry(doors: In, caller: Operator, job_id: Id) -> Response:
    """Pending again, with all its attempts; its history and its policy stay."""
    doors.job(job_id, caller)
    doors.jobs.retry(job_id, doors.now())
    doors.audit(caller, "retry", f"job {job_id}")
    return Json({"id": job_id, "status": JobState.PENDING, "result": "pending"})


@actions.post("/actions", response_model=answers.ActionAnswer, summary="Cancel or retry many jobs",
              responses=problems(*WITH_BODY))  # fmt: skip
def act(doors: In, caller: Operator, body: bodies.ActionBody) -> Response:
    """By ids, or by a filter: of those that it finds and that can be, the newest 1,000 at a time."""
    chosen, matched = _chosen(doors, caller, body)
    if body.dry_run:
        return Json({"dry_run": True, "matched": matched, "jobs": []})
    act_on = _retried if body.action == "retry" else lambda doors, one: _cancelled(doors, one, body.reason)[1]
    done = [_one(doors, caller, job_id, act_on) for job_id in chosen]
    targets = [f"job {one['id']}" for one in done if one["error"] is None]
    if targets:
        doors.audit(caller, body.action, *targets, detail=body.reason)
    return Json({"dry_run": False, "matched": matched, "jobs": done})


def _chosen(doors: Doors, caller: Caller, body: bodies.ActionBody) -> tuple[list[int], int]:
    """The ids to act on, and how many were found."""
    if (body.ids is None) == (body.filter is None):
        raise UsageError("give ids or filter, and not both", '{"action": "cancel", "ids": [1, 2]}')
    if body.ids is not None:
        ids = list(dict.fromkeys(body.ids))
        return ids, len(ids)
    assert body.filter is not None
    possible = (
        [JobState.PENDING, JobState.RUNNING] if body.action == "cancel"
        else [state for state in JobState if state.is_terminal]
    )  # fmt: skip
    asked = [state for state in possible if not body.filter.status or state in body.filter.status]
    if not asked:
        return [], 0
    where = conditions(body.filter.model_copy(update={"status": asked}), caller, doors.now())
    found, _ = doors.jobs.find(where, limit=bodies.MOST_IN_BULK)
    return [job.id for job in found if job.id is not None], doors.jobs.count(where)


def _retried(doors: Doors, job_id: int) -> str:
    doors.jobs.retry(job_id, doors.now())
    return "pending"


def _one(doors: Doors, caller: Caller, job_id: int, act_on: Callable[[Doors, int], str]) -> dict[str, Any]:
    try:
        doors.job(job_id, caller)
        return {"id": job_id, "result": act_on(doors, job_id), "error": None}
    except (Conflict, NotFound) as error:
        return {"id": job_id, "result": None, "error": error.message}
