"""A cron expression: when it fires, in its zone, and how it reads.

croniter steps from date to date, on naive times only, where it reads the day fields as we do; `days` finds the
other dates. It never hears of zones: at clock changes it is wrong, and our own rules stand in `clock`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from croniter import croniter

from runner.domain.cron import clock as clocks
from runner.domain.cron import zones
from runner.domain.cron.clock import Clock
from runner.domain.cron.days import Days
from runner.domain.cron.errors import CronError, UnknownZone
from runner.domain.cron.fields import Field
from runner.domain.cron.lint import lint
from runner.domain.cron.text import Fields, parse_fields
from runner.domain.cron.walls import Walls
from runner.domain.cron.words import words_of
from runner.domain.cron.zones import MIDNIGHT, Shift, closest_zone, zone
from runner.domain.schedule import ClockChange, DayMatch

__all__ = ["Cron", "CronError", "UnknownZone", "closest_zone", "count_slots", "zone"]

EPOCH = datetime.combine(date(1970, 1, 1), MIDNIGHT)
YEAR = timedelta(days=366)
# By then all zones follow their last rule for ever, which, like an expression, can tell only fourteen kinds of year
# apart: leap or not, and the weekday it begins with. These 28 years bring each of them.
ALL_YEARS = (datetime(2101, 1, 1, tzinfo=UTC), datetime(2129, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, eq=False)
class Cron:
    """One expression in one zone. Immutable, and safe to share between threads.

    An expression is *fixed* when neither its minute nor its hour starts with `*`. `clock_change` decides what a
    clock change does to a fixed one; any other follows the clocks, and fires at every instant that exists:

    - `vixie`: times lost in a gap run once, right after it (none after a gap of over three hours, where
      the clock was set rather than changed); times that come twice run at the first of the two.
    - `skip`: lost times do not run; times that come twice run at the first.
    - `both`: lost times run as with `vixie`; times that come twice run both times.
    """

    expression: str
    canonical: str
    timezone: str
    fields: Fields
    days: Days
    clock: Clock

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        timezone: str = "UTC",
        seconds: bool = False,
        day_match: DayMatch = "vixie",
        clock_change: ClockChange = "vixie",
        name: str = "",
    ) -> Cron:
        """Read an expression, or raise CronError. `name` is the schedule's; `H` draws its value from it.

        >>> Cron.parse("0 6 * * mon-fri").canonical
        '0 6 * * 1-5'
        """
        return _parse(text, timezone, seconds, day_match, clock_change, name)

    def next(self, after: datetime) -> datetime | None:
        """The first slot strictly later; None only where the calendar ends.

        >>> str(Cron.parse("0 6 * * *").next(datetime(2026, 3, 1, 6, tzinfo=UTC)))
        '2026-03-02 06:00:00+00:00'
        """
        return _aware(self.clock.next(_naive(after)))

    def previous(self, at: datetime) -> datetime | None:
        """The newest slot at that time or earlier; None only where the calendar begins."""
        return _aware(self.clock.previous(_naive(at)))

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Every slot in (after, until], in order."""
        return (slot.replace(tzinfo=UTC) for slot in self.clock.slots(_naive(after), _naive(until)))

    def count(self, after: datetime, until: datetime) -> int:
        """How many slots lie in (after, until], without visiting each."""
        return count_slots([self], after, until)

    def in_words(self) -> str:
        """The expression as an English phrase, which also tells how the two day fields are read together."""
        return words_of(self.fields, self.days)

    def warnings(self, now: datetime | None = None) -> list[str]:
        """What is allowed and yet seldom meant. With `now`, also the times that a coming year's clock changes lose."""
        return lint(self.fields, self.days) + ([] if now is None else self._lost_times(_naive(now)))

    def _lost_times(self, now: datetime) -> list[str]:
        if not self.clock.fixed:
            return []
        changes = zones.shifts(self.clock.place, now, min(now, zones.LATEST - YEAR) + YEAR)
        return [self._lost_time(wall, shift) for shift in changes if (wall := self.clock.lost(shift))]

    def _lost_time(self, wall: datetime, shift: Shift) -> str:
        instead = f"run at {_shown(shift.at + shift.after)}" if self.clock.makes_good(shift) else "not run"
        return f"{_shown(wall)} in {self.timezone} does not exist on {wall:%Y-%m-%d}; it will {instead}"


def count_slots(crons: Sequence[Cron], after: datetime, until: datetime) -> int:
    """How many instants in (after, until] are a slot of any of these expressions, which share their zone."""
    return clocks.count_slots([cron.clock for cron in crons], _naive(after), _naive(until))


@lru_cache(maxsize=4096)
def _parse(text: str, timezone: str, seconds: bool, day_match: DayMatch, clock_change: ClockChange, name: str) -> Cron:
    place = zone(timezone)
    fields = parse_fields(text, seconds, name)
    days = Days(fields.day, fields.month, fields.weekday, day_match)
    days.check()
    walls = Walls(fields, days, CroniterDates(days) if CroniterDates.reads(days) else days)
    fixed = not (fields.minute.starts_with_star or fields.hour.starts_with_star)
    canonical = " ".join(field.text for field in fields[not seconds :])
    cron = Cron(text, canonical, timezone, fields, days, Clock(walls, place, fixed, clock_change))
    _check_gaps(cron)
    return cron


def _check_gaps(cron: Cron) -> None:
    """Refuse what the clocks jump over each time, such as `* 2 * 3 L0` in Berlin."""
    if cron.days.every_day or (cron.clock.fixed and cron.clock.clock_change != "skip"):
        return
    if next(cron.slots(*ALL_YEARS), None) is None:
        message = f"never fires: on its days the clocks of {cron.timezone} jump over its times"
        raise CronError(message, "move its hour", cron.fields.hour.position)


class CroniterDates:
    """Steps from date to date with croniter, for the day fields that it reads as we do."""

    def __init__(self, days: Days) -> None:
        texts = (_croniter_text(field) for field in (days.day, days.month, days.weekday))
        self._prototype = croniter(f"0 0 {' '.join(texts)}", EPOCH)

    @staticmethod
    def reads(days: Days) -> bool:
        """Not both day fields at once, no `W`, no `#`, and `Ln` only alone. (Every day needs no search at all.)"""
        if days.every_day or days.both_given or not set(days.day.specials) <= {"L"}:
            return False
        return not days.weekday.specials or bool(re.fullmatch("L[0-6]", days.weekday.text))

    def after(self, start: date) -> date | None:
        return self._step(start, backwards=False)

    def before(self, start: date) -> date | None:
        return self._step(start, backwards=True)

    def _step(self, start: date, *, backwards: bool) -> date | None:
        stepper = copy(self._prototype)  # a croniter keeps its place: shared by two threads, it returns wrong dates
        step = stepper.get_prev if backwards else stepper.get_next
        try:
            return step(datetime, start_time=datetime.combine(start, MIDNIGHT)).date()
        except (ValueError, OverflowError):  # what it raises where the calendar ends
            return None


def _croniter_text(field: Field) -> str:
    """Explicit lists, in which croniter finds nothing to misread (to it, `5-5` is the whole range)."""
    return "*" if field.is_star else ",".join([*map(str, sorted(field.values)), *field.specials])


def _shown(wall: datetime) -> str:
    return f"{wall:%H:%M:%S}" if wall.second else f"{wall:%H:%M}"


def _naive(time: datetime) -> datetime:
    """As naive UTC, in whole seconds."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no zone")
    return time.astimezone(UTC).replace(tzinfo=None, microsecond=0)


def _aware(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
