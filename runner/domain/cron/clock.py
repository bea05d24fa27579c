"""From wall times to instants: what a clock change does to the slots of an expression.

All datetimes are naive: a *wall* time is what the clocks of the zone show, all others are UTC in whole seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from runner.domain.cron import zones
from runner.domain.cron.walls import Walls, count_walls
from runner.domain.cron.zones import LONGEST_SHIFT, SECOND, Shift, Stretch, first_shift, last_shift
from runner.domain.schedule import ClockChange

LONGEST_GAP = timedelta(hours=3)  # beyond it the clock was set, not changed: cronie draws the same line


@dataclass(frozen=True, eq=False)
class Clock:
    """The slots of `walls` on the clocks of `place`. `Cron` tells what `fixed` and `clock_change` mean."""

    walls: Walls
    place: tzinfo
    fixed: bool
    clock_change: ClockChange

    @property
    def repeats(self) -> bool:
        """Whether a wall time that comes twice is two slots."""
        return not self.fixed or self.clock_change == "both"

    def next(self, at: datetime, end: datetime = zones.LATEST) -> datetime | None:
        """The first slot in (at, end].

        The wall time that would be next is found first; only the clock changes on the way to it can matter.
        """
        at = max(at, zones.EARLIEST)
        if at >= end:
            return None
        offset, low = zones.offset(self.place, at), self._low(at)
        wall = self.walls.after(low)
        while wall is not None:
            shift = first_shift(self.place, at, min(wall - offset, end))
            if shift is None:
                return wall - offset if wall - offset <= end else None
            if self._makes_good(shift, wall):
                return shift.at
            at, offset, searched, low = shift.at, shift.after, low, self._begin(shift) - SECOND
            if not searched <= low < wall:
                wall = self.walls.after(low)
        return None

    def previous(self, at: datetime) -> datetime | None:
        """The newest slot that is not later than `at`."""
        at = min(at, zones.LATEST)
        if at < zones.EARLIEST:
            return None
        offset = zones.offset(self.place, at)
        high = at + offset
        wall = self.walls.until(high)
        while wall is not None:
            shift = last_shift(self.place, wall - offset - LONGEST_SHIFT, at)
            if shift is None or wall >= self._begin(shift):
                return wall - offset
            if self._makes_good(shift, wall):
                return shift.at
            at, offset, searched = shift.at - SECOND, shift.before, high
            high = at + offset
            if not wall <= high <= searched:
                wall = self.walls.until(high)
        return None

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        slot = self.next(after, until)
        while slot is not None:
            yield slot
            slot = self.next(slot, until)

    def lost(self, shift: Shift) -> datetime | None:
        """The first of our wall times that a clock change jumps over, if there is one."""
        wall = self.walls.after(shift.at + shift.before - SECOND)
        return wall if wall is not None and wall < shift.at + shift.after else None

    def makes_good(self, shift: Shift) -> bool:
        """Whether a clock change loses wall times of ours that run right after it."""
        wall = self.lost(shift)
        return wall is not None and self._makes_good(shift, wall)

    def _makes_good(self, shift: Shift, wall: datetime) -> bool:
        if not self.fixed or self.clock_change == "skip" or shift.gap > LONGEST_GAP:
            return False
        return shift.at + shift.before <= wall < shift.at + shift.after

    def _low(self, at: datetime) -> datetime:
        """The wall time after which the slots later than `at` begin."""
        now = at + zones.offset(self.place, at)
        shift = last_shift(self.place, at - LONGEST_SHIFT, at)
        return now if shift is None else max(now, self._begin(shift) - SECOND)

    def _begin(self, shift: Shift) -> datetime:
        """The first wall time after a clock change that may be a slot: a repeated one only if we repeat."""
        return shift.at + (shift.after if self.repeats else max(shift.before, shift.after))


def count_slots(clocks: Sequence[Clock], after: datetime, until: datetime) -> int:
    """How many instants in (after, until] are a slot of any of these clocks, which share their zone."""
    repeating = [clock.walls for clock in clocks if clock.repeats]
    everyone = [clock.walls for clock in clocks]
    total = 0
    for stretch in zones.stretches(clocks[0].place, after, until):
        total += count_walls(repeating, stretch.low, stretch.fresh)
        total += count_walls(everyone, stretch.fresh, stretch.high)
        total += _only_makes_good(clocks, stretch)
    return total


def _only_makes_good(clocks: Sequence[Clock], stretch: Stretch) -> bool:
    """Whether the first instant of a stretch is a slot for the sake of lost wall times alone."""
    if stretch.shift is None or any(stretch.low + SECOND in clock.walls for clock in clocks):
        return False
    return any(clock.makes_good(stretch.shift) for clock in clocks)
