"""What becomes of the slots of a schedule that have come: which are fired, which are skipped, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runner.domain.ledger import SlotOutcome
from runner.domain.schedule import Schedule
from runner.domain.timing import Timing, jitter

ON_TIME = timedelta(minutes=1)  # a slot found within this of its time was not missed
MOST_CATCH_UP = 1000
MOST_ROWS = 1000  # of a long run of skipped slots, the newest so many get a row each
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Blocker:
    """An unfinished job of the schedule."""

    id: int
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """What the overlap policy says about one more job: refused by `blocker_id`, or let in, perhaps to wait."""

    blocker_id: int | None = None
    reason: str | None = None
    waits: bool = False
    cancels: tuple[int, ...] = ()

    @property
    def is_refused(self) -> bool:
        return self.blocker_id is not None


@dataclass(frozen=True, slots=True)
class Decision:
    """One ledger row. `run_at` is set where a job is enqueued; `first` and `count` where the row stands for several."""

    slot: datetime
    outcome: SlotOutcome
    reason: str | None = None
    run_at: datetime | None = None
    waits: bool = False
    blocker_id: int | None = None
    first: datetime | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Firing:
    """All that one look at a schedule decides; written in one transaction, or not at all."""

    decisions: tuple[Decision, ...]
    cancels: tuple[int, ...]
    cursor: datetime
    next_run: datetime | None


def fire(
    schedule: Schedule,
    timing: Timing,
    cursor: datetime,
    now: datetime,
    *,
    paused: bool = False,
    blockers: Sequence[Blocker] = (),
    window: timedelta | None = None,
) -> Firing:
    """Decide every slot after `cursor` up to `now`. A longer `window` widens the catch-up window."""
    newest = timing.previous(now)
    if newest is None or newest <= cursor:
        return Firing((), (), cursor, timing.next(cursor))
    if paused:
        skipped = _skipped(timing, cursor, newest, SlotOutcome.SKIPPED_PAUSED, lambda slot: "the schedule is paused")
        return Firing(tuple(skipped), (), newest, timing.next(newest))
    reach = _reach(schedule, window)
    wanted = _to_fire(schedule, timing, cursor, newest, now, reach)
    admission = admit(schedule, blockers)
    late = wanted[0] - SECOND if wanted else newest
    later = None if not wanted else "due" if admission.is_refused else "fired"
    missed = _skipped(
        timing, cursor, late, SlotOutcome.SKIPPED_MISSED, lambda slot: _why_missed(schedule, now - slot, reach, later)
    )
    fired = _fired(schedule, timing, wanted, admission)
    return Firing((*missed, *fired), admission.cancels if wanted else (), newest, timing.next(newest))


def admit(schedule: Schedule, blockers: Sequence[Blocker]) -> Admission:
    """The overlap policy, against the unfinished jobs of the same schedule."""
    if not blockers or schedule.overlap == "allow":
        return Admission()
    first = blockers[0]
    if schedule.overlap == "skip":
        return Admission(first.id, f"job {first.id} is not finished")
    if schedule.overlap == "replace":
        return Admission(waits=True, cancels=tuple(blocker.id for blocker in blockers))
    waiting = next((blocker for blocker in blockers if blocker.is_waiting), None)
    if waiting is not None:
        return Admission(waiting.id, f"job {waiting.id} waits already")
    return Admission(waits=True)


def _reach(schedule: Schedule, window: timedelta | None) -> timedelta:
    """How late a slot may be found and still be fired."""
    return max(schedule.catch_up_window, window or timedelta(0), ON_TIME)


def _to_fire(
    schedule: Schedule, timing: Timing, cursor: datetime, newest: datetime, now: datetime, reach: timedelta
) -> list[datetime]:
    """The slots to fire, oldest first, all of them the newest ones that have come."""
    if schedule.catch_up == "none":
        return [newest] if now - newest <= ON_TIME else []
    if schedule.catch_up == "latest":
        return [newest] if now - newest <= reach else []
    recent: list[datetime] = []
    for slot in _backwards(timing, newest, max(cursor, now - reach - SECOND)):
        if now - slot > reach or len(recent) == MOST_CATCH_UP:
            break
        recent.append(slot)
    return recent[::-1]


def _fired(schedule: Schedule, timing: Timing, slots: list[datetime], admission: Admission) -> Iterator[Decision]:
    for position, slot in enumerate(slots):
        if admission.is_refused:
            yield Decision(slot, SlotOutcome.SKIPPED_OVERLAP, admission.reason, blocker_id=admission.blocker_id)
            continue
        waits = admission.waits or (position > 0 and schedule.overlap != "allow")
        yield Decision(slot, SlotOutcome.ENQUEUED, run_at=slot + spread(schedule, timing, slot), waits=waits)


def spread(schedule: Schedule, timing: Timing, slot: datetime) -> timedelta:
    """How much later than its slot a job runs: the schedule's jitter."""
    if not schedule.jitter:
        return timedelta(0)
    following = timing.next(slot)
    gap = following - slot if following else schedule.jitter * 4
    return jitter(schedule.name, slot, schedule.jitter, gap)


def _skipped(
    timing: Timing, cursor: datetime, last: datetime, outcome: SlotOutcome, why: Callable[[datetime], str]
) -> list[Decision]:
    """Rows for the slots in (cursor, last], oldest first; those beyond the newest thousand share one row."""
    rows: list[Decision] = []
    for slot in _backwards(timing, last, cursor):
        if len(rows) == MOST_ROWS:
            first = timing.next(cursor) or slot
            rows.append(Decision(slot, outcome, why(slot), first=first, count=timing.count(cursor, slot)))
            break
        rows.append(Decision(slot, outcome, why(slot)))
    return rows[::-1]


def remainder(
    timing: Timing, first: datetime, last: datetime, taken: Collection[datetime]
) -> tuple[datetime, datetime] | None:
    """What bounds a run of skipped slots when some of it have rows of their own; None where nothing is left."""
    low: datetime | None = first
    high: datetime | None = last
    while low is not None and low in taken:
        low = timing.next(low)
    while high is not None and high in taken:
        high = timing.previous(high - SECOND)
    return (low, high) if low is not None and high is not None and first <= low <= high <= last else None


def _backwards(timing: Timing, last: datetime, after: datetime) -> Iterator[datetime]:
    slot = timing.previous(last)
    while slot is not None and slot > after:
        yield slot
        slot = timing.previous(slot - SECOND)


def _why_missed(schedule: Schedule, late: timedelta, reach: timedelta, later: str | None) -> str:
    """Why a slot found so late is not fired; `later` says what became of the newest. True of all older ones too."""
    if schedule.catch_up == "none":
        return "nobody was there at its time (catch_up: none)"
    if schedule.catch_up == "latest" and later is not None:
        return f"nobody was there at its time; a later slot was {later} (catch_up: latest)"
    if late > reach:
        return f"nobody was there within {_window(schedule.catch_up_window, reach)}"
    return f"nobody was there at its time; catch_up: all fires only the newest {MOST_CATCH_UP:,} slots"


def _window(own: timedelta, reach: timedelta) -> str:
    if reach == own:
        return f"its catch_up_window of {_span(own)}"
    if reach == ON_TIME:
        return f"{_span(reach)} of its time (catch_up_window: {_span(own)})"
    return f"{_span(reach)} of its time (--since; its catch_up_window is {_span(own)})"


def _span(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
