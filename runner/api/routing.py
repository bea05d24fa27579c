"""How routes are declared: what they may answer besides what they promise, all of it in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request

from runner.api.answers import ProblemBody
from runner.http.problems import MEDIA_TYPE, TITLES
from runner.http.routes import Route

EVERYWHERE = (401, 403, 421, 422, 429, 503)
WITH_BODY = (400, 408, 413, 415)
EVENT = {
    "type": "object", "required": ["data", "event"],
    "properties": {
        "event": {"enum": ["snapshot", "state", "progress", "log", "output", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"}, "id": {"type": "string"},
    },
}  # fmt: skip
CONFLICT = "The state of the thing forbids it"


def router(prefix: str, tag: str) -> APIRouter:
    return APIRouter(
        prefix=prefix, tags=[tag], responses=problems(*EVERYWHERE), route_class=Route,
        generate_unique_id_function=operation_id,
    )  # fmt: skip


def operation_id(route: APIRoute) -> str:
    return route.name


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for its `responses`."""
    schema = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}
    return {
        status: {
            "description": TITLES[status][1] if status in TITLES else CONFLICT,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def also(media_type: str) -> dict[int | str, dict[str, Any]]:
    """That 200 may be this too."""
    if media_type == "text/event-stream":
        return {200: {"content": {media_type: {"itemSchema": EVENT}}}}
    schema = {"type": "string"} if media_type.startswith("text/") else {"type": "string", "format": "binary"}
    return {200: {"content": {media_type: {"schema": schema}}}}


def here(request: Request, path: str) -> str:
    """An address of ours as the client reaches it, behind a reverse proxy with a path prefix too."""
    return f"{request.scope.get('root_path', '')}{path}"
