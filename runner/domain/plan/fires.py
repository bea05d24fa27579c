"""The next fire times of a schedule, and what a clock change does to each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runner.domain.cron import Cron
from runner.domain.cron.zones import Shift, offset, shifts, zone
from runner.domain.duration import format_duration
from runner.domain.plan.change import Fire, clock, day
from runner.domain.schedule import Schedule
from runner.domain.timing import Bounded, Timing, Union, timing

DUE = "due now"
DAY = timedelta(days=1)
NO_TIME = timedelta(0)
FARTHEST = timedelta(days=3660)  # clock changes on the way to a slot are looked for no longer than this


def fires(schedule: Schedule, first: datetime | None, now: datetime, count: int) -> tuple[Fire, ...]:
    """`first` and the slots after it. Of several that are due already, only the first is told."""
    when = timing(schedule)
    found: list[Fire] = []
    since = now
    for number in range(count):
        slot = when.next(since) if number else first
        if slot is None:
            break
        found.append(Fire(slot, schedule.timezone, DUE if slot <= now else mark(when, schedule.timezone, since, slot)))
        since = max(slot, now)
    return tuple(found)


def mark(when: Timing, timezone: str, since: datetime, slot: datetime) -> str:
    """What clock changes did to this slot, the next one after `since`: empty where they did nothing."""
    place, at, start = zone(timezone), _naive(slot), max(_naive(since), _naive(slot) - FARTHEST)
    said = [text for shift in shifts(place, start, at) if (text := _lost(when, shift, at))]
    said += [f"second of two {clock(at + shift.after)}" for shift in shifts(place, at - DAY, at) if _second(shift, at)]
    said += [_first(when, at + shift.before) for shift in shifts(place, at, at + DAY) if _is_repeated(shift, at)]
    if not said and (turn := offset(place, at) - offset(place, start)):
        said = [f"{'+' if turn > NO_TIME else '-'}{format_duration(abs(turn))}"]
    return f"clock change: {', '.join(said)}" if said else ""


def _lost(when: Timing, shift: Shift, slot: datetime) -> str:
    """The first of the schedule's times that a clock change on the way to the slot jumps over."""
    for cron in _crons(when):
        wall = cron.clock.lost(shift)
        if wall is not None and not cron.clock.makes_good(shift):
            return f"{day(wall)} {clock(wall)} skipped"
        if wall is not None and slot == shift.at:
            return f"moved from {clock(wall)}"
    return ""


def _second(shift: Shift, slot: datetime) -> bool:
    return slot + shift.after < shift.at + shift.before


def _is_repeated(shift: Shift, slot: datetime) -> bool:
    """Whether the wall time of a slot before the change comes once more after it."""
    return slot + shift.before >= shift.at + shift.after


def _first(when: Timing, wall: datetime) -> str:
    crons = _crons(when)
    repeats = not crons or any(cron.clock.repeats for cron in crons)
    return f"{'first' if repeats else 'only the first'} of two {clock(wall)}"


def _crons(when: Timing) -> list[Cron]:
    match when:
        case Bounded():
            return _crons(when.inner)
        case Union():
            return list(when.crons)
        case Cron():
            return [when]
    return []


def _naive(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)
