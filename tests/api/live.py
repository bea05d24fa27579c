"""A real server, and readers of its streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from runner.domain.schedule import JobType
from runner.engine.worker import Worker
from runner.http.binding import bind
from runner.http.doors import Engine
from runner.serving import serving
from tests.engine.bench import DEADLINE, Bench
from tests.waiting import eventually

TELLS = JobType("tells", "tests.api.handlers.tells")


@dataclass(frozen=True)
class Event:
    name: str
    data: Any
    number: str | None


@dataclass
class Reader:
    """Reads a stream in a thread of its own, until it ends."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    status: int | None = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        self._response: httpx.Response | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with httpx.stream("GET", self.url, headers=self.headers, timeout=DEADLINE) as self._response:
                self.status = self._response.status_code
                fields: dict[str, str] = {}
                for line in self._response.iter_lines():
                    self.raw.append(line)
                    if line:
                        name, _, value = line.partition(": ")
                        fields[name] = value
                    elif "event" in fields:
                        self.events.append(Event(fields["event"], json.loads(fields["data"]), fields.get("id")))
                        fields = {}
        except httpx.HTTPError as error:
            self.error = error

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.events]

    def of(self, name: str) -> list[Any]:
        return [one.data for one in self.events if one.name == name]

    def has(self, name: str, condition: Callable[[Any], bool] = lambda data: True) -> bool:
        return any(condition(data) for data in self.of(name))

    def await_event(self, name: str, condition: Callable[[Any], bool] = lambda data: True) -> None:
        eventually(lambda: self.has(name, condition), f"{name} among {self.names}, {self.status}, {self.error}")

    def hang_up(self) -> None:
        """Cut the connection, as a reader does who goes away."""
        assert self._response is not None
        self._response.close()

    def join(self) -> None:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the stream did not end"


@contextmanager
def served(bench: Bench, worker: Worker | None = None, **engine: Any) -> Iterator[str]:
    """The URL of a real server on this bench."""
    bench.app.now = bench.clock.now  # type: ignore[method-assign]
    scheduler = bench.app.scheduler()
    made = Engine(scheduler.trigger, scheduler.backfill, **engine)
    bound = bind("127.0.0.1", 0)
    with serving(bench.app, bound, made, worker.recorder if worker is not None else None):
        yield bound.url
