"""Broken rules of a JSON Schema, in plain words. Shared by the file's own schema and by the schemas of payloads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from runner.config.places import Path
from runner.config.suggest import Suggester, did_you_mean
from runner.config.words import kind, label, listed, shown, type_hint, type_name, type_names


@dataclass(frozen=True, slots=True)
class Complaint:
    """What to say, and where; `at_key` means the key at the end of the path, not its value."""

    code: str
    path: Path
    message: str
    hint: str | None = None
    at_key: bool = False
    meant: str | None = None  # the key that an unknown one was probably meant to be
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """One rule that a value breaks: the keyword, what it says, and the schema around it.

    `whole` is what the value at the empty path is called.
    """

    rule: str
    bound: Any
    value: Any
    schema: Any
    path: Path
    is_key: bool
    whole: str
    suggester: Suggester

    @property
    def label(self) -> str:
        return label(self.path) if self.path else self.whole

    @property
    def kind(self) -> str:
        return kind(self.path) if self.path else self.whole


Rule = Callable[[Broken], Iterator[Complaint]]


def broken_rule(error: Any, whole: str, suggester: Suggester) -> Broken:
    """What the library found."""
    return Broken(
        rule=error.validator,
        bound=error.validator_value,
        value=error.instance,
        schema=error.schema,
        path=tuple(error.absolute_path),
        is_key="propertyNames" in error.absolute_schema_path,
        whole=whole,
        suggester=suggester,
    )


def telling(errors: Iterable[Any]) -> list[Any]:
    """What the library found, without what else it says of a value of the wrong type."""
    found = list(errors)
    mistyped = {tuple(one.absolute_path) for one in found if _is_mistyped(one)}
    return [one for one in found if _is_mistyped(one) or tuple(one.absolute_path) not in mistyped]


def _is_mistyped(error: Any) -> bool:
    return error.validator == "type" and "propertyNames" not in error.absolute_schema_path


def wrong_type(broken: Broken) -> Iterator[Complaint]:
    wanted = broken.bound if isinstance(broken.bound, list) else [broken.bound]
    message = f"{broken.label} must be {type_names(wanted)}, not {type_name(broken.value)}"
    yield Complaint("wrong-type", broken.path, message, type_hint(wanted, broken.value))


def unknown_fields(broken: Broken) -> Iterator[Complaint]:
    known = broken.schema.get("properties", {})
    names = [name for name, rules in known.items() if not isinstance(rules, dict) or "not" not in rules]
    patterns = [re.compile(pattern) for pattern in broken.schema.get("patternProperties", {})]
    for key in broken.value:
        if key not in known and not any(pattern.search(key) for pattern in patterns):
            meant = broken.suggester.closest(key, names)
            hint = did_you_mean(meant) or f"known here: {listed(names)}"
            message = f'unknown field "{key}" in {broken.kind}'
            yield Complaint("unknown-field", (*broken.path, key), message, hint, at_key=True, meant=meant)


def missing_field(broken: Broken) -> Iterator[Complaint]:
    for name in broken.bound:
        if name not in broken.value:
            message = f"{name} is missing in {broken.kind}"
            yield Complaint("missing-field", broken.path, message, f"add {name}:", at_key=True, missing=name)


def not_a_choice(broken: Broken) -> Iterator[Complaint]:
    words = [choice for choice in broken.bound if isinstance(choice, str)]
    meant = broken.suggester.closest(broken.value, words) if isinstance(broken.value, str) else None
    hint = f"write {listed(broken.bound)}"
    message = f"{broken.label} cannot be {shown(broken.value)}"
    yield Complaint("value", broken.path, message, f"{did_you_mean(meant)} Or else {hint}" if meant else hint)


def out_of_range(broken: Broken) -> Iterator[Complaint]:
    words = BOUNDS[broken.rule]
    message = f"{broken.label} must be {words} {shown(broken.bound)}, not {shown(broken.value)}"
    yield Complaint("range", broken.path, message, f"write a number: {words} {shown(broken.bound)}")


def wrong_size(broken: Broken) -> Iterator[Complaint]:
    size, bound, unit = len(broken.value), broken.bound, UNITS[broken.rule[3:]]
    if broken.rule.startswith("max"):
        message = f"{broken.label} has {size:,} {unit}; at most {bound:,} are allowed"
        path = (*broken.path, broken.value) if broken.is_key else broken.path
        yield Complaint("range", path, message, "make it shorter", broken.is_key)
    elif bound == 1:
        yield Complaint(
            "empty-value", broken.path, f"{broken.label} must not be empty", "write a value, or remove the field"
        )
    else:
        message = f"{broken.label} has {size:,} {unit}; at least {bound:,} are needed"
        yield Complaint("range", broken.path, message, "write more")


def repeated(broken: Broken) -> Iterator[Complaint]:
    seen: set[str] = set()
    for index, item in enumerate(broken.value):
        text = json.dumps(item, sort_keys=True)
        if text in seen:
            message = f"{shown(item)} stands twice in {broken.label}"
            yield Complaint("duplicate-item", (*broken.path, index), message, "remove one")
        seen.add(text)


BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
}
UNITS = {"Length": "characters", "Items": "items", "Properties": "entries"}
RULES: dict[str, Rule] = {
    "type": wrong_type,
    "additionalProperties": unknown_fields,
    "required": missing_field,
    "enum": not_a_choice,
    "uniqueItems": repeated,
    **dict.fromkeys(BOUNDS, out_of_range),
    **{f"{side}{what}": wrong_size for side in ("min", "max") for what in UNITS},
}
