"""Rounds of processing that somebody asks for over HTTP: one at a time in a process, for as long as he listens."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from runner.domain.access import Caller
from runner.domain.errors import Conflict


class Work(Protocol):
    """How a process does what is due: its own loops go on with it, or a worker is made for it."""

    def is_quiet(self) -> bool:
        """Whether nothing is due and nothing runs."""

    def running(self) -> int: ...

    def end(self) -> None:
        """Nobody listens any more: begin nothing, let what runs end."""


@dataclass(eq=False, slots=True)
class Round:
    """One of them."""

    work: Work
    by: str
    began: datetime
    ends: Callable[[Round], None]
    settled: Counter[str] = field(default_factory=Counter)

    def told(self, event: str, now: datetime) -> dict[str, Any]:
        """A line of the answer."""
        seconds = round((now - self.began).total_seconds(), 3)
        counts: Mapping[str, int] = dict(sorted(self.settled.items()))
        return {"event": event, "at": now, "seconds": seconds, "running": self.work.running(), "settled": counts}

    def close(self) -> None:
        self.ends(self)


class Rounds:
    """Hands out one round at a time. `make` makes the work of one; `count` is told of each run that ended."""

    def __init__(self, make: Callable[[], Work], now: Callable[[], datetime]) -> None:
        self._make, self._now = make, now
        self._lock = threading.Lock()
        self._current: Round | None = None

    def begin(self, caller: Caller) -> Round:
        with self._lock:
            if self._current is not None:
                going = self._current
                raise Conflict(
                    f"this process is at it already, for {going.by} since {going.began.isoformat(timespec='seconds')}",
                    "wait for that one, or leave it to it",
                )
            self._current = Round(self._make(), caller.name, self._now(), self._end)
            return self._current

    def close(self) -> None:
        """Where one goes on, let what runs in it end."""
        current = self._current
        if current is not None:
            current.work.end()

    def count(self, ended: str) -> None:
        current = self._current
        if current is not None:
            current.settled[ended] += 1

    def _end(self, ended: Round) -> None:
        """Its work may take a while to end: until then nobody begins another."""
        ended.work.end()
        with self._lock:
            self._current = None
