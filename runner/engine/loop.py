"""The clock. Everything else in the project is told the time."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

LONGEST_WAIT = 3600.0  # seconds; who waits looks again after that
# Seconds. The kernel may give a signal to another thread (as the process is continued: systemd sends SIGTERM, SIGCONT),
# and that does not end the wait of the main one, where Python handles it.
SIGNAL_LOOK = 1.0


class Clock:
    """The time that it is told, else this machine's. `wait` ends early when somebody calls `wake`."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._tell = now
        # Not an Event: a signal handler that rings while its own thread holds the Event's lock waits for ever.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def now(self) -> datetime:
        return self._tell()

    def wake(self) -> None:
        """Let the next (or the current) `wait` end. Safe to call from any thread and any signal handler."""
        self._bell.put(None)

    def wait(self, seconds: float) -> None:
        with suppress(queue.Empty):
            self._bell.get(timeout=min(max(seconds, 0.0), LONGEST_WAIT))
            while True:
                self._bell.get_nowait()

    def idle(self, seconds: float, longest: float = LONGEST_WAIT) -> None:
        """Wait where nothing is going on that could wake us, and no longer than `longest`. May end early."""
        self.wait(min(seconds, longest, SIGNAL_LOOK))


class SimulatedClock(Clock):
    """A clock that starts at `start`, goes on at its usual pace, and jumps over idle waits."""

    def __init__(self, start: datetime) -> None:
        super().__init__()
        self._start = start
        self._began = time.monotonic()
        self._jumped = timedelta(0)

    def now(self) -> datetime:
        return self._start + self._jumped + timedelta(seconds=time.monotonic() - self._began)

    def idle(self, seconds: float, longest: float = LONGEST_WAIT) -> None:
        """Takes no time, however far it goes."""
        self._jumped += timedelta(seconds=max(seconds, 0))
