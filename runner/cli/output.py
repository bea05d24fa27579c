"""What the command line prints: data on stdout, everything else on stderr, and the exit code of each error."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from runner.domain import errors
from runner.domain.duration import DurationError
from runner.domain.plain import plain

if TYPE_CHECKING:
    from runner.domain.ledger import ScheduleSlot


NARROWEST = 12  # characters that a column keeps when it gives way


class Format(StrEnum):
    """How data is printed."""

    TEXT = "text"
    JSON = "json"


EXIT_CODES: tuple[tuple[type[errors.RunnerError], int], ...] = (
    (errors.ConfigInvalid, 3),
    (errors.HandlerNotFound, 3),
    (errors.UnsetVariable, 3),
    (errors.RemovalsRefused, 4),
    (errors.NotAllowed, 4),
    (errors.NotFound, 5),
    (errors.Conflict, 6),
    (errors.StaleRevision, 6),
    (errors.DatabaseUnavailable, 7),
    (errors.ServerUnreachable, 7),
    (errors.PayloadInvalid, 2),
    (errors.UsageError, 2),
    (DurationError, 2),
    (errors.NotThereYet, 2),
    (errors.Interrupted, 130),
)


def exit_code(error: errors.RunnerError) -> int:
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def print_json(data: Mapping[str, Any]) -> None:
    """One document with its version; times as ISO 8601 with offset, durations in seconds."""
    print_line(json.dumps({"format_version": 1} | dict(data), indent=2, ensure_ascii=False, default=plain))


def print_line(text: str = "") -> None:
    """A line on stdout; what the terminal's encoding cannot show is escaped."""
    _write(data_stream(), text)


_kept: list[TextIO] = []


def data_stream() -> TextIO:
    """Where data goes: the stdout that this command was started with."""
    return _kept[0] if _kept else sys.stdout


def keep_stdout() -> None:
    """From here on stdout is for data: what handlers print, and the processes that they start, goes to stderr."""
    if _kept:
        return
    _kept.append(sys.stdout)
    with contextlib.suppress(OSError, ValueError):  # a stdout that is no file is nobody else's either
        sys.stdout.flush()
        if sys.stdout.fileno() == 1:
            _kept[0] = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
            os.dup2(_where_stderr_goes(), 1)
    sys.stdout = sys.stderr


def _where_stderr_goes() -> int:
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError):
        return os.open(os.devnull, os.O_WRONLY)


def give_stdout_back() -> None:
    """For who runs a second command in the same process."""
    if _kept:
        sys.stdout = _kept.pop()
    _unheard.clear()


def note(text: str) -> None:
    """A line for people, on stderr."""
    _write(sys.stderr, text)


lost_output: list[OSError] = []  # why stdout or stderr could not take everything; a closed pipe is no reason


def _write(stream: Any, text: str) -> None:
    """Nobody has to listen: jobs that run go on when the reader of a pipe has gone or the disk is full."""
    if stream is None or stream.closed:
        return
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except BrokenPipeError:
        _silence(stream)
        _unheard.append(stream)
    except OSError as error:
        _silence(stream)
        lost_output.append(error)


def is_heard() -> bool:
    """Whether somebody may still read the data: for who prints on and on."""
    return data_stream() not in _unheard


_unheard: list[TextIO] = []


def _silence(stream: Any) -> None:
    """What is still in its buffer goes nowhere too, or Python complains at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def fail(error: errors.RunnerError) -> NoReturn:
    """One sentence and the remedy on stderr, and the code."""
    note(f"error: {clean(error.message)}")
    if error.hint:
        note(f"help: {clean(error.hint)}")
    raise typer.Exit(exit_code(error))


def clean(text: str) -> str:
    """Text of others for a terminal: no escape sequences, no control characters."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def is_terminal() -> bool:
    return data_stream() is not None and data_stream().isatty() and os.environ.get("TERM", "") != "dumb"


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str, *, cut: Sequence[str] = ()
) -> None:
    """Aligned columns. On a terminal the columns named in `cut` give way, in that order; elsewhere nothing is cut."""
    lines = [[clean("" if cell is None else str(cell)).replace("\n", " ") for cell in row] for row in rows]
    if not lines:
        note(empty)
        return
    widths = [max(len(column), *(len(line[at]) for line in lines)) for at, column in enumerate(columns)]
    if is_terminal():
        widths = _fitted(widths, [columns.index(name) for name in cut], shutil.get_terminal_size().columns)
    for line in ([column.upper() for column in columns], *lines):
        cells = [_cut(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True)]
        print_line("  ".join(cells).rstrip())


def _fitted(widths: list[int], cut: Sequence[int], room: int) -> list[int]:
    too_wide = sum(widths) + 2 * (len(widths) - 1) - room
    for at in cut:
        less = max(min(too_wide, widths[at] - NARROWEST), 0)
        widths[at] -= less
        too_wide -= less
    return widths


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def when(value: datetime | None) -> str:
    """A time for people: seconds, in UTC."""
    return "-" if value is None else f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(' ', 'seconds')}Z"


def nearby(value: datetime | None, now: datetime) -> str:
    """A time in a table: how far away on a terminal, where columns are scarce; in full elsewhere."""
    if value is None or not is_terminal():
        return when(value)
    return f"in {span(value - now)}" if value > now else f"{span(now - value)} ago"


def since(value: datetime, now: datetime) -> str:
    """How long ago; a time of a clock that was ahead of ours is no time ago."""
    return span(max(now - value, timedelta(0)))


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "job"), counted(2_000, "job")
    ('1 job', '2,000 jobs')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def slot_lines(name: str, slots: Sequence[ScheduleSlot]) -> Iterator[str]:
    """What became of slots: a line for each that was enqueued, one for each run skipped for one reason."""
    for (outcome, reason, _), group in groupby(slots, key=lambda slot: (slot.outcome, slot.reason, slot.job_id)):
        rows = list(group)
        first, count = rows[0].first_slot or rows[0].slot, sum(row.slot_count for row in rows)
        times = when(first) if count == 1 else f"{count} slots, {when(first)} to {when(rows[-1].slot)}"
        told = clean(reason or "")
        tail = f"job {rows[0].job_id}" + f" ({told})" * bool(told) if rows[0].job_id else told
        yield f"{outcome:10} {name} {times}: {tail}"


def span(value: timedelta | float) -> str:
    """A duration for people.

    >>> [span(0.004), span(3.21), span(75), span(7300), span(100_000)]
    ['4 ms', '3.2 s', '1 m 15 s', '2 h 1 m', '1 d 3 h']
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} m {int(seconds % 60)} s"
    if seconds < 86_400:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} m"
    return f"{int(seconds // 86_400)} d {int(seconds % 86_400 // 3600)} h"
