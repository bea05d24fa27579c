"""Validate and plan a large file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Row, timed
from runner.config.load import load_text
from runner.domain.plan import Stored, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def text(schedules: int, hour: int = 6) -> str:
    """A file of twenty job types and so many schedules."""
    types = "".join(f"  type_{n}: {{handler: handlers.x.run_{n}, timeout: {n + 1}m}}\n" for n in range(20))
    lines = (
        f'  schedule-{n}: {{job: type_{n % 20}, cron: "{n % 60} {(hour + n) % 24} * * *", timezone: Europe/Berlin}}\n'
        for n in range(schedules)
    )
    return f"version: 1\njob_types:\n{types}schedules:\n{''.join(lines)}"


def run(folder: Path, depth: int, schedules: int) -> list[Row]:
    before, after = text(schedules), text(schedules, hour=7)
    old = load_text(before, environ={}).require()
    new = load_text(after, environ={}).require()
    return [
        Row(f"validate a file of {schedules:,} schedules", timed(lambda: load_text(before, environ={}).require(), 5)),
        Row(f"plan {schedules:,} new schedules", timed(lambda: plan(Stored(0, None, {}, {}), new, NOW), 3)),
        Row(f"plan {schedules:,} changed schedules", timed(lambda: plan(Stored(0, old, {}, {}), new, NOW), 3)),
    ]
