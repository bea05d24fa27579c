"""Fills the defaults of a JSON Schema in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from runner.config.payload_schema import MAX_DEPTH, Data, resolve_pointer

_NOTHING: Any = object()


def fill(schema: Data, value: Data) -> dict[str, Any]:
    """A copy of the value with each default where nothing stands. Nothing that stands there is changed."""
    filled: dict[str, Any] = _filled(schema, deepcopy(dict(value)), schema, 0)
    return filled


def _filled(schema: Any, value: Any, root: Data, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return value
    for part in parts(schema, root):
        if isinstance(value, dict):
            _fill_mapping(part, value, root, depth)
        elif isinstance(value, list):
            _fill_list(part, value, root, depth)
    return value


def _fill_mapping(part: Data, value: dict[str, Any], root: Data, depth: int) -> None:
    properties = part.get("properties", {})
    for name, child in properties.items():
        if name not in value and (default := _default(child, root)) is not _NOTHING:
            value[name] = deepcopy(default)
        if name in value:
            value[name] = _filled(child, value[name], root, depth + 1)
    if isinstance(others := part.get("additionalProperties"), Mapping):
        for name in value.keys() - properties.keys():
            value[name] = _filled(others, value[name], root, depth + 1)


def _fill_list(part: Data, value: list[Any], root: Data, depth: int) -> None:
    first = part.get("prefixItems", [])
    for index, item in enumerate(value):
        value[index] = _filled(first[index] if index < len(first) else part.get("items"), item, root, depth + 1)


def parts(schema: Any, root: Data) -> Iterator[Data]:
    """The schema, and what it always applies to the same value: what `$ref` names, and all of `allOf`."""
    pending, seen = [schema], set[int]()
    while pending:
        part = pending.pop(0)
        if isinstance(part, Mapping) and id(part) not in seen:
            seen.add(id(part))
            yield part
            pending.extend(part.get("allOf", []))
            if "$ref" in part:
                pending.append(resolve_pointer(root, part["$ref"]))


def _default(schema: Any, root: Data) -> Any:
    return next((part["default"] for part in parts(schema, root) if "default" in part), _NOTHING)
