"""The events of one job as they come: in a thread of its own, which connects again for as long as there is hope."""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import urllib3
from urllib3.exceptions import HTTPError

from runner.client.faults import Away
from runner.client.wire import Wire
from runner.domain.errors import RunnerError

FIRST, LONGEST = 1.0, 30.0  # seconds until the next try to connect: doubled each time
HOPE = 300.0  # seconds without any server, after which nobody waits any more
WAITING = 1000  # events that a slow reader may be behind: then the server waits for him


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: Mapping[str, Any]


class Stream:
    """`take` gives what has come. A stream that ends without the job's end is opened again where it was."""

    def __init__(self, wire: Wire, job_id: int, last: int) -> None:
        self._wire = wire
        self._path = f"/api/jobs/{job_id}/events"
        self._last = last
        self._came: queue.Queue[Event | RunnerError] = queue.Queue(WAITING)
        self._closed = threading.Event()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._thread = threading.Thread(target=self._read, name="events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        response = self._response
        if isinstance(response, urllib3.HTTPResponse):
            with suppress(ValueError, RuntimeError, OSError):  # it may have ended by itself
                response.shutdown()
        self._thread.join(1.0)

    def take(self, seconds: float) -> list[Event]:
        """All that has come; nothing where nothing came in this time. Raises what ended the stream."""
        found: list[Event] = []
        with suppress(queue.Empty):
            found.append(_good(self._came.get(timeout=max(seconds, 0.0))))
            while len(found) < WAITING:
                found.append(_good(self._came.get_nowait()))
        return found

    # ---- the thread

    def _read(self) -> None:
        pause, heard = FIRST, time.monotonic()
        is_first = True
        while not self._closed.is_set():
            try:
                for event in self._events():
                    self._put(event)
                    pause, heard, is_first = FIRST, time.monotonic(), False
            except Away as away:
                if is_first or time.monotonic() - heard >= HOPE:
                    self._put(away.told(True))
                    return
                pause = max(pause, min(away.wait, LONGEST))
            except RunnerError as error:
                self._put(error)
                return
            self._closed.wait(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, LONGEST)

    def _events(self) -> Iterator[Event]:
        self._response = response = self._wire.stream(self._path, {"last_event_id": self._last})
        try:
            for name, number, data in _parsed(_lines(response)):
                if number:
                    self._last = int(number)
                yield Event(name, json.loads(data))
                if name == "end":
                    self._closed.set()
        except HTTPError:  # cut off, or silent for too long: where it was is known
            return
        finally:
            response.close()

    def _put(self, one: Event | RunnerError) -> None:
        while True:
            try:
                self._came.put(one, timeout=0.5)
            except queue.Full:
                if self._closed.is_set():
                    return
            else:
                return


def _good(one: Event | RunnerError) -> Event:
    if isinstance(one, RunnerError):
        raise one
    return one


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[str]:
    """Lines as they come; one may come in pieces."""
    rest = b""
    while piece := response.read1(65_536):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace").removesuffix("\r")


def _parsed(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """(event, id, data) of each event that has data; comments and what is unknown are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            if "data" in fields:
                yield fields.get("event", "message"), fields.get("id", ""), fields["data"]
            fields = {}
