"""What became of schedules lately: their newest slots and their newest jobs, of several at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, func, select

from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleSlot, ScheduleStatus
from runner.domain.overview import FiredJob, SlotView
from runner.storage.database import Database

JOBS = Job.__table__  # type: ignore[attr-defined]
SCHEDULES = ScheduleStatus.__table__  # type: ignore[attr-defined]
SLOTS = ScheduleSlot.__table__  # type: ignore[attr-defined]


def strips(database: Database, names: Sequence[str], count: int) -> Mapping[str, Sequence[SlotView]]:
    """The newest slots of each of these schedules, the oldest of them first, with the job that ran for it."""
    with database.read() as connection:
        # A seek for each: joined to the names, a planner would rather read the ledger of a month.
        found = {name: _newest(connection, name, count) for name in names}
        jobs = _jobs(connection, [one.job_id for slots in found.values() for one in slots if one.job_id is not None])
    return {name: [SlotView(one, jobs.get(one.job_id or 0)) for one in slots] for name, slots in found.items()}


def last_jobs(database: Database, names: Sequence[str]) -> Mapping[str, FiredJob]:
    """The newest job of each of these schedules that has one, by whatever it was started."""
    with database.read() as connection:
        rows = connection.execute(_LAST, {"names": list(names)}).mappings()
        return {row["schedule_name"]: _fired(row) for row in rows}


def _newest(connection: Connection, name: str, count: int) -> list[ScheduleSlot]:
    rows = connection.execute(_SLOTS, {"name": name, "count": count}).mappings().all()
    return [ScheduleSlot.loaded(row) for row in reversed(rows)]


def _jobs(connection: Connection, job_ids: Sequence[int]) -> dict[int, FiredJob]:
    if not job_ids:
        return {}
    return {row["id"]: _fired(row) for row in connection.execute(_JOBS, {"ids": job_ids}).mappings()}


def _fired(row: Any) -> FiredJob:
    return FiredJob(row["id"], row["status"], row["project_id"], row["started_at"], row["completed_at"])


_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_NAMES: BindParameter[Any] = bindparam("names", expanding=True)
_SLOTS = (
    select(SLOTS)
    .where(SLOTS.c.schedule_name == bindparam("name"))
    .order_by(SLOTS.c.slot.desc())
    .limit(bindparam("count"))
)
_ABOUT = (JOBS.c.id, JOBS.c.status, JOBS.c.project_id, JOBS.c.started_at, JOBS.c.completed_at)
_JOBS = select(*_ABOUT).where(JOBS.c.id.in_(_IDS))
_YOUNGER = JOBS.alias("younger")
_OF_EACH = select(func.max(_YOUNGER.c.id)).where(_YOUNGER.c.schedule_name == SCHEDULES.c.name).scalar_subquery()
_LAST = select(JOBS.c.schedule_name, *_ABOUT).where(JOBS.c.id.in_(select(_OF_EACH).where(SCHEDULES.c.name.in_(_NAMES))))
