"""How values, types and places are called in messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from runner.config.places import Path

TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
    "null": "nothing",
}
KINDS = {
    "limits": "a limit",
    "job_types": "a job type",
    "schedules": "a schedule",
    "workflows": "a workflow",
    "notify": "a notify target",
}


def kind(path: Path) -> str:
    """What the mapping at the path is.

    >>> kind(("schedules", "news")), kind(("job_types", "a", "retry")), kind(())
    ('a schedule', 'retry', 'the file')
    """
    if not path:
        return "the file"
    if len(path) == 2 and path[0] in KINDS:
        return KINDS[str(path[0])]
    if len(path) == 4 and path[0] == "workflows" and path[2] == "steps":
        return "a step"
    return label(path)


def label(path: Path) -> str:
    """The field at the path, without what it belongs to.

    >>> label(("schedules", "news", "cron", 0)), label(())
    ('cron[0]', 'the file')
    """
    names = [index for index, part in enumerate(path) if isinstance(part, str)]
    if not names:
        return "the file"
    return "".join(f"[{part}]" if isinstance(part, int) else part for part in path[names[-1] :])


def type_name(value: Any) -> str:
    match value:
        case None:
            return TYPES["null"]
        case bool():
            return json.dumps(value)
        case str():
            return TYPES["string"]
        case int():
            return TYPES["integer"]
        case float():
            return TYPES["number"]
        case dict():
            return TYPES["object"]
        case _:
            return TYPES["array"]


def type_names(names: Iterable[str]) -> str:
    return " or ".join(TYPES[name] for name in names)


def type_hint(wanted: Sequence[str], value: Any) -> str | None:
    """How to make the value fit, where that is plain."""
    match value:
        case None:
            return "write a value, or remove the field"
        case bool() | int() | float() if "string" in wanted:
            return f'quote it: "{json.dumps(value)}"'
        case str() if "array" in wanted:
            return f"write [{shown(value)}]" if len(value) <= 50 else "write [..] around it"
        case str() if "boolean" in wanted:
            return "write true or false"
        case str() if {"integer", "number"} & set(wanted) and value.isdigit():
            return f"remove the quotes: {value}"
    return None


def shown(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(names: Sequence[Any]) -> str:
    """`a, b or c`, cut where there are many."""
    texts = [name if isinstance(name, str) else shown(name) for name in names[:20]]
    if len(names) > len(texts):
        return f"{', '.join(texts)}, ..."
    return " or ".join(filter(None, (", ".join(texts[:-1]), texts[-1]))) if texts else "nothing"
