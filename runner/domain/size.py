"""Sizes of memory as people write them: `512MB`, `1GiB`."""

from __future__ import annotations

import re

from runner.domain.errors import RunnerError

UNITS = {
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
TEXT = re.compile(rf"([0-9]{{1,15}})({'|'.join(UNITS)})", re.ASCII)


class SizeError(RunnerError):
    """The text is no size; the hint says what to write instead."""


def parse_size(text: str) -> int:
    """The number of bytes that the text names.

    >>> parse_size("512MB"), parse_size("1GiB")
    (512000000, 1073741824)
    """
    match = TEXT.fullmatch(text)
    if match is None:
        raise SizeError(f"{text[:40]!r} is not a size", "write a number with its unit: 512MB, 1GB, 512MiB, 1GiB")
    return int(match[1]) * UNITS[match[2]]


def format_size(size: int) -> str:
    """The shortest text that `parse_size` reads back as the same number of bytes, a multiple of a thousand or 1024.

    >>> format_size(1073741824), format_size(1500000000), format_size(1024000000)
    ('1GiB', '1500MB', '1024MB')
    """
    exact = [f"{size // unit}{name}" for name, unit in UNITS.items() if size % unit == 0]
    return min(exact, key=len)
