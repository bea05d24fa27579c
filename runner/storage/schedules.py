"""The tables `cron_schedules` and `schedule_slots`: firing, pausing, back-filling, and the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, func, or_, select, update

from runner.domain.access_rows import AuditEntry
from runner.domain.errors import Conflict, NotFound
from runner.domain.firing import Blocker, Decision, Firing, remainder
from runner.domain.job import Enqueued, NewJob
from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleSlot, ScheduleStatus, SlotOutcome
from runner.domain.timing import timing
from runner.storage.access import note
from runner.storage.acts import cancel_jobs
from runner.storage.database import Database, persistent
from runner.storage.dialects import hot, insert
from runner.storage.enqueue import insert_jobs
from runner.storage.poke import mark
from runner.storage.serial import schedule_from
from runner.storage.settling import promote

JOBS = Job.__table__  # type: ignore[attr-defined]
SCHEDULES = ScheduleStatus.__table__  # type: ignore[attr-defined]
SLOTS = ScheduleSlot.__table__  # type: ignore[attr-defined]

_ROW = select(SCHEDULES)
Decide = Callable[[ScheduleStatus, Sequence[Blocker]], Firing | None]
MakeJob = Callable[[Decision], NewJob]


@dataclass(frozen=True, slots=True)
class Fired:
    """What one firing wrote: ledger rows, and the job of each slot that was enqueued."""

    name: str
    slots: tuple[ScheduleSlot, ...]


class ScheduleStore:
    """What happened to schedules. Their definitions come and go through `RevisionStore.apply`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, *, retired: bool = False) -> list[ScheduleStatus]:
        statement = select(SCHEDULES).order_by(SCHEDULES.c.name)
        if not retired:
            statement = statement.where(SCHEDULES.c.retired_at.is_(None))
        with self._database.read() as connection:
            return [ScheduleStatus.loaded(row) for row in connection.execute(statement).mappings()]

    def get(self, name: str) -> ScheduleStatus:
        with self._database.read() as connection:
            return _get(connection, name)

    def due(self, now: datetime) -> list[str]:
        """Names of the schedules that have a slot to decide, the longest due first."""
        statement = (
            select(SCHEDULES.c.name)
            .where(SCHEDULES.c.next_run <= now, SCHEDULES.c.retired_at.is_(None), SCHEDULES.c.next_run.is_not(None))
            .order_by(SCHEDULES.c.next_run, SCHEDULES.c.name)
        )
        with self._database.read() as connection:
            return list(connection.execute(statement).scalars())

    def next_due(self, names: Sequence[str] | None = None) -> datetime | None:
        """When the next slot of any live schedule comes."""
        statement = select(func.min(SCHEDULES.c.next_run)).where(
            SCHEDULES.c.next_run.is_not(None), SCHEDULES.c.retired_at.is_(None)
        )
        if names is not None:
            statement = statement.where(SCHEDULES.c.name.in_(names))
        with self._database.read() as connection:
            due: datetime | None = connection.execute(statement).scalar_one()
        return due

    @persistent
    def fire(self, name: str, now: datetime, decide: Decide, make_job: MakeJob) -> Fired | None:
        """One transaction: compare the cursor, write the ledger, enqueue, advance. None where another was first."""
        with self._database.write() as connection:
            row = _take(connection, name)
            if row is None or row.retired_at is not None or row.next_run is None or row.next_run > now:
                return None
            hot(connection).hold(connection, [name])
            firing = decide(row, blockers(connection, name))
            if firing is None:
                return None
            values = {"cursor": firing.cursor, "next_run": firing.next_run}
            decisions = _without_taken(connection, row, firing.decisions)
            slots = _decide_slots(connection, name, decisions, make_job, now)
            if any(slot.job_id is not None for slot in slots):
                values["last_run"] = now
            cancel_jobs(connection, firing.cancels, now, f"replaced by a later slot of {name}")
            guard = and_(SCHEDULES.c.name == name, SCHEDULES.c.next_run == row.next_run)
            if connection.execute(update(SCHEDULES).where(guard).values(values)).rowcount != 1:
                raise Conflict(f"schedule {name} was fired by another process")
            return Fired(name, tuple(slots))

    @persistent
    def trigger(
        self,
        name: str,
        now: datetime,
        admit: Callable[[ScheduleStatus, Sequence[Blocker]], tuple[NewJob, tuple[int, ...]]],
        audit: AuditEntry | None = None,
    ) -> Enqueued:
        """Run a schedule by hand: no ledger row. `admit` gives the job and what it replaces, or raises Conflict."""
        with self._database.write() as connection:
            row = _held(connection, name)
            job, cancels = admit(row, blockers(connection, name))
            enqueued = insert_jobs(connection, [job], now)[0]
            cancel_jobs(connection, cancels, now, f"replaced by a run of {name} by hand")
            connection.execute(update(SCHEDULES).where(SCHEDULES.c.name == name).values(last_run=now))
            note(connection, audit, f"job {enqueued.id}")
            return enqueued

    @persistent
    def backfill(
        self, name: str, decisions: Sequence[Decision], make_job: MakeJob, now: datetime,
        audit: AuditEntry | None = None,
    ) -> Fired:  # fmt: skip
        """Enqueue slots of the past that were not: skipped rows become `enqueued`, `enqueued` ones stay."""
        with self._database.write() as connection:
            row = _held(connection, name)
            there = _rows_between(connection, name, decisions)
            taken = {one.slot for one in there if one.outcome == SlotOutcome.ENQUEUED}
            missing = [decision for decision in decisions if decision.slot not in taken]
            _make_room(connection, row, there, missing)
            slots = _decide_slots(connection, name, missing, make_job, now)
            promote(connection, now)
            note(connection, audit, f"{sum(slot.job_id is not None for slot in slots)} jobs")
            return Fired(name, tuple(slots))

    @persistent
    def pause(
        self, name: str, now: datetime, *, by: str, reason: str | None, audit: AuditEntry | None = None
    ) -> ScheduleStatus:
        with self._database.write() as connection:
            _held(connection, name)
            values = {"paused_at": now, "paused_by": by, "pause_reason": reason}
            connection.execute(update(SCHEDULES).where(SCHEDULES.c.name == name).values(values))
            note(connection, audit)
            return _get(connection, name)

    @persistent
    def resume(self, name: str, now: datetime, *, audit: AuditEntry | None = None) -> ScheduleStatus:
        """End a pause. What was missed meanwhile is not made up: the cursor becomes now."""
        with self._database.write() as connection:
            row = _held(connection, name)
            if row.paused_at is None:
                raise Conflict(f"schedule {name} is not paused")
            values = {
                "paused_at": None,
                "paused_by": None,
                "pause_reason": None,
                "cursor": now,
                "next_run": _next_after(row, now),
            }
            connection.execute(update(SCHEDULES).where(SCHEDULES.c.name == name).values(values))
            mark(connection)
            note(connection, audit)
            return _get(connection, name)

    @persistent
    def set_next_runs(self, fresh: dict[str, tuple[datetime | None, datetime | None]]) -> int:
        """Replace cached fire times: name -> (as it was, as it should be). Rows that moved meanwhile are left alone."""
        changed = 0
        with self._database.write() as connection:
            for name, (old, new) in fresh.items():
                guard = and_(SCHEDULES.c.name == name, SCHEDULES.c.next_run == old)
                changed += connection.execute(update(SCHEDULES).where(guard).values(next_run=new)).rowcount
        return changed

    def history(
        self, name: str | None = None, *, limit: int = 50, among: Sequence[str] | None = None
    ) -> list[ScheduleSlot]:
        """The ledger, newest slot first; of these schedules only, where they are named."""
        statement = select(SLOTS).order_by(SLOTS.c.slot.desc(), SLOTS.c.schedule_name).limit(limit)
        if among is not None:
            statement = statement.where(SLOTS.c.schedule_name.in_(among))
        if name is not None:
            statement = statement.where(SLOTS.c.schedule_name == name)
        with self._database.read() as connection:
            if name is not None:
                _get(connection, name)
            return [ScheduleSlot.loaded(row) for row in connection.execute(statement).mappings()]


def _next_after(row: ScheduleStatus, now: datetime) -> datetime | None:
    return timing(schedule_from(row.spec)).next(now) if row.enabled else None


def blockers(connection: Connection, name: str) -> list[Blocker]:
    """The unfinished jobs of a schedule, oldest first."""
    statement = (
        select(JOBS.c.id, JOBS.c.waiting_for)
        .where(JOBS.c.schedule_name == name, JOBS.c.completed_at.is_(None))
        .order_by(JOBS.c.id)
    )
    return [Blocker(row.id, row.waiting_for is not None) for row in connection.execute(statement)]


def _take(connection: Connection, name: str) -> ScheduleStatus | None:
    """Ours until the commit; None where somebody else has it now."""
    mine = select(SCHEDULES).where(SCHEDULES.c.name == name).with_for_update(skip_locked=True)
    row = connection.execute(mine).mappings().one_or_none()
    if row is None:
        _get(connection, name)
        return None
    return ScheduleStatus.loaded(row)


def _held(connection: Connection, name: str) -> ScheduleStatus:
    """Ours until the commit, and its jobs as they are: nobody fires it meanwhile, and none of them ends."""
    row = _get(connection, name, select(SCHEDULES).with_for_update())
    hot(connection).hold(connection, [name])
    return row


def _get(connection: Connection, name: str, statement: Select[Any] = _ROW) -> ScheduleStatus:
    row = connection.execute(statement.where(SCHEDULES.c.name == name)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no schedule {name!r} in the database", "runner schedules list")
    return ScheduleStatus.loaded(row)


def _decide_slots(
    connection: Connection, name: str, decisions: Sequence[Decision], make_job: MakeJob, now: datetime
) -> list[ScheduleSlot]:
    """Write the ledger; the job of a slot is enqueued only where its row is new."""
    idle = [_slot_values(name, decision, now) for decision in decisions if decision.run_at is None]
    written: list[ScheduleSlot] = []
    if idle:
        made = connection.execute(insert(connection, SLOTS).on_conflict_do_nothing(), idle).rowcount
        written = [ScheduleSlot(**values) for values in idle]
        if made < len(idle):
            there = {(row.slot, row.outcome, row.decided_at) for row in _rows_between(connection, name, decisions)}
            written = [row for row in written if (row.slot, row.outcome, row.decided_at) in there]
    for decision in decisions:
        if decision.run_at is not None:
            written += _enqueue_slot(connection, name, decision, make_job, now)
    return sorted(written, key=lambda row: row.slot)


def _enqueue_slot(
    connection: Connection, name: str, decision: Decision, make_job: MakeJob, now: datetime
) -> list[ScheduleSlot]:
    values = _slot_values(name, decision, now)
    statement = insert(connection, SLOTS).on_conflict_do_nothing().returning(SLOTS.c.slot)
    if connection.execute(statement, values).first() is None:
        return []
    enqueued = insert_jobs(connection, [make_job(decision)], now)[0]
    values["job_id"] = enqueued.id
    if enqueued.duplicate:
        values["reason"] = "unique: the job was there already"
    same = and_(SLOTS.c.schedule_name == name, SLOTS.c.slot == decision.slot)
    connection.execute(update(SLOTS).where(same).values(job_id=values["job_id"], reason=values["reason"]))
    return [ScheduleSlot(**values)]


def _slot_values(name: str, decision: Decision, now: datetime) -> dict[str, Any]:
    return {
        "schedule_name": name,
        "slot": decision.slot,
        "outcome": decision.outcome,
        "reason": decision.reason,
        "job_id": None,
        "blocker_id": decision.blocker_id,
        "first_slot": decision.first,
        "slot_count": decision.count,
        "decided_at": now,
    }


def _rows_between(connection: Connection, name: str, decisions: Sequence[Decision]) -> list[ScheduleSlot]:
    if not decisions:
        return []
    first, last = decisions[0].slot, decisions[-1].slot
    inside = or_(SLOTS.c.slot.between(first, last), and_(SLOTS.c.slot > last, SLOTS.c.first_slot <= last))
    statement = select(SLOTS).where(SLOTS.c.schedule_name == name, inside)
    return [ScheduleSlot.loaded(row) for row in connection.execute(statement).mappings()]


def _make_room(
    connection: Connection, schedule: ScheduleStatus, there: Sequence[ScheduleSlot], missing: Sequence[Decision]
) -> None:
    """Take the slots that are to be enqueued now out of the skipped rows, those that stand for many included."""
    slots = {decision.slot for decision in missing}
    mine = SLOTS.c.schedule_name == schedule.name
    connection.execute(SLOTS.delete().where(mine, SLOTS.c.slot.in_(slots), SLOTS.c.slot_count == 1))
    for row in there:
        first = row.first_slot
        inside = {slot for slot in slots if first is not None and first <= slot <= row.slot}
        if first is None or not inside:
            continue
        same = and_(mine, SLOTS.c.slot == row.slot)
        taken = (_taken(connection, schedule.name, first, row.slot) - {row.slot}) | inside
        left = remainder(timing(schedule_from(schedule.spec)), first, row.slot, taken)
        if left is None or row.slot_count <= len(inside):
            connection.execute(SLOTS.delete().where(same))
        else:
            values = {"first_slot": left[0], "slot": left[1], "slot_count": row.slot_count - len(inside)}
            connection.execute(update(SLOTS).where(same).values(values))


def _without_taken(
    connection: Connection, schedule: ScheduleStatus, decisions: Sequence[Decision]
) -> Sequence[Decision]:  # fmt: skip
    """A row for many slots leaves out those that have rows already: a backfill may have been quicker."""
    many = next((one for one in decisions if one.first is not None), None)
    if many is None or many.first is None:
        return decisions
    taken = _taken(connection, schedule.name, many.first, many.slot)
    if not taken:
        return decisions
    left = remainder(timing(schedule_from(schedule.spec)), many.first, many.slot, taken)
    rest = [one for one in decisions if one is not many]
    if left is None or many.count <= len(taken):
        return rest
    return [replace(many, first=left[0], slot=left[1], count=many.count - len(taken)), *rest]


def _taken(connection: Connection, name: str, first: datetime, last: datetime) -> set[datetime]:
    statement = select(SLOTS.c.slot).where(SLOTS.c.schedule_name == name, SLOTS.c.slot.between(first, last))
    return set(connection.execute(statement).scalars())
