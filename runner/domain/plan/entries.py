"""What a plan says of job types, workflows, limits and notify targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runner.domain.job import InFlight
from runner.domain.plan import effects as effects
from runner.domain.plan.change import MISSING, Action, Change, FieldChange
from runner.domain.plan.defaults import Causes, bare
from runner.domain.plan.effects import Flights
from runner.domain.plan.fields import described, field_changes, undone
from runner.domain.sameness import same
from runner.domain.schedule import Definitions, JobType, NotifyTarget
from runner.domain.workflow import Workflow

NOTIFY_LATER = "sending notifications comes with a later release"


@dataclass(frozen=True)
class Entries:
    """Everything that these changes are told from."""

    before: Definitions
    wanted: Definitions
    flights: Flights
    causes: Causes

    def changes(self) -> Iterator[Change]:
        yield from self._job_types()
        yield from self._workflows()
        yield from self._limits()
        yield from self._targets()

    def _job_types(self) -> Iterator[Change]:
        before, wanted = self.before.job_types, self.wanted.job_types
        for name in wanted.keys() - before.keys():
            said = effects.of_new_type(self.flights.of_type(name))
            yield Change("add", "job_type", name, _description(wanted[name], self.wanted), effects=tuple(said))
        for name in before.keys() - wanted.keys():
            said = effects.of_lost_type(self.flights.of_type(name))
            yield Change(
                "retire", "job_type", name, undone(_description(before[name], self.before)), effects=tuple(said)
            )
        for name in before.keys() & wanted.keys():
            if own := self.causes.of_type(name, field_changes(before[name], wanted[name])):
                said = effects.of_job_type(self.flights.of_type(name), own)
                yield Change("change", "job_type", name, own, effects=tuple(said))

    def _workflows(self) -> Iterator[Change]:
        before, wanted = self.before.workflows, self.wanted.workflows
        for name in wanted.keys() - before.keys():
            yield Change("add", "workflow", name, described(wanted[name], Workflow(name, {})), effects=(effects.LATER,))
        for name in before.keys() - wanted.keys():
            yield Change("retire", "workflow", name, undone(described(before[name], Workflow(name, {}))))
        for name in before.keys() & wanted.keys():
            if fields := field_changes(before[name], wanted[name]):
                yield Change("change", "workflow", name, fields, effects=(effects.LATER,))

    def _limits(self) -> Iterator[Change]:
        before, wanted = self.before.limits, self.wanted.limits
        for name in before.keys() | wanted.keys():
            old, new = before.get(name), wanted.get(name)
            if not same(old, new):
                fields = (FieldChange("max", MISSING if old is None else old, MISSING if new is None else new),)
                said = effects.of_limit(self._held_by(name), new)
                yield Change(_action(old, new), "limit", name, fields, effects=tuple(said))

    def _held_by(self, limit: str) -> InFlight:
        """The jobs that the limit holds back, or held back before it went."""
        file = self.wanted if limit in self.wanted.limits else self.before
        types = [job_type.name for job_type in file.job_types.values() if job_type.limit == limit]
        return effects.total(self.flights.of_type(name) for name in types)

    def _targets(self) -> Iterator[Change]:
        before, wanted = self.before.notify, self.wanted.notify
        plain = NotifyTarget("", "")
        for name in before.keys() | wanted.keys():
            old, new = before.get(name), wanted.get(name)
            if not same(old, new):
                fields = field_changes(old or plain, new or plain)
                said = () if new is None else (NOTIFY_LATER,)
                yield Change(_action(old, new), "notify", name, fields, effects=said)


def _action(old: object, new: object) -> Action:
    return "add" if old is None else "retire" if new is None else "change"


def _description(job_type: JobType, file: Definitions) -> tuple[FieldChange, ...]:
    return described(job_type, bare(file.defaults))
