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


def test_schedules_list(asked: Project, snapshot: SnapshotAssertion) -> None:
    """Each schedule with what it starts, when, where, its last and next run, and its state."""
    asked.write(SPRING)
    asked.good("apply", "--now", NOW)
    asked.good("schedules", "pause", "both", "--reason", "holidays")
    assert steady(asked.good("schedules", "list").out) == snapshot
    data = asked.good("schedules", "list", "-o", "json").json
    assert data["format_version"] == 1
    rows = {row["name"]: row for row in data["schedules"]}
    assert {"next_run", "last_run", "paused_at", "job_type", "expression", "timezone", "enabled"} <= set(rows["both"])
    assert rows["night"]["next_run"] == "2026-11-23T01:30:00+00:00"
    assert (rows["off"]["state"], rows["both"]["state"]) == ("disabled", "paused")


def test_a_retired_schedule_is_listed_on_demand(asked: Project) -> None:
    """A schedule that left the file is listed with --retired alone, and fires nothing."""
    asked.good("apply")
    asked.write("\n".join(BASE.splitlines()[:-1]) + "\n")
    asked.good("apply")
    names = [row["name"] for row in asked.good("schedules", "list", "-o", "json").json["schedules"]]
    assert names == ["hourly"]
    assert "retired" in asked.good("schedules", "list", "--retired").out
    assert asked.run("schedules", "trigger", "daily").code == 6


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


def test_a_paused_schedule_fires_nothing_until_it_is_resumed(asked: Project) -> None:
    """pause and resume belong to the database: an apply does not touch them, resuming makes nothing up."""
    asked.good("apply", "--now", NOW)
    assert asked.good("schedules", "pause", "hourly", "--reason", "why").out == "hourly is paused\n"
    assert "hourly is paused by" in asked.good("plan").out
    asked.write(BASE.replace('"0 * * * *"', '"5 * * * *"'))
    asked.good("apply", "--now", NOW)
    assert asked.good("schedules", "pause", "hourly", "-o", "json").json["state"] == "paused"
    ran = asked.good("run-once", "--now", "2026-11-22T13:10Z", "-o", "json").json
    assert ran["jobs"] == []
    assert asked.good("schedules", "resume", "hourly", "-o", "json").json["paused_at"] is None


def test_trigger(asked: Project) -> None:
    """A job now; a second one is refused by the overlap policy with 6."""
    asked.good("apply")
    asked.good("schedules", "pause", "hourly")
    data = asked.good("schedules", "trigger", "hourly", "-o", "json").json
    assert data == {"format_version": 1, "id": 1, "status": "pending", "duplicate": False}
    again = asked.run("schedules", "trigger", "hourly")
    assert (again.code, again.out) == (6, "")
    assert "job 1 is not finished (overlap: skip)" in again.err
    assert asked.good("schedules", "trigger", "daily").out == "job 2 of daily enqueued; run-once or serve runs it\n"


def test_backfill_makes_up_the_past(asked: Project) -> None:
    """The slots of the range that did not run, once each; never one that is still to come."""
    asked.good("apply")
    arguments = ("schedules", "backfill", "hourly", "--from", "2026-01-01T00:00Z", "--to", "2026-01-01T03:00Z")
    assert asked.good(*arguments).out == "4 jobs of hourly enqueued; run-once or serve runs them\n"
    assert asked.good(*arguments, "-o", "json").json == {"format_version": 1, "jobs": []}
    future = asked.good("schedules", "backfill", "hourly", "--from", "2150-01-01", "--to", "2150-01-02", "-o", "json")
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
def test_backfill_with_odd_ranges(asked: Project, start: str, end: str, code: int, said: str) -> None:
    """A range that is turned round, cannot be read or is too long changes nothing."""
    asked.good("apply")
    answer = asked.run("schedules", "backfill", "hourly", "--from", start, "--to", end)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert asked.rows("SELECT count(*) FROM background_jobs") == [(0,)]


def test_history_is_the_ledger(asked: Project, snapshot: SnapshotAssertion) -> None:
    """Each slot with its outcome, its job or the reason, newest first."""
    asked.good("apply", "--now", NOW)
    asked.good("run-once", "--now", "2026-11-22T16:10Z", "--type", "bad")
    asked.good("run-once", "--now", "2026-11-22T16:10Z")
    assert steady(asked.good("schedules", "history", "hourly").out) == snapshot
    data = asked.good("schedules", "history", "--limit", 1, "-o", "json").json
    (slot,) = data["slots"]
    assert (slot["schedule_name"], slot["slot"], slot["outcome"]) == ("hourly", "2026-11-22T16:00:00+00:00", "enqueued")


@pytest.mark.parametrize("command", ["pause", "resume", "trigger", "history"])
def test_a_schedule_that_is_not_there_is_5(asked: Project, command: str) -> None:
    """A name that the database does not know is 5, with where to look."""
    answer = asked.run("schedules", command, "nope")
    assert (answer.code, answer.out) == (5, "")
    assert answer.err == "error: there is no schedule 'nope' in the database\nhelp: runner schedules list\n"
    assert asked.run("schedules", command, "a\udcffb").code in (2, 5)
    assert asked.run("schedules", command, "..").code == 5


@pytest.mark.parametrize("command", ["pause", "resume", "trigger"])
def test_without_a_database_nothing_can_be_changed(project: Project, command: str) -> None:
    """7, and none is made."""
    assert project.run("schedules", command, "nope").code == 7
    assert not project.database.exists()
