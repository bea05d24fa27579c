"""The stream of one job: Server-Sent Events from the hub, with the log replayed from where the reader was."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import Header, Query
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from runner.api.bodies import LARGEST
from runner.api.jobs import Id
from runner.api.routing import also, problems, router
from runner.domain.access import Caller
from runner.domain.job_rows import Job
from runner.http import frames
from runner.http.callers import Reader
from runner.http.doors import Doors, In
from runner.http.hub import Listener

events = router("/api/jobs", "jobs")

QUIET = 15.0  # seconds without anything, after which the connection is shown to live
OLDEST = 900.0  # seconds that a stream lives: whoever reads it comes again, and shows a key again
TAIL = 1000  # lines that are replayed to who names none that he has
PAGE = 1000
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
LineId = Annotated[int | None, Query(alias="last_event_id", ge=0, le=LARGEST, description="As Last-Event-ID.")]
LastEventId = Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=LARGEST)]


@events.get(
    "/{job_id:int}/events", summary="What it does, as it does it",
    responses=also("text/event-stream") | problems(404), response_class=StreamingResponse,
)  # fmt: skip
async def job_events(
    doors: In, caller: Reader, job_id: Id, last: LineId = None, header: LastEventId = None
) -> Response:
    """`snapshot` first, then `state`, `progress`, `log`, `output` as they come, and `end`, after which it closes.

    The ids are those of log lines: a reader who comes again with the last one misses none. Without one, the
    newest 1,000 lines are replayed.
    """
    job = await run_sync(doors.job, job_id, caller)
    doors.hub.require_open()
    return _Stream(doors, caller, job, last if last is not None else header)


class _Stream(StreamingResponse):
    """Holds its place, and listens, for as long as it is sent: also where the reader is gone before it begins."""

    def __init__(self, doors: Doors, caller: Caller, job: Job, last: int | None) -> None:
        doors.streams.take(caller.name)
        self._doors, self._client = doors, caller.name
        is_covered = not caller.sees(job.project_id)
        until = caller.shared_until if is_covered else None
        self._listener = doors.hub.watch(job.id or 0, caller.key_id, is_covered=is_covered, until=until)
        super().__init__(_pieces(doors, self._listener, last), media_type="text/event-stream", headers=HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._doors.hub.leave(self._listener)
            self._doors.streams.give_back(self._client)


async def _pieces(doors: Doors, listener: Listener, last: int | None) -> AsyncIterator[bytes]:
    ends = time.monotonic() + OLDEST
    yield frames.BEGIN
    first = await listener.pieces.get()
    if first is None:
        return
    yield first
    async for lines in _replayed(doors, listener, last):
        yield lines
    pulse = _Pulse(listener)
    try:
        while time.monotonic() < ends:
            piece, is_over = await _next(listener)
            pulse.said_at = time.monotonic()
            if piece:
                yield piece
            if is_over:
                return
    finally:
        pulse.end()


class _Pulse:
    """Gives a listener a word where nothing came for long. A timer for each piece would cost as much as the piece."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.said_at = time.monotonic()
        self._timer = listener.loop.call_later(QUIET, self._look)

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        silence = time.monotonic() - self.said_at
        if silence >= QUIET:
            self._listener.take(frames.KEEP_ALIVE)
            silence = 0.0
        self._timer = self._listener.loop.call_later(QUIET - silence, self._look)


async def _replayed(doors: Doors, listener: Listener, last: int | None) -> AsyncIterator[bytes]:
    """The lines that were there before the snapshot, but those that the reader has."""
    if last is None:
        found = await run_sync(doors.logs.newest, listener.job_id, listener.cursor, TAIL)
        yield frames.log(found)
        return
    while last < listener.cursor:
        page = await run_sync(partial(doors.logs.lines, listener.job_id, after=last, limit=PAGE))
        found = [line for line in page if (line.id or 0) <= listener.cursor]
        if not found:
            return
        last = found[-1].id or last
        yield frames.log(found)


async def _next(listener: Listener) -> tuple[bytes, bool]:
    """All that waits, in one piece, and whether it was the last."""
    made: list[bytes] = []
    piece = await listener.pieces.get()
    while piece is not None:
        made.append(piece)
        if listener.pieces.empty():
            return b"".join(made), False
        piece = listener.pieces.get_nowait()
    return b"".join(made), True
