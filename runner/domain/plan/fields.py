"""Which fields of two definitions differ, by their paths in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from runner.domain.cron.zones import zone
from runner.domain.plan.change import MISSING, FieldChange
from runner.domain.sameness import same

YAML_NAMES = {"starts": "from"}
ALONE = frozenset({"cron", "delay"})  # lists that may be written as one value


def field_changes(before: Any, after: Any, *, without: Iterable[str] = ("name",)) -> tuple[FieldChange, ...]:
    """The fields in which two values of one class differ, in the order of the class."""
    left = set(without)
    names = [field.name for field in fields(before) if field.name not in left]
    return tuple(
        change
        for name in names
        for change in _between(YAML_NAMES.get(name, name), _value(before, name), _value(after, name))
    )


def described(entry: Any, plain: Any, *, without: Iterable[str] = ("name",)) -> tuple[FieldChange, ...]:
    """What an entry says beyond a plain one of its class."""
    return tuple(
        FieldChange(change.field, MISSING, change.after) for change in field_changes(plain, entry, without=without)
    )


def undone(changes: Iterable[FieldChange]) -> tuple[FieldChange, ...]:
    """The same seen from the other side: what was there, and is gone."""
    return tuple(FieldChange(change.field, change.after, change.before) for change in changes)


def mapping_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """The differences of two trees of plain data, down to the values that differ."""
    names = sorted(before.keys() | after.keys())
    return tuple(
        change for name in names for change in _between(name, before.get(name, MISSING), after.get(name, MISSING))
    )


def _between(path: str, before: Any, after: Any) -> Iterator[FieldChange]:
    if same(before, after):
        return
    pairs = _inside(before, after)
    if pairs is None:
        yield FieldChange(path, before, after)
        return
    for name, (old, new) in pairs.items():
        yield from _between(f"{path}.{name}", old, new)


def _inside(before: Any, after: Any) -> dict[str, tuple[Any, Any]] | None:
    """The parts to compare one by one, where both sides have parts. A tree that is new or gone is shown in parts."""
    if _is_object(before) and _is_object(after) and type(before) is type(after):
        return {field.name: (_value(before, field.name), _value(after, field.name)) for field in fields(before)}
    trees = [side for side in (before, after) if isinstance(side, Mapping)]
    if any(trees) and all(isinstance(side, Mapping) or side is MISSING for side in (before, after)):
        old, new = (side if isinstance(side, Mapping) else {} for side in (before, after))
        return {str(name): (old.get(name, MISSING), new.get(name, MISSING)) for name in sorted(old.keys() | new.keys())}
    return None


def _value(entry: Any, name: str) -> Any:
    value = getattr(entry, name)
    if value is None or value == "":
        return MISSING
    if isinstance(value, datetime):
        return value.astimezone(zone(getattr(entry, "timezone", "UTC")))
    if isinstance(value, tuple) and name in ALONE and len(value) < 2:
        return value[0] if value else MISSING
    if value == () and name != "handler_packages":
        return MISSING
    return value


def _is_object(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def plain(value: Any) -> Any:
    """A value as JSON data: durations in seconds, times with their offset, nothing as null."""
    if value is MISSING:
        return None
    if _is_object(value):
        return {field.name: plain(_value(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "total_seconds"):
        seconds = value.total_seconds()
        return int(seconds) if seconds == int(seconds) else seconds
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()
