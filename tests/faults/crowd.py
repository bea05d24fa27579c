"""Many `runner serve` processes on one PostgreSQL, and many schedules that are due every second: each slot once.

`python -m tests.faults.crowd --processes 20 --schedules 200 --seconds 60`. A short form is one of the tests.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.contract.postgres import Server
from tests.faults.checker import Broken, check
from tests.faults.projects import FILE, Project, make_project
from tests.faults.served import Served, command, history_of, serve

LEAD = 1.0  # seconds before the first slot, for each process that starts
PATIENCE = 600.0  # seconds after the last slot, until which all must be decided and run
OPEN = """
SELECT (SELECT count(*) FROM schedule_slots) AS slots,
  (SELECT count(*) FROM background_jobs WHERE completed_at IS NOT NULL) AS ended
"""
FIRED = """
SELECT count(*) AS rows, count(DISTINCT (schedule_name, slot)) AS slots,
  count(*) FILTER (WHERE outcome = 'enqueued') AS enqueued, max(decided_at - slot) AS latest FROM schedule_slots
"""
JOBS = "SELECT count(*) AS jobs, count(DISTINCT (schedule_name, scheduled_for)) AS slots FROM background_jobs"


@dataclass(frozen=True)
class Crowd:
    """What came of it."""

    wanted: int
    rows: int
    jobs: int
    doubles: int
    latest: float  # seconds from a slot to its decision
    firing: int  # processes that fired any
    broken: list[Broken]

    def __str__(self) -> str:
        return (
            f"{self.rows:,} of {self.wanted:,} slots, {self.jobs:,} jobs, {self.doubles} doubles, decided by "
            f"{self.firing} processes, the latest after {self.latest:.1f} s, {len(self.broken)} rules broken"
        )


def crowd(folder: Path, *, processes: int, schedules: int, seconds: int) -> Crowd:
    """Run it in that folder, which must be new."""
    project = make_project(folder)
    project.server = Server.start(Path(tempfile.mkdtemp(prefix="crowd-pg-")), "fsync=off", "max_connections=500")
    try:
        first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3 + LEAD * processes)
        _define(project, schedules, first, first + timedelta(seconds=seconds - 1))
        served = [serve(project, wait=False, RUNNER_CONCURRENCY="4") for _ in range(processes)]
        _await_all(project, schedules * seconds, first + timedelta(seconds=seconds))
        assert [one.stop() for one in served] == [0] * processes
        return _found(project, served, schedules * seconds)
    finally:
        project.kill_all()


def _define(project: Project, schedules: int, first: datetime, last: datetime) -> None:
    """Each has exactly so many slots as there are seconds between the two, both counted."""
    times = f'from: "{first.isoformat()}", until: "{last.isoformat()}"'
    lines = [
        f"  s{number}: {{job: quick, every: 1s, overlap: allow, catch_up: all, catch_up_window: 1h, {times}}}\n"
        for number in range(schedules)
    ]
    (project.folder / "schedules.yaml").write_text(f"{FILE}schedules:\n{''.join(lines)}")
    code, said = command(project, "apply")
    assert code == 0, said


def _await_all(project: Project, wanted: int, until: datetime) -> None:
    while True:
        (row,) = project.rows(OPEN)
        if row["slots"] >= wanted and row["ended"] >= wanted:
            return
        late = (datetime.now(UTC) - until).total_seconds()
        assert late < PATIENCE, f"{late:.0f} s after the last slot: {row} of {wanted}"
        time.sleep(0.2)  # between two looks


def _found(project: Project, served: list[Served], wanted: int) -> Crowd:
    (fired,), (jobs,) = project.rows(FIRED), project.rows(JOBS)
    doubles = fired["rows"] - fired["slots"] + jobs["jobs"] - jobs["slots"]
    firing = sum(bool(one.told("schedule fired")) for one in served)
    latest = float(fired["latest"].total_seconds()) if fired["latest"] else 0.0
    broken = check(history_of(project))
    return Crowd(wanted, fired["rows"], jobs["jobs"], doubles, latest, firing, broken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=60)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crowd-"))
    try:
        found = crowd(
            folder / "project", processes=asked.processes, schedules=asked.schedules, seconds=asked.seconds
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    print(found)
    return int(bool(found.doubles or found.broken) or not found.wanted == found.rows == found.jobs)


if __name__ == "__main__":
    from runner.cli import use_current_sqlite

    use_current_sqlite()
    sys.exit(main())
