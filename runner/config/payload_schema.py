"""The schema of a payload: JSON Schema 2020-12, an object, closed unless it says otherwise, no reference to outside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match
from referencing import Registry

from runner.config.places import Path
from runner.config.rules import Complaint
from runner.config.suggest import Suggester, did_you_mean
from runner.config.words import label, shown

Data = Mapping[str, Any]
DRAFT: Any = jsonschema.Draft202012Validator
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SAYS_OTHERWISE = frozenset({"additionalProperties", "unevaluatedProperties"})
COMBINES = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas"})
NOT_HERE = frozenset({"$id", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$anchor"})
VALUES = frozenset({"default", "const", "enum", "examples"})
NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
PATTERNS = "write a regular expression of Python; quote it in single quotes"
MAX_DEPTH = 64
MAX_APPLIED = 1_000
STEPS = 5_000  # and as many for each hundred values of the payload


def effective(schema: Data | None) -> dict[str, Any]:
    """The schema with what it implies written out. Without a schema, any object will do."""
    if schema is None:
        return {"type": "object"}
    if SAYS_OTHERWISE & schema.keys():
        return {"type": "object", **schema}
    closed = "unevaluatedProperties" if COMBINES & schema.keys() else "additionalProperties"
    return {"type": "object", closed: False, **schema}


def validator_for(schema: Data | None) -> Any:
    """Built once for each content. Its registry is empty: nothing is ever fetched."""
    return _validator(json.dumps(effective(schema), sort_keys=True))


class TooMuchWork(Exception):
    """Following the references of a schema takes for ever: they multiply."""


STEPS_LEFT: ContextVar[int] = ContextVar("STEPS_LEFT", default=STEPS)


@lru_cache(maxsize=512)
def _validator(text: str) -> Any:
    return _checker()(json.loads(text), registry=Registry(), format_checker=DRAFT.FORMAT_CHECKER)


@cache
def _checker() -> Any:
    extend: Any = jsonschema.validators.extend
    return extend(DRAFT, {"$ref": _follow})


def _follow(validator: Any, reference: str, instance: Any, schema: Any) -> Iterator[Any]:
    """Without references a schema does no more work than its own size for each value; with them it may double."""
    left = STEPS_LEFT.get() - 1
    if left < 0:
        raise TooMuchWork
    STEPS_LEFT.set(left)
    yield from DRAFT.VALIDATORS["$ref"](validator, reference, instance, schema) or ()


def check_schema(schema: Data) -> list[Complaint]:
    """What is wrong with the schema itself. Paths start inside of it."""
    return list(_own_rules(schema)) or list(_meta_rules(schema)) or list(_compiles(schema))


def resolve_pointer(root: Data, reference: str) -> Any:
    """What `#` or `#/$defs/name` names, or None."""
    node: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list) and part.isascii() and part.isdigit() and int(part[:9]) < len(node):
            node = node[int(part[:9])]
        else:
            return None
    return node


def subschemas(schema: Any) -> Iterator[tuple[Path, Data]]:
    """The schema and all the schemas in it, but not the values that it mentions."""
    pending: list[tuple[Path, Any, bool]] = [((), schema, True)]
    while pending:
        path, node, is_schema = pending.pop()
        if isinstance(node, Mapping):
            if is_schema:
                yield path, node
            for key, child in node.items():
                if not (is_schema and key in VALUES):
                    pending.append(((*path, key), child, not (is_schema and key in NAMED)))
        elif isinstance(node, list):
            pending.extend(((*path, index), child, True) for index, child in enumerate(node))


def property_names(schema: Data) -> Iterator[str]:
    """The keys that the schema, or any schema that it applies to the same value, knows."""
    for part in _all_applied(schema, schema):
        yield from part.get("properties", {})


def _own_rules(schema: Data) -> Iterator[Complaint]:
    if schema.get("type", "object") != "object":
        yield _complaint(("type",), "a payload is always a mapping", "write type: object, or leave type out")
    if str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
        yield _complaint(("$schema",), "payloads are checked by JSON Schema 2020-12", "leave $schema out")
    for path, node in subschemas(schema):
        if len(path) > MAX_DEPTH:
            yield _complaint(path[:1], f"nested deeper than {MAX_DEPTH} levels", "make it flatter")
            return
        for keyword in NOT_HERE & node.keys():
            hint = 'use "#/$defs/name" and $defs'
            yield Complaint("payload-schema", (*path, keyword), f"{keyword} is not supported here", hint, at_key=True)
        if isinstance(reference := node.get("$ref"), str):
            yield from _reference(schema, (*path, "$ref"), reference)


def _reference(schema: Data, path: Path, reference: str) -> Iterator[Complaint]:
    if reference != "#" and not reference.startswith("#/"):
        yield _complaint(path, f"{shown(reference)} leads out of the file: nothing is fetched", 'use "#/$defs/name"')
    elif "%" in reference or not isinstance(resolve_pointer(schema, reference), Mapping | bool):
        yield _complaint(path, f"{shown(reference)} leads nowhere", "paths start at the top of this payload_schema")


def _meta_rules(schema: Data) -> Iterator[Complaint]:
    for error in _meta_validator().iter_errors(dict(schema)):
        leaf = best_match([error])
        path = tuple(leaf.absolute_path)
        said = f"{label(path) if path else 'payload_schema'} cannot be {shown(leaf.instance)}"
        yield _complaint(path, said, "see JSON Schema 2020-12 for what may stand here")


@lru_cache(maxsize=1)
def _meta_validator() -> Any:
    return DRAFT(DRAFT.META_SCHEMA)


def _compiles(schema: Data) -> Iterator[Complaint]:
    """Patterns, and references that go round without ever reaching a rule."""
    for path, node in subschemas(schema):
        if reason := _bad_pattern(node.get("pattern", "")):
            yield _complaint((*path, "pattern"), f"not a regular expression: {reason}", PATTERNS)
        for key in node.get("patternProperties", {}):
            if reason := _bad_pattern(key):
                at = (*path, "patternProperties", key)
                yield Complaint("payload-schema", at, f"not a regular expression: {reason}", PATTERNS, at_key=True)
        if "$ref" in node and _goes_round(schema, node):
            message = f"{shown(node['$ref'])} only leads back to itself"
            yield _complaint((*path, "$ref"), message, "let it name a schema that says something")
            return
    for path, node in subschemas(schema):
        if _multiplies(schema, node):
            yield _complaint(path, f"its references multiply to more than {MAX_APPLIED:,} schemas", "use fewer of them")
            return


def _multiplies(root: Data, schema: Data) -> bool:
    """Whether one value is checked by more schemas than anyone writes: references that double at each step."""
    counts: dict[int, int] = {}
    pending = [(schema, False)]
    while pending:
        node, is_ready = pending.pop()
        applied = [part for part in _applied(root, node) if isinstance(part, Mapping)]
        if is_ready:
            counts[id(node)] = 1 + sum(counts[id(part)] for part in applied)
        elif id(node) not in counts:
            pending.append((node, True))
            pending.extend((part, False) for part in applied)
    return max(counts.values()) > MAX_APPLIED


def _bad_pattern(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return None


def _goes_round(root: Data, start: Data) -> bool:
    """Whether applying the schema to a value applies it again to the same value."""
    return any(part is start for step in _applied(root, start) for part in _all_applied(root, step))


def _all_applied(root: Data, start: Any) -> Iterator[Data]:
    seen: set[int] = set()
    pending: list[Any] = [start]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping) and id(node) not in seen:
            seen.add(id(node))
            yield node
            pending.extend(_applied(root, node))


def _applied(root: Data, node: Data) -> list[Any]:
    """The schemas that hold for the same value as this one."""
    applied = [node[keyword] for keyword in ("not", "if", "then", "else") if keyword in node]
    applied += [part for keyword in ("allOf", "anyOf", "oneOf") for part in node.get(keyword, [])]
    applied += node.get("dependentSchemas", {}).values()
    return applied + ([resolve_pointer(root, node["$ref"])] if "$ref" in node else [])


def typos(schema: Data, suggester: Suggester) -> list[Complaint]:
    """JSON Schema ignores words that it does not know; one that is nearly a keyword was meant to be it."""
    return [
        Complaint("payload-schema", (*path, word), f'"{word}" is no keyword of JSON Schema', did_you_mean(meant), True)
        for path, node in subschemas(schema)
        for word in node
        if word not in KEYWORDS and not word.startswith("x-") and (meant := suggester.closest(word, KEYWORDS))
    ]


def _complaint(path: Path, message: str, hint: str) -> Complaint:
    return Complaint("payload-schema", path, message, hint)


KEYWORDS = (
    *DRAFT.VALIDATORS,
    *("$schema", "$defs", "$comment", "definitions", "then", "else", "minContains", "maxContains"),
    *("title", "description", "default", "deprecated", "readOnly", "writeOnly", "examples"),
    *("contentEncoding", "contentMediaType", "contentSchema"),
)
