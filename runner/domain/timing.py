"""When a whole schedule fires: one or more cron expressions, or an interval, within its dates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Protocol

from runner.domain.cron import Cron, CronError, count_slots
from runner.domain.duration import format_duration
from runner.domain.schedule import Schedule

SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Timing(Protocol):
    """The slots of a schedule: strictly increasing UTC instants in whole seconds."""

    def next(self, after: datetime) -> datetime | None:
        """The first slot strictly later, or None."""

    def previous(self, at: datetime) -> datetime | None:
        """The newest slot at that time or earlier, or None."""

    def count(self, after: datetime, until: datetime) -> int:
        """How many slots lie in (after, until]; quick over years."""

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Every slot in (after, until], in order."""


def timing(schedule: Schedule) -> Timing:
    """When the schedule fires. Both its first and its last date count. Raises CronError.

    >>> str(timing(Schedule("s", every=timedelta(minutes=15))).next(datetime(2026, 1, 1, 0, 7, tzinfo=UTC)))
    '2026-01-01 00:15:00+00:00'
    """
    inner = Every(schedule.every, schedule.starts) if schedule.every is not None else _union(schedule)
    if schedule.starts is None and schedule.until is None:
        return inner
    return Bounded(inner, schedule.starts, schedule.until)


def canonical(schedule: Schedule) -> str:
    """The timing as one text, the same for all spellings of it. Raises CronError."""
    if schedule.every is not None:
        return f"every {format_duration(schedule.every)}"
    return " | ".join(cron.canonical for cron in _crons(schedule))


def in_words(schedule: Schedule) -> str:
    """The timing as people read it; several readings are joined by semicolons. Raises CronError."""
    if schedule.every is not None:
        return f"every {format_duration(schedule.every)}"
    return "; ".join(cron.in_words() for cron in _crons(schedule))


def jitter(schedule_name: str, slot: datetime, spread: timedelta, gap: timedelta) -> timedelta:
    """How much later than its slot a run starts: always the same for a slot, on every machine.

    Below `spread`, and below half of `gap`, the time to the next slot, so that runs keep their order.
    """
    limit = min(spread, gap / 2) // MICROSECOND
    text = f"{schedule_name}\n{slot.astimezone(UTC).isoformat()}".encode("utf-8", "surrogatepass")
    share = int.from_bytes(sha256(text).digest()[:8], "big")
    milliseconds = (max(limit, 0) * share >> 64) // 1000
    return timedelta(milliseconds=milliseconds)


def _crons(schedule: Schedule) -> list[Cron]:
    return [
        Cron.parse(
            text,
            timezone=schedule.timezone,
            seconds=schedule.seconds,
            day_match=schedule.day_match,
            clock_change=schedule.clock_change,
            name=schedule.name,
        )
        for text in schedule.cron
    ]


def _union(schedule: Schedule) -> Timing:
    crons = _crons(schedule)
    return crons[0] if len(crons) == 1 else Union(crons)


@dataclass(frozen=True)
class Union:
    """Several expressions of one schedule; a slot that two of them share is one slot."""

    crons: Sequence[Cron]

    def next(self, after: datetime) -> datetime | None:
        return min((slot for cron in self.crons if (slot := cron.next(after))), default=None)

    def previous(self, at: datetime) -> datetime | None:
        return max((slot for cron in self.crons if (slot := cron.previous(at))), default=None)

    def count(self, after: datetime, until: datetime) -> int:
        return count_slots(self.crons, after, until)

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        return _steps(self, after, until)


class Every:
    """Multiples of an interval since `starts`, else since the Unix epoch. Clock changes mean nothing to it."""

    def __init__(self, interval: timedelta, starts: datetime | None = None) -> None:
        if interval < SECOND or interval % SECOND:
            raise CronError(f"every {format_duration(interval)} is not a whole number of seconds", "write 1s or more")
        self.interval = interval
        self.anchor = EPOCH if starts is None else _whole(starts)

    def next(self, after: datetime) -> datetime | None:
        return self._slot(self._number(after) + 1)

    def previous(self, at: datetime) -> datetime | None:
        return self._slot(self._number(at))

    def count(self, after: datetime, until: datetime) -> int:
        return max(0, self._number(until) - self._number(after))

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        return _steps(self, after, until)

    def _number(self, at: datetime) -> int:
        return (at - self.anchor) // self.interval

    def _slot(self, number: int) -> datetime | None:
        try:
            return self.anchor + number * self.interval
        except OverflowError:  # the calendar ends
            return None


class Bounded:
    """The slots of another timing from `starts` to `until`, both included."""

    def __init__(self, inner: Timing, starts: datetime | None, until: datetime | None) -> None:
        self.inner, self.until = inner, until
        self.before = None if starts is None else _whole(starts) - SECOND

    def next(self, after: datetime) -> datetime | None:
        slot = self.inner.next(self._from(after))
        return None if slot is None or (self.until is not None and slot > self.until) else slot

    def previous(self, at: datetime) -> datetime | None:
        slot = self.inner.previous(self._to(at))
        return None if slot is None or (self.before is not None and slot <= self.before) else slot

    def count(self, after: datetime, until: datetime) -> int:
        return max(0, self.inner.count(self._from(after), self._to(until)))

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        return self.inner.slots(self._from(after), self._to(until))

    def _from(self, after: datetime) -> datetime:
        return after if self.before is None else max(after, self.before)

    def _to(self, until: datetime) -> datetime:
        return until if self.until is None else min(until, self.until)


def _steps(timing: Timing, after: datetime, until: datetime) -> Iterator[datetime]:
    slot = timing.next(after)
    while slot is not None and slot <= until:
        yield slot
        slot = timing.next(slot)


def _whole(time: datetime) -> datetime:
    """The first whole second that is not earlier, in UTC."""
    down = time.astimezone(UTC).replace(microsecond=0)
    return down if down == time else down + SECOND
