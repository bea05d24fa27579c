"""A context for handlers under test: it records what they say, and cancels them when told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runner import JobCancelled


class RecordingContext:
    """Takes the place of `JobContext`. `on_check` is called at each sign of life and may set `cancelled`."""

    def __init__(self, on_check: Callable[[RecordingContext], None] | None = None) -> None:
        self.job_id, self.type, self.attempt = 1, "test", 1
        self.project_id: str | None = None
        self.idempotency_key = "1-1"
        self.cancelled = False
        self.logged: list[tuple[str, str]] = []
        self.progressed: list[tuple[float, str | None, str | None]] = []
        self.outputs: dict[str, tuple[str, bytes]] = {}
        self._on_check = on_check
        self._was_raised = False

    def check(self) -> None:
        if self._on_check is not None:
            self._on_check(self)
        if self.cancelled and not self._was_raised:
            self._was_raised = True  # once, as the real one: a handler that swallows it is not told again
            raise JobCancelled

    def progress(self, percent: float, step: str | None = None, message: str | None = None) -> None:
        self.check()
        assert 0 <= percent <= 100
        assert not self.progressed or percent >= self.progressed[-1][0], "progress never goes back"
        self.progressed.append((percent, step, message))

    def log(self, message: str, level: str = "info") -> None:
        self.check()
        assert level in ("debug", "info", "warning", "error")
        self.logged.append((level, message))

    def output(self, name: str, media_type: str, data: str | bytes, append: bool = False) -> None:
        self.check()
        new = data.encode() if isinstance(data, str) else data
        old = self.outputs[name][1] if append and name in self.outputs else b""
        self.outputs[name] = (media_type, old + new)

    def logged_text(self) -> str:
        return "\n".join(message for _, message in self.logged)


def as_context(context: RecordingContext) -> Any:
    """Handlers are annotated with the real class; this one only looks like it."""
    return context
