"""`runner schedules`: listing, fire times, pauses, runs by hand, the past made up, and the ledger."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.interfaces.cli_project import BASE, NOW, Project, steady

SPRING = """\
version: 1
runner: {handler_packages: [tests]}
job_types: {ok: {handler: tests.interfaces.cli_handlers.ok}}
schedules:
  night: {job: ok, cron: "30 2 * * *", timezone: Europe/Berlin}
  both: {job: ok, cron: "0 0 13 * fri"}
  often: {job: ok, every: 90m}
  off: {job: ok, cron: "@daily", enabled: false}
"""


def test_empty_lists_say_what_to_do(project: Project) -> None:
    """Without a database the lists are empty, with 0: nothing on stdout, a hint on stderr; empty arrays in JSON."""
    for command, key, hint in (
        ("schedules list", "schedules", "no schedules; runner apply brings them into the database\n"),
        ("schedules history", "slots", "no slots yet\n"),
        ("jobs list", "jobs", "no jobs\n"),
    ):
        answer = project.good(*command.split())
        assert (answer.out, answer.err) == ("", hint)
        assert project.good(*command.split(), "-o", "json").json[key] == []
    assert not project.database.exists()


def test_schedules_list(project: Project, snapshot: SnapshotAssertion) -> None:
    """Each schedule with what it starts, when, where, its last and next run, and its state."""
    project.write(SPRING)
    project.good("apply", "--now", NOW)
    project.good("schedules", "pause", "both", "--reason", "holidays")
    assert steady(project.good("schedules", "list").out) == snapshot
    data = project.good("schedules", "list", "-o", "json").json
    assert data["format_version"] == 1
    rows = {row["name"]: row for row in data["schedules"]}
    assert {"next_run", "last_run", "paused_at", "job_type", "expression", "timezone", "enabled"} <= set(rows["both"])
    assert rows["night"]["next_run"] == "2026-11-23T01:30:00+00:00"
    assert (rows["off"]["state"], rows["both"]["state"]) == ("disabled", "paused")


def test_a_retired_schedule_is_listed_on_demand(project: Project) -> None:
    """A schedule that left the file is listed with --retired alone, and fires nothing."""
    project.good("apply")
    project.write("\n".join(BASE.splitlines()[:-1]) + "\n")
    project.good("apply")
    names = [row["name"] for row in project.good("schedules", "list", "-o", "json").json["schedules"]]
    assert names == ["hourly"]
    assert "retired" in project.good("schedules", "list", "--retired").out
    assert project.run("schedules", "trigger", "daily").code == 6


def test_schedules_next(project: Project, snapshot: SnapshotAssertion) -> None:
    """The reading in words, then wall times with their weekday; the instant too where the zone is not UTC."""
    project.write(SPRING)
    assert project.good("schedules", "next", "--now", "2026-03-28T00:00Z").out == snapshot
    assert not project.database.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nope",), 5, "there is no schedule 'nope' in the file"),
        (("--now", "soon"), 2, "is not a time"),
        (("--now", "0001-01-01T00:00:00+14:00"), 2, "out of range"),
        (("--now", "9999-12-31"), 2, "out of range"),
    ],
)
def test_schedules_next_with_odd_values(project: Project, arguments: tuple[str, ...], code: int, said: str) -> None:
    """A name that the file does not have is 5, a time that cannot be read 2."""
    answer = project.run("schedules", "next", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err


def test_a_paused_schedule_fires_nothing_until_it_is_resumed(project: Project) -> None:
    """pause and resume belong to the database: an apply does not touch them, resuming makes nothing up."""
    project.good("apply", "--now", NOW)
    assert project.good("schedules", "pause", "hourly", "--reason", "why").out == "hourly is paused\n"
    assert "hourly is paused by" in project.good("plan").out
    project.write(BASE.replace('"0 * * * *"', '"5 * * * *"'))
    project.good("apply", "--now", NOW)
    assert project.good("schedules", "pause", "hourly", "-o", "json").json["state"] == "paused"
    ran = project.good("run-once", "--now", "2026-11-22T13:10Z", "-o", "json").json
    assert ran["jobs"] == []
    assert project.good("schedules", "resume", "hourly", "-o", "json").json["paused_at"] is None


def test_trigger(project: Project) -> None:
    """A job now; a second one is refused by the overlap policy with 6."""
    project.good("apply")
    project.good("schedules", "pause", "hourly")
    data = project.good("schedules", "trigger", "hourly", "-o", "json").json
    assert data == {"format_version": 1, "id": 1, "status": "pending", "duplicate": False}
    again = project.run("schedules", "trigger", "hourly")
    assert (again.code, again.out) == (6, "")
    assert "job 1 is not finished (overlap: skip)" in again.err
    assert project.good("schedules", "trigger", "daily").out == "job 2 of daily enqueued; run-once or serve runs it\n"


def test_backfill_makes_up_the_past(project: Project) -> None:
    """The slots of the range that did not run, once each; never one that is still to come."""
    project.good("apply")
    arguments = ("schedules", "backfill", "hourly", "--from", "2026-01-01T00:00Z", "--to", "2026-01-01T03:00Z")
    assert project.good(*arguments).out == "4 jobs of hourly enqueued; run-once or serve runs them\n"
    assert project.good(*arguments, "-o", "json").json == {"format_version": 1, "jobs": []}
    future = project.good("schedules", "backfill", "hourly", "--from", "2150-01-01", "--to", "2150-01-02", "-o", "json")
    assert future.json["jobs"] == []


@pytest.mark.parametrize(
    ("start", "end", "code", "said"),
    [
        ("2026-01-02", "2026-01-01", 2, "is after"),
        ("soon", "2026-01-01", 2, "is not a time"),
        ("0001-01-01", "9999-12-31", 2, "out of range"),
        ("1970-01-01", "2026-01-01", 2, "at most 1,000 slots"),
    ],
)
def test_backfill_with_odd_ranges(project: Project, start: str, end: str, code: int, said: str) -> None:
    """A range that is turned round, cannot be read or is too long changes nothing."""
    project.good("apply")
    answer = project.run("schedules", "backfill", "hourly", "--from", start, "--to", end)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert project.rows("SELECT count(*) FROM background_jobs") == [(0,)]


def test_history_is_the_ledger(project: Project, snapshot: SnapshotAssertion) -> None:
    """Each slot with its outcome, its job or the reason, newest first."""
    project.good("apply", "--now", NOW)
    project.good("run-once", "--now", "2026-11-22T16:10Z", "--type", "bad")
    project.good("run-once", "--now", "2026-11-22T16:10Z")
    assert steady(project.good("schedules", "history", "hourly").out) == snapshot
    data = project.good("schedules", "history", "--limit", 1, "-o", "json").json
    (slot,) = data["slots"]
    assert (slot["schedule_name"], slot["slot"], slot["outcome"]) == ("hourly", "2026-11-22T16:00:00+00:00", "enqueued")


@pytest.mark.parametrize("command", ["pause", "resume", "trigger", "history"])
def test_a_schedule_that_is_not_there_is_5(project: Project, command: str) -> None:
    """A name that the database does not know is 5, with where to look; without a database what changes is 7."""
    if command != "history":
        assert project.run("schedules", command, "nope").code == 7
    project.good("apply")
    answer = project.run("schedules", command, "nope")
    assert (answer.code, answer.out) == (5, "")
    assert answer.err == "error: there is no schedule 'nope' in the database\nhelp: runner schedules list\n"
    assert project.run("schedules", command, "a\udcffb").code in (2, 5)
