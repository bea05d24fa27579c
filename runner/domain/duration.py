"""Durations as people write them: `2s`, `10m`, `1h30m`, `30d`, `500ms`."""

from __future__ import annotations

import re
from datetime import timedelta

from runner.domain.errors import RunnerError

UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
LONGEST = timedelta(days=36_500)
TEXT = re.compile(r"(?=\d)(?:(\d{1,15})d)?(?:(\d{1,15})h)?(?:(\d{1,15})m)?(?:(\d{1,15})s)?(?:(\d{1,15})ms)?", re.ASCII)


class DurationError(RunnerError):
    """The text is no duration; the hint says what to write instead."""


def parse_duration(text: str) -> timedelta:
    """The duration that the text names.

    >>> parse_duration("1h30m").total_seconds()
    5400.0
    >>> parse_duration("500ms").total_seconds()
    0.5
    """
    match = TEXT.fullmatch(text)
    if match is None:
        raise DurationError(f"{_shown(text)} is not a duration{_reason(text)}", _remedy(text))
    counts = [int(count or 0) for count in match.groups()]
    milliseconds = sum(count * (unit // UNITS["ms"]) for count, unit in zip(counts, UNITS.values(), strict=True))
    if milliseconds > LONGEST // UNITS["ms"]:
        raise DurationError(f"{_shown(text)} is longer than a hundred years", f"write at most {LONGEST.days}d")
    return timedelta(milliseconds=milliseconds)


def format_duration(duration: timedelta) -> str:
    """The shortest text that `parse_duration` reads back as the same duration, to the millisecond.

    >>> format_duration(timedelta(seconds=5400))
    '1h30m'
    """
    if duration < timedelta(0):
        return "-" + format_duration(-duration)
    left = round(duration / UNITS["ms"])
    parts = []
    for name, unit in UNITS.items():
        count, left = divmod(left, unit // UNITS["ms"])
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def _shown(text: str) -> str:
    return text if len(text) <= 40 and text.isprintable() and text.strip() == text != "" else repr(text[:40])


def _reason(text: str) -> str:
    if re.fullmatch(r"[0-9.]+", text):
        return ": it has no unit"
    if re.fullmatch(r"(\d+(ms|[dhms]))+", text, re.ASCII):
        return ": each unit stands once, the larger before the smaller"
    return ""


def _remedy(text: str) -> str:
    if re.fullmatch(r"[0-9]{1,9}", text) and timedelta(seconds=int(text)) <= LONGEST:
        short = format_duration(timedelta(seconds=int(text)))
        plain = "" if short == f"{text}s" else f" ({text} seconds)"
        return f"write {short}{plain}"
    return "write a number with its unit (d, h, m, s or ms): 30d, 1h30m, 10m, 2s, 500ms"
