"""The check of due schedules: where nothing is due, and where everything is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.files import text
from benchmarks.measure import Row, timed
from runner.config.load import load_text
from runner.engine.scheduler import Scheduler
from runner.storage.claims import ClaimStore
from runner.storage.database import Database
from runner.storage.revisions import Edit, RevisionStore
from runner.storage.schedules import ScheduleStore
from runner.storage.setup import prepare

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(folder: Path, depth: int, schedules: int) -> list[Row]:
    database = Database(str(folder / "schedules.db"))
    prepare(database)
    loaded = load_text(text(schedules), environ={})
    revisions = RevisionStore(database)
    revisions.apply(Edit(loaded.require(), loaded.source, loaded.sha256, 0, "bench"), NOW)
    scheduler = Scheduler(ScheduleStore(database), revisions, ClaimStore(database), {}, lambda event: None)
    idle = timed(lambda: scheduler.tick(NOW), 100)
    later = NOW + timedelta(days=1)
    firing = timed(lambda: scheduler.tick(later), 1)
    database.close()
    return [
        Row(f"check {schedules:,} schedules, none due, per schedule", [one / schedules for one in idle], goal=0.001),
        Row(f"fire {schedules:,} due schedules, per schedule", [one / schedules for one in firing]),
    ]
