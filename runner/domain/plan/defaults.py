"""What a change of the file's `defaults` or `timezone` explains of the changes of its entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from runner.domain.duration import parse_duration
from runner.domain.plan.change import FieldChange, Fire
from runner.domain.plan.fields import field_changes
from runner.domain.retry import RetryPolicy
from runner.domain.schedule import PRIORITIES, Definitions, JobType

Slots = tuple[Fire | None, Fire | None]


@dataclass
class Causes:
    """What entries inherit, before and after. It collects those that change through that alone, or partly:

    job types, schedules whose `retry` is merged into an inherited one, and schedules that follow the file's zone, with
    their next slot before and after.
    """

    before: Definitions
    after: Definitions
    types: set[str] = field(default_factory=set)
    retries: set[str] = field(default_factory=set)
    moved: dict[str, Slots] = field(default_factory=dict)

    def __post_init__(self) -> None:
        changes = field_changes(bare(self.before.defaults), bare(self.after.defaults))
        self._inherited = {change.field: change for change in changes}
        self._zones = FieldChange("timezone", self.before.timezone, self.after.timezone)

    def of_type(self, name: str, fields: Sequence[FieldChange]) -> tuple[FieldChange, ...]:
        """What is left without the fields whose values were those of the old defaults, and are those of the new."""
        left = self._without_inherited(fields)
        if len(left) < len(fields):
            self.types.add(name)
        return left

    def of_schedule(
        self, name: str, fields: Sequence[FieldChange], slots: Callable[[], Slots]
    ) -> tuple[FieldChange, ...]:
        """The same, and without the zone where it is the file's."""
        left = self._without_inherited(fields)
        if len(left) < len(fields):
            self.retries.add(name)
        if self._zones not in left:
            return left
        self.moved[name] = slots()
        return tuple(change for change in left if change != self._zones and not _same_wall_time(change))

    def _without_inherited(self, fields: Sequence[FieldChange]) -> tuple[FieldChange, ...]:
        return tuple(change for change in fields if self._inherited.get(change.field) != change)


def bare(defaults: Mapping[str, Any]) -> JobType:
    """A job type that says nothing itself."""
    values = {name: READERS.get(name, _as_it_is)(value) for name, value in defaults.items()}
    return replace(JobType("", ""), **values)


def _retry(written: Any) -> RetryPolicy:
    if isinstance(written, bool):
        return RetryPolicy(max_attempts=1)
    values = dict(written)
    for name, read in RETRY_READERS.items():
        if name in values:
            values[name] = read(values[name])
    return RetryPolicy(**values)


def _delays(written: Any) -> tuple[Any, ...]:
    return tuple(parse_duration(delay) for delay in ([written] if isinstance(written, str) else written))


def _as_it_is(written: Any) -> Any:
    return written


def _same_wall_time(change: FieldChange) -> bool:
    """A time without an offset moves with the zone that it is read in."""
    old, new = change.before, change.after
    return (
        isinstance(old, datetime) and isinstance(new, datetime) and old.replace(tzinfo=None) == new.replace(tzinfo=None)
    )


RETRY_READERS: dict[str, Callable[[Any], Any]] = {
    "delay": _delays,
    "max_delay": parse_duration,
    "factor": float,
    "jitter": float,
    "retry_on": tuple,
    "give_up_on": tuple,
}
READERS: dict[str, Callable[[Any], Any]] = {
    "priority": lambda written: PRIORITIES.get(written, written),
    "timeout": parse_duration,
    "retry": _retry,
    "max_stalls": int,
    "notify": lambda written: (written,) if isinstance(written, str) else tuple(written),
}
