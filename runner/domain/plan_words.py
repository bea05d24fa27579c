"""The values of a plan as a reader of the YAML file would write them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any

from runner.domain.duration import format_duration
from runner.domain.plan_change import MISSING, FieldChange, Fire, clock, day
from runner.domain.schedule import PRIORITIES

WORD = re.compile(r"[A-Za-z_][\w./:-]*", re.ASCII)
TAKEN = frozenset({"true", "false", "null", "none"})
PRIORITY_WORDS = {number: word for word, number in PRIORITIES.items()}


def value(change_field: str, given: object) -> str:
    """
    >>> value("priority", 2), value("timeout", timedelta(minutes=90)), value("cron", "0 6 * * *")
    ('high (2)', '1h30m', '"0 6 * * *"')
    """
    if change_field.rsplit(".", 1)[-1] == "priority" and not change_field.startswith("payload"):
        given = Word(f"{PRIORITY_WORDS[given]} ({given})") if given in PRIORITY_WORDS else given
    return text(given)


class Word(str):
    """Printed as it is."""


def text(given: Any) -> str:
    match given:
        case _ if given is MISSING:
            return "none"
        case Word():
            return str(given)
        case timedelta():
            return format_duration(given)
        case datetime():
            return given.isoformat()
        case str():
            return given if WORD.fullmatch(given) and given.lower() not in TAKEN else quoted(given)
        case Mapping():
            return "{" + ", ".join(f"{text(name)}: {text(inner)}" for name, inner in given.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(text(inner) for inner in given) + "]"
    if is_dataclass(given) and not isinstance(given, type):
        return _object(given)
    return json.dumps(given)


def quoted(given: str) -> str:
    """As JSON, with everything that does not print escaped."""
    return "".join(char if char.isprintable() else _escaped(char) for char in json.dumps(given, ensure_ascii=False))


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1]


def _object(given: Any) -> str:
    """What it says beyond its class's defaults."""
    said = []
    for field in fields(given):
        inner = getattr(given, field.name)
        default = field.default_factory() if field.default_factory is not NO_DEFAULT else field.default
        if field.name != "name" and inner != default:
            alone = isinstance(inner, tuple) and field.name == "delay" and len(inner) == 1
            said.append(f"{field.name}: {value(field.name, inner[0] if alone else inner)}")
    return "{" + ", ".join(said) + "}"


def arrow(change: FieldChange) -> tuple[str, str]:
    """The two sides of a field."""
    return value(change.field, change.before), value(change.field, change.after)


def times(fires: Sequence[Fire], year: int) -> list[str]:
    """Fire times, each without what the one before it says already; the zone stands where it changes and at the end."""
    said: list[str] = []
    for index, fire in enumerate(fires):
        time, earlier = fire.time, fires[index - 1].time if index else None
        later = fires[index + 1].time if index + 1 < len(fires) else None
        parts = [] if earlier is not None and earlier.date() == time.date() else [day(time)]
        parts += [str(time.year)] if time.year != (earlier.year if earlier else year) else []
        parts.append(clock(time))
        if later is None or later.tzname() != time.tzname() or fire.mark:
            parts.append(str(time.tzname()))
        parts += [f"({fire.mark})"] if fire.mark else []
        said.append(" ".join(parts))
    return said
