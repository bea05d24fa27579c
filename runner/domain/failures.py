"""Failures of one kind: jobs of a type whose errors differ in nothing but numbers, ids and addresses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from runner.domain.outcome import Stalled

SAID = 300  # characters from the beginning of an error: its first line says what it is
NOTHING = "no error was told"
DIGITS = {ord(digit): "0" for digit in "123456789"}
VARIES = re.compile(
    r"""
      (?P<url> (?P<scheme> [A-Za-z][A-Za-z0+.-]* ) :// (?: [^\s'"<>/@]* @ )? (?P<host> [^\s'"<>/?\#:]* ) [^\s'"<>]* )
    | (?P<email> [\w.+-]+ @ [\w-]+ (?: \. [\w-]+ )+ )
    | (?P<time> \b 0{4}-00-00 (?: T00:00 (?: :00 (?: [.,]0+ )? )? (?: Z | [+-]00:?00 )? )? \b
        | \b 00:00 (?: :00 (?: [.,]0+ )? )? \b )
    | (?P<address> \b 0x [0a-fA-F]+ | \b 0{1,3} (?: \.0{1,3} ){3} (?: :0+ )?
        | (?<! [\w:] ) (?: [0a-f]{0,4} : ){2,7} [0a-f]{0,4} (?! [\w:] ) )
    | (?P<id> \b [0a-fA-F]{8} (?: -[0a-fA-F]{4} ){3} -[0a-fA-F]{12} \b
        | \b (?= [a-f]* 0 ) [0a-f]{8,} \b
        | \b (?= (?: [A-Za-z_]* 0 ){3} ) \w{8,} \b )
    | (?P<n> 0+ (?: [.,_] 0+ )* )
    """,
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Failures:
    """Jobs of one type that ended with the same text; `newest` is the id of one of them."""

    type: str
    said: str | None
    count: int
    first: datetime
    last: datetime
    newest: int


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """The same for all texts that are one."""

    key: str
    type: str
    error: str
    count: int
    first: datetime
    last: datetime
    newest: int

    @property
    def is_stall(self) -> bool:
        return self.error == STALL


def first_line(error: str) -> str:
    """That says something; empty where none does."""
    return next((line.strip() for line in error.splitlines() if line.strip()), "")


def essence(said: str | None) -> str:
    """What an error says, without what differs from one time to the next.

    >>> essence("ValueError: row 17 of 0x7f3a, see https://ann:pw@example.org/jobs/3?x=1\\n\\nTraceback ...")
    'ValueError: row <n> of <address>, see https://example.org/…'
    >>> essence("KeyError: '9f86d081884c7d65'"), essence("OSError: ann@example.org at 10.0.0.7:5432, 12:30:45.1")
    ("KeyError: '<id>'", 'OSError: <email> at <address>, <time>')
    """
    text = (said or "").translate(DIGITS)
    line = first_line(text)
    return " ".join(map(_word, line.split())) or NOTHING


STALL = Stalled().error


@lru_cache(maxsize=20_000)
def _word(word: str) -> str:
    """Most words have nothing that differs, and come again and again."""
    return VARIES.sub(_mark, word) if "0" in word or "@" in word or "://" in word or "::" in word else word


def _mark(found: re.Match[str]) -> str:
    if found["url"] is not None:
        return f"{found['scheme']}://{re.sub('0+', '<n>', found['host'])}/…"
    return f"<{found.lastgroup}>"


def key_of(type_name: str, error: str) -> str:
    """Names a group in an address."""
    return hashlib.sha256(f"{type_name}\x00{error}".encode("utf-8", "replace")).hexdigest()[:20]


def grouped(found: Iterable[Failures]) -> Sequence[FailureGroup]:
    """The largest first, and of those that are as large the one that was seen last."""
    groups: dict[tuple[str, str], FailureGroup] = {}
    for one in found:
        kind = one.type, essence(one.said)
        known = groups.get(kind)
        groups[kind] = _with(known, one) if known is not None else FailureGroup(
            key_of(*kind), *kind, one.count, one.first, one.last, one.newest
        )  # fmt: skip
    return sorted(groups.values(), key=lambda group: (-group.count, -group.last.timestamp(), group.key))


def _with(group: FailureGroup, one: Failures) -> FailureGroup:
    return replace(
        group, count=group.count + one.count, first=min(group.first, one.first), last=max(group.last, one.last),
        newest=max(group.newest, one.newest),
    )  # fmt: skip
