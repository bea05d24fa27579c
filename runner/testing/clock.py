"""A clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from runner.engine.loop import Clock

LOOK = 1.0  # seconds between two looks at handlers that run
START = datetime(2026, 1, 1, 12, tzinfo=UTC)  # a Thursday


class FrozenClock(Clock):
    """The same moment while handlers run. Where nothing runs, a wait is over at once, and so much later."""

    def __init__(self, start: datetime = START) -> None:
        super().__init__()
        if start.tzinfo is None:
            raise ValueError("a clock starts at a time with a zone: datetime(2026, 1, 1, tzinfo=UTC)")
        self._now = start.astimezone(UTC)
        self.is_busy: Callable[[], bool] = lambda: False

    def now(self) -> datetime:
        return self._now

    def move(self, by: timedelta | float) -> None:
        """Later by so many seconds, or by a timedelta."""
        length = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if length < timedelta(0):
            raise ValueError("a clock moves forward only")
        self._now += length

    def wait(self, seconds: float) -> None:
        if self.is_busy():
            super().wait(min(seconds, LOOK))
        else:
            self.move(max(seconds, 0.0))

    def idle(self, seconds: float, longest: float = 0.0) -> None:
        self.move(max(seconds, 0.0))
