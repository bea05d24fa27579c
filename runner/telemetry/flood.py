"""Keeps the log readable, and the service quick, where thousands of jobs complete in a second."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

PER_SECOND = 100


class Flood:
    """So many a second are told one by one; the rest, a second later, by one call of `summarise` with their counts."""

    def __init__(self, summarise: Callable[[Mapping[str, int]], None]) -> None:
        self._summarise = summarise
        self._lock = threading.Lock()
        self._second = 0.0
        self._admitted = 0
        self._left_out: Counter[str] = Counter()

    def admits(self, name: str) -> bool:
        now = time.monotonic()
        with self._lock:
            if now - self._second >= 1.0:
                self._second, self._admitted = now, 0
            self._admitted += 1
            if self._admitted <= PER_SECOND:
                return True
            if not self._left_out:
                self._later()
            self._left_out[name] += 1
            return False

    def flush(self) -> None:
        """Tell of those that were left out, if any."""
        with self._lock:
            left_out, self._left_out = self._left_out, Counter()
        if left_out:
            self._summarise(left_out)

    def _later(self) -> None:
        timer = threading.Timer(1.0, self.flush)
        timer.daemon = True
        timer.start()
