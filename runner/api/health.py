"""The routes that supervisors and Prometheus ask."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from runner.api.routing import operation_id, problems
from runner.domain.access import Caller
from runner.domain.errors import NotFound, RunnerError
from runner.http.answers import Json
from runner.http.callers import OverallViewer, Viewer
from runner.http.doors import In

health = APIRouter(tags=["operation"], generate_unique_id_function=operation_id)
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@health.get("/healthz", summary="Whether the process answers", responses=problems(421))
async def healthz(caller: Viewer) -> Response:
    return Json({"status": "ok"})


@health.get(
    "/readyz", summary="Whether it can serve: 200, `degraded` while the file is invalid",
    responses=problems(421) | {503: {"description": "The database cannot be read, or the process stops"}},
)  # fmt: skip
def readyz(doors: In, caller: Viewer) -> Response:
    """Details only for who may see them."""
    if doors.engine.is_stopping():
        return Json({"status": "stopping"}, 503)
    try:
        doors.revisions.current()
    except RunnerError as error:
        return Json({"status": "unavailable"} | _details(caller, error.message), 503)
    problem = doors.engine.file_problem()
    if problem is None:
        return Json({"status": "ready"})
    return Json({"status": "degraded"} | _details(caller, problem))


def _details(caller: Caller, problem: str) -> dict[str, str]:
    return {} if caller.is_bound else {"problem": problem}


@health.get(
    "/metrics", summary="Metrics for Prometheus",
    responses=problems(401, 403, 404, 421, 429) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)  # fmt: skip
def metrics(doors: In, caller: OverallViewer) -> Response:
    if doors.engine.metrics is None:
        raise NotFound("this process measures nothing")
    return Response(doors.engine.metrics(), media_type=PROMETHEUS)
