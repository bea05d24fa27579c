"""The parts of a plan: one change, its fields, its fire times, and what to beware of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Literal

from runner.domain.cron.zones import zone

Action = Literal["add", "change", "retire", "rename"]
Kind = Literal["schedule", "job_type", "workflow", "limit", "notify", "defaults", "runner", "timezone"]

KINDS: tuple[Kind, ...] = ("schedule", "job_type", "workflow", "limit", "notify", "defaults", "runner", "timezone")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Missing(Enum):
    """Nothing stands there; unlike `null`, which is a value that somebody wrote."""

    MISSING = "missing"


MISSING = Missing.MISSING


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field by its name in the file, with a path where it lies deeper; values as in the definitions."""

    field: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Fire:
    """One nominal fire time. `mark` says what is special about it, above all what a clock change did to it."""

    utc: datetime
    timezone: str
    mark: str = ""

    @property
    def time(self) -> datetime:
        """On the clocks of its zone."""
        return self.utc.astimezone(zone(self.timezone))

    @property
    def local(self) -> str:
        return f"{day(self.time)} {self.time.year} {clock(self.time)} {self.time.tzname()}"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one entry of the file. `touches` names the entries that change through this one alone."""

    action: Action
    kind: Kind
    name: str
    fields: tuple[FieldChange, ...] = ()
    next_before: tuple[Fire, ...] = ()
    next_after: tuple[Fire, ...] = ()
    effects: tuple[str, ...] = ()
    renamed_from: str | None = None
    touches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caution:
    """A warning. `names` are the entries that it is about."""

    code: str
    message: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message


def day(time: datetime) -> str:
    """The date without its year, in the same words on every machine."""
    return f"{DAYS[time.weekday()]} {time.day} {MONTHS[time.month - 1]}"


def clock(time: datetime) -> str:
    return f"{time:%H:%M:%S}" if time.second else f"{time:%H:%M}"


def moment(time: datetime) -> str:
    """An instant as the texts of a plan show it.

    >>> moment(datetime(2026, 3, 27, 9, tzinfo=UTC))
    '2026-03-27 09:00 UTC'
    """
    time = time.astimezone(UTC)
    return f"{time:%Y-%m-%d} {clock(time)} UTC"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """
    >>> counted(1, "queued job"), counted(2, "queued job")
    ('1 queued job', '2 queued jobs')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def few(names: Sequence[str], most: int = 5) -> str:
    """
    >>> few(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"
