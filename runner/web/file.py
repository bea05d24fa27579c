"""The file of the process that answers, against the revision in force: what is wrong in it, or what it would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import Request

from runner.config.payload_checks import payload_problems
from runner.domain.access import Caller
from runner.domain.plan import Change, FieldChange, Plan
from runner.domain.plan import plan as make_plan
from runner.domain.plan.report import headline, next_times, summary
from runner.domain.plan.words import NO_BREAK, arrow
from runner.domain.problem import Problem
from runner.domain.schedule import Definitions
from runner.http.doors import Doors
from runner.http.masking import masked_as

SHOWN = 50
KEPT = 15  # seconds for which a plan is shown again


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change, in the words of `runner plan`. A field that comes or goes has one side."""

    headline: str
    fields: Sequence[tuple[str, str, str]]
    said: Sequence[str]


@dataclass(frozen=True, slots=True)
class FileView:
    """`plan` is None where there is nothing to compare: the file is invalid, or word for word as it was applied."""

    name: str
    problems: Sequence[Problem] = ()
    plan: Plan | None = None
    is_part: bool = False

    @property
    def is_valid(self) -> bool:
        return not any(one.is_error for one in self.problems)

    @property
    def differs(self) -> int:
        """How many changes it makes."""
        return 0 if self.plan is None else len(self.plan.changes)

    @property
    def changes(self) -> list[ChangeView]:
        """The first of them."""
        return [] if self.plan is None else [_view(one, self.plan) for one in self.plan.changes[:SHOWN]]

    @property
    def warnings(self) -> list[str]:
        return [] if self.plan is None else [one.message for one in self.plan.warnings]

    @property
    def summary(self) -> str:
        return "" if self.plan is None or self.is_part else summary(self.plan)

    def of_schedule(self, name: str) -> FileView:
        """What it says of this one alone."""
        if self.plan is None:
            return self
        mine = [one for one in self.plan.changes if _is_about(one, name)]
        told = [one for one in self.plan.warnings if name in one.names]
        return replace(self, plan=replace(self.plan, changes=tuple(mine), warnings=tuple(told)), is_part=True)


class Plans:
    """The last plan that was made: of a large file that takes a second, and pages that renew themselves ask often."""

    def __init__(self) -> None:
        self._last: tuple[object, Plan] | None = None

    def view(self, doors: Doors, caller: Caller) -> FileView | None:
        """None where this process follows no file, or the file is not for this caller to see."""
        loaded = None if caller.is_bound else doors.engine.file()
        if loaded is None:
            return None
        found = FileView(loaded.path.name, loaded.problems)
        revision = doors.revisions.current()
        if loaded.definitions is None or (revision is not None and revision.sha256 == loaded.sha256):
            return found
        key = loaded.sha256, revision and revision.number, doors.now().timestamp() // KEPT
        return replace(found, plan=self._plan(key, doors, loaded.definitions))

    def _plan(self, key: object, doors: Doors, wanted: Definitions) -> Plan:
        last = self._last
        if last is not None and last[0] == key:
            return last[1]
        made = make_plan(doors.stored(), wanted, doors.now(), payload_problems=payload_problems)
        self._last = key, made
        return made


def file_view(request: Request, doors: Doors, caller: Caller) -> FileView | None:
    plans: Plans = request.app.state.plans
    return plans.view(doors, caller)


def _is_about(change: Change, name: str) -> bool:
    return (change.kind == "schedule" and name in (change.name, change.renamed_from)) or name in change.touches


def _view(change: Change, plan: Plan) -> ChangeView:
    fields = [_sides(change, one) for one in change.fields]
    times = [f"{label}: {said.replace(NO_BREAK, ' ')}" for label, said in next_times(change, plan)]
    return ChangeView(headline(change), fields, [*times, *change.effects])


def _sides(change: Change, field: FieldChange) -> tuple[str, str, str]:
    old, new = arrow(_covered(field))
    return field.field, "" if change.action == "add" else old, "" if change.action == "retire" else new


def _covered(change: FieldChange) -> FieldChange:
    """Without what looks like a secret."""
    return FieldChange(change.field, masked_as(change.field, change.before), masked_as(change.field, change.after))
