"""The one body of every error: `application/problem+json`, RFC 9457."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from runner.domain import errors
from runner.domain.duration import DurationError
from runner.domain.problem import Problem
from runner.http.answers import Json

MEDIA_TYPE = "application/problem+json"
NAMESPACE = "urn:runner:error:"
RETRY_AFTER = {"Retry-After": "1"}

KINDS: tuple[tuple[type[errors.RunnerError], int, str, str], ...] = (
    (errors.UnknownJobType, 422, "unknown-job-type", "There is no such job type"),
    (errors.NotFound, 404, "not-found", "There is no such thing"),
    (errors.Conflict, 409, "conflict", "The state of the thing forbids it"),
    (errors.StaleRevision, 409, "stale-revision", "Another revision was applied meanwhile"),
    (errors.RemovalsRefused, 409, "removals-refused", "Most schedules would be retired"),
    (errors.NotAllowed, 403, "not-allowed", "The caller may not do this"),
    (errors.PayloadInvalid, 422, "payload-invalid", "The payload does not fit its job type"),
    (errors.ConfigInvalid, 422, "config-invalid", "The file cannot be used"),
    (errors.UnsetVariable, 422, "unset-variable", "The file refers to a variable that is not set"),
    (errors.NotThereYet, 422, "not-there-yet", "A later release does this"),
    (errors.UsageError, 422, "invalid", "The request is not valid"),
    (DurationError, 422, "invalid", "The request is not valid"),
    (errors.DatabaseUnavailable, 503, "database-unavailable", "The database cannot be used now"),
)
TITLES = {
    400: ("malformed", "The request cannot be read"),
    401: ("key-needed", "A key is needed"),
    403: ("not-allowed", "The caller may not do this"),
    404: ("not-found", "There is no such thing"),
    405: ("method-not-allowed", "The address does not take this method"),
    408: ("too-slow", "The request took too long to arrive"),
    413: ("too-large", "The body is too large"),
    415: ("media-type", "The body is not JSON"),
    421: ("wrong-host", "This server does not answer by that name"),
    422: ("invalid", "The request is not valid"),
    429: ("too-many", "Too many requests"),
    503: ("unavailable", "This process cannot do it now"),
}
FAULT = ("fault", "A fault of the server", "the request could not be answered; the log of the server says why")


class Refused(errors.RunnerError):
    """A request that is turned away before anything looks at what it asks for."""

    def __init__(self, status: int, message: str, hint: str | None = None, **headers: str) -> None:
        super().__init__(message, hint)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def answer_with(error: errors.RunnerError) -> Json:
    """The answer to an error of ours."""
    if isinstance(error, Refused):
        return problem(error.status, *TITLES[error.status], error.message, error.hint, headers=error.headers)
    found = next((one for one in KINDS if isinstance(error, one[0])), None)
    if found is None:
        return problem(500, *FAULT)
    _, status, kind, title = found
    headers = RETRY_AFTER if status == 503 else None
    more = [_entry(one, isinstance(error, errors.ConfigInvalid)) for one in getattr(error, "problems", ())]
    cause = error.__cause__
    first = _first(cause) if isinstance(cause, errors.BulkRefused) else None
    return problem(status, kind, title, error.message, error.hint, more, headers, first)


def problem(
    status: int, kind: str, title: str, detail: str, hint: str | None = None,
    entries: Sequence[Mapping[str, Any]] = (), headers: Mapping[str, str] | None = None,
    first: Mapping[str, Any] | None = None,
) -> Json:  # fmt: skip
    body: dict[str, Any] = {"type": NAMESPACE + kind, "title": title, "status": status, "detail": detail}
    if hint is not None:
        body["help"] = hint
    if entries:
        body["errors"] = list(entries)
    if first is not None:
        body["first"] = first
    return Json(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _first(refused: errors.BulkRefused) -> dict[str, Any]:
    kind = next((kind for known, _, kind, _ in KINDS if isinstance(refused.error, known)), "fault")
    told = {"index": refused.index, "type": NAMESPACE + kind, "detail": refused.message}
    return told if refused.hint is None else told | {"help": refused.hint}


def _entry(one: Problem, is_of_file: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": one.path, "code": one.code, "message": one.message}
    if is_of_file:
        entry |= {"line": one.line, "column": one.column, "severity": one.severity}
    if one.hint is not None:
        entry["help"] = one.hint
    return entry


def register(app: FastAPI) -> None:
    """Every error of every route comes out as a problem."""
    app.add_exception_handler(errors.RunnerError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_the_framework)
    app.add_exception_handler(Exception, _of_a_fault)


async def _of_ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.RunnerError)
    return answer_with(error)


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes) and error.body:  # left as it is where it does not say that it is JSON
        said = request.headers.get("content-type") or "of no media type"
        return problem(415, *TITLES[415], f"the body is {said}", "Content-Type: application/json")
    found = list(_entries(error.errors()))
    if found and found[0]["code"] == "json_invalid":
        return problem(400, *TITLES[400], f"the body is not JSON: {found[0]['message']}")
    said = "; ".join(f"{one['path']}: {one['message']}" if one["path"] else one["message"] for one in found[:3])
    return problem(422, *TITLES[422], said or "the request is not valid", entries=found)


def _entries(found: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for one in found:
        place = [str(part) for part in one["loc"] if part not in ("body", "query", "path", "header")]
        message = one["msg"]
        if one["type"] == "json_invalid":
            place, message = [], f"{one.get('ctx', {}).get('error', message)}, at character {one['loc'][-1]}"
        yield {"path": ".".join(place), "code": one["type"], "message": message}


async def _of_the_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind, title = TITLES.get(error.status_code, ("refused", "The request was refused"))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    return problem(error.status_code, kind, title, str(error.detail), headers=headers)


def _methods(request: Request) -> list[str]:
    """All that the address takes: the framework names those of one route of several."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    known: Mapping[str, Mapping[str, Any]] = request.app.openapi()["paths"]
    fitting = (one for one in known if re.fullmatch(re.sub(r"{[^}]+}", "[^/]+", one), path))
    operations = known.get(path) or known.get(next(fitting, ""), {})
    return sorted(method.upper() for method in operations)


async def _of_a_fault(_: Request, error: Exception) -> Response:
    """A bug of ours: its traceback is in the log, never in the answer."""
    return problem(500, *FAULT)
