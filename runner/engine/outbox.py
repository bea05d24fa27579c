"""What a run in a process of its own says: sent to the worker, which writes it under the run's fence."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from runner.domain.said import LogLine, OutputPiece, Progress
from runner.engine.budget import LogBudget

PACE = 0.05  # seconds between two words of progress; what is said in between is sent as one


class Outbox:
    """A sink. What was said before a crash has been sent, but for the progress of the last moment."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._process = os.getpid()
        self._lock = threading.RLock()  # a signal handler may speak while its own thread does
        self._budget = LogBudget()
        self._waiting: deque[Any] = deque()
        self._is_sending = False
        self._is_open = True
        self._progress: Progress | None = None
        self._sent_at = 0.0
        self._hand: threading.Thread | None = None
        self._closed = threading.Event()

    def progress(self, progress: Progress) -> None:
        with self._lock:
            self._progress = progress if self._progress is None else self._progress.then(progress)
            if time.monotonic() - self._sent_at >= PACE or not self._has_hand():
                self._flush()

    def log(self, line: LogLine) -> None:
        with self._lock:
            self._flush()
            self._send(*self._budget.take(line))

    def output(self, piece: OutputPiece) -> None:
        with self._lock:
            self._flush()
            self._send(piece)

    def close(self, last: Iterable[Any]) -> None:
        """Say the last of it. What a thread that the handler left behind says later belongs to no run."""
        with self._lock:
            try:
                self._flush()
                self._send(*last)
            finally:
                self._is_open = False
                self._closed.set()

    def _has_hand(self) -> bool:
        """Whether a thread sends what waits: the handler may say nothing more for long. It starts at the first need."""
        if self._hand is None:
            self._hand = threading.Thread(target=self._flush_later, name="progress", daemon=True)
            with suppress(RuntimeError, MemoryError):  # no more threads, or no memory for one
                self._hand.start()
        return self._hand.ident is not None

    def _flush_later(self) -> None:
        while not self._closed.wait(PACE):
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        if self._progress is not None:
            said, self._progress, self._sent_at = self._progress, None, time.monotonic()
            self._send(said)

    def _send(self, *said: Any) -> None:
        """One after the other, also where the thread that sends is interrupted by itself."""
        if not self._is_open or os.getpid() != self._process:  # a forked copy has the same pipe
            return
        self._waiting.extend(said)
        if self._is_sending:
            return
        self._is_sending = True
        try:
            while self._waiting:
                self._pipe.send(self._waiting.popleft())
        finally:
            self._is_sending = False
