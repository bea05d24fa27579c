"""Equality as JSON sees it: for Python 1 == True, in a payload that is a difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def same(before: Any, after: Any) -> bool:
    """Whether two definitions, or two trees of plain data, say the same.

    >>> same({"x": 1}, {"x": True}), same({"x": [1]}, {"x": [1.0]})
    (False, True)
    """
    if before is after:
        return True
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if is_dataclass(before) and type(before) is type(after):
        return all(same(getattr(before, field.name), getattr(after, field.name)) for field in fields(before))
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return before.keys() == after.keys() and all(same(value, after[key]) for key, value in before.items())
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        return len(before) == len(after) and all(map(same, before, after))
    return bool(before == after)
