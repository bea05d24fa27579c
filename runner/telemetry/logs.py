"""Events as log lines: for people on a terminal, else one JSON object a line."""

from __future__ import annotations

from typing import TextIO

from runner.telemetry import Event


class Logs:
    """A subscriber: `events.subscribe(logs.tell)`."""

    def __init__(self, level: str, *, is_terminal: bool, stream: TextIO) -> None: ...

    def bind(self, **values: object) -> None:
        """Add these to each line from now on. ServiceStarted binds the worker by itself."""

    def tell(self, event: Event) -> None: ...


def configure_logging(level: str, is_terminal: bool, stream: TextIO) -> Logs:
    """Take over the standard library's logging as well: what libraries log comes out in the same form.

    `level` is one of LEVELS. Raises UsageError for another word.
    """
    return Logs(level, is_terminal=is_terminal, stream=stream)
