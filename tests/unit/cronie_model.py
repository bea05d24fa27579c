"""An oracle for `runner.domain.cron`: cronie's main loop, minute by minute, and its reading of a crontab line.

Written from the description of the loop alone, and sharing nothing with the code that it judges: it never computes
a next time. It lets time pass, one tick after another, and asks at each wake-up which entries match. Two things
are not cronie's: days such as `L` or `5#2`, and a gap of exactly three hours, which cronie takes for a clock
that was set (it compares the minutes since the last wake-up, one more than the gap) and semantics.md does not.
"""

from __future__ import annotations

import calendar
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from importlib import resources
from zoneinfo import ZoneInfo

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Phase(Enum):
    """Why the loop looks at a wall time."""

    ORDINARY = "time passed as it should"
    AFTER_JUMP = "the first look at the clock after it jumped forward: wildcard jobs"
    MISSED = "a minute that the jump left out: fixed jobs"
    CAUGHT_UP = "the last of the minutes caught up with, which is the present one: fixed jobs"
    BEHIND = "the clock is behind what was already run: wildcard jobs"


@dataclass(frozen=True)
class Look:
    """At `instant`, the loop runs what matches the wall time `wall`."""

    instant: datetime
    wall: datetime
    phase: Phase


def looks(zone: ZoneInfo, begin: datetime, end: datetime, tick: timedelta = timedelta(minutes=1)) -> Iterator[Look]:
    """Everything that the loop does while real time goes from `begin` to `end`, both included."""
    three_hours, five_minutes = timedelta(hours=3) // tick, timedelta(minutes=5) // tick
    now = begin
    virtual = wall_clock(zone, begin - tick)
    while now <= end:
        running = wall_clock(zone, now)
        behind = (running - virtual) // tick
        if behind == 1 or behind - 1 > three_hours or behind < -three_hours:
            virtual = running
            yield Look(now, virtual, Phase.ORDINARY)
        elif behind <= 0:
            yield Look(now, running, Phase.BEHIND)
        else:
            assert behind > five_minutes, "cronie treats such a change as having slept too long"
            yield Look(now, running, Phase.AFTER_JUMP)
            while virtual < running:
                virtual += tick
                yield Look(now, virtual, Phase.CAUGHT_UP if virtual == running else Phase.MISSED)
        now += tick


class Entry:
    """A crontab line, as cronie reads it: a set for each field, and flags for a leading star."""

    def __init__(self, line: str, *, seconds: bool = False, day_match: str = "vixie", clock_change: str = "vixie"):
        words = line.lower().split()
        second, minute, hour, self.dom, month, self.dow = words if seconds else ["0", *words]
        self.seconds = read_set(second, 0, 59)
        self.minutes = read_set(minute, 0, 59)
        self.hours = read_set(hour, 0, 23)
        self.months = read_set(month, 1, 12, MONTHS)
        self.wild = minute[0] == "*" or hour[0] == "*"
        self.day_match, self.clock_change = day_match, clock_change
        self.known_dates: dict[date, bool] = {}

    def runs(self, timeline: list[Look]) -> list[datetime]:
        """The instants at which the line is run, each once."""
        phases = self.phases()
        minutes, hours = self.minutes, self.hours
        found = {
            look.instant
            for look in timeline
            if look.wall.minute in minutes
            and look.wall.hour in hours
            and look.phase in phases
            and look.wall.second in self.seconds
            and self.on(look.wall.date())
        }
        return sorted(found)

    def phases(self) -> set[Phase]:
        if self.wild:
            return {Phase.ORDINARY, Phase.AFTER_JUMP, Phase.BEHIND}
        phases = {Phase.ORDINARY, Phase.CAUGHT_UP}
        if self.clock_change != "skip":
            phases.add(Phase.MISSED)
        if self.clock_change == "both":
            phases.add(Phase.BEHIND)
        return phases

    def on(self, day: date) -> bool:
        if day not in self.known_dates:
            self.known_dates[day] = day.month in self.months and self.day_fits(day)
        return self.known_dates[day]

    def day_fits(self, day: date) -> bool:
        in_month = any(day_of_month_fits(item, day) for item in self.dom.split(","))
        in_week = any(day_of_week_fits(item, day) for item in self.dow.split(","))
        one_is_star = self.dom[0] in "*?" or self.dow[0] in "*?"
        if self.day_match != "vixie":
            one_is_star = self.day_match == "all" or no_restriction(self.dom, 1, 31) or no_restriction(self.dow, 0, 6)
        return (in_month and in_week) if one_is_star else (in_month or in_week)


def no_restriction(field: str, low: int, high: int) -> bool:
    """Whether a day field says nothing: a star, however it is spelled (`*/1`, `*,5`)."""
    return field == "?" or (field[0] == "*" and read_set(field, low, high, DAYS) >= set(range(low, high + 1)))


def day_of_month_fits(item: str, day: date) -> bool:
    last = calendar.monthrange(day.year, day.month)[1]
    if item == "?":
        return True
    if item == "l":
        return day.day == last
    if item == "lw":
        working = [d for d in range(1, last + 1) if date(day.year, day.month, d).weekday() < 5]
        return day.day == working[-1]
    if item.endswith("w"):
        wanted = int(item[:-1])
        working = [d for d in range(1, last + 1) if date(day.year, day.month, d).weekday() < 5]
        return wanted <= last and day.day == min(working, key=lambda d: abs(d - wanted))
    return day.day in read_set(item, 1, 31)


def day_of_week_fits(item: str, day: date) -> bool:
    number = day.isoweekday() % 7
    if item == "?":
        return True
    if "#" in item:
        name, nth = item.split("#")
        return number == read_value(name, 0, DAYS) % 7 and (day.day + 6) // 7 == int(nth)
    if item.endswith("l"):
        return number == read_value(item[:-1], 0, DAYS) % 7 and (day + timedelta(days=7)).month != day.month
    return number in {value % 7 for value in read_set(item, 0, 7, DAYS)}


@functools.lru_cache(maxsize=10_000)
def read_set(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        start, dash, stop = span.partition("-")
        if start == "*":
            first, last = low, high
        else:
            first = read_value(start, low, names)
            last = read_value(stop, low, names) if dash else (high if step else first)
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def read_value(text: str, low: int, names: tuple[str, ...]) -> int:
    return low + names.index(text) if text in names else int(text)


@functools.cache
def pinned_zone(name: str) -> ZoneInfo:
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def wall_clock(zone: ZoneInfo, instant: datetime) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


@dataclass(frozen=True)
class Change:
    """A clock change of a zone: at `instant` the clocks jump by `jump`, from the wall time `wall`."""

    zone: str
    instant: datetime
    jump: timedelta
    wall: datetime


@functools.cache
def shapes(since: int = 2000, until: int = 2027) -> list[Change]:
    """One clock change, the latest, for each size of jump and time of day that any zone has had."""
    found: dict[tuple[timedelta, object], Change] = {}
    for change in changes(since, until):
        shape = (change.jump, change.wall.time())
        if shape not in found or change.instant > found[shape].instant:
            found[shape] = change
    return sorted(found.values(), key=lambda change: (change.jump, change.wall.time()))


def changes(since: int, until: int, names: list[str] | None = None) -> Iterator[Change]:
    seen: set[bytes] = set()
    data = resources.files("tzdata")
    for name in names or sorted(data.joinpath("zones").read_text().split()):
        content = data.joinpath("zoneinfo", *name.split("/")).read_bytes()
        if content not in seen:
            seen.add(content)
            yield from changes_of(name, datetime(since, 1, 1, tzinfo=UTC), datetime(until, 1, 1, tzinfo=UTC))


def changes_of(name: str, begin: datetime, end: datetime) -> Iterator[Change]:
    zone, step = pinned_zone(name), timedelta(days=7)
    while begin < end:
        if begin.astimezone(zone).utcoffset() != (begin + step).astimezone(zone).utcoffset():
            yield exact_change(name, begin, begin + step)
        begin += step


def exact_change(name: str, low: datetime, high: datetime) -> Change:
    zone = pinned_zone(name)
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    after = high.astimezone(zone).utcoffset()
    assert before is not None
    assert after is not None
    return Change(name, high, after - before, high.replace(tzinfo=None) + before)
