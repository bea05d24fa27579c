"""Payloads against the schema of their job type: defaults filled in, and what does not fit in plain words.

Used for the file and at each enqueue, so the validators are built once for each schema.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from jsonschema.exceptions import best_match
from referencing.exceptions import Unresolvable

from runner.config.fill import fill
from runner.config.payload_schema import (
    MAX_DEPTH,
    STEPS,
    STEPS_LEFT,
    Data,
    TooMuchWork,
    effective,
    property_names,
    validator_for,
)
from runner.config.places import Path, dotted
from runner.config.rules import RULES, Broken, Complaint, Rule, broken_rule, telling, unknown_fields
from runner.config.suggest import Suggester
from runner.config.words import label, shown
from runner.domain.problem import Problem

WHOLE = "the payload"
MAX_COMPLAINTS = 100


def complete(schema: Data | None, payload: Data) -> dict[str, Any]:
    """A copy of the payload with the schema's defaults where nothing stands, inside of what is there too.

    >>> complete({"properties": {"days": {"default": 30}, "dry": {"type": "boolean"}}}, {"dry": True})
    {'dry': True, 'days': 30}
    """
    return fill(effective(schema), payload)


def check(schema: Data | None, payload: Any) -> list[Problem]:
    """What does not fit a payload at hand, with the path of each place in it. Empty: it fits."""
    return [
        Problem(complaint.code, complaint.message, path=dotted(complaint.path), hint=_remedy(complaint))
        for complaint in complaints(schema, payload, Suggester())
    ]


def _remedy(complaint: Complaint) -> str | None:
    """As JSON is written: a payload at hand did not come from a line of the file."""
    if complaint.missing is None:
        return complaint.hint
    return f"add {shown(complaint.missing)}" + (f" to {dotted(complaint.path)}" if complaint.path else "")


def complaints(
    schema: Data | None, payload: Any, suggester: Suggester, later: Collection[Path] = ()
) -> list[Complaint]:
    """The same with paths that can be looked up in a document. The schema itself must be valid.

    `later` are the paths of values that are not known yet: nothing is said of them.
    """
    size, unfit = _not_json(payload)
    if unfit:
        return unfit[:MAX_COMPLAINTS]
    if schema is None and isinstance(payload, dict):
        return []  # no more is asked of it
    STEPS_LEFT.set(STEPS + STEPS * size // 100)
    try:
        found = validator_for(schema).iter_errors(payload)
        errors = list(islice((error for error in found if not _depends_on(error, later)), MAX_COMPLAINTS))
    except (RecursionError, TooMuchWork, Unresolvable):
        return [Complaint("payload-schema", (), "the payload_schema cannot be followed to its end", LOOK)]
    return _without_echoes([complaint for error in telling(errors) for complaint in _said(error, suggester)])


def _without_echoes(found: list[Complaint]) -> list[Complaint]:
    """Each thing once, and what is missing only because it is misspelt not at all."""
    meant = {(*complaint.path[:-1], complaint.meant) for complaint in found if complaint.meant is not None}
    return [complaint for complaint in dict.fromkeys(found) if (*complaint.path, complaint.missing) not in meant]


def _depends_on(error: Any, later: Collection[Path]) -> bool:
    """Whether a value that is not known yet may make the rule hold after all."""
    path = tuple(error.absolute_path)
    return any(path == at or (at[: len(path)] == path and error.validator not in KEYS_ALONE) for at in later)


def _said(error: Any, suggester: Suggester) -> Iterator[Complaint]:
    broken = broken_rule(error, WHOLE, suggester)
    if broken.rule in ("anyOf", "oneOf") and error.context:
        yield from _no_branch(error, broken)
        return
    for complaint in PAYLOAD_RULES.get(broken.rule, _does_not_fit)(broken):
        yield replace(complaint, code="payload")


def _no_branch(error: Any, broken: Broken) -> Iterator[Complaint]:
    """None of several forms fits: the types that would, or else what the closest form lacks."""
    kinds = [inner.validator_value for inner in error.context if inner.validator == "type" and not inner.relative_path]
    if len(kinds) == len(broken.bound):
        names = [name for kind in kinds for name in ([kind] if isinstance(kind, str) else kind)]
        for complaint in RULES["type"](replace(broken, rule="type", bound=list(dict.fromkeys(names)))):
            yield replace(complaint, code="payload")
        return
    misfits = {inner.schema_path[0] for inner in error.context if inner.validator == "type" and not inner.relative_path}
    closer = [inner for inner in error.context if inner.schema_path[0] not in misfits]
    yield from _said(best_match(closer or error.context), broken.suggester)


def _const(broken: Broken) -> Iterator[Complaint]:
    message = f"{broken.label} must be {shown(broken.bound)}, not {shown(broken.value)}"
    yield Complaint("payload", broken.path, message, f"write {shown(broken.bound)}")


def _pattern(broken: Broken) -> Iterator[Complaint]:
    path = (*broken.path, broken.value) if broken.is_key else broken.path
    message = f"{shown(broken.value)} does not have the form {broken.bound}"
    yield Complaint("payload", path, message, LOOK, broken.is_key)


def _format(broken: Broken) -> Iterator[Complaint]:
    message = f"{broken.label} must have the format {broken.bound}, not {shown(broken.value)}"
    yield Complaint("payload", broken.path, message, LOOK)


def _unevaluated(broken: Broken) -> Iterator[Complaint]:
    """The library names these keys in the text of its message alone."""
    known = list(property_names(broken.schema))
    unknown = [key for key in broken.value if key not in known]
    if unknown:
        narrowed = replace(broken, schema={"properties": dict.fromkeys(known)}, value=unknown)
        yield from unknown_fields(narrowed)
    else:
        yield from _does_not_fit(broken)


def _does_not_fit(broken: Broken) -> Iterator[Complaint]:
    yield Complaint("payload", broken.path, f"{broken.label} does not fit: {shown(broken.value)}", LOOK)


KEYS_ALONE = frozenset({"type", "required", "additionalProperties", "unevaluatedProperties", "dependentRequired"})
LOOK = "look at the payload_schema of the job type"
PAYLOAD_RULES: dict[str, Rule] = {
    **RULES,
    "const": _const,
    "pattern": _pattern,
    "format": _format,
    "unevaluatedProperties": _unevaluated,
}


def _not_json(payload: Any) -> tuple[int, list[Complaint]]:
    """The number of values, and those that JSON or the databases cannot carry: other objects, NaN, NUL, odd keys."""
    if is_plain(payload):
        return 1 + len(payload), []
    found: list[Complaint] = []
    size = 0
    pending: list[tuple[Path, Any]] = [((), payload)]
    while pending:
        path, value = pending.pop()
        size += 1
        reason = _refused(value) if len(path) <= MAX_DEPTH else f"is nested deeper than {MAX_DEPTH} levels"
        if reason:
            shown_path = path[:8]
            found.append(Complaint("payload", shown_path, f"{label(shown_path) if path else WHOLE} {reason}"))
        elif isinstance(value, dict):
            found += [Complaint("payload", path, f"{key!a} cannot be a key") for key in value if not _is_key(key)]
            pending.extend(((*path, key), child) for key, child in value.items() if isinstance(key, str))
        elif isinstance(value, list):
            pending.extend(((*path, index), child) for index, child in enumerate(value))
    return size, found


def is_plain(payload: Any) -> bool:
    """Flat, and of what needs no second look, as most payloads are."""
    if type(payload) is not dict:
        return False
    for key, value in payload.items():
        if not (type(key) is str and key.isascii() and "\0" not in key):
            return False
        kind = type(value)
        if kind is str:
            if not value.isascii() or "\0" in value:
                return False
        elif not (kind is int or kind is bool or value is None):
            return False
    return True


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and _refused(key) is None


def _refused(value: Any) -> str | None:
    match value:
        case str():
            return None if "\0" not in value and _encodable(value) else "holds a character that cannot be stored"
        case float():
            return None if math.isfinite(value) else f"is {value}, which JSON cannot carry"
        case None | bool() | int() | list() | dict():
            return None
    return f"is no JSON: {type(value).__name__}"


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
