"""What JSON does not know, as the values that it does: the same words by the command line and over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from typing import Any

from runner.domain.errors import UsageError


def plain(value: object) -> object:
    """Times as ISO 8601 with offset, durations in seconds; what `json.dumps` calls for the rest."""
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case set() | frozenset():
            return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def require_storable(text: str, name: str) -> None:
    """Text that the databases treat differently is kept by none."""
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError(f"{name} holds a character that cannot be stored")


def timed(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The way back: the same, with times again under these names.

    >>> timed({"at": "2026-03-29T06:00:00+00:00", "message": "2026-03-29"}, "at", "until")["at"].year
    2026
    """
    return {
        name: datetime.fromisoformat(value) if name in names and value is not None else value
        for name, value in data.items()
    }
