"""Schedules that start in the same minute, more of them than a process may run at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from runner.domain.cron import Cron
from runner.domain.cron.zones import offset
from runner.domain.plan.change import Caution, clock, day, few
from runner.domain.schedule import Definitions, Schedule
from runner.domain.timing import Bounded, Timing, Union, jitter, timing

MOST_CROWDS = 5
MOST_MINUTES = 30  # the schedules that nobody edited are looked for in so many
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def crowds(retimed: Mapping[str, Sequence[datetime]], wanted: Definitions) -> Iterator[Caution]:
    """Crowded minutes among the slots of `retimed`: schedules that are new, or fire at other times now."""
    starts: dict[datetime, set[str]] = defaultdict(set)
    for name, slots in retimed.items():
        for start in _starts(wanted.schedules[name], slots):
            starts[start.replace(second=0, microsecond=0)].add(name)
    first = sorted(starts)[:MOST_MINUTES]
    for schedule in wanted.schedules.values():
        if first and schedule.name not in retimed and schedule.enabled and not schedule.jitter:
            when = timing(schedule)
            for minute in first:
                if fires_in(when, minute):
                    starts[minute].add(schedule.name)
    told: set[frozenset[str]] = set()
    for minute in sorted(starts):
        names = frozenset(starts[minute])
        if len(names) > wanted.runner.concurrency and names not in told and len(told) < MOST_CROWDS:
            told.add(names)
            yield _crowd(minute, sorted(names), wanted.runner.concurrency)


def fires_in(when: Timing, minute: datetime) -> bool:
    """Whether a slot lies in that minute, not counting what only a clock change brings there; quick over many."""
    match when:
        case Bounded():
            begun = when.before is None or when.before < minute
            return begun and (when.until is None or minute <= when.until) and fires_in(when.inner, minute)
        case Union():
            return any(fires_in(cron, minute) for cron in when.crons)
        case Cron():
            at = minute.astimezone(UTC).replace(tzinfo=None)
            return at + offset(when.clock.place, at) in when.clock.walls
    slot = when.previous(minute + MINUTE - SECOND)
    return slot is not None and slot >= minute


def _starts(schedule: Schedule, slots: Sequence[datetime]) -> Iterator[datetime]:
    """When jobs start. The jitter of the last slot is unknown here: it depends on the slot after it."""
    if not schedule.jitter:
        yield from slots
    for slot, following in pairwise(slots) if schedule.jitter else ():
        yield slot + jitter(schedule.name, slot, schedule.jitter, following - slot)


def _crowd(minute: datetime, names: list[str], concurrency: int) -> Caution:
    message = (
        f"{len(names):,} schedules start at {day(minute)} {clock(minute)} UTC, over the concurrency of {concurrency}:"
        f" {few(names)}"
    )
    return Caution("crowded", message, tuple(names))
