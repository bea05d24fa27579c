"""The application: routes, errors, and the guard before them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from runner.api.actions import actions
from runner.api.answers import ProblemBody
from runner.api.events import events
from runner.api.health import health
from runner.api.jobs import jobs
from runner.api.operation import operation
from runner.api.process import process
from runner.api.schedules import ledger, schedules
from runner.http import problems
from runner.http.doors import Doors
from runner.http.table import install

ROUTERS = (actions, process, jobs, events, schedules, ledger, operation, health)  # the fixed words before `{job_id}`


def application(doors: Doors, version: str) -> FastAPI:
    """Without its guard: see `Guard`."""
    app = FastAPI(
        title="runner", version=version, summary="Jobs, schedules and workers of one database.",
        openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )  # fmt: skip
    app.state.doors = doors
    install(app, ROUTERS)
    problems.register(app)
    _document(app)
    return app


def _document(app: FastAPI) -> None:
    """The OpenAPI document, with the body of errors and how a key is given."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            body = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= body.pop("$defs", {}) | {"ProblemBody": body}
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}, {}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
