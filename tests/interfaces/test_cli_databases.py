"""Databases that cannot be used: each command ends with 7 and one sentence, and nothing that was there is changed."""

from __future__ import annotations

import ctypes
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interfaces.cli_project import DEADLINE, NOW, Project, command, environment

READING = ("jobs list", "jobs show 1", "jobs logs 1", "schedules list", "schedules history", "plan")
WRITING = (
    "apply", "run-once", "enqueue ok", "jobs cancel 1", "jobs retry 1", "schedules pause hourly",
    "schedules resume hourly", "schedules trigger hourly", "migrate up",
    "schedules backfill hourly --from 2026-01-01 --to 2026-01-02",
)  # fmt: skip


def refused(project: Project, words: str, said: str, **env: str) -> None:
    answer = project.run(*words.split(), **env)
    assert (answer.code, answer.out) == (7, ""), (words, answer)
    first, _, rest = answer.err.partition("\n")
    assert first.startswith("error: ")
    assert said in first, (words, answer)
    assert rest.startswith("help: ")
    assert rest.count("\n") == 1


def test_no_database_yet(project: Project) -> None:
    """What needs one says how to make it; nothing but apply, run-once and migrate up makes one."""
    for words in (*READING, *WRITING, "migrate check", "migrate down --yes"):
        if words not in (
            "jobs list",
            "schedules list",
            "schedules history",
            "plan",
            "apply",
            "run-once",
            "migrate up",
        ):
            refused(project, words, "there is no database at")
            assert not project.database.exists(), words


def test_a_file_that_is_no_database(project: Project) -> None:
    """A text file in its place is named, and stays as it is, byte for byte."""
    project.database.write_bytes(b"Dear diary, " * 100)
    for words in (*READING, *WRITING, "migrate status", "migrate down --yes", "run-once --dry-run"):
        refused(project, words, f"the database {project.database} is not a SQLite database")
    assert project.database.read_bytes() == b"Dear diary, " * 100
    assert sorted(path.name for path in project.folder.iterdir()) == ["runner.db", "schedules.yaml"]


def test_a_damaged_database(project: Project) -> None:
    """Pages of rubbish are told as damage."""
    project.good("apply")
    with sqlite3.connect(project.database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(project.database.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    project.database.write_bytes(content)
    for words in ("jobs list", "apply", "run-once"):
        refused(project, words, "is damaged")
    assert project.run("doctor").code == 1


def test_a_database_of_a_newer_release(project: Project) -> None:
    """It is neither read nor written nor taken back; the remedy is the newer release."""
    project.good("apply")
    with sqlite3.connect(project.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = project.contents()
    for words in (*READING, *WRITING, "migrate check", "migrate down --yes", "run-once --dry-run"):
        refused(project, words, "schema 9999, which is newer than this release knows")
    assert project.contents() == before
    assert project.good("migrate", "status", "-o", "json").json["is_current"] is False


def test_a_database_that_was_never_set_up(project: Project) -> None:
    """A program's own database is not set up by looking; apply sets it up and leaves the rest."""
    with sqlite3.connect(project.database) as connection:
        connection.execute("CREATE TABLE users (id)")
    for words in (*READING, "enqueue ok", "jobs cancel 1", "schedules pause hourly"):
        refused(project, words, "was never set up")
    project.good("apply")
    assert project.rows("SELECT count(*) FROM users") == [(0,)]


def test_an_empty_file_is_no_database_yet(project: Project) -> None:
    """`touch runner.db`: looking says what it says where there is none, and leaves it empty; apply sets it up."""
    looks = ("jobs list", "schedules list", "schedules history", "doctor", "migrate status", "jobs show 1")

    def look(words: str) -> tuple[int, str, str]:
        answer = project.run(*words.split())
        return answer.code, re.sub(r"[\d.]+ (ms|GB)", "N", answer.out), answer.err

    missing = [look(words) for words in (f"plan --now {NOW}", *looks)]
    project.database.touch()

    assert [look(words) for words in (f"plan --now {NOW}", *looks)] == missing
    assert [code for code, _, _ in missing] == [0, 0, 0, 0, 0, 0, 7]
    assert project.database.stat().st_size == 0
    project.good("run-once", "--dry-run")
    assert project.database.stat().st_size == 0
    project.good("apply")
    assert project.good("migrate", "status", "-o", "json").json["is_current"] is True


def test_a_database_of_another_program(project: Project) -> None:
    """One with a table `background_jobs` of its own is named as somebody else's, and is not changed by a byte."""
    with sqlite3.connect(project.database) as connection:
        connection.execute("CREATE TABLE background_jobs (id INTEGER PRIMARY KEY, what TEXT)")
        connection.execute("INSERT INTO background_jobs VALUES (1, 'mail')")
    connection.close()
    before = project.database.read_bytes()
    said = f"the database {project.database} belongs to something else: it has a table background_jobs"
    migrating = ("migrate status", "migrate check", "migrate down --yes")
    for words in (*READING, *WRITING, *migrating, "run-once --dry-run", "run-once --no-sync"):
        refused(project, words, said)
    doctor = project.run("doctor")
    assert (doctor.code, said in doctor.out) == (1, True)
    assert project.database.read_bytes() == before


@contextmanager
def locked(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


def test_a_locked_database(project: Project) -> None:
    """A writer that holds the lock for longer than RUNNER_BUSY_TIMEOUT is told; readers read on."""
    project.good("apply")
    project.good("enqueue", "ok")
    before = project.contents()
    with locked(project.database):
        for words in (
            "run-once",
            "enqueue ok",
            "jobs cancel 1",
            "schedules pause hourly",
            "schedules trigger hourly",
        ):
            refused(project, words, "is locked by another process for longer than 0.1 s", RUNNER_BUSY_TIMEOUT="100ms")
        for words in ("jobs list", "schedules list", "plan", "status"):
            assert project.run(*words.split(), RUNNER_BUSY_TIMEOUT="100ms").code == 0, words
        assert project.run("doctor", RUNNER_BUSY_TIMEOUT="100ms").code == 1, "it tries a write"
    assert project.contents() == before


def test_a_read_only_database(project: Project) -> None:
    """A file and folder that this user may not write: told as read-only, with the remedy; looking goes on working."""
    project.good("run-once", "--trigger", "hourly")
    before = project.contents()
    project.database.chmod(0o444)
    project.folder.chmod(0o555)
    try:
        answers = {
            words: _without_privileges(project, words) for words in ("enqueue ok", "run-once", "jobs list", "doctor")
        }
    finally:
        project.folder.chmod(0o755)
    for words in ("enqueue ok", "run-once"):
        assert answers[words].returncode == 7, answers[words]
        assert answers[words].stderr.splitlines()[0].endswith(("is read-only", "Permission denied"))
        assert answers[words].stderr.splitlines()[1].startswith("help: make the file and its folder writable")
    assert answers["jobs list"].returncode == 0, answers["jobs list"]
    assert answers["doctor"].returncode == 1
    assert "read-only" in answers["doctor"].stdout
    assert project.contents() == before


def _without_privileges(project: Project, words: str) -> subprocess.CompletedProcess[str]:
    """Root may write what is read-only; as root, the child gives that privilege up (CAP_DAC_OVERRIDE)."""
    drop = (lambda: ctypes.CDLL(None).prctl(24, 1)) if os.geteuid() == 0 else None
    return subprocess.run(
        command(*words.split()), cwd=project.folder, env=environment({}), capture_output=True, text=True,
        timeout=DEADLINE, check=False, preexec_fn=drop,
    )  # fmt: skip


def test_a_folder_that_is_not_there(project: Project) -> None:
    """The folder of the database is not made up: it is named."""
    for words in ("apply", "run-once", "migrate up"):
        refused(
            project, words, f"the folder of the database, {project.folder}/no, does not exist", DATABASE_URL="no/x.db"
        )
    refused(project, "apply", "cannot be opened", DATABASE_URL=str(project.folder))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///:memory:", "in memory"),
        (":memory:", "in memory"),
        ("sqlite://", "in memory"),
        ("postgresql://u:secret@host/db?schema=Big", "no name for a schema: Big"),
        ("mysql://host/db", "no such database: mysql"),
        ("://", "not a database URL"),
    ],
)
@pytest.mark.parametrize("words", ["jobs list", "apply", "plan", "doctor", "migrate status"])
def test_a_url_of_the_wrong_kind_is_wrong_usage(project: Project, url: str, said: str, words: str) -> None:
    """--database-url of a kind that cannot be used ends with 2; a password in it is not repeated."""
    answer = project.run("--database-url", url, *words.split())
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert "\nhelp: " in answer.err
    assert "secret" not in answer.err


@pytest.mark.parametrize("words", ["jobs list", "apply", "plan", "doctor", "status", "serve", "run-once"])
def test_a_server_that_cannot_be_reached_is_told(project: Project, words: str) -> None:
    """Which, and what to look at; a password in the URL is not repeated."""
    answer = project.run(
        "--database-url", "postgresql://u:secret@127.0.0.1:1/db", *words.split(), RUNNER_BUSY_TIMEOUT="300ms"
    )
    said = answer.out + answer.err
    assert "the database postgresql://u:***@127.0.0.1:1/db cannot be reached" in said
    assert "check that the server runs" in said
    assert "secret" not in said
    assert "Traceback" not in said
    assert answer.code == (1 if words == "doctor" else 7)
