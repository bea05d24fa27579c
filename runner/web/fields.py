"""From the schema of a payload to the fields of a form: each JSON type in its own control, the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runner.config.payload_schema import effective, resolve_pointer
from runner.http.masking import is_secret

Kind = Literal["text", "long", "number", "date", "choice", "choices", "list", "boolean", "group", "json"]
DEEPEST = 6  # of groups in groups; below that, JSON
SHORTEST_LONG = 200  # a text that may be so long has a field of several lines
UNSAID: Any = object()
NUMBERS = frozenset({"integer", "number"})
COMBINES = frozenset({"anyOf", "oneOf", "allOf", "if", "not", "patternProperties", "dependentSchemas", "const"})


@dataclass(frozen=True, slots=True)
class Field:
    """`path` is its name in the form and in messages; `items` is the JSON type of the entries of a list."""

    path: str
    name: str
    label: str
    kind: Kind
    schema: Mapping[str, Any]
    is_required: bool = False
    default: Any = UNSAID
    choices: tuple[Any, ...] = ()
    items: str = "string"
    fields: tuple[Field, ...] = ()

    @property
    def help(self) -> str:
        return str(self.schema.get("description", ""))

    @property
    def is_secret(self) -> bool:
        return is_secret(self.name)

    @property
    def shown(self) -> str | list[str] | bool:
        """The default, as its control shows it."""
        if self.kind == "boolean" and self.default is not UNSAID:
            return bool(self.default)
        if self.kind == "choices":
            return [said(one) for one in self.default] if isinstance(self.default, list) else []
        if self.kind == "list":
            return "\n".join(said(one) for one in self.default) if isinstance(self.default, list) else ""
        if self.kind == "json":
            return "" if self.default is UNSAID else json.dumps(self.default, ensure_ascii=False, indent=2)
        return "" if self.default in (UNSAID, None) else said(self.default)


def said(value: Any) -> str:
    """A value as a control holds it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fields_of(schema: Mapping[str, Any] | None) -> list[Field] | None:
    """Of a payload; None where only JSON can say what it may be."""
    whole = effective(schema)
    if not isinstance(whole.get("properties"), Mapping) or COMBINES & whole.keys() or "$ref" in whole:
        return None
    return list(_fields(whole, whole, "", whole.get("default", {}), 0))


def _fields(
    root: Mapping[str, Any], schema: Mapping[str, Any], prefix: str, default: Any, depth: int
) -> tuple[Field, ...]:
    required = schema.get("required", ())
    given = default if isinstance(default, Mapping) else {}
    # The database keeps an object in the order of its keys, a list as it was written: what is required comes first.
    names = [*(name for name in required if name in schema["properties"]), *schema["properties"]]
    return tuple(
        _field(
            root, _resolved(root, schema["properties"][name]), f"{prefix}{name}", name, name in required,
            given.get(name, UNSAID), depth,
        )
        for name in dict.fromkeys(names)
    )  # fmt: skip


def _resolved(root: Mapping[str, Any], schema: Any, hops: int = 8) -> Mapping[str, Any]:
    """What a reference names, with what stands beside it."""
    while isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str) and hops:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        found = resolve_pointer(root, schema["$ref"])
        schema, hops = ({**found, **beside} if isinstance(found, Mapping) else beside), hops - 1
    return schema if isinstance(schema, Mapping) and "$ref" not in schema else {}


def _field(
    root: Mapping[str, Any], schema: Mapping[str, Any], path: str, name: str, required: bool, default: Any, depth: int
) -> Field:  # fmt: skip
    default = schema.get("default", UNSAID) if default is UNSAID else default
    label = str(schema.get("title") or name.replace("_", " ").capitalize())
    kind, items = _kind(root, schema, depth)
    choices = tuple(schema.get("enum", ()))
    inner: tuple[Field, ...] = ()
    if kind == "choices":
        choices = tuple(_resolved(root, schema["items"])["enum"])
    if kind == "group":
        inner = _fields(root, schema, f"{path}.", default, depth + 1)
    return Field(path, name, label, kind, schema, required, default, choices, items, inner)


def _kind(root: Mapping[str, Any], schema: Mapping[str, Any], depth: int) -> tuple[Kind, str]:
    """The control, and the JSON type of what it holds."""
    if schema.get("enum"):
        return "choice", ""
    type_ = _type(schema)
    if COMBINES & schema.keys() or type_ is None:
        return "json", ""
    if type_ == "object":
        is_plain = isinstance(schema.get("properties"), Mapping) and depth < DEEPEST
        return ("group" if is_plain else "json"), ""
    if type_ == "array":
        return _of_list(_resolved(root, schema.get("items")))
    if type_ == "string":
        return _of_text(schema), "string"
    return ("boolean" if type_ == "boolean" else "number" if type_ in NUMBERS else "json"), type_


def _type(schema: Mapping[str, Any]) -> str | None:
    """The one type that it may have besides null."""
    types = schema.get("type")
    found = [one for one in ([types] if isinstance(types, str) else types or []) if one != "null"]
    return str(found[0]) if len(found) == 1 else None


def _of_list(items: Mapping[str, Any]) -> tuple[Kind, str]:
    if items.get("enum"):
        return "choices", ""
    type_ = _type(items)
    return ("list", type_) if type_ in NUMBERS | {"string"} and not COMBINES & items.keys() else ("json", "")


def _of_text(schema: Mapping[str, Any]) -> Kind:
    if schema.get("format") == "date":
        return "date"
    return "long" if schema.get("maxLength", 0) >= SHORTEST_LONG else "text"
