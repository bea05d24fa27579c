"""The strict reading of one cron field: its values, its special days, and its one canonical spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256

from runner.domain.cron.errors import CronError

LONGEST_LIST = 64
MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = {name: n for n, name in enumerate(MONTH_NAMES, start=1)}
WEEKDAYS = {name: n for n, name in enumerate(WEEKDAY_NAMES)}

PLAIN = re.compile(r"(?P<low>\*|[0-9]+|[A-Z]{3})(?:-(?P<high>[0-9]+|[A-Z]{3}))?(?:/(?P<step>[0-9]+))?", re.IGNORECASE)
HASHED = re.compile(r"H(?:\((?P<low>[0-9]+)-(?P<high>[0-9]+)\)|/(?P<step>[0-9]+))?", re.IGNORECASE)
WEEKDAY_OF_MONTH = re.compile(r"(?:(?P<day>[0-9]+|[A-Z]{3})(?:L|#(?P<nth>[0-9]+))|L(?P<last>[0-6]))", re.IGNORECASE)
NEAREST = re.compile(r"([0-9]+)W", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Kind:
    """What may stand in one place of an expression. `hashed` is the largest value that `H` chooses."""

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)
    hashed: int | None = None

    @property
    def is_day(self) -> bool:
        return self.name in ("day of month", "weekday")


SECOND = Kind("second", 0, 59)
MINUTE = Kind("minute", 0, 59)
HOUR = Kind("hour", 0, 23)
DAY = Kind("day of month", 1, 31, hashed=28)  # so that `H` fires in every month
MONTH = Kind("month", 1, 12, MONTHS)
WEEKDAY = Kind("weekday", 0, 7, WEEKDAYS, hashed=6)
KINDS = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY)


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a field's list. `special` entries (`L`, `15W`, `5#2`) name days that have no fixed number."""

    text: str
    values: frozenset[int] = frozenset()
    step: int = 1
    special: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A field as it is understood. `text` is its canonical spelling, which reads back as the same field."""

    kind: Kind
    items: tuple[Item, ...]
    position: int = 0

    @property
    def text(self) -> str:
        return ",".join(item.text for item in self.items)

    @property
    def values(self) -> frozenset[int]:
        return frozenset().union(*(item.values for item in self.items))

    @property
    def specials(self) -> tuple[str, ...]:
        return tuple(item.text for item in self.items if item.special)

    @property
    def is_star(self) -> bool:
        return self.text == "*"

    @property
    def starts_with_star(self) -> bool:
        return self.text.startswith("*")


def parse_field(kind: Kind, text: str, name: str) -> tuple[Item, ...]:
    """What `text` spells, in canonical order; `name` is the schedule's, for `H`. Raises CronError."""
    parts = text.split(",")
    if len(parts) > LONGEST_LIST:
        raise CronError(f"{kind.name} lists {len(parts)} items, at most {LONGEST_LIST} are allowed")
    items = [_item(kind, part, name, alone=len(parts) == 1) for part in parts]
    if not items[0].text.startswith("*"):  # only a star in the first place makes a wildcard: `5,*` is not `*`
        items = sorted((_without_star(kind, item) for item in items), key=_order)
    elif frozenset().union(*(item.values for item in items)) == _every(kind):
        items = [Item("*", _every(kind))]
    return tuple(dict.fromkeys(item for item in items if item.text.startswith("*") or not _is_within(item, items)))


def _item(kind: Kind, text: str, name: str, alone: bool) -> Item:
    if not text:
        raise CronError(f"{kind.name} has an empty list item", "remove the comma, or write a value beside it")
    if text == "?":
        return _question_mark(kind, alone)
    if text[0] in "Hh":
        return _hashed(kind, text, name)
    if re.match(r"R($|[/(])", text, re.IGNORECASE):
        raise CronError(f"{kind.name} {text} would differ in every process; write H{text[1:]}")
    return (_special(kind, text) if kind.is_day else None) or _plain(kind, text)


def _question_mark(kind: Kind, alone: bool) -> Item:
    if not kind.is_day:
        raise CronError(f"{kind.name} cannot be ?; only the two day fields can", "write *")
    if not alone:
        raise CronError(f"{kind.name} has ? in a list; it stands alone", "write *")
    return Item("*", _every(kind))


def _plain(kind: Kind, text: str) -> Item:
    match = PLAIN.fullmatch(text)
    if match is None:
        raise CronError(f"{kind.name} {_shown(text)} is not understood", _hint(kind, text))
    low_text, high_text = match["low"], match["high"]
    step = _step(kind, text, match["step"])
    if low_text == "*":
        if high_text:
            raise CronError(f"{kind.name} {_shown(text)} is not understood", "* is no end of a range")
        values = sorted(_every(kind))[::step]
        return Item("*" if step == 1 else f"*/{step}", frozenset(values), step)
    low = _number(kind, low_text)
    if high_text is None and match["step"] is None:
        return _numbers(kind, low, low, 1)
    if high_text is None and kind is WEEKDAY:
        raise CronError(f"weekday {text} is not cron; write {_listed(range(low % 7, 7, step))}")
    high = _number(kind, high_text) if high_text else kind.high
    if low > high:
        raise CronError(f"{kind.name} {text} runs backwards; write {_forwards(kind, match, low, high, step)}")
    return _numbers(kind, low, high, step)


def _numbers(kind: Kind, low: int, high: int, step: int) -> Item:
    """The canonical item: a number, a range, or a range with a step that more than one value survives."""
    values = range(low, high + 1, step)
    if kind is WEEKDAY and high == 7 and 7 in values:
        return Item(_listed(sorted({value % 7 for value in values})), frozenset(value % 7 for value in values), step)
    if len(values) == 1:
        return Item(str(low), frozenset(values), step)
    return Item(f"{low}-{high}" + (f"/{step}" if step > 1 else ""), frozenset(values), step)


def _special(kind: Kind, text: str) -> Item | None:
    """A day that has no fixed number, or None where the text is an ordinary item."""
    if kind is DAY:
        return _special_day(text)
    match = WEEKDAY_OF_MONTH.fullmatch(text)
    if match is None:
        if text in ("L", "l"):
            raise CronError("weekday L does not say which day", "write 5L for the last Friday, or 6 for Saturday")
        return None
    if match["last"]:
        return Item(f"L{match['last']}", special=True)
    day = _number(kind, match["day"]) % 7
    if match["nth"] is None:
        return Item(f"L{day}", special=True)
    if not (match["nth"].isdigit() and 1 <= int(match["nth"]) <= 5):
        raise CronError(f"weekday {text} names no week of a month", "write #1 to #5, or L for the last")
    return Item(f"{day}#{int(match['nth'])}", special=True)


def _special_day(text: str) -> Item | None:
    if text.upper() in ("L", "LW"):
        return Item(text.upper(), special=True)
    if match := NEAREST.fullmatch(text):
        return Item(f"{_number(DAY, match[1])}W", special=True)
    if text.upper().startswith("L-"):
        raise CronError(f"day of month {_shown(text)} is not supported", "L is the last day, LW the last weekday")
    return None


def _hashed(kind: Kind, text: str, name: str) -> Item:
    """`H` as the value that the schedule's name chooses. The rule may never change: it would move people's jobs."""
    match = HASHED.fullmatch(text)
    if match is None:
        raise CronError(f"{kind.name} {_shown(text)} is not understood", "write H, H/n or H(a-b)")
    if not name:
        raise CronError(f"{kind.name} {text} needs the name of its schedule")
    last = kind.high if kind.hashed is None else kind.hashed
    if match["step"] is not None:
        step = _step(kind, text, match["step"])
        start = kind.low + _hash(kind, name) % min(step, last - kind.low + 1)
        return _numbers(kind, start, last, step)
    low, high = (
        _number(kind, match[end]) if match[end] else bound for end, bound in (("low", kind.low), ("high", last))
    )
    if low > high:
        raise CronError(f"{kind.name} {text} runs backwards", f"write H({high}-{low})")
    value = low + _hash(kind, name) % (high - low + 1)
    return _numbers(kind, value, value, 1)


def _hash(kind: Kind, name: str) -> int:
    return int.from_bytes(sha256(f"{kind.name}\n{name}".encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _step(kind: Kind, text: str, digits: str | None) -> int:
    step = 1 if digits is None else int(digits)
    if step == 0:
        raise CronError(f"{kind.name} {text} has step 0", "a step is at least 1")
    return step


def _number(kind: Kind, text: str) -> int:
    if text.isdigit():
        number = int(text)
        if not kind.low <= number <= kind.high:
            raise CronError(f"{kind.name} {_shown(text)} is outside {kind.low}-{kind.high}")
        return number
    if text.upper() not in kind.names:
        raise CronError(f"{kind.name} {_shown(text)} is not understood", _hint(kind, text))
    return kind.names[text.upper()]


def _every(kind: Kind) -> frozenset[int]:
    return frozenset(range(kind.low, kind.high + (kind is not WEEKDAY)))


def _without_star(kind: Kind, item: Item) -> Item:
    """The same values in a spelling that does not start with a star."""
    return _numbers(kind, kind.low, max(_every(kind)), item.step) if item.text.startswith("*") else item


def _is_within(item: Item, items: list[Item]) -> bool:
    return not item.special and any(item.values < other.values for other in items)


def _order(item: Item) -> tuple[bool, int, int, str]:
    return (item.special, min(item.values, default=0), len(item.values), item.text)


def _listed(values: range | list[int]) -> str:
    return ",".join(map(str, values))


def _forwards(kind: Kind, match: re.Match[str], low: int, high: int, step: int) -> str:
    """What a backwards range was meant to be, spelled with the names that its writer used."""
    last = max(_every(kind))
    around = [*range(low, last + 1), *range(kind.low, high % 7 + 1 if kind is WEEKDAY else high + 1)][::step]
    if match["low"].upper() in kind.names:
        names = {number: name.lower() for name, number in kind.names.items()}
        return ",".join(names[value] for value in around)
    if step > 1:
        return _listed(sorted(around))
    return f"{_range(low, last)},{_range(kind.low, high)}"


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _hint(kind: Kind, text: str) -> str:
    allowed = f"{kind.low}-{kind.high}"
    if not kind.names:
        return f"write numbers in {allowed}, lists, ranges and steps such as 1,2 or 1-5 or */2"
    if near := get_close_matches(text[:3].upper(), kind.names, n=1):
        return f"did you mean {near[0].lower()}?"
    return f"write {allowed} or {', '.join(kind.names).lower()}"


def _shown(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:20]}..."
