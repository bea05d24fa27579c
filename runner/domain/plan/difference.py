"""The difference between a file and what is in force, and what applying it would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from runner.domain.applying import mass_removal
from runner.domain.job import InFlight
from runner.domain.ledger import ScheduleStatus
from runner.domain.plan import warnings as warnings
from runner.domain.plan.change import KINDS, MISSING, Action, Caution, Change, FieldChange, Fire
from runner.domain.plan.crowds import crowds
from runner.domain.plan.defaults import Causes
from runner.domain.plan.effects import Flights
from runner.domain.plan.entries import Entries
from runner.domain.plan.file import FileValues
from runner.domain.plan.schedules import Schedules, rows_of
from runner.domain.plan.warnings import PayloadProblems
from runner.domain.schedule import Definitions

__all__ = ["MISSING", "Caution", "Change", "FieldChange", "Fire", "Plan", "Stored", "plan"]

SUMMARY: tuple[Action, ...] = ("add", "change", "rename", "retire")


@dataclass(frozen=True, slots=True)
class Stored:
    """What is in force. From a database: its newest revision (0: none yet) with all of its schedule rows, the retired
    ones too, and its unfinished jobs by (type, schedule). From another file: its definitions alone."""

    revision: int = 0
    definitions: Definitions | None = None
    statuses: Mapping[str, ScheduleStatus] = field(default_factory=dict)
    in_flight: Mapping[tuple[str, str | None], InFlight] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """`removals` are the schedules that go only with --allow-removals; `unchanged` counts entries of the file."""

    base_revision: int
    now: datetime
    changes: tuple[Change, ...] = ()
    warnings: tuple[Caution, ...] = ()
    removals: tuple[str, ...] = ()
    unchanged: int = 0
    is_first: bool = False
    upcoming: int = 3

    @property
    def is_empty(self) -> bool:
        return not self.changes

    @property
    def summary(self) -> dict[str, int]:
        counts = Counter(change.action for change in self.changes)
        return {action: counts[action] for action in SUMMARY} | {"unchanged": self.unchanged}


def plan(
    stored: Stored,
    wanted: Definitions,
    now: datetime,
    *,
    upcoming: int = 3,
    payload_problems: PayloadProblems | None = None,
) -> Plan:
    """Pure: no database, no clock, no file. `payload_problems` says what does not fit in a payload of the file."""
    before = stored.definitions or Definitions()
    rows = stored.statuses or rows_of(before, now)
    flights, causes = Flights.of(stored.in_flight), Causes(before, wanted)
    schedules = Schedules(rows, before, wanted, flights, causes, now, upcoming, is_file=not stored.statuses)
    told = [*schedules.changes(), *Entries(before, wanted, flights, causes).changes()]
    file = FileValues(before, wanted, flights, causes)
    told += file.changes() if stored.definitions is not None else file.first()
    told.sort(key=lambda change: (KINDS.index(change.kind), change.name))
    cautions = chain(
        warnings.removals(list(rows.values()), wanted),
        warnings.lost_types(before, wanted, flights),
        warnings.pauses(rows, wanted, now),
        warnings.lookalikes(told, before, wanted),
        warnings.payloads(before, wanted, payload_problems) if payload_problems else (),
        crowds(schedules.retimed, wanted),
    )
    return Plan(
        base_revision=stored.revision,
        now=now,
        changes=tuple(told),
        warnings=tuple(cautions),
        removals=tuple(mass_removal(rows.values(), wanted)),
        unchanged=_unchanged(told, wanted),
        is_first=stored.definitions is None,
        upcoming=upcoming,
    )


def _unchanged(changes: list[Change], wanted: Definitions) -> int:
    """The entries of the file that this plan neither lists nor touches through the file's own values."""
    listed = {(change.kind, change.name) for change in changes}
    listed |= {("job_type", name) for change in changes if change.kind == "defaults" for name in change.touches}
    listed |= {("schedule", name) for change in changes if change.kind == "timezone" for name in change.touches}
    return sum(1 for entry in _entries(wanted) if entry not in listed)


def _entries(file: Definitions) -> Iterator[tuple[str, str]]:
    sections = {
        "schedule": file.schedules,
        "job_type": file.job_types,
        "workflow": file.workflows,
        "limit": file.limits,
        "notify": file.notify,
    }
    return ((kind, name) for kind, section in sections.items() for name in section)
