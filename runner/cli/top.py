"""The command `top`: looks about once a second, draws when it has looked, and ends with `q`."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING

import typer

from runner.cli.main import cli, desk_of
from runner.cli.output import data_stream, is_terminal, print_line
from runner.cli.signals import SIGNAL_CODES
from runner.domain.errors import RunnerError

if TYPE_CHECKING:
    from rich.console import Console

    from runner.cli.frame import Frame
    from runner.domain.desk import Desk

EVERY = 1.0  # seconds between two frames
AT_LEAST = 5.0  # seconds after which is read anyhow: death and the clock commit nothing
SHARE = 20  # times what a read took is waited until the next: a large database is read less often
ROWS = 200  # of each kind that are read: more than any terminal shows
QUIT = (b"q", b"Q", b"\x04", b"")


@cli.command(short_help="Watch jobs, queues and workers live.")
def top(ctx: typer.Context) -> None:
    """Watch what runs, what waits, what fires next and what has ended, live, from any process. `q` or Ctrl-C ends it.

    Where stdout is no terminal, one frame is printed. For programs: runner status -o json.
    """
    with desk_of(ctx) as desk:
        source = _Source(desk)
        code = _watch(source) if is_terminal() else _print_once(source)
    raise typer.Exit(code)


def _print_once(source: _Source) -> int:
    from runner.cli.frame import draw

    frame = source.frame(source.desk.now())
    if frame.error is not None:
        raise frame.error
    size = shutil.get_terminal_size()
    console = _console(size.columns)
    with console.capture() as captured:
        console.print(draw(frame, size.lines))
    for line in captured.get().splitlines():
        print_line(line.rstrip())
    return 0


def _watch(source: _Source) -> int:
    from rich.live import Live

    from runner.cli.frame import draw

    console = _console(None)
    with _keys(), _Wakes() as wakes, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(draw(source.frame(source.desk.now()), console.size.height), refresh=True)
            said = wakes.wait(EVERY)
            if said in SIGNAL_CODES or said == "quit":
                return 0 if said in ("quit", "SIGINT") else SIGNAL_CODES[said]


def _console(width: int | None) -> Console:
    from rich.console import Console

    return Console(file=data_stream(), width=width, highlight=False, markup=False, emoji=False)


@dataclass(slots=True)
class _Source:
    """Frames: read again where something was committed, else drawn again with the time of now."""

    desk: Desk
    _changed: Callable[[], bool] | None = None
    _last: Frame | None = None
    _read_at: float = 0.0
    _cost: float = 0.0

    def frame(self, now: datetime) -> Frame:
        from runner.cli.frame import Frame

        try:
            if self._last is None or self._is_due():
                self._last = self._read(now)
            return self._last.at_time(now)
        except RunnerError as error:
            self._last = self._changed = None
            return Frame(self.desk.place, now, error=error)

    def _is_due(self) -> bool:
        """Where there is no database yet, it is looked for each time."""
        waited = time.monotonic() - self._read_at
        if self._changed is None:
            return True
        return waited >= SHARE * self._cost and (waited >= AT_LEAST or self._changed())

    def _read(self, now: datetime) -> Frame:
        from runner.cli.frame import Frame
        from runner.domain.desk import Rows

        began = time.monotonic()
        if self._changed is not None:
            self._changed()  # asked before: what is committed while we read is read next time
        found = self.desk.inside(Rows(ROWS, ROWS, skipped=False))
        if self._changed is None and found.seen is not None:
            self._changed = self.desk.changes()
            return self._read(now)  # what was committed meanwhile is nobody's news any more
        self._read_at = time.monotonic()
        self._cost = self._read_at - began
        return Frame(self.desk.place, now, found.seen, found.running, found.ended)


@contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one and are not shown."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@dataclass(slots=True)
class _Wakes:
    """What ends a wait early: a key, a signal, another size of the terminal."""

    _signal: str | None = None
    _pipe: tuple[int, int] = (-1, -1)
    _before: dict[int, Callable[[int, FrameType | None], object] | int | None] = field(default_factory=dict)

    def __enter__(self) -> _Wakes:
        self._pipe = os.pipe2(os.O_NONBLOCK)
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for end in self._pipe:
            os.close(end)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        self._signal = name if name in SIGNAL_CODES else self._signal
        with suppress(BlockingIOError):
            os.write(self._pipe[1], b"!")

    def wait(self, seconds: float) -> str | None:
        """The name of a signal that ends, `quit`, or None after that time or where only a new frame is wanted."""
        keyboard = [sys.stdin.fileno()] if sys.stdin.isatty() else []
        ready, _, _ = select.select([self._pipe[0], *keyboard], [], [], seconds)
        if self._pipe[0] in ready:
            os.read(self._pipe[0], 1000)
        if self._signal is not None:
            return self._signal
        return "quit" if keyboard and keyboard[0] in ready and os.read(keyboard[0], 1) in QUIT else None
