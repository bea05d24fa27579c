"""Checks a document against the schema of the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError

from runner.config.document import MAX_PROBLEMS
from runner.config.findings import Findings
from runner.config.formats import FORMATS, Fault
from runner.config.rules import RULES, Broken, Complaint, Rule, broken_rule, telling, wrong_type
from runner.config.schema import checking_schema
from runner.config.words import shown


def validate(findings: Findings) -> None:
    """Adds a problem for each place where the document breaks the schema."""
    errors = telling(islice(_validator().iter_errors(findings.document.data), MAX_PROBLEMS))
    broken = [broken_rule(error, "the file", findings.suggester) for error in errors]
    findings.complain_all(islice(_complaints(broken), MAX_PROBLEMS))


def _complaints(found: Iterable[Broken]) -> Iterator[Complaint]:
    for broken in found:
        yield from FILE_RULES[broken.rule](broken)


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


def _format(broken: Broken) -> Iterator[Complaint]:
    fault = FORMATS[broken.bound](broken.value)
    if fault is not None:
        yield Complaint(fault.code, broken.path, fault.message, fault.hint)


def _type(broken: Broken) -> Iterator[Complaint]:
    fault = _bare_number(broken)
    if fault is not None:
        yield Complaint(fault.code, broken.path, fault.message, fault.hint)
        return
    for complaint in wrong_type(broken):
        only = broken.schema.get("const")
        yield complaint if only is None else replace(complaint, hint=f"write {broken.label}: {shown(only)}")


def _bare_number(broken: Broken) -> Fault | None:
    """A number where a duration or a size is wanted gets the message of these."""
    name = broken.schema.get("x-format")
    if name is None or isinstance(broken.value, bool) or not isinstance(broken.value, int | float):
        return None
    fault = FORMATS[name](str(broken.value))
    return fault if fault and fault.code in ("duration", "size") else None


def _const(broken: Broken) -> Iterator[Complaint]:
    if broken.path == ("version",):
        message = f"this is version {shown(broken.value)} of the format, and this release reads version 1"
        yield Complaint("version", broken.path, message, "write version: 1")
    else:
        hint = "write false for one attempt, or a mapping such as {max_attempts: 5}"
        yield Complaint("value", broken.path, f"{broken.label} cannot be {shown(broken.value)}", hint)


def _pattern(broken: Broken) -> Iterator[Complaint]:
    path = (*broken.path, broken.value) if broken.is_key else broken.path
    hint = "letters, digits, _, - and dots; the first one a letter, a digit or _"
    yield Complaint("name", path, f"{shown(broken.value)} cannot be a name here", hint, broken.is_key)


def _reserved(broken: Broken) -> Iterator[Complaint]:
    message = f'"{broken.path[-1]}" comes later: the name is reserved, and this release does not know it'
    meant = STANDS_FOR.get(str(broken.path[-1]))
    yield Complaint("reserved", broken.path, message, "remove it", at_key=True, meant=meant)


STANDS_FOR = {"workflow": "job"}  # reserved, and whoever writes it has left the other out on purpose
FILE_RULES: dict[str, Rule] = {
    **RULES,
    "type": _type,
    "const": _const,
    "pattern": _pattern,
    "not": _reserved,
    "x-format": _format,
}
