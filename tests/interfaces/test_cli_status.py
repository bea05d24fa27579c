"""`runner status`: right in a process that runs nothing, whatever became of those that did."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.factories import make_worker
from tests.interfaces.cli_project import BASE, DEADLINE, Project, steady
from tests.waiting import eventually

SIZE = (r"\d+(\.\d+)? [kM]?B", "SIZE")
HASH = (r"file [0-9a-f]{8}", "file HASH")
AHEAD = (r"\bin (\d+ [dhm] )?\d+(\.\d+)? m?[hms]\b", "in SPAN")


@pytest.fixture
def served(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """`runner serve` on two of the queues, once its row is there."""
    serving = project.start("serve", "--queues", "default,other", RUNNER_HEARTBEAT="1h", RUNNER_STALLED_AFTER="3h")
    eventually(lambda: project.database.exists() and workers(project), "a worker serves")
    yield serving
    serving.kill()
    serving.communicate(timeout=DEADLINE)


def workers(project: Project) -> list[tuple[str, ...]]:
    try:
        return project.rows("SELECT id FROM workers WHERE config_sha256 IS NOT NULL")
    except Exception:  # the tables are being made
        return []


def register(project: Project, worker_id: str, **values: object) -> None:
    """A row of a worker, as it stands when its process is looked for and there is none to ask."""
    from runner.storage.database import Database
    from runner.storage.workers import WorkerStore

    database = Database(str(project.database))
    WorkerStore(database).register(make_worker(worker_id, **values))
    database.close()


def test_without_a_database_it_says_so(project: Project) -> None:
    """No database is no error: 0, and none is made."""
    assert project.good("status").out == f"database   none yet at {project.database}; runner apply creates it\n"
    data = project.good("status", "-o", "json").json
    assert (data["database"]["exists"], data["revision"], data["workers"], data["queues"]) == (False, None, [], [])
    assert not project.database.exists()


def test_everything_at_a_glance(project: Project, snapshot: SnapshotAssertion) -> None:
    """Database, revision, the problem of the file, schedules, workers, queues, fires, skips; the same as JSON."""
    now = datetime.now(UTC)
    project.write(BASE.replace("hourly: {job: ok,", "hourly: {job: ok, overlap: skip,"))
    project.good("apply", "--now", (now - timedelta(hours=3)).isoformat())
    project.good("schedules", "pause", "daily")
    project.good("run-once", "--schedule", "hourly", "--now", now.isoformat())
    project.good("enqueue", "strict", "--payload", '{"name": "x"}')
    project.good("enqueue", "ok", "--in", "1h")
    lately = now - timedelta(seconds=4)
    told = {"config_problem": "schedules.yaml:7:9: no cron", "config_problem_at": lately, "config_sha256": "x"}
    register(project, "a" * 16, last_heartbeat=lately, started_at=lately, queues={"only": ["default"]}, **told)
    register(project, "b" * 16, last_heartbeat=now - timedelta(hours=1), started_at=now - timedelta(hours=2))
    register(
        project, "c" * 16, last_heartbeat=lately, started_at=lately, concurrency=0, config_revision=1, config_sha256="y"
    )

    text = project.good("status").out
    for pattern, word in (SIZE, HASH, AHEAD):
        text = re.sub(pattern, word, text)
    assert steady(text, project.folder) == snapshot
    data = project.good("status", "-o", "json").json
    assert set(data) == {
        "format_version", "at", "database", "revision", "problems", "workers", "queues", "schedules", "next", "skipped",
    }  # fmt: skip
    assert [(one["state"], one["is_current"]) for one in data["workers"]] == [
        ("stale", None), ("alive", False), ("alive", True),
    ]  # fmt: skip
    assert [(one["name"], one["due"], one["scheduled"], one["is_taken"]) for one in data["queues"]] == [
        ("default", 0, 1, True), ("slow-lane", 1, 0, False),
    ]  # fmt: skip
    assert data["schedules"] == {"active": 1, "paused": 1, "disabled": 0, "retired": 0}
    assert [(one["schedule"], one["outcome"]) for one in data["skipped"]] == [("hourly", "skipped_missed")]
    assert data["problems"][0]["message"] == "schedules.yaml:7:9: no cron"
    assert datetime.fromisoformat(data["problems"][0]["since"]) == lately


def test_a_broken_edit_is_told_and_the_mend_too(project: Project, served: subprocess.Popen[bytes]) -> None:
    """Another process says why the file is refused and what stays in force, until it is mended, and no beat is due."""
    before = project.good("status").out
    assert "file as in force" in before
    assert "problem" not in before
    project.write(BASE.replace('cron: "0 * * * *"', "cron: nope"))
    eventually(lambda: "problem" in project.good("status").out, "the edit is refused")
    text = " ".join(project.good("status").out.split())
    assert 'schedules.yaml:13:27: cron "nope"' in text, text
    assert "revision 1 stays in force" in text
    assert "file as in force, newer edit refused" in text
    project.write(BASE.replace("0 * * * *", "30 * * * *"))
    eventually(lambda: "problem" not in project.good("status").out, "the mend is in force")
    assert project.good("status", "-o", "json").json["revision"]["number"] == 2


def test_a_killed_worker_is_gone_at_once(project: Project, served: subprocess.Popen[bytes]) -> None:
    """Its lock tells, before any beat is missed; its queues are taken by nobody then."""
    project.good("enqueue", "ok", "--in", "1h")
    project.good("enqueue", "strict", "--payload", '{"name": "x"}')
    data = project.good("status", "-o", "json").json
    assert [(one["state"], one["queues"], one["pid"]) for one in data["workers"]] == [
        ("alive", {"only": ["default", "other"]}, served.pid)
    ]
    assert [(one["name"], one["is_taken"]) for one in data["queues"]] == [("default", True), ("slow-lane", False)]
    served.kill()
    served.wait(DEADLINE)
    data = project.good("status", "-o", "json").json
    assert [one["state"] for one in data["workers"]] == ["gone"]
    assert not any(one["is_taken"] for one in data["queues"])


def test_it_fits_a_terminal_of_80_columns(project: Project) -> None:
    """Long names and messages are wrapped or cut."""
    project.good("apply")
    now = datetime.now(UTC)
    told = {"config_problem": "schedules.yaml:1:1: " + "very long " * 30, "config_problem_at": now}
    register(project, "a" * 16, host="h" * 60, last_heartbeat=now, queues={"only": ["queue" * 9, "b"]}, **told)
    code, text = project.terminal("status")
    assert code == 0
    assert max(len(line) for line in text.replace("\r", "").splitlines()) <= 80


def test_a_database_with_another_schema_is_told(project: Project) -> None:
    """As everywhere: 7 and what to do."""
    project.good("apply")
    project.good("migrate", "down", "--yes")
    answer = project.run("status")
    assert (answer.code, answer.out) == (7, "")
    assert "runner migrate up" in answer.err
