"""A time that somebody gives from outside: in UTC, and near enough to reckon with."""

from __future__ import annotations

from datetime import UTC, datetime

from runner.domain.errors import UsageError

YEARS = range(1970, 2200)  # beyond, its distance from now is no time to count slots over
PATTERN = "^(19[7-9][0-9]|2[01][0-9][0-9])-"  # how the text of one begins


def in_utc(given: datetime) -> datetime:
    """UTC where it names no offset. Raises UsageError where it is too far away.

    >>> in_utc(datetime.fromisoformat("2026-03-29T06:00+02:00")).isoformat()
    '2026-03-29T04:00:00+00:00'
    """
    if given.year not in YEARS:
        said = given.isoformat()
        raise UsageError(f"{said} is out of range", f"write a time between {YEARS[0]} and {YEARS[-1]}")
    return (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).astimezone(UTC)
