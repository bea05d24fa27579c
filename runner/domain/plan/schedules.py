"""What a plan says of schedules: exactly what `applying` is going to write, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from runner.domain.applying import RowChange, row_changes, timing_differs
from runner.domain.ledger import ScheduleStatus
from runner.domain.plan import effects as effects
from runner.domain.plan.change import Change, FieldChange, Fire
from runner.domain.plan.defaults import Causes
from runner.domain.plan.effects import Flights
from runner.domain.plan.fields import described, field_changes, undone
from runner.domain.plan.fires import fires
from runner.domain.schedule import Definitions, Schedule
from runner.domain.timing import timing

WITHOUT = ("name", "renamed_from")
SLOTS = 3  # so many are looked at for crowded minutes
TIMES = frozenset({"cron", "every", "timezone", "seconds", "day_match", "clock_change", "from", "until", "enabled"})


@dataclass(frozen=True)
class Schedules:
    """Everything that the changes of schedules are told from. `is_file`: another file takes the place of a database.

    `retimed` collects the next slots of the schedules that are new or fire at other times now.
    """

    rows: Mapping[str, ScheduleStatus]
    before: Definitions
    wanted: Definitions
    flights: Flights
    causes: Causes
    now: datetime
    upcoming: int
    is_file: bool = False
    retimed: dict[str, list[datetime]] = field(default_factory=dict)

    def changes(self) -> Iterator[Change]:
        """One for each schedule whose row is going to change, but for those that only follow the file's zone."""
        written = row_changes(self.rows.values(), self.before.schedules, self.wanted, self.now)
        old_names = {change.rename_to: change.name for change in written if change.rename_to is not None}
        for change in written:
            if change.values.get("next_run") is not None:
                self.retimed[change.name] = [change.values["next_run"]]
            if change.rename_to is None:
                yield from self._told(change, old_names.get(change.name))

    def _told(self, change: RowChange, old_name: str | None) -> Iterator[Change]:
        row = self.rows.get(old_name or change.name)
        if change.name not in self.wanted.schedules:
            yield self._retired(change.name)
        elif row is None or row.retired_at is not None:
            yield self._added(change, row)
        elif old_name is not None:
            yield self._renamed(change, row, old_name)
        else:
            yield from self._changed(change, row)

    def _added(self, change: RowChange, row: ScheduleStatus | None) -> Change:
        after = self.wanted.schedules[change.name]
        said = effects.of_return(row, self.now) if row else []
        said += effects.stays(self.flights.of_schedule(change.name)) + _unusual(after)
        fields = _description(after, self.wanted)
        return Change("add", "schedule", change.name, fields, (), self._next_after(change, None), tuple(said))

    def _retired(self, name: str) -> Change:
        before = self.before.schedules.get(name)
        fields = undone(_description(before, self.before)) if before else ()
        will_run = before is None or before.job in self.wanted.job_types
        said = ["no new slots", *effects.stays(self.flights.of_schedule(name), will_run=will_run)]
        return Change("retire", "schedule", name, fields, self._next_before(name), (), tuple(said))

    def _changed(self, change: RowChange, row: ScheduleStatus) -> Iterator[Change]:
        """Nothing where the change is the file's, and told there."""
        before, after = self.before.schedules.get(change.name), self.wanted.schedules[change.name]
        fields = field_changes(before, after, without=("name",)) if before else ()
        own = self.causes.of_schedule(change.name, fields, lambda: self._slots(change, row.name))
        if fields and not own:
            return
        said = self._effects(before, after, fields, change, row)
        slots = self._next_before(row.name), self._next_after(change, row.name)
        yield Change("change", "schedule", change.name, own, *slots, effects=said)

    def _renamed(self, change: RowChange, row: ScheduleStatus, old_name: str) -> Change:
        before, after = self.before.schedules.get(old_name), self.wanted.schedules[change.name]
        fields = field_changes(before, after, without=WITHOUT) if before else ()
        own = self.causes.of_schedule(change.name, fields, lambda: self._slots(change, old_name))
        said = ["keeps its history and its pause", *effects.come_along(self.flights.of_schedule(old_name))]
        if (earlier := self.rows.get(change.name)) is not None and earlier.retired_at is not None:
            said.append(f"the history of an earlier {change.name}, which was retired, gives way")
        said += self._effects(before, after, fields, change, row)
        slots = self._next_before(old_name), self._next_after(change, old_name)
        return Change("rename", "schedule", change.name, own, *slots, effects=tuple(said), renamed_from=old_name)

    def _effects(
        self,
        before: Schedule | None,
        after: Schedule,
        fields: tuple[FieldChange, ...],
        change: RowChange,
        row: ScheduleStatus,
    ) -> tuple[str, ...]:
        said = ["its row is not of this revision: it starts anew"] if before is None else _timing(before, after, fields)
        if "cursor" in change.values and row.next_run is not None and row.next_run <= self.now:
            said.append("the slot that is due is dropped: an edit never looks back")
        jobs = self.flights.of_schedule(row.name)
        if fields:
            said += effects.stays(jobs) if not after.enabled else effects.keeps(jobs)
        return tuple(said + _unusual(after))

    def _first(self, name: str) -> datetime | None:
        """The next slot as the database has it, or as the definition says where there is no database."""
        before = self.before.schedules.get(name)
        if not self.is_file:
            return self.rows[name].next_run
        return timing(before).next(self.now) if before is not None and before.enabled else None

    def _next_before(self, name: str) -> tuple[Fire, ...]:
        before = self.before.schedules.get(name)
        return () if before is None else fires(before, self._first(name), self.now, self.upcoming)

    def _next_after(self, change: RowChange, old_name: str | None) -> tuple[Fire, ...]:
        kept = "next_run" not in change.values and old_name is not None
        first = self._first(old_name) if kept and old_name is not None else change.values.get("next_run")
        found = fires(self.wanted.schedules[change.name], first, self.now, max(self.upcoming, SLOTS))
        if change.name in self.retimed:
            self.retimed[change.name] = [fire.utc for fire in found[:SLOTS]]
        return found[: self.upcoming]

    def _slots(self, change: RowChange, old_name: str) -> tuple[Fire | None, Fire | None]:
        """The next slot before and after, in the file's zones."""
        before, after = self._first(old_name), change.values.get("next_run")
        zones = self.before.timezone, self.wanted.timezone
        return Fire(before, zones[0]) if before else None, Fire(after, zones[1]) if after else None


def rows_of(definitions: Definitions, now: datetime) -> dict[str, ScheduleStatus]:
    """The rows of schedules that nothing has happened to, where there is no database."""
    return {
        name: ScheduleStatus(name=name, cursor=now, created_at=now, updated_at=now) for name in definitions.schedules
    }


def _description(schedule: Schedule, file: Definitions) -> tuple[FieldChange, ...]:
    return described(schedule, Schedule("", timezone=file.timezone), without=WITHOUT)


def _timing(before: Schedule, after: Schedule, fields: tuple[FieldChange, ...]) -> list[str]:
    """What the fields do not say by themselves."""
    written = any(change.field in TIMES for change in fields)
    if not timing_differs(before, after):
        return ["fires at the same times"] if written else []
    if before.enabled and not after.enabled:
        return ["fires no more until it is enabled"]
    return [] if written else ["fires at other times: H is drawn from the name"]


def _unusual(after: Schedule) -> list[str]:
    return [f"starts workflow {after.workflow}: {effects.LATER}"] if after.workflow is not None else []
