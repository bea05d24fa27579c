"""How quickly jobs ended lately, and how long they had waited: slices of the last hour, as the pages draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

SLICE = timedelta(minutes=2)
SLICES = 30
MOST = 10_000  # jobs of a slice that are counted
SAMPLE = 25  # jobs of a slice that are asked how long they waited


@dataclass(frozen=True, slots=True)
class Slice:
    """Two minutes. `waits` are those of some of its jobs, in seconds, the shortest first."""

    start: datetime
    ended: int = 0
    waits: Sequence[float] = ()

    @property
    def is_full(self) -> bool:
        """Whether it is more than is counted."""
        return self.ended >= MOST

    @property
    def typical(self) -> float | None:
        return share(self.waits, 0.5)

    @property
    def slow(self) -> float | None:
        return share(self.waits, 0.9)


@dataclass(frozen=True, slots=True)
class Pace:
    """The slices, the oldest first; the last of them goes on."""

    slices: Sequence[Slice]

    @property
    def ended(self) -> int:
        return sum(one.ended for one in self.slices)

    @property
    def is_full(self) -> bool:
        return any(one.is_full for one in self.slices)

    @property
    def waits(self) -> Sequence[float]:
        return sorted(wait for one in self.slices for wait in one.waits)


def share(values: Sequence[float], part: float) -> float | None:
    """What this part of sorted values does not exceed.

    >>> share([1, 2, 3, 4], 0.5), share([7], 0.9), share([], 0.5)
    (2, 7, None)
    """
    return values[max(ceil(len(values) * part) - 1, 0)] if values else None


def edges(now: datetime) -> list[datetime]:
    """Where slices begin: at whole minutes that are even, so that a slice of the past stays as it was.

    >>> found = edges(datetime(2026, 1, 1, 12, 1, 30, tzinfo=UTC))
    >>> f"{found[0]:%H:%M}", f"{found[-1]:%H:%M}", len(found)
    ('11:02', '12:00', 30)
    """
    seconds = int(SLICE.total_seconds())
    start = datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
    return [start + SLICE * at for at in range(1 - SLICES, 1)]
