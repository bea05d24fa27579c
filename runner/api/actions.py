"""The routes that change jobs which are there: cancel, retry, one or many; and many new ones at once."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.responses import Response

from runner.api import answers, bodies
from runner.api.intake import enqueue
from runner.api.jobs import Id, KeyHeader, TraceHeader, conditions, enqueued, replayed
from runner.api.routing import WITH_BODY, problems, router
from runner.domain.access import Caller
from runner.domain.errors import UsageError
from runner.domain.job import JobState
from runner.domain.lifecycle import cancel_result
from runner.http import acts
from runner.http.answers import Json
from runner.http.callers import Operator
from runner.http.doors import Doors, In

actions = router("/api/jobs", "jobs")

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
    status = 200 if all(one.duplicate for one in made) else 201
    return Json({"jobs": [enqueued(one) for one in made]}, status, headers=replayed(made))


@actions.post("/{job_id:int}/cancel", response_model=answers.StateBody, summary="Cancel a job",
              responses=ASKED | problems(*WITH_BODY, 404, 409))  # fmt: skip
def cancel(doors: In, caller: Operator, job_id: Id, body: bodies.CancelBody | None = None) -> Response:
    """A pending one at once; a running one is asked to stop."""
    return _cancel(doors, caller, job_id, body.reason if body is not None else None)


@actions.delete("/{job_id:int}", response_model=answers.StateBody, summary="Cancel a job",
                responses=ASKED | problems(404, 409))  # fmt: skip
def delete(doors: In, caller: Operator, job_id: Id) -> Response:
    """The same as cancel: nothing is removed."""
    return _cancel(doors, caller, job_id, None)


def _cancel(doors: Doors, caller: Caller, job_id: int, reason: str | None) -> Response:
    state = acts.cancel(doors, caller, job_id, reason)
    told = cancel_result(state)
    return Json({"id": job_id, "status": state, "result": told}, 202 if state is JobState.RUNNING else 200)


@actions.post("/{job_id:int}/retry", response_model=answers.StateBody, summary="Put a finished job back",
              responses=problems(404, 409))  # fmt: skip
def retry(doors: In, caller: Operator, job_id: Id) -> Response:
    """Pending again, with all its attempts; its history and its policy stay."""
    acts.retry(doors, caller, job_id)
    return Json({"id": job_id, "status": JobState.PENDING, "result": "pending"})


@actions.post("/actions", response_model=answers.ActionAnswer, summary="Cancel or retry many jobs",
              responses=problems(*WITH_BODY))  # fmt: skip
def act(doors: In, caller: Operator, body: bodies.ActionBody) -> Response:
    """By ids, or by a filter: of those that it finds and that can be, the newest 1,000 at a time."""
    chosen, matched = _chosen(doors, caller, body)
    if body.dry_run:
        return Json({"dry_run": True, "matched": matched, "jobs": []})
    done = acts.many(doors, caller, body.action, chosen, body.reason)
    return Json({"dry_run": False, "matched": matched, "jobs": [asdict(one) for one in done]})


def _chosen(doors: Doors, caller: Caller, body: bodies.ActionBody) -> tuple[list[int], int]:
    """The ids to act on, and how many were found."""
    if (body.ids is None) == (body.filter is None):
        raise UsageError("give ids or filter, and not both", '{"action": "cancel", "ids": [1, 2]}')
    if body.ids is not None:
        ids = list(dict.fromkeys(body.ids))
        return ids, len(ids)
    assert body.filter is not None
    asked = [state for state in acts.POSSIBLE[body.action] if not body.filter.status or state in body.filter.status]
    if not asked:
        return [], 0
    where = conditions(body.filter.model_copy(update={"status": asked}), caller, doors.now())
    with doors.reading():
        return doors.jobs.find_ids(where, limit=acts.MOST), doors.jobs.count(where)
