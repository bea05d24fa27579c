"""The clock. Everything else in the project is told the time."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """The time of this machine. `wait` ends early when somebody calls `wake`."""

    def __init__(self) -> None:
        self._bell = threading.Event()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def wake(self) -> None:
        """Let the next (or the current) `wait` end. Safe to call from any thread."""
        self._bell.set()

    def wait(self, seconds: float) -> None:
        self._bell.wait(max(seconds, 0))
        self._bell.clear()

    def idle(self, seconds: float) -> None:
        """Wait where nothing is going on that could wake us."""
        self.wait(seconds)


class SimulatedClock(Clock):
    """A clock that starts at `start`, goes on at its usual pace, and jumps over idle waits."""

    def __init__(self, start: datetime) -> None:
        super().__init__()
        self._start = start
        self._began = time.monotonic()
        self._jumped = timedelta(0)

    def now(self) -> datetime:
        return self._start + self._jumped + timedelta(seconds=time.monotonic() - self._began)

    def idle(self, seconds: float) -> None:
        self._jumped += timedelta(seconds=max(seconds, 0))
