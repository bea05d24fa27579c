"""The clock of the machine jumps an hour either way under a `runner serve`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.checker import check
from tests.faults.projects import FILE, Project
from tests.faults.served import Served, apply, command, history_of, serve
from tests.faults.shim import MovedClock, make_clock
from tests.faults.zygote import Zygote
from tests.waiting import eventually

SCHEDULES = """
schedules:
  second: {job: quick, every: 1s, overlap: allow, catch_up: all, catch_up_window: 10s}
"""
HOUR = 3600
GONE_BACK = 5  # seconds before the first jump: their slots have been decided
SLOTS = "SELECT slot, outcome, slot_count FROM schedule_slots WHERE schedule_name = 'second'"


@dataclass
class Moved:
    """A clock, and what starts processes that read it."""

    clock: MovedClock
    zygote: Zygote


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    clock = make_clock(tmp_path_factory.mktemp("clock"))
    zygote = Zygote(clock.environ)
    yield Moved(clock, zygote)
    zygote.close()


@pytest.fixture
def moved(one: Moved) -> Iterator[Moved]:
    yield one
    one.clock.set(0)


def begin(project: Project, moved: Moved) -> list[Served]:
    """Two workers, a schedule that fires each second, and a job of ten minutes' timeout that runs all the time."""
    (project.folder / "schedules.yaml").write_text(FILE + SCHEDULES)
    project.note("schedule", name="second", every=1)
    apply(project)
    project.note("enqueued", job=project.enqueue("stuck"))
    beats = {"RUNNER_HEARTBEAT": "500ms", "RUNNER_STALLED_AFTER": "5s"}
    served = [serve(project, by=moved.zygote, **beats) for _ in range(2)]
    eventually(lambda: project.count("begin") >= 1, "the long job")
    await_slots(project, 2)
    return served


def await_slots(project: Project, count: int) -> None:
    before = len(project.rows(SLOTS))
    eventually(lambda: len(project.rows(SLOTS)) >= before + count, f"{count} more slots")


def finish(project: Project, served: list[Served]) -> None:
    """Nobody was taken for dead, no slot was doubled or dropped, and the long job was not touched."""
    (project.folder / "open").touch()
    eventually(lambda: project.jobs()[0]["status"] == "completed", "the long job to end")
    assert [one.stop() for one in served] == [0, 0]
    history = history_of(project)
    assert check(history, ("completed", "pending")) == []
    assert history.of("rescued") == []
    assert history.of("rejected") == []
    assert project.attempts() == []
    assert "Traceback" not in "".join(one.log.read_text() for one in served)


def test_an_hour_forward(project: Project, moved: Moved) -> None:
    """The slots that were jumped over are decided, the newest fire, the others are in the ledger as missed."""
    served = begin(project, moved)
    moved.clock.set(HOUR)
    project.note("fault", fault="clock")
    await_slots(project, 3)
    finish(project, served)

    rows = project.rows(SLOTS)
    missed = sum(row["slot_count"] for row in rows if row["outcome"] == "skipped_missed")
    print(f"an hour forward: {missed} slots missed, {len(rows)} rows")
    assert HOUR - 120 < missed <= HOUR


def test_an_hour_back(project: Project, moved: Moved) -> None:
    """Jobs go on; nothing fires twice: the schedule waits until the clock is where it was. An edit of its times goes
    back with the clock, and even then no slot is doubled."""
    served = begin(project, moved)
    moved.clock.set(-HOUR)
    jumped = time.monotonic()
    project.note("fault", fault="clock")
    before = {row["slot"] for row in project.rows(SLOTS)}
    code, said = command(project, "enqueue", "plain", by=moved.zygote)
    assert code == 0, said
    eventually(lambda: any(row["type"] == "plain" and row["completed_at"] for row in project.jobs()), "a new job")
    assert {row["slot"] for row in project.rows(SLOTS)} == before

    moved.clock.set(-GONE_BACK - round(time.monotonic() - jumped))
    file = project.folder / "schedules.yaml"
    file.write_text(file.read_text().replace("every: 1s", 'cron: "* * * * * *", seconds: true'))
    eventually(lambda: max(row["slot"] for row in project.rows(SLOTS)) > max(before), "the clock to be where it was")
    (edit,) = project.rows("SELECT applied_at FROM config_revisions WHERE number = 2")
    assert edit["applied_at"] < max(before), "the edit was made before slots that had been decided"
    finish(project, served)
    assert not history_of(project).of("failed")
