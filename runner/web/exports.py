"""The jobs of a filter as a file: CSV for spreadsheets, JSON Lines for programs, read and sent page by page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from runner.domain.access import Caller
from runner.domain.errors import UsageError
from runner.http.answers import to_json
from runner.http.callers import Viewer
from runner.http.doors import Doors, In
from runner.http.masking import masked
from runner.storage.jobs import JobFilter
from runner.web.filters import TABS, Filter
from runner.web.rendering import pages

exports = pages()

ROWS = 100  # read at once: a payload and a result may be large
COLUMNS = (
    "id", "type", "status", "display_state", "queue", "priority", "project_id", "schedule_name", "scheduled_for",
    "created_at", "run_at", "started_at", "completed_at", "attempt", "max_attempts", "run_number", "worker_id",
    "progress", "current_step", "message", "error", "payload", "result",
)  # fmt: skip
FORMULAS = tuple("=+-@\t\r\n＝＋－＠")  # what a spreadsheet takes for the beginning of a formula
Written = Callable[[Iterable[Mapping[str, Any]]], str]


@exports.get("/jobs/export.csv")
def as_csv(request: Request, doors: In, caller: Viewer) -> Response:
    return _Download(request, doors, caller, "jobs.csv", "text/csv; charset=utf-8", _csv, _csv_row(COLUMNS))


@exports.get("/jobs/export.jsonl")
def as_json_lines(request: Request, doors: In, caller: Viewer) -> Response:
    return _Download(request, doors, caller, "jobs.jsonl", "application/x-ndjson", _json_lines)


class _Download(StreamingResponse):
    """Holds one of the places of streams for as long as it is sent."""

    def __init__(
        self, request: Request, doors: Doors, caller: Caller, name: str, media_type: str, written: Written,
        head: str = "",
    ) -> None:  # fmt: skip
        where = _where(request, doors, caller)
        self._places, self._client = doors.streams, caller.name
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(_pieces(doors, where, written, head), media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places.held_by(self._client):
            await super().__call__(scope, receive, send)


def _where(request: Request, doors: Doors, caller: Caller) -> JobFilter:
    found = Filter.of(request.query_params)
    if found.problem is not None:
        raise UsageError(found.problem, "/jobs")
    return found.where(TABS[found.state], caller, doors.now())


def _pieces(doors: Doors, where: JobFilter, written: Written, head: str) -> Iterator[bytes]:
    """The newest first. What comes meanwhile is not among them."""
    yield head.encode()
    after: int | None = None
    while True:
        jobs, after = doors.jobs.find(where, limit=ROWS, after=after)
        views = doors.views.view(jobs, doors.now()) if jobs else []
        hidden = [view | {name: masked(view[name]) for name in ("payload", "result")} for view in views]
        yield written(hidden).encode("utf-8", "replace")
        if after is None:
            return


def _json_lines(views: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"{to_json(view)}\n" for view in views)


def _csv(views: Iterable[Mapping[str, Any]]) -> str:
    return "".join(_csv_row([_cell(view[name]) for name in COLUMNS]) for view in views)


def _csv_row(cells: Iterable[Any]) -> str:
    made = io.StringIO()
    csv.writer(made, quoting=csv.QUOTE_ALL).writerow(cells)
    return made.getvalue()


def _cell(value: Any) -> str:
    """Text as a spreadsheet shows it, never a formula that it works out.

    >>> [_cell(one) for one in ("a", "=1+1", " @SUM(A1)", -3, None, {"a": [1]})]
    ['a', "'=1+1", "' @SUM(A1)", '-3', '', '{"a":[1]}']
    """
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    text = value if isinstance(value, str) else to_json(value)
    return f"'{text}" if text.lstrip(" ").startswith(FORMULAS) else text
