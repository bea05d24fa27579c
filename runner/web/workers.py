"""The page of operation: who runs jobs, how much waits, what is in force, how full limits are."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

from fastapi import Request
from starlette.responses import Response

from runner.domain.overview import RunningJob, WorkerView
from runner.http.callers import OverallViewer
from runner.http.doors import In
from runner.web.file import file_view
from runner.web.rendering import page, pages

workers = pages()

LATELY = timedelta(hours=24)  # how far back skipped slots are counted
MOST = 200  # running jobs that are named
KINDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@workers.get("/workers")
def look(request: Request, doors: In, caller: OverallViewer) -> Response:
    """As `runner status` tells it. It belongs to no project."""
    now, file = doors.now(), file_view(request, doors, caller)
    with doors.reading():
        seen, database = doors.overviews.look(now, fires=0), doors.overviews.database()
        running: dict[str | None, list[RunningJob]] = defaultdict(list)
        for job in doors.overviews.running(MOST):
            running[job.worker_id].append(job)
        values: dict[str, Any] = {
            "seen": seen, "at": now, "processes": [(one, queues(one), file_of(one)) for one in seen.workers],
            "running": running, "limits": doors.overviews.limits(), "skipped": doors.overviews.skipped(now - LATELY),
            "database": database, "kind": KINDS.get(database.kind, database.kind), "file": file,
        }  # fmt: skip
    return page(request, "workers.html", **values)


def queues(worker: WorkerView) -> str:
    """Those that it takes."""
    if not worker.status.concurrency:
        return "runs no jobs"
    told = worker.status.queues or {}
    if "only" in told:
        return ", ".join(told["only"])
    return f"all but {', '.join(told['except'])}" if "except" in told else "all"


def file_of(worker: WorkerView) -> str:
    """What it follows."""
    row = worker.status
    if worker.is_current is None:
        return "follows no file" if row.config_sha256 is None else "no revision yet"
    if worker.is_current:
        return "as in force" + (", newer edit refused" if row.config_problem else "")
    return (
        f"revision {row.config_revision}" if row.config_revision else f"another file ({(row.config_sha256 or '')[:8]})"
    )
