"""The last hour as two drawings: what ended, and how long it had waited. Each bar has its numbers in words too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from runner.domain.pace import MOST, SLICE, Pace, Slice, share
from runner.web.rendering import length

HEIGHT = 100
STEP = 10  # from bar to bar
LEAST = 2.0  # of a bar that is not nothing


@dataclass(frozen=True, slots=True)
class Bar:
    """`x` from the left, `y` from above."""

    x: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Entry:
    """Two minutes in words."""

    time: str
    ended: str
    typical: str
    slow: str


@dataclass(frozen=True, slots=True)
class Hour:
    """`typical` is what half of the jobs waited at most, `slow` nine of ten."""

    entries: Sequence[Entry]
    ended: Sequence[Bar]
    typical_waits: Sequence[Bar]
    slow_waits: Sequence[Bar]
    total: str
    most: str
    typical: str
    slow: str
    longest: str
    asked: int

    @property
    def width(self) -> int:
        return STEP * len(self.entries)


def hour(pace: Pace, zone: str) -> Hour | None:
    """None where nothing ended in it."""
    if not pace.ended:
        return None
    slices = pace.slices
    counts = [one.ended for one in slices]
    typical, slow = [one.typical for one in slices], [one.slow for one in slices]
    top = max(one or 0.0 for one in slow)
    return Hour(
        [_entry(one, ZoneInfo(zone)) for one in slices],
        _bars(counts, max(counts)), _bars(typical, top), _bars(slow, top),
        _counted(pace.ended, pace.is_full), _counted(max(counts), max(counts) >= MOST),
        _waited(share(pace.waits, 0.5)), _waited(share(pace.waits, 0.9)), _waited(top), len(pace.waits),
    )  # fmt: skip


def _bars(values: Sequence[float | None], top: float) -> list[Bar]:
    """Those that are not nothing.

    >>> _bars([5, None, 10, 0.001], 10)
    [Bar(x=0, y=50.0, height=50.0), Bar(x=20, y=0.0, height=100.0), Bar(x=30, y=98.0, height=2.0)]
    """
    heights = [max(round(HEIGHT * value / top, 1), LEAST) if value and top else 0.0 for value in values]
    return [Bar(at * STEP, round(HEIGHT - high, 1), high) for at, high in enumerate(heights) if high]


def _entry(one: Slice, zone: ZoneInfo) -> Entry:
    first, last = one.start.astimezone(zone), (one.start + SLICE).astimezone(zone)
    return Entry(
        f"{first:%H:%M}–{last:%H:%M}", _counted(one.ended, one.is_full), _waited(one.typical), _waited(one.slow)
    )


def _counted(number: int, is_more: bool) -> str:
    return f"{number:,}" + (" or more" if is_more else "")


def _waited(seconds: float | None) -> str:
    """
    >>> [_waited(one) for one in (None, 0.0124, 0.25, 75)]
    ['–', '12 ms', '0.2 s', '1 min 15 s']
    """
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.1 else length(timedelta(seconds=seconds))
