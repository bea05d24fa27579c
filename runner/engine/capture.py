"""What handlers print, or log with `logging`, becomes their job's log; it still goes where it went before."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from runner.domain.said import LogLine
from runner.engine.context import Sink
from runner.engine.outcomes import storable
from runner.telemetry.printed import Printed

LONGEST_LINE = 64 * 1024  # characters: what is printed without an end is cut into lines
STREAMS = {"stdout": "info", "stderr": "warning"}
_Lock = type(threading.RLock())  # made for each run: what `threading` calls so takes three times as long
LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))
OUR_LEVEL = logging.INFO - 1  # of the root logger, where nobody set one: unlike `INFO`, it can be told from a user's


class Voice:
    """What one run says beside its context: `with voice:` around its code, at the end of which it is closed.

    Safe to use from any thread, also from a signal handler in between.
    """

    __slots__ = ("_begun", "_has_printed", "_has_warned", "_lock", "_now", "_sink")

    def __init__(self, sink: Sink, now: Callable[[], datetime]) -> None:
        self._sink: Sink | None = sink
        self._now = now
        self._lock = _Lock()
        self._begun: dict[tuple[str, int], str] = {}  # lines without an end yet, by level and thread
        self._has_warned = self._has_printed = False

    def __enter__(self) -> None:
        if type(sys.stdout) is not Tee or type(sys.stderr) is not Tee:
            _ensure()
        _voice.set(self)

    def __exit__(self, *_: object) -> None:
        if self._has_printed:
            _end_lines()
        self.close()
        if _voice.get() is self:  # an abandoned coroutine may be closed in the context of another run
            _voice.set(None)

    def say(self, level: str, message: str) -> None:
        with self._lock:
            if self._sink is not None:
                self._sink.log(LogLine(self._now(), level, storable(message)))

    def warn_once(self, message: str) -> None:
        with self._lock:
            if not self._has_warned:
                self._has_warned = True
                self.say("warning", message)

    def write(self, level: str, text: str) -> None:
        """Say what is complete of a printed text, keep the rest."""
        self._has_printed = True
        with self._lock:
            if self._sink is None:
                return
            key = level, threading.get_ident()
            *whole, rest = (self._begun.pop(key, "") + text).split("\n")
            for line in whole:
                self.say(level, _shown(line))
            rest = _shown(rest) + "\r" * rest.endswith("\r")
            while len(rest) > LONGEST_LINE:
                self.say(level, rest[:LONGEST_LINE])
                rest = rest[LONGEST_LINE:]
            if rest:
                self._begun[key] = rest

    def close(self) -> None:
        """Say what has no end. From here on nothing belongs to this run."""
        with self._lock:
            if self._begun:
                for (level, _), rest in self._begun.items():
                    self.say(level, _shown(rest))
                self._begun.clear()
            self._sink = None


def _shown(line: str) -> str:
    """What a terminal would show in the end: a progress bar returns to the start of its line and writes over it."""
    return line.rstrip("\r").rpartition("\r")[2]


_voice: ContextVar[Voice | None] = ContextVar("voice", default=None)
os.register_at_fork(after_in_child=lambda: _voice.set(None))  # the locks of a forked copy may never be released


def current() -> Voice | None:
    """The run that this thread or task works for."""
    return _voice.get()


@contextmanager
def muted() -> Iterator[None]:
    """What is printed and logged in here is ours, and belongs to no run."""
    voice = _voice.get()
    _voice.set(None)
    try:
        yield
    finally:
        _voice.set(voice)


class Tee:
    """Takes the place of a standard stream: what a run writes is heard, and everything is passed on."""

    def __init__(self, outer: Any, level: str) -> None:
        self.outer = outer
        self._level = level

    def write(self, text: str) -> int:
        voice = _voice.get()
        if voice is None or not isinstance(text, str):
            return self.outer.write(text)  # type: ignore[no-any-return]
        voice.write(self._level, text)
        with muted(), suppress(OSError, ValueError):  # jobs go on where nobody reads the stream any more
            self.outer.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if _voice.get() is None:
            self.outer.flush()
        else:
            with muted(), suppress(OSError, ValueError):
                self.outer.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.outer, name)


def is_in_lines() -> bool:
    """Whether what this process prints becomes lines of a log in JSON."""
    stream = sys.stderr
    while isinstance(stream, Tee):
        stream = stream.outer
    return isinstance(stream, Printed)


_lock = threading.Lock()
_open = 0
_undo: list[Callable[[], None]] = []


@contextmanager
def capturing() -> Iterator[None]:
    """While a worker runs. Several may be open at once."""
    global _open  # noqa: PLW0603 - the standard streams are the process's too
    with _lock:
        _open += 1
        if _open == 1:
            _install()
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            while _open == 0 and _undo:
                _undo.pop()()


def _install() -> None:
    _undo.extend((_hear_streams(), _hear_records(), _hear_threads(), _lower_root()))


def _hear_streams() -> Callable[[], None]:
    _wrap_streams()
    return _unwrap_streams


def _ensure() -> None:
    """Somebody has replaced the streams since: a live table, a handler."""
    with _lock:
        if _open:
            _wrap_streams()


def _end_lines() -> None:
    """Below us too, where whole lines are awaited: the next print is another run's."""
    for name in STREAMS:
        stream = getattr(sys, name)
        if isinstance(stream, Tee) and isinstance(stream.outer, Printed):
            with muted():
                stream.outer.end_line()


def _wrap_streams() -> None:
    for name, level in STREAMS.items():
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Tee):
            setattr(sys, name, Tee(stream, level))


def _unwrap_streams() -> None:
    for name in STREAMS:
        while isinstance(stream := getattr(sys, name), Tee):
            setattr(sys, name, stream.outer)


def _hear_records() -> Callable[[], None]:
    """Not a handler at the root logger: that would turn a `basicConfig` of the user's into nothing."""
    before = logging.Logger.callHandlers

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        voice = _voice.get()
        if voice is not None:
            voice.say(_level(record), _text(record))
        if record.levelno < logging.WARNING and self.getEffectiveLevel() == OUR_LEVEL:
            return  # nobody but us wants it
        with muted():  # a handler that prints it: once is enough
            before(self, record)

    return _patch(logging.Logger, "callHandlers", call_handlers)


def _hear_threads() -> Callable[[], None]:
    """A thread that a handler starts speaks for its run, while that lasts."""
    before = threading.Thread.start

    def start(self: threading.Thread) -> None:
        voice = _voice.get()
        if voice is not None:
            run = self.run
            self.run = lambda: _run_for(voice, run)  # type: ignore[method-assign]
        before(self)

    return _patch(threading.Thread, "start", start)


def _run_for(voice: Voice, run: Callable[[], None]) -> None:
    _voice.set(voice)
    run()


def _patch(place: type, name: str, ours: Callable[..., None]) -> Callable[[], None]:
    before = getattr(place, name)
    setattr(place, name, ours)

    def undo() -> None:
        if getattr(place, name) is ours:  # who came after us calls ours, which does nothing without a run
            setattr(place, name, before)

    return undo


def _lower_root() -> Callable[[], None]:
    """`logger.info` in a handler is heard where nobody has configured `logging`."""
    root = logging.getLogger()
    if not root.handlers and root.level == logging.WARNING:
        root.setLevel(OUR_LEVEL)
    return lambda: root.setLevel(logging.WARNING) if root.level == OUR_LEVEL else None


def _level(record: logging.LogRecord) -> str:
    return next((word for least, word in LEVELS if record.levelno >= least), "debug")


def _text(record: logging.LogRecord) -> str:
    known = record.exc_text  # what one formatter keeps there, the others take over
    try:
        text = _FORMATTER.format(record)
    except Exception as error:  # user code: `__str__`, or arguments that do not fit
        text = f"[{type(error).__name__} while formatting the message of {record.pathname}:{record.lineno}]"
    record.exc_text = known
    return text if record.name == "root" else f"{record.name}: {text}"


_FORMATTER = logging.Formatter("%(message)s")
