"""The stream of one job: Server-Sent Events from the hub, with the log replayed from where the reader was."""

from __future__ import annotations

import asyncio
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
from runner.http import frames
from runner.http.callers import Viewer
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
    "/{job_id}/events", summary="What it does, as it does it",
    responses=also("text/event-stream") | problems(404), response_class=StreamingResponse,
)  # fmt: skip
async def job_events(
    doors: In, caller: Viewer, job_id: Id, last: LineId = None, header: LastEventId = None
) -> Response:
    """`snapshot` first, then `state`, `progress`, `log`, `output` as they come, and `end`, after which it closes.

    The ids are those of log lines: a reader who comes again with the last one misses none. Without one, the
    newest 1,000 lines are replayed.
    """
    await run_sync(doors.job, job_id, caller)
    doors.hub.require_open()
    return _Stream(doors, caller.name, job_id, last if last is not None else header)


class _Stream(StreamingResponse):
    """Holds its place, and listens, for as long as it is sent: also where the reader is gone before it begins."""

    def __init__(self, doors: Doors, client: str, job_id: int, last: int | None) -> None:
        doors.streams.take(client)
        self._doors, self._client, self._listener = doors, client, doors.hub.watch(job_id)
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
    while time.monotonic() < ends:
        piece, is_over = await _next(listener)
        if piece:
            yield piece
        if is_over:
            return


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
    """All that waits, in one piece, and whether it was the last; a word where nothing came for long."""
    try:
        async with asyncio.timeout(QUIET):
            first = await listener.pieces.get()
    except TimeoutError:
        return frames.KEEP_ALIVE, False
    made: list[bytes] = []
    piece = first
    while piece is not None:
        made.append(piece)
        if listener.pieces.empty():
            return b"".join(made), False
        piece = listener.pieces.get_nowait()
    return b"".join(made), True
