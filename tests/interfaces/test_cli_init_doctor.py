"""`runner init`, `doctor` and `migrate`."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from runner.cli import doctor
from runner.engine.watch import Watch
from runner.storage.database import Database
from runner.storage.setup import HEAD
from runner.storage.workers import WorkerStore
from tests.factories import make_worker
from tests.interfaces.cli_project import BASE, DEADLINE, Project, environment, steady

WRITTEN = {
    ".runner/schedules.schema.json", "handlers/__init__.py", "handlers/words.py", "schedules.yaml", "tests/conftest.py",
    "tests/test_words.py", "texts/hello.txt",
}  # fmt: skip


OF_THE_MACHINE = {"python", "sqlite", "zones", "disk", "watcher"}


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    return Project(tmp_path)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_init_writes_a_set_up_that_works(empty: Project) -> None:
    """What init writes is valid, runs, and its own test passes; init says what to type next."""
    answer = empty.good("init", "new")
    assert answer.out.endswith("Next: cd new && runner validate && runner run-once --trigger-all\n")
    new = Project(empty.folder / "new")
    assert files(new.folder) == WRITTEN
    assert new.process("validate").out == "schedules.yaml: valid, 1 schedule, 1 job type\n"
    ran = new.process("run-once", "--trigger-all", "-o", "json")
    assert ran.json["jobs"][0]["result"] == {"files": 1, "words": 9}
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."], cwd=new.folder,
        env=environment({}), capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout


def test_init_never_overwrites(empty: Project) -> None:
    """Where one of its files is there already nothing is written at all: 6."""
    empty.write("mine", "texts/hello.txt")
    answer = empty.run("init")
    assert (answer.code, answer.out) == (6, "")
    assert "texts/hello.txt is there already; nothing was written" in answer.err
    assert files(empty.folder) == {"texts/hello.txt"}


def test_init_in_a_place_that_cannot_be_written(empty: Project) -> None:
    """A file in the place of the folder is wrong usage."""
    empty.write("", "file")
    answer = empty.run("init", "file")
    assert (answer.code, answer.out) == (2, "")
    assert "cannot be written" in answer.err
    assert set(empty.good("init", "-o", "json").json) == {"format_version", "written"}


def test_doctor_of_a_good_set_up(project: Project, snapshot: SnapshotAssertion) -> None:
    """One line for each thing looked at; all good is 0."""
    project.good("apply")
    text = steady(project.good("doctor").out, project.folder)
    lines = [line for line in text.splitlines() if line.split()[0] != "help:" and line.split()[1] not in OF_THE_MACHINE]
    assert "\n".join(lines) == snapshot
    data = project.good("doctor", "-o", "json").json
    assert {finding["check"] for finding in data["findings"]} == OF_THE_MACHINE | {
        "file", "handlers", "database", "clock", "workers",
    }  # fmt: skip
    assert set(data["findings"][0]) == {"check", "level", "message", "remedy"}


def test_doctor_finds_what_is_wrong(project: Project) -> None:
    """An error is 1 and has a remedy: an invalid file with the place, a database that is none, a job nobody takes."""
    project.good("apply")
    project.good("enqueue", "bad")
    project.write(
        "version: 1\nrunner: {handler_packages: [tests]}\n"
        "job_types: {ok: {handler: tests.interfaces.cli_handlers.ok}}\n"
    )
    project.good("apply", "--allow-removals")
    parked = project.good("doctor").out
    assert "jobs of type bad (queue default) wait: the revision in force does not know that type" in parked
    project.write("version: 1\nnonsense: 1\n")
    broken = project.run("doctor")
    assert broken.code == 1
    assert "error    file       schedules.yaml:2:1:" in broken.out
    project.database.write_bytes(b"no" * 1000)
    assert "is not a SQLite database" in project.run("doctor").out


def findings(project: Project, *, code: int, **env: str) -> dict[str, list[tuple[str, str]]]:
    """By check: (level, message) of what is not ok."""
    answer = project.run("doctor", "-o", "json", **env)
    assert answer.code == code, answer
    found: dict[str, list[tuple[str, str]]] = {}
    for one in answer.json["findings"]:
        if one["level"] != "ok":
            assert one["remedy"] or one["check"] == "handlers"
            found.setdefault(one["check"], []).append((one["level"], one["message"]))
    found.pop("sqlite", None)  # whatever library this machine has
    return found


def register(project: Project, **values: object) -> None:
    database = Database(str(project.database))
    WorkerStore(database).register(make_worker(**values))
    database.close()


def test_doctor_changes_nothing(project: Project) -> None:
    """What it tries (a write, a touch) it takes back; where there is no database it makes none."""
    before = files(project.folder)
    project.good("doctor")
    assert files(project.folder) == before
    project.good("apply")
    register(project)
    rows = project.contents()
    project.good("doctor")
    assert project.contents() == rows
    assert {name for name in files(project.folder) if not name.startswith("runner.db")} == before


def test_doctor_tells_one_database_error_once(project: Project) -> None:
    """What is wrong with the database is not told again by each thing that is asked of it."""
    project.good("apply")
    with sqlite3.connect(project.database, isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        (locked,) = findings(project, code=1, RUNNER_BUSY_TIMEOUT="50ms")["database"]
        connection.execute("ROLLBACK")
    connection.close()
    assert "is locked by another process" in locked[1]
    project.good("migrate", "down", "--yes")
    assert list(findings(project, code=1)) == ["database"]
    project.database.write_bytes(b"no" * 1000)
    assert list(findings(project, code=1)) == ["database"]


def test_doctor_finds_handlers_that_cannot_be_imported(project: Project) -> None:
    """They have a heading of their own."""
    project.write(BASE.replace("cli_handlers.bad", "cli_handlers.missing"))
    ((level, message),) = findings(project, code=1)["handlers"]
    assert (level, "schedules.yaml:5:" in message, "missing" in message) == ("error", True, True)


def test_doctor_finds_workers_that_are_gone_stuck_or_refuse_their_file(project: Project) -> None:
    """Warnings: others make good what they left, and the revision of before stays in force."""
    project.good("apply")
    now, lock = datetime.now(UTC), project.folder / "w.lock"
    lock.touch()
    register(project, worker_id="gone", last_heartbeat=now, lock_file=str(lock))
    register(project, worker_id="stuck", last_heartbeat=now - timedelta(minutes=2))
    register(project, worker_id="other", last_heartbeat=now, config_problem="schedules.yaml:1:1: no")
    told = [message for _, message in findings(project, code=0)["workers"]]
    assert len(told) == 3
    assert "worker gone (pid 4711 on here) is gone" in told[0]
    assert "worker stuck (pid 4711 on here) has not beaten for 2 m" in told[1]
    assert told[2] == "1 of 3 processes refuse their file: schedules.yaml:1:1: no"


def test_doctor_finds_jobs_that_nobody_takes(project: Project) -> None:
    """A warning where nobody works at all; an error where others work and these wait for over an hour."""
    project.good("apply")
    project.good("enqueue", "strict", "--payload", '{"name": "x"}')
    ((level, message),) = findings(project, code=0)["queues"]
    assert (level, message.startswith("1 job due in queue slow-lane, the oldest for ")) == ("warning", True)
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%d %H:%M:%S.000000")
    project.rows(f"UPDATE background_jobs SET run_at = '{long_ago}'")
    assert findings(project, code=0)["queues"][0][0] == "warning"
    register(project, last_heartbeat=datetime.now(UTC), queues={"only": ["default"]})
    assert findings(project, code=1)["queues"][0][0] == "error"
    register(project, worker_id="w2", last_heartbeat=datetime.now(UTC))
    ((level, message),) = findings(project, code=0)["queues"]
    assert (level, "the workers are behind" in message) == ("warning", True)


def test_doctor_finds_a_clock_that_was_set_back(project: Project) -> None:
    """Rows from the future are a warning: --now makes them too."""
    project.good("apply", "--now", "2100-01-01T00:00Z")
    assert "ahead of this machine's clock" in findings(project, code=0)["clock"][0][1]


def test_doctor_finds_a_disk_that_is_nearly_full(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under 100 MB is an error, under a GB a warning."""
    usage = type(shutil.disk_usage("/"))
    for free, code, level in ((99_000_000, 1, "error"), (999_000_000, 0, "warning")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(10**12, 0, free))
        assert findings(project, code=code)["disk"][0][0] == level


def test_doctor_finds_a_folder_whose_changes_are_not_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a warning: serve looks by itself."""
    monkeypatch.setattr(doctor, "WATCHED", 0.01)
    monkeypatch.setattr(Watch, "start", lambda self: None)
    assert "is not noticed" in findings(project, code=0)["watcher"][0][1]


def test_migrate(project: Project) -> None:
    """up creates, status tells, check finds no difference, down needs --yes, sql prints the statements."""
    assert project.good("migrate", "status").out == f"database: none yet, this release: {HEAD}\n"
    assert f"has schema {HEAD}" in project.good("migrate", "up").out
    assert project.good("migrate", "status", "-o", "json").json == {
        "format_version": 1, "schema": HEAD, "head": HEAD, "is_current": True,
    }  # fmt: skip
    assert project.good("migrate", "check").out == "no differences\n"
    assert project.run("migrate", "down").code == 2
    assert "has schema none" in project.good("migrate", "down", "base", "--yes").out
    assert project.good("migrate", "sql").out.startswith("CREATE TABLE")


@pytest.mark.parametrize("target", ["nope", "-9", "+1", "9999", ""])
def test_migrate_down_to_nowhere_is_wrong_usage(project: Project, target: str) -> None:
    """A target that is no schema ends with 2 and leaves the database as it is."""
    project.good("apply")
    before = project.contents()
    answer = project.run("migrate", "down", "--yes", "--", target)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert project.contents() == before
