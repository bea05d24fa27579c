"""Where each value of the definitions comes from, for `runner config`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from runner.config.load import Loaded
from runner.config.places import Document, Path, dotted
from runner.domain.duration import format_duration
from runner.domain.retry import RetryPolicy
from runner.domain.schedule import Definitions, Schedule, Unique
from runner.domain.workflow import Step, Workflow

BUILT_IN = "built-in"
WRITTEN_AS = {"starts": "from"}
SAID_IN_ONE_WORD = ("max_attempts", "until")
Weaker = list[Path]


class Origin(NamedTuple):
    """One resolved value: where it belongs, how it is written, and `file:31`, `defaults:9` or `built-in`."""

    path: str
    value: Any
    origin: str


def origins(loaded: Loaded) -> list[Origin]:
    """Every value of a file that was loaded without errors, section by section."""
    if loaded.definitions is None or loaded.document is None:
        return []
    return list(_Walk(loaded.document).whole(loaded.definitions))


class _Walk:
    """Goes through the definitions; `weaker` are the places that a value is inherited from, the strongest first."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def whole(self, definitions: Definitions) -> Iterator[Origin]:
        yield self._one(("version",), definitions.version, [])
        yield self._one(("timezone",), definitions.timezone, [])
        yield from self._object(("runner",), definitions.runner, [])
        for name, size in definitions.limits.items():
            yield self._one(("limits", name), size, [])
        for section in ("job_types", "schedules", "workflows", "notify"):
            for name, entry in getattr(definitions, section).items():
                yield from self._object((section, name), entry, [("defaults",)] if section == "job_types" else [])

    def _object(self, path: Path, value: Any, weaker: Weaker) -> Iterator[Origin]:
        for field in fields(value):
            child, name = getattr(value, field.name), WRITTEN_AS.get(field.name, field.name)
            at = (*path, name)
            if name == "name" or child is None:
                continue
            below = self._inherited(value, name, [(*above, name) for above in weaker])
            if isinstance(child, RetryPolicy | Unique):
                yield from self._object(at, child, below)
            elif isinstance(value, Workflow) and name == "steps":
                for step in child.values():
                    yield from self._object((*at, step.name), step, [])
            else:
                yield self._one(at, child, below)

    def _inherited(self, value: Any, name: str, weaker: Weaker) -> Weaker:
        """A schedule's zone is the file's; its `retry`, and a step's, is merged into the one of its job type."""
        if isinstance(value, Schedule) and name == "timezone":
            return [("timezone",)]
        if isinstance(value, Schedule | Step) and name == "retry" and value.job:
            return [("job_types", value.job, "retry"), ("defaults", "retry")]
        return weaker

    def _one(self, path: Path, value: Any, weaker: Weaker) -> Origin:
        return Origin(dotted(path), as_written(value), self._origin([path, *weaker]))

    def _origin(self, places: Weaker) -> str:
        for path in places:
            above = self._value(path[:-1])
            if isinstance(above, dict) and path[-1] in above:
                return self._told(path)
            if above is not None and not isinstance(above, dict):  # `retry: false` or `unique: finished`
                is_first = path[-1] in SAID_IN_ONE_WORD and not isinstance(self._value(places[0][:-1]), dict)
                return self._told(path[:-1]) if is_first else BUILT_IN
        return BUILT_IN

    def _told(self, path: Path) -> str:
        return f"{'defaults' if path[0] == 'defaults' else 'file'}:{self._document.key_place(path).line}"

    def _value(self, path: Path) -> Any:
        value: Any = self._document.data
        for part in path:
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        return value


def as_written(value: Any) -> Any:
    """A value as the file would say it: durations and times as text, tuples as lists."""
    match value:
        case timedelta():
            return format_duration(value)
        case datetime():
            return value.isoformat()
        case tuple():
            return [as_written(item) for item in value]
    return value
