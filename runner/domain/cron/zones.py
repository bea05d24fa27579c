"""Time zones: strict IANA names from the pinned `tzdata`, and the instants at which a zone changes its clocks.

Python keeps the list of a zone's changes to itself, so they are found here by asking for the offset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from runner.domain.cron.errors import UnknownZone

MIDNIGHT, LAST_SECOND = time(), time(23, 59, 59)
SECOND = timedelta(seconds=1)
STRIDE = timedelta(hours=12)  # no zone changes its clocks twice, and back again, within half a day
LONGEST_SHIFT = timedelta(hours=24)  # Apia, Kwajalein and Fakaofo crossed the date line
EARLIEST = datetime.combine(date.min, MIDNIGHT) + 4 * LONGEST_SHIFT  # further out, wall times leave the calendar
LATEST = datetime.combine(date.max, MIDNIGHT) - 4 * LONGEST_SHIFT
NO_ZONES = frozenset({"Factory"})  # in the database, but a placeholder: "the clock has not been set"


@dataclass(frozen=True, slots=True)
class Shift:
    """One clock change. `at` is the first instant of the new offset, in naive UTC, as everywhere in this module."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def gap(self) -> timedelta:
        """How much wall time is lost; negative where it is repeated."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time without clock changes, as the wall times in (low, high]. Those up to `fresh` came once before.

    `shift` is the change that begins it, unless it began earlier than asked for.
    """

    low: datetime
    fresh: datetime
    high: datetime
    shift: Shift | None


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    names = (files("tzdata") / "zones").read_text(encoding="utf-8").split()
    return frozenset(names) - NO_ZONES


@lru_cache(maxsize=1024)
def zone(name: str) -> tzinfo:
    """The zone of that exact IANA name.

    It is read from the `tzdata` distribution, never from the machine, so that all machines agree.
    """
    if name not in zone_names():
        raise UnknownZone(f"unknown time zone {name!r}", _zone_hint(name))
    with (files("tzdata") / "zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def _zone_hint(name: str) -> str:
    if near := closest_zone(name):
        return f"did you mean {near}?"
    if any(sign in name for sign in "+-0123456789"):
        return "an offset knows no clock changes; write UTC or a place such as Europe/Berlin"
    return "write an IANA name such as UTC or Europe/Berlin"


def closest_zone(name: str) -> str | None:
    """The name that was probably meant, by the whole text or by the city alone."""
    wanted = name.strip().replace(" ", "_").lower()
    spelled = {candidate.lower(): candidate for candidate in sorted(zone_names())}
    cities = {key.rsplit("/", 1)[-1]: candidate for key, candidate in spelled.items() if "/" in key}
    for table in (spelled, cities):
        if near := get_close_matches(wanted, table, n=1, cutoff=0.8):
            return table[near[0]]
    return None


def offset(place: tzinfo, at: datetime) -> timedelta:
    """How far the zone's clocks are ahead of UTC at that instant."""
    ahead = at.replace(tzinfo=UTC).astimezone(place).utcoffset()
    return ahead if ahead is not None else timedelta(0)


def shifts(place: tzinfo, after: datetime, until: datetime) -> Iterator[Shift]:
    """The clock changes in (after, until], oldest first."""
    for year in range(after.year, until.year + 1):
        for shift in _shifts_of(place, year):
            if after < shift.at <= until:
                yield shift


def first_shift(place: tzinfo, after: datetime, until: datetime) -> Shift | None:
    return next(shifts(place, after, until), None)


def last_shift(place: tzinfo, after: datetime, until: datetime) -> Shift | None:
    for year in range(until.year, after.year - 1, -1):
        for shift in reversed(_shifts_of(place, year)):
            if after < shift.at <= until:
                return shift
    return None


def stretches(place: tzinfo, after: datetime, until: datetime) -> Iterator[Stretch]:
    """The instants in (after, until], cut at the clock changes."""
    after, until = max(after, EARLIEST), min(until, LATEST)
    if after >= until:
        return
    ahead, shift = offset(place, after), last_shift(place, after - LONGEST_SHIFT, after)
    repeated = shift.at - SECOND + max(shift.before, shift.after) if shift else EARLIEST
    shift = None
    for change in shifts(place, after, until):
        yield _stretch(after + ahead, change.at - SECOND + ahead, repeated, shift)
        after, ahead, shift = change.at - SECOND, change.after, change
        repeated = change.at - SECOND + max(change.before, change.after)
    yield _stretch(after + ahead, until + ahead, repeated, shift)


def _stretch(low: datetime, high: datetime, repeated: datetime, shift: Shift | None) -> Stretch:
    return Stretch(low, min(max(low, repeated), high), high, shift)


@lru_cache(maxsize=8192)
def _shifts_of(place: tzinfo, year: int) -> tuple[Shift, ...]:
    if place.utcoffset(None) is not None or year == 1:  # zoneinfo's way to say that a zone has one offset for ever
        return ()
    return tuple(_search(place, year))


def _search(place: tzinfo, year: int) -> Iterator[Shift]:
    start = datetime.combine(date(year, 1, 1), MIDNIGHT) - SECOND
    end = min(datetime.combine(date(year, 12, 31), LAST_SECOND), LATEST)
    before = offset(place, start)
    while start < end:
        stop = min(start + STRIDE, end)
        after = offset(place, stop)
        if after != before:
            yield Shift(_instant(place, start, stop), before, after)
        start, before = stop, after


def _instant(place: tzinfo, low: datetime, high: datetime) -> datetime:
    """The first second with another offset than `low`'s, somewhere in (low, high]."""
    before = offset(place, low)
    while high - low > SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        low, high = (middle, high) if offset(place, middle) == before else (low, middle)
    return high
