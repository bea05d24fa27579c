"""The revisions of the file that were applied, and the one transaction that applies the next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from runner.domain.applying import RowChange, row_changes
from runner.domain.errors import NotFound, StaleRevision
from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleSlot, ScheduleStatus
from runner.domain.revision import ConfigRevision, Limit, Revision
from runner.domain.sameness import same
from runner.domain.schedule import Definitions
from runner.storage import poke
from runner.storage.database import Database, persistent
from runner.storage.serial import definitions_from, schedule_from, to_data, to_text

JOBS = Job.__table__  # type: ignore[attr-defined]
REVISIONS = ConfigRevision.__table__  # type: ignore[attr-defined]
LIMITS = Limit.__table__  # type: ignore[attr-defined]
SCHEDULES = ScheduleStatus.__table__  # type: ignore[attr-defined]
SLOTS = ScheduleSlot.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Edit:
    """A file that is to be applied. `base` is the revision that the plan was made against (0: none)."""

    definitions: Definitions
    source: str
    sha256: str
    base: int
    by: str


class RevisionStore:
    """The definitions in force are those of the newest revision."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self) -> Revision | None:
        with self._database.read() as connection:
            return current(connection)

    def in_force(self) -> Revision:
        """The same for who cannot do without. Raises NotFound where there is none."""
        with self._database.read() as connection:
            return in_force(connection)

    def knows(self, sha256: str) -> bool:
        """Whether a file of that content was applied, ever."""
        statement = select(REVISIONS.c.number).where(REVISIONS.c.sha256 == sha256).limit(1)
        with self._database.read() as connection:
            return connection.execute(statement).first() is not None

    def history(self, limit: int = 20) -> list[ConfigRevision]:
        statement = select(REVISIONS).order_by(REVISIONS.c.number.desc()).limit(limit)
        with self._database.read() as connection:
            return [ConfigRevision.loaded(row) for row in connection.execute(statement).mappings()]

    @persistent
    def apply(self, edit: Edit, now: datetime, *, lookback: timedelta = timedelta(0)) -> tuple[int, list[RowChange]]:
        """All of it or nothing; the answer is the revision in force and what changed in `cron_schedules`.

        Where the definitions are those in force already, no revision is made. Raises StaleRevision where another
        process has applied one since `edit.base`. `lookback` lets schedules that are new here look that far back.
        """
        with self._database.write(alone=True) as connection:
            before = current(connection)
            if (before.number if before else 0) != edit.base:
                raise StaleRevision("another process applied a revision since this plan was made", "runner plan")
            # Locked: a slot that is fired meanwhile would move what we have read.
            found = connection.execute(select(SCHEDULES).order_by(SCHEDULES.c.name).with_for_update())
            rows = [ScheduleStatus.loaded(row) for row in found.mappings()]
            known = {row.name: schedule_from(row.spec) for row in rows}
            changes = row_changes(rows, known, edit.definitions, now, lookback=lookback)
            if before is not None and same(before.definitions, edit.definitions) and not changes:
                return before.number, []
            number = _add_revision(connection, edit, now)
            _write_limits(connection, edit.definitions)
            for change in changes:
                _write_schedule(connection, change, edit.definitions, number, now)
            poke.mark(connection)
            return number, changes


def current(connection: Connection) -> Revision | None:
    """The revision in force, read on the caller's connection."""
    newest = connection.execute(_NEWEST).one_or_none()
    if newest is None:
        return None
    number, sha256, applied_at = newest
    known = _parsed.get((number, sha256, applied_at))
    if known is None:
        statement = select(REVISIONS).where(REVISIONS.c.number == number)
        row = ConfigRevision(**connection.execute(statement).mappings().one())
        known = Revision(row.number, row.sha256, row.source, row.applied_at, row.applied_by, definitions_from(row.body))
        _parsed.clear()
        _parsed[number, sha256, applied_at] = known
    return known


def in_force(connection: Connection) -> Revision:
    """See `RevisionStore.in_force`."""
    found = current(connection)
    if found is None:
        raise NotFound("the database holds no revision yet, so it knows no job types", "runner apply")
    return found


def is_in_force(connection: Connection, revision: Revision) -> bool:
    newest = connection.execute(_NEWEST).one_or_none()
    return newest is not None and tuple(newest) == (revision.number, revision.sha256, revision.applied_at)


# Parsing a large revision costs milliseconds; an enqueue must not pay for it each time.
_parsed: dict[tuple[int, str, datetime], Revision] = {}
_NEWEST = (
    select(REVISIONS.c.number, REVISIONS.c.sha256, REVISIONS.c.applied_at).order_by(REVISIONS.c.number.desc()).limit(1)
)


def _add_revision(connection: Connection, edit: Edit, now: datetime) -> int:
    number = edit.base + 1
    values = {
        "number": number,
        "sha256": edit.sha256,
        "source": edit.source,
        "body": to_text(edit.definitions),
        "applied_at": now,
        "applied_by": edit.by,
    }
    connection.execute(insert(REVISIONS), values)
    return number


def _write_limits(connection: Connection, definitions: Definitions) -> None:
    connection.execute(delete(LIMITS))
    if definitions.limits:
        connection.execute(insert(LIMITS), [{"name": name, "max": most} for name, most in definitions.limits.items()])


def _write_schedule(
    connection: Connection, change: RowChange, wanted: Definitions, revision: int, now: datetime
) -> None:  # fmt: skip
    if change.rename_to is not None:
        _rename(connection, change.name, change.rename_to)
        return
    values: dict[str, Any] = dict(change.values) | {"updated_at": now, "revision": revision}
    if change.name in wanted.schedules:
        values["spec"] = to_data(wanted.schedules[change.name])
    if change.is_new:
        connection.execute(insert(SCHEDULES), values | {"name": change.name, "created_at": now})
    else:
        connection.execute(update(SCHEDULES).where(SCHEDULES.c.name == change.name).values(values))


def _rename(connection: Connection, old: str, new: str) -> None:
    """Move a schedule with its history. What an earlier, retired one left under the new name gives way."""
    for table, column in ((SLOTS, "schedule_name"), (SCHEDULES, "name")):
        connection.execute(delete(table).where(table.c[column] == new))
    for table, column in ((SCHEDULES, "name"), (SLOTS, "schedule_name"), (JOBS, "schedule_name")):
        connection.execute(update(table).where(table.c[column] == old).values({column: new}))
