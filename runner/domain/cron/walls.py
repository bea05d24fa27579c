"""The wall times that an expression matches, as if clocks never changed. All datetimes here are naive."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Protocol

from runner.domain.cron import zones
from runner.domain.cron.days import Days
from runner.domain.cron.text import Fields
from runner.domain.cron.zones import MIDNIGHT


class Dates(Protocol):
    """Steps between the matching dates; None where the calendar ends."""

    def after(self, start: date) -> date | None: ...

    def before(self, start: date) -> date | None: ...


class Walls:
    """`days` decides whether a date matches; `dates`, which may know a quicker way, finds the next one."""

    def __init__(self, fields: Fields, days: Days, dates: Dates) -> None:
        self.days = days
        self._fields, self._dates = fields, dates

    @cached_property
    def times(self) -> tuple[int, ...]:
        """The seconds of the day that match, on a day that matches."""
        return _times(self._fields.hour.values, self._fields.minute.values, self._fields.second.values)

    def __contains__(self, wall: datetime) -> bool:
        place = bisect_right(self.times, _second_of_day(wall))
        return wall.date() in self.days and place > 0 and self.times[place - 1] == _second_of_day(wall)

    def after(self, start: datetime) -> datetime | None:
        """The first match strictly later; None where the calendar ends."""
        if start.date() in self.days:
            place = bisect_right(self.times, _second_of_day(start))
            if place < len(self.times):
                return _wall(start.date(), self.times[place])
        day = self._dates.after(start.date())
        return _wall(day, self.times[0]) if day and day <= zones.LATEST.date() else None

    def until(self, end: datetime) -> datetime | None:
        """The last match that is not later; None where the calendar begins."""
        if end.date() in self.days:
            place = bisect_right(self.times, _second_of_day(end))
            if place:
                return _wall(end.date(), self.times[place - 1])
        day = self._dates.before(end.date())
        return _wall(day, self.times[-1]) if day and day >= zones.EARLIEST.date() else None


def count_walls(sets: Sequence[Walls], low: datetime, high: datetime) -> int:
    """How many different wall times in (low, high] match any of the sets, day by day."""
    if not sets or low >= high:
        return 0
    known: dict[tuple[Walls, ...], Sequence[int]] = {}
    total = 0
    for ordinal in range(low.toordinal(), high.toordinal() + 1):
        day = date.fromordinal(ordinal)
        today = tuple(walls for walls in sets if day in walls.days)
        if today not in known:
            known[today] = sorted(set().union(*(walls.times for walls in today)))
        first = bisect_right(known[today], _second_of_day(low)) if day == low.date() else 0
        last = bisect_right(known[today], _second_of_day(high)) if day == high.date() else len(known[today])
        total += last - first
    return total


@lru_cache(maxsize=256)
def _times(hours: frozenset[int], minutes: frozenset[int], seconds: frozenset[int]) -> tuple[int, ...]:
    return tuple(h * 3600 + m * 60 + s for h in sorted(hours) for m in sorted(minutes) for s in sorted(seconds))


def _second_of_day(wall: datetime) -> int:
    return wall.hour * 3600 + wall.minute * 60 + wall.second


def _wall(day: date, second: int) -> datetime:
    return datetime.combine(day, MIDNIGHT) + timedelta(seconds=second)
