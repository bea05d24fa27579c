"""Events as log lines: for people on a terminal, else one JSON object a line. Libraries' records come out alike."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from runner.domain.errors import UsageError
from runner.telemetry import Event, JobSettled, ServiceStarted, ServiceStopped, bound, current_run
from runner.telemetry.flood import Flood
from runner.telemetry.printed import Printed
from runner.telemetry.wording import QUIET, Line, lines, many, routine

LEVELS = ("debug", "info", "warning", "error")
NOISY = ("alembic", "asyncio", "opentelemetry", "urllib3", "watchfiles")  # told from `warning` on, unless we debug
COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "1;31"}
FIRST = ("time", "level", "event")
LAST = ("details", "exception")  # whole lines

Entry = MutableMapping[str, Any]


class Logs:
    """A subscriber: `events.subscribe(logs.tell)`."""

    def __init__(self, level: str, *, is_terminal: bool, stream: TextIO) -> None:
        self._level = level
        self._flood = Flood(lambda jobs: self._write(many(jobs)))
        self.render = _Console(colours=stream.isatty()) if is_terminal else _json
        self.sink = _Sink(stream)
        self._logger = structlog.wrap_logger(
            self.sink,
            processors=[*COMMON, self.render],
            wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
            cache_logger_on_first_use=True,
        ).bind()

    @property
    def ignores(self) -> frozenset[type]:
        """The kinds of events that no line is written of at this level, however many there are."""
        return frozenset() if self._level == "debug" else frozenset(QUIET)

    def bind(self, **values: object) -> None:
        """Add these to each line from now on. ServiceStarted binds the worker by itself."""
        self._logger = self._logger.bind(**values)

    def tell(self, event: Event) -> None:
        loudness = routine(event)
        if loudness is not None and not self._is_told(loudness, event):
            return
        if isinstance(event, ServiceStarted) and event.worker_id:
            self.bind(worker_id=event.worker_id)
        if isinstance(event, ServiceStopped):
            self._flood.flush()
        for line in lines(event):
            self._write(line)

    def printed(self, name: str) -> TextIO:
        """A stream for the place of `sys.stdout` or `sys.stderr`: each line that is printed is a line of the log."""
        return cast("TextIO", Printed(lambda text: self.say({"event": text, "logger": name}, "info"), self.sink.stream))

    def say(self, entry: Entry, level: str) -> None:
        """A line of somebody else's, bound to the run that this code works for."""
        run = current_run.get()
        if run is not None:
            entry.update(bound(run))
        for processor in COMMON:
            entry = processor(None, level, entry)
        self.sink.msg(self.render(None, level, entry))

    def _is_told(self, loudness: str, event: Event) -> bool:
        if self._level == loudness == "info" and isinstance(event, JobSettled):
            return self._flood.admits(event.run.type)
        return LEVELS.index(loudness) >= LEVELS.index(self._level)

    def _write(self, line: Line) -> None:
        more: dict[str, Any] = {"details": list(line.details)} if line.details else {}
        if line.cause is not None:
            more["exc_info"] = line.cause
        getattr(self._logger, line.level)(line.text, **line.fields, **more)


def configure_logging(level: str, is_terminal: bool, stream: TextIO) -> Logs:
    """Write to `stream`, and take over what libraries log: it comes out in the same form.

    `level` is one of LEVELS. Raises UsageError for another word. Called again, it takes the place of the earlier call.
    """
    if level not in LEVELS:
        raise UsageError(f"no such log level: {level!r}", ", ".join(LEVELS))
    made = Logs(level, is_terminal=is_terminal, stream=stream)
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Records)]:
        root.removeHandler(old)
    root.addHandler(_Records(made))
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    logging.captureWarnings(True)
    return made


class _Sink:
    """The stream. Jobs go on where nobody reads it any more or its disk is full."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._lock = threading.Lock()

    def msg(self, text: str) -> None:
        encoding = self.stream.encoding or "utf-8"
        with self._lock, suppress(OSError, ValueError):
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self.stream.flush()

    debug = info = warning = error = critical = msg


class _Records(logging.Handler):
    """What libraries log, in our form."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError) as error:  # a library's own mistake in its format
            text = f"{record.msg} ({error})"
        entry: Entry = {"event": text, "logger": record.name}
        if record.exc_info:
            entry["exc_info"] = record.exc_info
        self._logs.say(entry, record.levelname.lower())


def _arranged(_: Any, __: str, entry: Entry) -> Entry:
    """Time, level and text first, whole lines last."""
    middle = [name for name in entry if name not in FIRST and name not in LAST]
    order = (*FIRST, *middle, *(name for name in LAST if name in entry))
    return {name: entry[name] for name in order}


def _json(_: Any, __: str, entry: Entry) -> str:
    """ASCII alone: no byte of it can end a line, move a cursor or turn the reading direction."""
    return json.dumps(entry, default=str)


class _Console:
    """A line for people; `details` and tracebacks below it, indented. No control character reaches the terminal."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: Any, __: str, entry: Entry) -> str:
        level = f"{entry['level']:8}"
        if self._colours and entry["level"] in COLOURS:
            level = f"\x1b[{COLOURS[entry['level']]}m{level}\x1b[0m"
        fields = "".join(f"  {name}={_value(value)}" for name, value in _fields(entry).items())
        below = [*entry.get("details", ()), *str(entry.get("exception", "")).splitlines()]
        rest = "".join(f"\n    {_plain(one)}" for one in below)
        return f"{entry['time']} {level} {_plain(str(entry['event']))}{fields}{rest}"


def _fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in FIRST and name not in LAST}


def _value(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    plain = _plain(text)
    return f'"{plain}"' if " " in plain or not plain else plain


def _plain(text: str) -> str:
    """Control characters, and those that turn the reading direction, as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


COMMON: list[Any] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.processors.format_exc_info,
    _arranged,
]
