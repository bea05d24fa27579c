"""Checks a document against the schema, and says what is wrong in the words of the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError

from runner.config.document import MAX_PROBLEMS
from runner.config.findings import Findings
from runner.config.formats import FORMATS, Fault
from runner.config.places import Path
from runner.config.schema import checking_schema
from runner.config.suggest import did_you_mean
from runner.config.words import kind, label, listed, shown, type_hint, type_name, type_names


@dataclass(frozen=True, slots=True)
class Broken:
    """One rule of the schema that a value breaks: the keyword, what it says, and the schema around it."""

    rule: str
    bound: Any
    value: Any
    schema: Any
    path: Path
    is_key: bool


def validate(findings: Findings) -> None:
    """Adds a problem for each place where the document breaks the schema."""
    for error in islice(_validator().iter_errors(findings.document.data), MAX_PROBLEMS):
        if findings.is_full:
            break
        broken = _broken(error)
        TRANSLATIONS[broken.rule](findings, broken, broken.path)


def _broken(error: Any) -> Broken:
    return Broken(
        rule=error.validator,
        bound=error.validator_value,
        value=error.instance,
        schema=error.schema,
        path=tuple(error.absolute_path),
        is_key="propertyNames" in error.absolute_schema_path,
    )


@cache
def _validator() -> Any:
    extend: Any = jsonschema.validators.extend
    checks = {"x-format": _check_format, "uniqueItems": _check_unique}
    return extend(jsonschema.Draft7Validator, checks)(checking_schema())


def _check_format(validator: Any, name: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and FORMATS[name](instance) is not None:
        yield ValidationError("")


def _check_unique(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """jsonschema's own compares each item with each other where they cannot be sorted."""
    if isinstance(instance, list) and len({json.dumps(item, sort_keys=True) for item in instance}) < len(instance):
        yield ValidationError("")


def _format(findings: Findings, broken: Broken, path: Path) -> None:
    fault = FORMATS[broken.bound](broken.value)
    if fault is not None:
        _fault(findings, fault, path)


def _fault(findings: Findings, fault: Fault, path: Path) -> None:
    findings.error(fault.code, path, fault.message, fault.hint)


def _type(findings: Findings, broken: Broken, path: Path) -> None:
    wanted = broken.bound if isinstance(broken.bound, list) else [broken.bound]
    name, value = broken.schema.get("x-format", ""), broken.value
    if type_name(value) in ("a number", "a whole number") and (fault := _bare_number(name, value)):
        _fault(findings, fault, path)
        return
    message = f"{label(path)} must be {type_names(wanted)}, not {type_name(value)}"
    findings.error("wrong-type", path, message, type_hint(wanted, value))


def _bare_number(name: str, value: float) -> Fault | None:
    fault = FORMATS[name](str(value)) if name else None
    return fault if fault and fault.code == "duration" else None


def _unknown(findings: Findings, broken: Broken, path: Path) -> None:
    known = broken.schema.get("properties", {})
    for key in broken.value:
        if key not in known and not (path == () and key.startswith("x-")):
            names = [name for name, rules in known.items() if "not" not in rules]
            hint = did_you_mean(findings.suggester.closest(key, names)) or f"known here: {listed(names)}"
            findings.error("unknown-field", (*path, key), f'unknown field "{key}" in {kind(path)}', hint, at_key=True)


def _missing(findings: Findings, broken: Broken, path: Path) -> None:
    for name in broken.bound:
        if name not in broken.value:
            findings.error("missing-field", path, f"{name} is missing in {kind(path)}", f"add {name}:", at_key=True)


def _enum(findings: Findings, broken: Broken, path: Path) -> None:
    choices = broken.bound
    meant = findings.suggester.closest(str(broken.value), choices) if isinstance(broken.value, str) else None
    message = f"{label(path)} cannot be {shown(broken.value)}"
    hint = f"write {listed(choices)}"
    findings.error("value", path, message, f"{did_you_mean(meant)} Or else {hint}" if meant else hint)


def _const(findings: Findings, broken: Broken, path: Path) -> None:
    if path == ("version",):
        message = f"this is version {shown(broken.value)} of the format, and this release reads version 1"
        findings.error("version", path, message, "write version: 1")
    else:
        hint = "write false for one attempt, or a mapping such as {max_attempts: 5}"
        findings.error("value", path, f"{label(path)} cannot be true", hint)


def _range(findings: Findings, broken: Broken, path: Path) -> None:
    word = {"minimum": "at least", "maximum": "at most"}[broken.rule]
    message = f"{label(path)} must be {word} {broken.bound}, not {shown(broken.value)}"
    findings.error("range", path, message, f"write a number of {word} {broken.bound}")


def _size(findings: Findings, broken: Broken, path: Path) -> None:
    rule, bound = broken.rule, broken.bound
    if rule.startswith("min"):
        findings.error("empty-value", path, f"{label(path)} must not be empty", "write a value, or remove the field")
        return
    unit = {"maxLength": "characters", "maxItems": "items", "maxProperties": "entries"}[rule]
    message = f"{label(path)} has {len(broken.value):,} {unit}; at most {bound:,} are allowed"
    findings.error("range", path, message, "make it shorter", at_key=broken.is_key)


def _pattern(findings: Findings, broken: Broken, path: Path) -> None:
    at = (*path, broken.value) if broken.is_key else path
    hint = "letters, digits, _, - and dots; the first one a letter, a digit or _"
    findings.error("name", at, f"{shown(broken.value)} cannot be a name here", hint, at_key=broken.is_key)


def _unique(findings: Findings, broken: Broken, path: Path) -> None:
    seen: set[str] = set()
    for index, item in enumerate(broken.value):
        text = json.dumps(item, sort_keys=True)
        if text in seen:
            findings.error(
                "duplicate-item", (*path, index), f"{shown(item)} stands twice in {label(path)}", "remove one"
            )
        seen.add(text)


def _reserved(findings: Findings, broken: Broken, path: Path) -> None:
    message = f'"{path[-1]}" comes later: the name is reserved, and this release does not know it'
    findings.error("reserved", path, message, "remove it", at_key=True)


TRANSLATIONS: dict[Any, Callable[[Findings, Broken, Path], None]] = {
    "type": _type,
    "additionalProperties": _unknown,
    "required": _missing,
    "enum": _enum,
    "const": _const,
    "minimum": _range,
    "maximum": _range,
    "pattern": _pattern,
    "uniqueItems": _unique,
    "not": _reserved,
    "x-format": _format,
    **dict.fromkeys(("minLength", "minItems", "minProperties", "maxLength", "maxItems", "maxProperties"), _size),
}
