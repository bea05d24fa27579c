"""The values of a plan as a reader of the YAML file would write them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any

from runner.domain.duration import TEXT as DURATION
from runner.domain.duration import format_duration
from runner.domain.plan.change import MISSING, FieldChange, Fire, clock, day
from runner.domain.schedule import PRIORITIES
from runner.domain.size import TEXT as SIZE

WORD = re.compile(r"[A-Za-z_][\w./:-]*", re.ASCII)
NO_BREAK = "\N{NO-BREAK SPACE}"
PRIORITY = re.compile(r"(steps\.[^.]+\.)?priority")
TAKEN = frozenset({"true", "false", "null", "none"})
PRIORITY_WORDS = {number: word for word, number in PRIORITIES.items()}


def value(name: str, given: object) -> str:
    """The value of a field.

    >>> value("priority", 2), value("timeout", timedelta(minutes=90)), value("cron", "0 6 * * *")
    ('high (2)', '1h30m', '"0 6 * * *"')
    """
    if PRIORITY.fullmatch(name) and isinstance(given, int) and given in PRIORITY_WORDS:
        return f"{PRIORITY_WORDS[given]} ({given})"
    return text(given)


def text(given: Any) -> str:
    match given:
        case _ if given is MISSING:
            return "none"
        case timedelta():
            return format_duration(given)
        case datetime():
            return given.isoformat()
        case str():
            return given if _is_plain(given) else quoted(given)
        case Mapping():
            return "{" + ", ".join(f"{text(name)}: {text(inner)}" for name, inner in given.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(text(inner) for inner in given) + "]"
    if is_dataclass(given) and not isinstance(given, type):
        return _object(given)
    return json.dumps(given)


def _is_plain(given: str) -> bool:
    """Whether it can be taken for nothing but this text."""
    return any(units.fullmatch(given) for units in (DURATION, SIZE)) or (
        bool(WORD.fullmatch(given)) and given.lower() not in TAKEN
    )


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
    """Fire times, each without what the one before it says already; the zone stands where it changes and at the end.

    Spaces within a time are unbreakable.
    """
    said: list[str] = []
    for index, fire in enumerate(fires):
        earlier, later = (fires[near].time if 0 <= near < len(fires) else None for near in (index - 1, index + 1))
        said.append(_time(fire, earlier, later, earlier.year if earlier else year))
    return said


def _time(fire: Fire, earlier: datetime | None, later: datetime | None, year: int) -> str:
    time = fire.time
    parts = [] if earlier is not None and earlier.date() == time.date() else day(time).split()
    parts += [str(time.year)] if time.year != year else []
    parts.append(clock(time))
    if fire.mark or later is None or later.tzname() != time.tzname():
        parts.append(str(time.tzname()))
    return NO_BREAK.join(parts) + (f" ({fire.mark})" if fire.mark else "")
