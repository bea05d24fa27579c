"""Which dates an expression means: the day predicate that decides what croniter lacks or reads differently."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import date

from runner.domain.cron.errors import CronError
from runner.domain.cron.fields import Field
from runner.domain.schedule import DayMatch

CYCLE = 400  # years after which the Gregorian calendar repeats itself, weekdays included


class Days:
    """The dates of a day-of-month, a month and a weekday field.

    A date has to be in the month and to match both day fields; where `either` is true, one of them is enough.
    """

    def __init__(self, day: Field, month: Field, weekday: Field, day_match: DayMatch) -> None:
        self.day, self.month, self.weekday = day, month, weekday
        self.day_match = day_match
        self.both_given = not (day.is_star or weekday.is_star)
        self.either = self.both_given and READINGS[day_match](day, weekday)
        self.every_day = day.is_star and month.is_star and weekday.is_star
        self._months = month.values
        self._shapes: dict[tuple[int, int], frozenset[int]] = {}

    def __contains__(self, wanted: date) -> bool:
        return wanted.month in self._months and wanted.day in self._matching(wanted.year, wanted.month)

    def _matching(self, year: int, month: int) -> frozenset[int]:
        """The days of that month, if it is one of ours. Months of one shape share an answer."""
        shape = monthrange(year, month)
        if shape not in self._shapes:
            self._shapes[shape] = self._of_shape(*shape)
        return self._shapes[shape]

    def _of_shape(self, first: int, length: int) -> frozenset[int]:
        by_number = frozenset(d for d in self.day.values if d <= length)
        by_number |= {_special_day(text, first, length) for text in self.day.specials}
        by_weekday = frozenset(d for d in range(1, length + 1) if _weekday(first, d) in self.weekday.values)
        by_weekday |= {_special_weekday(text, first, length) for text in self.weekday.specials}
        return ((by_number | by_weekday) if self.either else (by_number & by_weekday)) - {0}

    def after(self, start: date) -> date | None:
        """The first date later than `start`; None where the calendar ends."""
        if later := [d for d in self._of(start.year, start.month) if d > start.day]:
            return start.replace(day=min(later))
        for year, month in _months_after(start):
            if found := self._of(year, month):
                return date(year, month, min(found))
        return None

    def before(self, start: date) -> date | None:
        """The last date earlier than `start`; None where the calendar begins."""
        if earlier := [d for d in self._of(start.year, start.month) if d < start.day]:
            return start.replace(day=max(earlier))
        for year, month in _months_before(start):
            if found := self._of(year, month):
                return date(year, month, max(found))
        return None

    def _of(self, year: int, month: int) -> frozenset[int]:
        return self._matching(year, month) if month in self._months else frozenset()

    def check(self) -> None:
        """Raise CronError where no date of a whole cycle of the calendar matches."""
        cycle = ((year, month) for year in range(2000, 2000 + CYCLE) for month in sorted(self._months))
        if not any(self._matching(year, month) for year, month in cycle):
            given = [
                f"{part.kind.name} {part.text}" for part in (self.day, self.month, self.weekday) if not part.is_star
            ]
            raise CronError(
                f"never fires: no date has {' and '.join(given)}",
                f"no such day comes in the {CYCLE} years after which the calendar repeats itself",
                self.day.position,
            )


def _vixie(day: Field, weekday: Field) -> bool:
    return not (day.starts_with_star or weekday.starts_with_star)


READINGS: dict[DayMatch, Callable[[Field, Field], bool]] = {
    "vixie": _vixie,
    "any": lambda day, weekday: True,
    "all": lambda day, weekday: False,
}


def _weekday(first: int, day: int) -> int:
    """The weekday of a day, Sunday 0, in a month whose first day is `first`, Monday 0."""
    return (first + day) % 7


def _special_day(text: str, first: int, length: int) -> int:
    """The day that `L`, `LW` or `15W` names in a month of that shape; 0 where it has none."""
    if text == "L":
        return length
    wanted = length if text == "LW" else int(text.removesuffix("W"))
    if wanted > length:
        return 0
    match _weekday(first, wanted):
        case 6:
            return wanted - 1 if wanted > 1 else wanted + 2
        case 0:
            return wanted + 1 if wanted < length else wanted - 2
        case _:
            return wanted


def _special_weekday(text: str, first: int, length: int) -> int:
    """The day that `L5` (the last Friday) or `5#2` (the second one) names; 0 where the month has none."""
    if text.startswith("L"):
        return next(d for d in range(length, 0, -1) if _weekday(first, d) == int(text[1:]))
    weekday, nth = (int(part) for part in text.split("#"))
    found = [d for d in range(1, length + 1) if _weekday(first, d) == weekday]
    return found[nth - 1] if nth <= len(found) else 0


def _months_after(start: date) -> Iterator[tuple[int, int]]:
    for number in range(start.year * 12 + start.month, 10_000 * 12):
        yield divmod(number, 12)[0], number % 12 + 1


def _months_before(start: date) -> Iterator[tuple[int, int]]:
    for number in range(start.year * 12 + start.month - 2, 11, -1):
        yield divmod(number, 12)[0], number % 12 + 1
