"""`runner init`, `doctor` and `migrate`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from runner.storage.setup import HEAD
from tests.interfaces.cli_project import DEADLINE, Project, environment, steady

WRITTEN = {
    ".runner/schedules.schema.json", "handlers/__init__.py", "handlers/words.py", "schedules.yaml", "tests/conftest.py",
    "tests/test_words.py", "texts/hello.txt",
}  # fmt: skip


OF_THE_MACHINE = {"python", "sqlite", "zones"}


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
    assert {finding["check"] for finding in data["findings"]} >= {"python", "sqlite", "zones", "file", "database"}
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
