"""The schema of the file: found beside the sources or inside the wheel, and made ready for checking."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from runner.config.formats import FORMATS

NAME = "schedules.schema.json"
ANNOTATIONS = frozenset({"description", "examples", "default", "doNotSuggest", "title", "$schema"})
MAPS = frozenset({"properties", "patternProperties"})


def schema_path() -> Path:
    """`runner/schemas/` in the wheel, `schemas/` at the top of the repository otherwise."""
    package = Path(__file__).parents[1]
    places = [package / "schemas" / NAME, package.parent / "schemas" / NAME]
    return next((place for place in places if place.is_file()), places[-1])


@cache
def schema_text() -> str:
    return schema_path().read_text(encoding="utf-8")


def load_schema() -> dict[str, Any]:
    """The schema as it is published. A new object each time."""
    schema: dict[str, Any] = json.loads(schema_text())
    return schema


@cache
def checking_schema() -> dict[str, Any]:
    """The same rules without references and annotations: following them costs the validator most of its time.

    What `formats` checks in code carries `x-format` in the place of `pattern`, which is there for editors.
    """
    schema = load_schema()
    flat: dict[str, Any] = _inline(schema, schema.pop("definitions"))
    return flat


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    if not isinstance(node, dict):
        return node
    references = [node, *node.get("allOf", [])]
    rules: dict[str, Any] = {}
    for reference in (entry["$ref"] for entry in references if "$ref" in entry):
        rules |= _definition(reference.removeprefix("#/definitions/"), definitions)
    for keyword, value in node.items():
        if keyword in MAPS:
            rules[keyword] = {name: _inline(child, definitions) for name, child in value.items()}
        elif keyword not in ANNOTATIONS and keyword not in ("$ref", "allOf"):
            rules[keyword] = _inline(value, definitions)
    return rules


def _definition(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    rules: dict[str, Any] = _inline(definitions[name], definitions)
    if name in FORMATS:
        rules = {keyword: value for keyword, value in rules.items() if keyword != "pattern"} | {"x-format": name}
    return rules
