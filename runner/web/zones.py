"""The time zone in which a reader sees times: his choice, kept in a cookie."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from markupsafe import Markup
from starlette.requests import Request

COOKIE = "runner_zone"
NOT_CHOSEN = "UTC"


@cache
def names() -> tuple[str, ...]:
    """Those that a person would choose."""
    found = available_timezones()
    return ("UTC", *sorted(name for name in found if "/" in name and not name.startswith(("Etc/", "posix/", "right/"))))


def chosen(request: Request) -> str:
    name = request.cookies.get(COOKIE, NOT_CHOSEN).replace("%2F", "/")
    return name if name in names() else NOT_CHOSEN


def when(value: datetime | None, zone: str) -> Markup:
    """A moment, to the second, with UTC on hover.

    >>> when(datetime(2026, 7, 1, 10, tzinfo=UTC), "Europe/Berlin")
    Markup('<time datetime="2026-07-01T10:00:00+00:00" title="2026-07-01 10:00:00 UTC">2026-07-01 12:00:00</time>')
    """
    if value is None:
        return Markup("–")
    utc = value.astimezone(UTC).isoformat(" ", "seconds")
    local = value.astimezone(ZoneInfo(zone)).isoformat(" ", "seconds")
    day, time = utc[:10], utc[11:19]  # numbers alone: nothing of them needs to be escaped
    return Markup(f'<time datetime="{day}T{time}+00:00" title="{day} {time} UTC">{local[:19]}</time>')
