"""How a long command hears of signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

SIGNAL_CODES = {"SIGINT": 130, "SIGTERM": 143}


class Stop(KeyboardInterrupt):
    """As Ctrl-C. Not that class itself: where it crosses `exec` of a text (every dataclass is one), Python notes it
    and ends the process by SIGINT, whoever caught it."""


@contextmanager
def starting(received: list[str]) -> Iterator[None]:
    """Until `stopping` is there: the first SIGINT or SIGTERM is noted and raises `Stop`, the second ends the process at
    once. A SIGHUP changes nothing: the file is read in a moment anyway."""

    def interrupt(name: str) -> None:
        raise Stop(name)

    with _heard(received, interrupt, lambda: None):
        yield


@contextmanager
def stopping(
    stop: Callable[[str], None], reload: Callable[[], None] | None = None, received: list[str] | None = None
) -> Iterator[None]:
    """The first SIGINT or SIGTERM calls `stop` with its name, the second ends the process at once; SIGHUP reloads.

    One that was `received` before, and that the code of a handler has swallowed, counts as well.
    """
    received = [] if received is None else received
    with _heard(received, stop, reload):
        if received:
            stop(received[0])
        yield


@contextmanager
def _heard(received: list[str], first: Callable[[str], None], hangup: Callable[[], None] | None) -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if received:
            os._exit(SIGNAL_CODES[name])
        received.append(name)
        first(name)

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGINT: handle, signal.SIGTERM: handle}
    if hangup is not None:
        handlers[signal.SIGHUP] = lambda number, frame: hangup()
    before: Mapping[int, object] = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)  # type: ignore[arg-type]
