"""What a handler is given: who it is, and the ways to say how it is going."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from runner.domain.job import Run
from runner.domain.outcome import JobCancelled
from runner.domain.said import LogLine, OutputPiece, Progress

Level = Literal["debug", "info", "warning", "error"]
LEVELS = ("debug", "info", "warning", "error")
StopKind = Literal["cancel", "timeout", "lost", "shutdown"]


_deciding = threading.RLock()  # one for all: who stops a run takes it for a moment, also in a signal handler


class Stop:
    """A request to stop, made by the worker and noticed by the handler. The first kind stays; a loss counts always."""

    __slots__ = ("_was_delivered", "is_lost", "kind", "reason")

    def __init__(self) -> None:
        self.is_lost = False
        self._was_delivered = False
        self.kind: StopKind | None = None
        self.reason = ""

    def request(self, kind: StopKind, reason: str) -> bool:
        """Whether this was the first request."""
        with _deciding:
            self.is_lost |= kind == "lost"
            if self.kind is not None:
                return False
            self.reason = reason
            self.kind = kind
            return True

    def deliver(self) -> bool:
        """Whether to interrupt the handler now: once, so that `finally` blocks may still use the context."""
        if self.kind is None:
            return False
        with _deciding:
            first, self._was_delivered = not self._was_delivered, True
        return first

    def check(self) -> None:
        """Raise JobCancelled, the first time after a request."""
        if self.deliver():
            raise JobCancelled(self.reason)


class Sink(Protocol):
    """Where a context says things: a recorder in this process, or a pipe to it."""

    def progress(self, progress: Progress) -> None: ...
    def log(self, line: LogLine) -> None: ...
    def output(self, piece: OutputPiece) -> None: ...


@dataclass(frozen=True, slots=True)
class Child:
    """A job that a handler wants enqueued when, and only when, it completes."""

    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


class JobContext:
    """The `ctx` of a handler. Safe to use from any thread of the handler.

    After a cancel or a timeout, the next call of `progress`, `log`, `output` or `check` raises JobCancelled.
    """

    def __init__(
        self,
        run: Run,
        sink: Sink,
        stop: Stop,
        now: Callable[[], datetime] | None = None,
        is_held: Callable[[float], bool] = lambda began: True,
        children: list[Child] | None = None,
    ) -> None:
        self._sink = sink
        self._stop = stop
        self._is_held = is_held
        self._began = time.monotonic()
        self._now = now or (lambda: datetime.now(UTC))
        self.children: list[Child] = [] if children is None else children
        self.job_id = run.id
        self.type = run.type
        self.attempt = run.attempt
        self.max_attempts = run.max_attempts
        self.project_id = run.project_id
        self.schedule_name = run.schedule_name
        self.scheduled_for = run.scheduled_for
        self.idempotency_key = f"job-{run.id}"

    @property
    def cancelled(self) -> bool:
        """Whether the handler should end: somebody cancelled the job, or its time is over."""
        return self._stop.kind is not None

    @property
    def heartbeat_ok(self) -> bool:
        """Whether this run is surely still its own: its worker's last beat is recent enough, and no claim was lost.

        Ask it before what must not happen twice. Where it is False, another worker may run the job soon.
        """
        return self._is_held(self._began) and not self._stop.is_lost

    def check(self) -> None:
        """Raise JobCancelled if the handler should end. Call it in long loops."""
        self._stop.check()

    def progress(self, percent: float | None = None, step: str | None = None, message: str | None = None) -> None:
        """Say how far the job is: 0 to 100, with an optional step and message. It never goes back within a run."""
        if percent is not None and not (isinstance(percent, (int, float)) and 0 <= percent <= 100):
            raise ValueError(f"progress is a number from 0 to 100, not {percent!r}")
        self._stop.check()
        shown = None if percent is None else round(float(percent), 2)
        self._sink.progress(Progress(shown, _clean(step), _clean(message)))

    def log(self, message: object, level: Level = "info") -> None:
        """Add a line to the job's log."""
        if level not in LEVELS:
            raise ValueError(f"no such level: {level!r}; there are {', '.join(LEVELS)}")
        self._stop.check()
        self._sink.log(LogLine(self._now(), level, _clean(str(message)) or ""))

    def output(self, name: str, media_type: str, data: str | bytes, append: bool = False) -> None:
        """Show something: `data` is the whole of it, or what is to be added to it. Text is stored as UTF-8."""
        if not name or not isinstance(name, str):
            raise ValueError("an output needs a name")
        if not isinstance(data, (str, bytes)):
            raise TypeError(f"output data is text or bytes, not {type(data).__name__}")
        self._stop.check()
        content = data.encode("utf-8", "replace") if isinstance(data, str) else data
        self._sink.output(OutputPiece(self._now(), _clean(name) or "", _clean(media_type) or "", content, append))

    def enqueue(self, type: str, payload: Mapping[str, Any] | None = None, **options: Any) -> None:  # noqa: A002
        """Enqueue a child job, in the transaction that settles this one as completed, or not at all.

        Options: `priority`, `run_at` (aware datetime), `delay` (seconds or timedelta), `project_id`.
        """
        unknown = set(options) - {"priority", "run_at", "delay", "project_id"}
        if unknown:
            raise TypeError(f"no such option: {', '.join(sorted(unknown))}")
        delay = options.get("delay")
        if delay is not None and not isinstance(delay, timedelta) and not math.isfinite(delay):
            raise ValueError(f"a delay is a number of seconds, not {delay!r}")
        self.children.append(Child(type, dict(payload or {}), options))


def _clean(text: str | None) -> str | None:
    """Text as both databases take it: no NUL, no lone surrogates."""
    if text is None:
        return None
    return str(text).encode("utf-8", "replace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")
