"""From a form that was sent to a payload. What cannot be read stays as written, and the schema says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runner.domain.errors import PayloadInvalid
from runner.domain.problem import Problem
from runner.web.fields import UNSAID, Field, said

Given = Mapping[str, Sequence[str]]
PREFIX = "payload."
WHOLE = "payload"


def payload_of(fields: Sequence[Field] | None, given: Given) -> Any:
    """What is left empty is not said, so that defaults hold."""
    if fields is None:
        return _json((given.get(WHOLE) or [""])[0].strip() or "{}", WHOLE)
    return _object(fields, given)


def _object(fields: Sequence[Field], given: Given) -> dict[str, Any]:
    found = {field.name: _value(field, given) for field in fields}
    return {name: value for name, value in found.items() if value is not UNSAID}


def _value(field: Field, given: Given) -> Any:
    sent = given.get(PREFIX + field.path, ())
    text = sent[0] if sent else ""
    match field.kind:
        case "group":
            inner = _object(field.fields, given)
            return inner if inner or field.is_required else UNSAID
        case "choice":
            return UNSAID if text == "" else next((one for one in field.choices if said(one) == text), text)
        case "choices":
            return [one for one in field.choices if said(one) in sent]
        case "list":
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            is_said = lines or field.is_required or field.default not in (UNSAID, None)
            return [_scalar(line, field.items) for line in lines] if is_said else UNSAID
        case "boolean":
            return {"true": True, "false": False}.get(sent[-1] if sent else "", UNSAID)
    if text.strip() == "":
        return _empty(field, text)
    return _json(text, field.path) if field.kind == "json" else _scalar(text, field.items)


def _empty(field: Field, text: str) -> Any:
    """Nothing where something stood is said, where the schema takes it."""
    types = field.schema.get("type", ())
    if field.default not in (UNSAID, None, "") and "null" in types:
        return None
    is_text = field.kind in ("text", "long")
    return text if is_text and field.default not in (UNSAID, None, "") else UNSAID


def _scalar(text: str, type_: str) -> Any:
    if type_ not in ("integer", "number"):
        return text.replace("\r\n", "\n")
    try:
        return int(text) if type_ == "integer" or text.strip().lstrip("+-").isdecimal() else float(text)
    except ValueError:
        return text


def _json(text: str, path: str) -> Any:
    """A word alone is text. What begins as JSON was meant so: raises PayloadInvalid where it does not go on so."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        told = f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
    except (ValueError, RecursionError):
        told = "is not JSON that can be read"
    if not text.lstrip().startswith(("{", "[", '"')):
        return text
    raise PayloadInvalid(f"{path} {told}", [Problem("payload", f"{path} {told}", path=path)])
