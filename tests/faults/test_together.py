"""Two `run-once` at the same time are safe: each slot fires once, each job runs once, both end well."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import Any

import pytest

from tests.faults.projects import FILE, Project, check_history
from tests.waiting import eventually

SCHEDULES = """
schedules:
  first: {job: quick, every: 1m, catch_up: all, catch_up_window: 2h, overlap: allow}
  second: {job: plain, every: 30m, catch_up: all, catch_up_window: 2h, overlap: allow, payload: {steps: 1}}
  queued: {job: quick, every: 30m, catch_up: all, catch_up_window: 2h, overlap: queue}
"""
DATABASE_IS_THERE = "SELECT 1 FROM sqlite_master WHERE name = 'workers'"
AT_WORK = "SELECT DISTINCT worker_id FROM background_jobs WHERE type = 'quick' AND status = 'running'"
NOW = "2026-03-02T12:00:00Z"


def begin_together(project: Project, count: int) -> None:
    """All go on from the import of their handlers at the same moment."""
    eventually(lambda: len(list(project.folder.glob("ready-*"))) == count, "all to be ready")
    (project.folder / "go").touch()


def meet(project: Project, count: int) -> None:
    """The first jobs end once that many processes have a job at work."""
    eventually(lambda: project.database.exists() and project.rows(DATABASE_IS_THERE), "the database")
    eventually(lambda: len(project.rows(AT_WORK)) == count, "all to be at work")
    (project.folder / "together").touch()


@pytest.mark.parametrize("database", ["new", "prepared"])
def test_two_over_the_same_due_slots(project: Project, database: str) -> None:
    """Started together over the same due slots, on a database that is new or was prepared: each slot fires once."""
    (project.folder / "schedules.yaml").write_text(FILE + SCHEDULES)
    if database == "prepared":
        code, out, errors = project.call(
            "run-once", "--since", "5m", "--now", "2026-03-02T10:00:00Z", "--type", "stuck"
        )
        assert code == 0, out + errors
        assert project.rows("SELECT * FROM schedule_slots") == []
    arguments = ("run-once", "--since", "1h", "--now", NOW, "-o", "json")
    pair = [project.runner(*arguments, START_GATE="1") for _ in range(2)]
    begin_together(project, 2)
    meet(project, 2)
    ended = [project.end(process) for process in pair]

    for code, out, errors in ended:
        assert code == 0, out + errors
    told = [json.loads(out) for _, out, _ in ended]
    _check_slots(project, told, minutes=60 if database == "new" else 125)
    check_history(project)


def _check_slots(project: Project, told: list[dict[str, Any]], minutes: int) -> None:
    slots = project.rows("SELECT * FROM schedule_slots")
    jobs = project.jobs()
    fired = Counter((job["schedule_name"], job["scheduled_for"]) for job in jobs)
    assert set(fired.values()) == {1}, "a slot fired twice"
    assert {job["id"] for job in jobs} == {slot["job_id"] for slot in slots if slot["outcome"] == "enqueued"}
    assert fired.total() == sum(slot["outcome"] == "enqueued" for slot in slots)
    of_first = [slot for slot in slots if slot["schedule_name"] == "first"]
    assert len(of_first) == minutes, "every slot is in the ledger"
    assert Counter(effect.job_id for effect in project.effects() if effect.word == "begin") == Counter(
        {job["id"]: 1 for job in jobs}
    )
    by_worker = Counter(job["worker_id"] for job in jobs)
    assert len(by_worker) == 2, f"both took part: {by_worker}"
    named = [slot for one in told for slot in one["slots"]]
    assert len(named) == len(slots), "each slot is told by the process that decided it"


def test_several_first_starts_on_one_folder(project: Project) -> None:
    """Five processes make the database, apply the file and run it together; none fails, one revision is made."""
    (project.folder / "schedules.yaml").write_text(FILE + SCHEDULES)
    group = [project.runner("run-once", "--since", "10m", "--now", NOW, START_GATE="1") for _ in range(5)]
    (project.folder / "together").touch()
    begin_together(project, 5)
    ended = [project.end(process) for process in group]

    assert [code for code, _, _ in ended] == [0] * 5, ended
    assert project.rows("SELECT number FROM config_revisions") == [{"number": 1}]
    check_history(project)


def test_a_stopped_process_is_not_dead(project: Project) -> None:
    """A `run-once` under SIGSTOP holds its lock: another one rescues nothing of it, and it goes on where it was."""
    project.apply()
    project.enqueue("stuck")
    process = project.runner("run-once")
    eventually(lambda: project.count("begin") == 1, "the start of the handler")
    process.send_signal(signal.SIGSTOP)
    mine = project.enqueue("quick")
    code, out, errors = project.call("run-once")
    assert code == 0, out + errors
    assert [(job["id"], job["status"]) for job in project.jobs()] == [(1, "running"), (mine, "completed")]

    (project.folder / "open").touch()
    process.send_signal(signal.SIGCONT)
    assert project.end(process)[0] == 0
    check_history(project)
