"""What plain text in YAML means, by the core rules of YAML 1.2: `on` and `12:30` are text, `010` is ten."""

from __future__ import annotations

import math
import re
from typing import Any

LARGEST = 2**63 - 1
WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
NUMBER = re.compile(
    r"(?P<decimal>[-+]?[0-9]+)|0o(?P<octal>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<special>[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)
NUMBER_STARTS = frozenset("+-.0123456789")


class NumberRefused(ValueError):
    """A number that JSON cannot carry, or that is too large."""


def resolve(text: str) -> Any:
    """The value of an unquoted scalar.

    >>> [resolve(text) for text in ("on", "yes", "12:30", "010", "0o10", "1e3", "2026-01-01", "true", "~")]
    ['on', 'yes', '12:30', 10, 8, 1000.0, '2026-01-01', True, None]
    """
    if text in WORDS:
        return WORDS[text]
    if text[0] not in NUMBER_STARTS:
        return text
    match = NUMBER.fullmatch(text)
    if match is None:
        return text
    digits = match[match.lastgroup or 0]
    match match.lastgroup:
        case "special":
            raise NumberRefused(f"{text} is not a number that JSON can carry")
        case "float":
            return _float(digits)
        case kind:
            return _integer(digits, {"octal": 8, "hex": 16}.get(kind or "", 10))


def _integer(digits: str, base: int) -> int:
    if len(digits.lstrip("+-").lstrip("0")) > 63 or abs(number := int(digits, base)) > LARGEST:
        raise NumberRefused(f"{_short(digits)} does not fit in 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NumberRefused(f"{_short(digits)} is too large a number")
    return number


def _short(digits: str) -> str:
    return digits if len(digits) <= 30 else f"{digits[:27]}..."
