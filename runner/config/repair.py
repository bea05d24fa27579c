"""The mistake that everyone makes once: a cron text that starts with * or @, and no quotes around it.

YAML reads `*` as an alias and refuses `@`. The quotes are put in and the reading goes on, so that this mistake does not
hide the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EXPRESSION = re.compile(
    r"(?:(?<=[:\-,]\s)|(?<=[\[,{]))"
    r"(?P<value>@[A-Za-z]+|\*[^\s#{}\[\]\"'\\]*(?:[ \t]+[^\s#{}\[\]\"'\\]+){1,6})"
)


@dataclass(frozen=True, slots=True)
class Repair:
    """The text with quotes from `start` to `end`, and the line as it should be written."""

    text: str
    start: int
    end: int
    line: str


def quote_cron(text: str, error_index: int) -> Repair | None:
    """Quotes the expression on the line of the error, if one stands there."""
    start = max(text.rfind("\n", 0, error_index), text.rfind("\r", 0, error_index)) + 1
    found = re.compile(r"[^\n\r]*").match(text, start)
    line = found[0] if found else ""
    match = EXPRESSION.search(line)
    if match is None:
        return None
    value = re.split(r",\s", match["value"])[0].rstrip(",")  # in {cron: */5 * * * *, job: x} the comma ends it
    fixed = f'{line[: match.start()]}"{value}"{line[match.start() + len(value) :]}'
    begin = start + match.start()
    return Repair(
        text=text[:start] + fixed + text[start + len(line) :],
        start=begin,
        end=begin + len(value) + 1,
        line=fixed.strip(),
    )
