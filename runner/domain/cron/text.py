"""The text of a whole expression: its limits, its macros, and its fields, each with its place."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import NamedTuple

from runner.domain.cron.errors import CronError
from runner.domain.cron.fields import KINDS, Field, Kind, parse_field

LONGEST = 256
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Fields(NamedTuple):
    """The six fields, seconds first; an expression of five fields runs at second 0."""

    second: Field
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field


def parse_fields(text: str, seconds: bool, name: str) -> Fields:
    """Read an expression, strictly. `name` is the schedule's, for `H`. Raises CronError with the place."""
    if len(text) > LONGEST:
        raise CronError(f"the expression has {len(text)} characters, at most {LONGEST} are allowed")
    if text.strip().startswith("@"):
        text, shift = _macro(text.strip()), text.index("@")
        return _fields([(shift, part) for part in text.split()], name)
    words = [(match.start(), match[0]) for match in re.finditer(r"[^ \t]+", text.rstrip())]
    _check_count(words, seconds)
    return _fields(words if seconds else [(0, "0"), *words], name)


def _macro(text: str) -> str:
    if text.lower() in MACROS:
        return f"0 {MACROS[text.lower()]}"
    if text.lower() == "@reboot":
        raise CronError("@reboot is no time; write a time such as @daily", "nothing here boots")
    near = get_close_matches(text.lower(), MACROS, n=1)
    raise CronError(
        f"unknown macro {_shown(text)}", f"did you mean {near[0]}?" if near else f"known are {', '.join(MACROS)}"
    )


def _check_count(words: list[tuple[int, str]], seconds: bool) -> None:
    wanted, found = (6 if seconds else 5), len(words)
    if found == wanted:
        return
    if not found:
        raise CronError("the expression is empty", "write five fields, such as 0 6 * * *")
    hints = {
        (False, 6): "a seconds field needs `seconds: true`",
        (True, 5): "with `seconds: true` the first field is the second, such as 0 for every minute's start",
        (False, 7): "there is no field for years",
        (True, 7): "there is no field for years",
    }
    order = ", ".join(kind.name for kind in KINDS[6 - wanted :])
    message = f"the expression has {found} field{'s' * (found != 1)}, not {wanted} ({order})"
    raise CronError(message, hints.get((seconds, found)), words[0][0])


def _fields(words: list[tuple[int, str]], name: str) -> Fields:
    fields = Fields(*(_field(kind, *word, name) for kind, word in zip(KINDS, words, strict=True)))
    for special, other in ((fields.day, fields.weekday), (fields.weekday, fields.day)):
        if special.specials and not other.is_star:
            raise CronError(
                f"{special.kind.name} {special.specials[0]} cannot be combined with {other.kind.name} {other.text}",
                f"write * as the {other.kind.name}, or two expressions",
                special.position,
            )
    return fields


def _field(kind: Kind, position: int, text: str, name: str) -> Field:
    try:
        if not (text.isascii() and text.isprintable()):
            odd = next(letter for letter in text if not (letter.isascii() and letter.isprintable()))
            raise CronError(f"{kind.name} has the character {odd!r}", "write plain letters, digits and signs")
        return Field(kind, parse_field(kind, text, name), position)
    except CronError as error:
        error.position = position
        raise


def _shown(text: str) -> str:
    return ascii(text[:24])
