"""What applying a file does to the rows of schedules. An edit never looks back: see `semantics.md`, Schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from runner.domain.ledger import ScheduleStatus
from runner.domain.sameness import same
from runner.domain.schedule import Definitions, Schedule
from runner.domain.timing import canonical, timing

PAUSE_SURVIVES = timedelta(hours=24)
TIMING_FIELDS = ("every", "timezone", "seconds", "day_match", "clock_change", "starts", "until", "enabled")


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row to insert, or the values to set on the row of that name. `rename_to` moves its history along."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    is_new: bool = False
    rename_to: str | None = None


def row_changes(
    rows: Iterable[ScheduleStatus],
    before: Mapping[str, Schedule],
    wanted: Definitions,
    now: datetime,
    *,
    lookback: timedelta = timedelta(0),
) -> list[RowChange]:
    """From the stored rows (retired ones included) to those of the file. `lookback` is for names never seen."""
    stored = {row.name: row for row in rows}
    moved = renames(stored.values(), wanted)
    changes = [RowChange(old, rename_to=new) for old, new in moved.items()]
    stored |= {new: stored[old] for old, new in moved.items()}
    before = dict(before) | {new: before[old] for old, new in moved.items() if old in before}
    for name, row in stored.items():
        if name not in wanted.schedules and name not in moved and row.retired_at is None:
            changes.append(RowChange(name, {"retired_at": now, "next_run": None}))
    for schedule in wanted.schedules.values():
        found = _change(stored.get(schedule.name), before.get(schedule.name), schedule, now, lookback)
        if found is not None:
            changes.append(found)
    return changes


def renames(rows: Iterable[ScheduleStatus], wanted: Definitions) -> dict[str, str]:
    """Old name -> new name, for the live rows that the file names in `renamed_from`. Harmless once it is done."""
    live = {row.name for row in rows if row.retired_at is None}
    return {
        schedule.renamed_from: schedule.name
        for schedule in wanted.schedules.values()
        if schedule.renamed_from in live and schedule.name not in live and schedule.renamed_from not in wanted.schedules
    }


def _change(
    row: ScheduleStatus | None, before: Schedule | None, schedule: Schedule, now: datetime, lookback: timedelta
) -> RowChange | None:
    values: dict[str, Any] = definition_values(schedule)
    if row is None:
        cursor = now - lookback
        return RowChange(schedule.name, values | _from(schedule, cursor), is_new=True)
    if row.retired_at is not None:
        kept = (
            {}
            if now - row.retired_at < PAUSE_SURVIVES
            else {"paused_at": None, "paused_by": None, "pause_reason": None}
        )
        return RowChange(schedule.name, values | _from(schedule, now) | kept | {"retired_at": None})
    if before is None or timing_differs(before, schedule):
        return RowChange(schedule.name, values | _from(schedule, now))
    return None if same(before, schedule) else RowChange(schedule.name, values)


def definition_values(schedule: Schedule) -> dict[str, Any]:
    """The columns that the file owns; `spec` is added by the store."""
    return {
        "job_type": schedule.job,
        "workflow": schedule.workflow,
        "expression": canonical(schedule),
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
    }


def _from(schedule: Schedule, cursor: datetime) -> dict[str, Any]:
    return {"cursor": cursor, "next_run": timing(schedule).next(cursor) if schedule.enabled else None}


def timing_differs(before: Schedule, after: Schedule) -> bool:
    """Whether the two fire at different times by their definition, spelling aside."""
    if canonical(before) != canonical(after):
        return True
    return any(getattr(before, name) != getattr(after, name) for name in TIMING_FIELDS)


def mass_removal(rows: Iterable[ScheduleStatus], wanted: Definitions) -> list[str]:
    """The live schedules that the file would retire, where they are so many that somebody must say it is meant.

    That is: all of them, or more than half of five or more. Renames do not count.
    """
    live = [row for row in rows if row.retired_at is None]
    moved = renames(live, wanted)
    leaving = sorted(row.name for row in live if row.name not in wanted.schedules and row.name not in moved)
    everything = len(leaving) == len(live) and not wanted.schedules
    most = len(live) >= 5 and len(leaving) * 2 > len(live)
    return leaving if leaving and (everything or most) else []
