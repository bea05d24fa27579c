"""The route that keeps a process awake while there is work, for hosts that stop what nobody asks anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import CancelScope
from anyio.to_thread import run_sync
from fastapi import Query
from starlette.responses import Response, StreamingResponse

from runner.api.routing import also, problems, router
from runner.domain.errors import DatabaseUnavailable
from runner.http.answers import to_json
from runner.http.callers import OverallOperator
from runner.http.doors import Doors, In
from runner.http.problems import Refused
from runner.http.rounds import Round

process = router("/api/jobs", "jobs")

LOOK = 0.2  # seconds between two looks whether there is work
QUIET_LOOKS = 2  # what is claimed between two questions is seen by the next
LINES = "application/x-ndjson"
UNBUFFERED = {"X-Accel-Buffering": "no"}  # by a reverse proxy
Beat = Annotated[float, Query(ge=0.1, le=600, description="Seconds between two lines.")]
Linger = Annotated[float, Query(ge=0, le=3600, description="Seconds to wait for more where nothing is due.")]


@process.get("/process", summary="Process what is due, while this is open", name="process",
             responses=also(LINES) | problems(409), response_class=StreamingResponse)  # fmt: skip
@process.post("/process", summary="Process what is due, while this is open", name="process_by_post",
              responses=also(LINES) | problems(409), response_class=StreamingResponse)  # fmt: skip
async def process_jobs(doors: In, caller: OverallOperator, beat: Beat = 30.0, linger: Linger = 0.0) -> Response:
    """A line of JSON at once and with each beat, a summary at the end: when nothing is due and nothing runs.

    One at a time in a process: a second caller is told whose goes on. Where the connection is closed, nothing more
    is begun for it, and what runs may end.
    """
    if doors.engine.rounds is None:
        raise Refused(503, "this process runs no jobs: JOBS_ENABLED is false", "JOBS_ENABLED=true")
    begun = await run_sync(doors.engine.rounds.begin, caller)
    return StreamingResponse(_lines(doors, begun, beat, linger), media_type=LINES, headers=UNBUFFERED)


async def _lines(doors: Doors, begun: Round, beat: float, linger: float) -> AsyncIterator[str]:
    try:
        yield _line(doors, begun, "started")
        told, quiet_since, quiet = time.monotonic(), time.monotonic(), 0
        while not doors.engine.is_stopping():
            await asyncio.sleep(LOOK)
            is_quiet = await run_sync(_is_quiet, begun)
            quiet = quiet + 1 if is_quiet else 0
            if not is_quiet:
                quiet_since = time.monotonic()
            if quiet >= QUIET_LOOKS and time.monotonic() - quiet_since >= linger:
                break
            if time.monotonic() - told >= beat:
                told = time.monotonic()
                yield _line(doors, begun, "heartbeat")
        yield _line(doors, begun, "summary")
    finally:
        with CancelScope(shield=True):
            await run_sync(begun.close)


def _is_quiet(begun: Round) -> bool:
    try:
        return begun.work.is_quiet()
    except DatabaseUnavailable:  # it comes back, or the process ends
        return False


def _line(doors: Doors, begun: Round, event: str) -> str:
    return to_json(begun.told(event, doors.now())) + "\n"
