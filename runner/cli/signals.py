"""How a long command hears of signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNAL_CODES = {"SIGINT": 130, "SIGTERM": 143}


@contextmanager
def stopping(stop: Callable[[str], None], reload: Callable[[], None] | None = None) -> Iterator[None]:
    """The first SIGINT or SIGTERM calls `stop` with its name, the second ends the process at once; SIGHUP reloads."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if received:
            os._exit(SIGNAL_CODES[name])
        received.append(number)
        stop(name)

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGINT: handle, signal.SIGTERM: handle}
    if reload is not None:
        handlers[signal.SIGHUP] = lambda number, frame: reload()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
