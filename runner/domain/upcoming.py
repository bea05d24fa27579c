"""When a schedule fires next, as commands and the API tell it: by the function that the scheduler itself uses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from runner.domain.cron.zones import zone
from runner.domain.schedule import Schedule
from runner.domain.timing import canonical, in_words, timing


def upcoming(schedule: Schedule, count: int, now: datetime) -> dict[str, Any]:
    """Its expression, that in words, and the next `count` fire times after `now`, in UTC and in its own zone."""
    times, at = timing(schedule), now
    fires: list[dict[str, Any]] = []
    while schedule.enabled and len(fires) < count:
        following = times.next(at)
        if following is None:
            break
        at = following
        fires.append({"utc": at, "local": at.astimezone(zone(schedule.timezone)).isoformat()})
    return {
        "name": schedule.name,
        "cron": canonical(schedule),
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
        "words": in_words(schedule),
        "next": fires,
    }
