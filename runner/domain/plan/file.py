"""What a plan says of the values that a file gives to all of its entries, and to the process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from runner.domain.plan import effects as effects
from runner.domain.plan.change import MISSING, Change, FieldChange, counted, few
from runner.domain.plan.defaults import Causes
from runner.domain.plan.effects import Flights
from runner.domain.plan.fields import field_changes, mapping_changes
from runner.domain.schedule import Definitions

FOLLOWED = "a running `serve` takes it over, where no flag and no variable gives it; nothing that runs is stopped"
HANDLERS = frozenset({"handler_packages"})
MOST_EXAMPLES = 5


@dataclass(frozen=True)
class FileValues:
    """Asked last, when `causes` knows the entries that change through these values alone."""

    before: Definitions
    wanted: Definitions
    flights: Flights
    causes: Causes

    def changes(self) -> Iterator[Change]:
        if defaults := mapping_changes(self.before.defaults, self.wanted.defaults):
            yield self._defaults(defaults)
        if options := field_changes(self.before.runner, self.wanted.runner, without=()):
            said = (FOLLOWED,) if any(change.field not in HANDLERS for change in options) else ()
            yield Change("change", "runner", "runner", options, effects=said)
        if self.before.timezone != self.wanted.timezone:
            yield self._timezone()

    def first(self) -> Iterator[Change]:
        """The same for a file that is applied for the first time: nothing to compare with."""
        for change in self.changes():
            fields = tuple(replace(field, before=MISSING) for field in change.fields)
            yield Change("add", change.kind, change.name, fields)

    def _defaults(self, fields: tuple[FieldChange, ...]) -> Change:
        types, others = sorted(self.causes.types), sorted(self.causes.retries)
        said = [f"touches {_named(types, 'job type')}"]
        said += [f"touches the retry of {_named(others, 'schedule')}"] if others else []
        said += effects.keeps(effects.total(self.flights.of_type(name) for name in types))
        return Change("change", "defaults", "defaults", fields, effects=tuple(said), touches=(*types, *others))

    def _timezone(self) -> Change:
        fields = (FieldChange("timezone", self.before.timezone, self.wanted.timezone),)
        moved = {name: self.causes.moved[name] for name in sorted(self.causes.moved)}
        said = [f"touches {_named(list(moved), 'schedule')}"]
        for name, (old, new) in list(moved.items())[:MOST_EXAMPLES]:
            said.append(f"{name}: next {old.local if old else 'never'} -> {new.local if new else 'never'}")
        return Change("change", "timezone", "timezone", fields, effects=tuple(said), touches=tuple(moved))


def _named(names: Sequence[str], noun: str) -> str:
    return f"{counted(len(names), noun)}: {few(names)}" if names else f"no {noun}"
