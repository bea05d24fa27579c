"""What JSON does not know, as the values that it does: the same words by the command line and over HTTP."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta


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
