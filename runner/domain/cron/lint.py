"""What is allowed in an expression and yet seldom meant."""

from __future__ import annotations

from runner.domain.cron.days import Days
from runner.domain.cron.fields import Field, Item
from runner.domain.cron.text import Fields


def lint(fields: Fields, days: Days) -> list[str]:
    parts = (fields.second, fields.minute, fields.hour, fields.month)
    found = [_uneven(part, item) for part in parts for item in part.items if item.step > 1]
    found += [_too_long(part, item) for part in fields for item in part.items if item.step > 1]
    return [text for text in [*found, *_star_meets_day(days)] if text]


def _uneven(part: Field, item: Item) -> str:
    """A step that does not divide the hour, the day or the year is short once in each."""
    size = part.kind.high - part.kind.low + 1
    if not item.text.startswith("*") or size % item.step == 0 or len(item.values) < 2:
        return ""
    first, last = min(item.values), max(item.values)
    later = first + size - last
    unit = part.kind.name + "s" * (later > 1)
    return f"{part.kind.name} {item.text} is uneven: after {last} comes {first}, {later} {unit} later"


def _too_long(part: Field, item: Item) -> str:
    if len(item.values) > 1:
        return ""
    return f"{part.kind.name} {item.text} has a step longer than its range: it means {min(item.values)}"


def _star_meets_day(days: Days) -> list[str]:
    """`*/2` beside a weekday: the star makes vixie cron want both, which reads like neither."""
    starred = [part for part in (days.day, days.weekday) if part.text.startswith("*/")]
    if not days.both_given or days.day_match != "vixie" or not starred:
        return []
    text = f"{starred[0].kind.name} {starred[0].text} starts with *, so a date has to match both day fields"
    return [f"{text}; set day_match to any or all to say which is meant"]
