"""Texts that a pattern cannot check with a good message: durations, zones, times, dotted paths."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from runner.domain.duration import DurationError, parse_duration
from runner.domain.size import SizeError, parse_size

DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*(?:\.|:)[^\W\d]\w*(?:\.[^\W\d]\w*)*")
YEARS = range(1970, 9001)
LEAST_MEMORY = "64MB"  # the interpreter and what it imports need about half of it
MOST_MEMORY = "1024TiB"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one text."""

    code: str
    message: str
    hint: str | None = None


def duration(text: str, least: timedelta = timedelta(0)) -> Fault | None:
    try:
        span = parse_duration(text)
    except DurationError as error:
        return Fault("duration", error.message, error.hint)
    if span < least:
        return Fault("duration", f"{text} is too short", "write at least 1s" if least.seconds else "write at least 1ms")
    return None


def positive_duration(text: str) -> Fault | None:
    return duration(text, timedelta(milliseconds=1))


def interval(text: str) -> Fault | None:
    fault = duration(text, timedelta(seconds=1))
    if fault is None and parse_duration(text) % timedelta(seconds=1):
        return Fault("duration", f"{text} is not a number of whole seconds", "write 1s, 15m or 1h30m")
    return fault


def size(text: str) -> Fault | None:
    try:
        count = parse_size(text)
    except SizeError as error:
        return Fault("size", error.message, error.hint)
    if count < parse_size(LEAST_MEMORY):
        return Fault("size", f"{text} is too little for a Python process", f"write at least {LEAST_MEMORY}")
    if count > parse_size(MOST_MEMORY):
        return Fault("size", f"{text} is more than any machine has", "remove it, or write less")
    return None


def instant(text: str) -> Fault | None:
    try:
        moment = parse_instant(text)
    except ValueError:
        hint = "write 2026-03-01, 2026-03-01T06:00 or 2026-03-01T06:00:00+01:00"
        return Fault("timestamp", f"{text[:40]!r} is not a date or a time", hint)
    if moment.year not in YEARS:
        return Fault("timestamp", f"{text[:40]} is too far away", "write a year from 1970 to 9000")
    return None


def handler(text: str) -> Fault | None:
    if DOTTED.fullmatch(text):
        return None
    hint = "write package.module.function, or package.module:function"
    return Fault("handler-path", f"{text[:80]!r} is not the dotted path of a function", hint)


def parse_instant(text: str) -> datetime:
    """The time that the text names; naive where it has no offset, the first moment of a date.

    >>> parse_instant("2026-03-01").isoformat()
    '2026-03-01T00:00:00'
    """
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        return datetime.combine(date.fromisoformat(text), time())
    if not re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text, re.ASCII):
        raise ValueError(text)
    return datetime.fromisoformat(text)


FORMATS: dict[str, Callable[[str], Fault | None]] = {
    "duration": duration,
    "delays": duration,
    "positive_duration": positive_duration,
    "interval": interval,
    "size": size,
    "instant": instant,
    "handler": handler,
}
