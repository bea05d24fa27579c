"""`runner run-once`: what it selects, what it leaves alone, and how it tells what happened."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.interfaces.cli_project import BASE, NOW, Answer, Project, steady

KINDS = """\
version: 1
runner: {handler_packages: [tests]}
job_types:
  ok: {handler: tests.interfaces.cli_handlers.ok}
  bad: {handler: tests.interfaces.cli_handlers.bad, retry: false}
  always: {handler: tests.interfaces.cli_handlers.bad}
  flaky: {handler: tests.interfaces.cli_handlers.flaky}
  not_json: {handler: tests.interfaces.cli_handlers.not_json}
  big: {handler: tests.interfaces.cli_handlers.big}
  slow-lane: {handler: tests.interfaces.cli_handlers.ok, queue: slow, priority: low}
schedules:
  s-ok: {job: ok, cron: "0 * * * *"}
  s-bad: {job: bad, cron: "0 0 1 1 *"}
  s-always: {job: always, cron: "0 0 1 1 *"}
  s-flaky: {job: flaky, cron: "0 0 1 1 *"}
  s-not-json: {job: not_json, cron: "0 0 1 1 *"}
  s-big: {job: big, cron: "0 0 1 1 *"}
  s-slow: {job: slow-lane, cron: "30 * * * *"}
  s-off: {job: bad, cron: "0 * * * *", enabled: false}
"""
SUMMARY = {
    "pending", "running", "completed", "failed", "cancelled", "began", "ended", "seconds", "slots_fired",
    "slots_skipped", "refused", "stopped_by", "exit_code",
}  # fmt: skip
JOB = {
    "id", "type", "status", "queue", "priority", "payload", "result", "error", "progress", "current_step", "message",
    "project_id", "schedule_name", "scheduled_for", "run_at", "attempt", "max_attempts", "run_number", "worker_id",
    "created_at", "started_at", "completed_at", "parent_id", "revision", "stalls", "display_state", "last_heartbeat",
    "attempts",
}  # fmt: skip


@pytest.fixture
def kinds(project: Project) -> Project:
    """A project with a schedule of each kind of job. Nothing of it is due."""
    project.write(KINDS)
    return project


def types(answer: Answer) -> list[str]:
    return sorted(job["type"] for job in answer.json["jobs"])


def test_nothing_due_is_good(project: Project) -> None:
    """A new schedule starts at the moment of applying: nothing is due, and that is 0."""
    answer = project.good("run-once")
    assert answer.out == "Nothing was due.\n"
    assert answer.err == ""
    assert project.good("run-once", "-o", "json").json["jobs"] == []


def test_trigger_runs_a_schedule_now(project: Project, snapshot: SnapshotAssertion) -> None:
    """--trigger NAME runs it, tells each step on a line of its own, and ends with a table."""
    answer = project.good("run-once", "--trigger", "daily")
    assert answer.err == ""
    assert steady(answer.out) == snapshot


def test_trigger_all_runs_all_enabled_schedules(kinds: Project) -> None:
    """--trigger-all fires every enabled schedule that is selected; a failed job makes it 1."""
    answer = kinds.run("run-once", "--trigger-all", "--now", NOW, "-o", "json")
    assert answer.code == 1
    assert types(answer) == ["always", "bad", "big", "flaky", "not_json", "ok", "slow-lane"]
    summary = answer.json["summary"]
    assert (summary["completed"], summary["failed"], summary["exit_code"]) == (3, 4, 1)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (("--type", "ok"), ["ok"]),
        (("--type", "ok", "--type", "slow-lane"), ["ok", "slow-lane"]),
        (("--queue", "slow"), ["slow-lane"]),
        (("--schedule", "s-ok"), ["ok"]),
        (("--schedule", "s-slow", "--schedule", "s-ok"), ["ok", "slow-lane"]),
    ],
)
def test_a_selection_holds_for_what_fires_and_what_runs(
    kinds: Project, selection: tuple[str, ...], expected: list[str]
) -> None:
    """--type, --queue and --schedule select what is triggered and what is run; the rest stays where it is."""
    kinds.good("apply", "--now", NOW)
    kinds.good("enqueue", "bad", "--at", "2020-01-01")
    answer = kinds.good("run-once", *selection, "--trigger-all", "--now", NOW, "-o", "json")
    assert types(answer) == expected
    assert kinds.rows("SELECT type FROM background_jobs WHERE status = 'pending'") == [("bad",)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--type", "okk"), 'did you mean "ok"?'),
        (("--schedule", "s-okk"), 'did you mean "s-ok"?'),
        (("--queue", "nope"), "queue 'nope'"),
        (("--workflow", "nope"), "workflow 'nope'"),
        (("--trigger", "s-okk"), 'did you mean "s-ok"?'),
        (("--schedule", "s-ok", "--type", "bad"), "no schedule matches all"),
    ],
)
def test_names_that_do_not_exist_are_5(kinds: Project, arguments: tuple[str, ...], said: str) -> None:
    """A typing error in CI must not pass as 'nothing due': 5, with the nearest name, and no edit is applied for it."""
    answer = kinds.run("run-once", *arguments)
    assert (answer.code, answer.out) == (5, "")
    assert said in answer.err
    assert not kinds.database.exists()


@pytest.mark.parametrize(
    ("selection", "remedy"),
    [
        ("--type bad", "add --type ok"),
        ("--queue slow", "add --queue default"),
        ("--schedule s-bad", "add --schedule s-ok"),
        ("--schedule s-bad --type bad", "add --type ok --schedule s-ok"),
        ("--type ok --queue slow --queue default --schedule s-slow --schedule s-bad --type bad --type slow-lane",
         "add --schedule s-ok"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", ["", "--dry-run", "--trigger-all"])
def test_a_trigger_outside_the_selection_is_5(kinds: Project, selection: str, remedy: str, more: str) -> None:
    """Its job would be enqueued and never run: 5 before there is a database, with schedule, selection and remedy."""
    answer = kinds.run("run-once", *selection.split(), "--trigger", "s-ok", *more.split())
    assert (answer.code, answer.out) == (5, "")
    first, second = answer.err.splitlines()
    words = sorted(selection.replace(" --", "\n--").splitlines())
    shown = first.removeprefix("error: schedule s-ok is triggered, but the selection (").removesuffix(") leaves it out")
    assert sorted(shown.replace(" --", "\n--").splitlines()) == words
    assert second == f"help: leave out --trigger s-ok, or {remedy}"
    assert not kinds.database.exists()


def test_a_trigger_outside_the_selection_changes_nothing(kinds: Project) -> None:
    """With a database, and with --no-sync: no job, no new revision."""
    kinds.good("apply")
    before = kinds.contents()
    kinds.write(KINDS.replace("0 * * * *", "5 * * * *"))
    for more in ((), ("--no-sync",)):
        answer = kinds.run("run-once", "--type", "bad", "--trigger", "s-ok", *more)
        assert (answer.code, answer.out) == (5, "")
    assert kinds.contents() == before


def test_a_trigger_outside_a_selected_workflow(project: Project) -> None:
    """A schedule of a job cannot be made a part of a workflow: the remedy is to leave one of the two out."""
    project.write(BASE + "  flow: {workflow: w, every: 1h}\nworkflows: {w: {steps: {one: {job: ok}}}}\n")
    answer = project.run("run-once", "--workflow", "w", "--trigger", "hourly")
    assert answer.code == 5
    assert answer.err.endswith("help: leave out --trigger hourly, or leave out --workflow\n")


def test_since_lets_a_new_schedule_look_back(project: Project) -> None:
    """--since 24h: a schedule that this database has never seen fires its newest slot of that time."""
    first = project.good("run-once", "--since", "24h", "--now", NOW, "-o", "json").json
    assert {(job["schedule_name"], job["scheduled_for"]) for job in first["jobs"]} == {
        ("hourly", "2026-11-22T12:00:00+00:00"), ("daily", "2026-11-22T05:00:00+00:00"),
    }  # fmt: skip
    assert {"schedule_name", "slot", "outcome", "reason", "job_id"} <= set(first["slots"][0])
    assert first["summary"]["slots_fired"] == 2
    again = project.good("run-once", "--since", "24h", "--now", NOW, "-o", "json").json
    assert (again["jobs"], again["slots"]) == ([], [])


def test_due_slots_fire_and_the_ledger_says_what_was_skipped(project: Project, snapshot: SnapshotAssertion) -> None:
    """After downtime the newest slot fires, the others are told as one line with their reason."""
    project.good("apply", "--now", NOW)
    answer = project.good("run-once", "--now", "2026-11-22T16:10Z")
    assert steady(answer.out) == snapshot


def test_a_handler_that_fails_twice_then_succeeds(kinds: Project) -> None:
    """2 s and 4 s between the attempts, `completed`, three attempts recorded; --now jumps over the waits."""
    answer = kinds.good("run-once", "--trigger", "s-flaky", "--now", NOW, "-o", "json")
    (job,) = answer.json["jobs"]
    assert (job["status"], job["attempt"], job["result"]) == ("completed", 3, {"attempt": 3})
    assert [one["outcome"] for one in job["attempts"]] == ["failed", "failed", "completed"]
    ends = [datetime.fromisoformat(one["finished_at"]) for one in job["attempts"]]
    begins = [datetime.fromisoformat(one["started_at"]) for one in job["attempts"]]
    assert [int((begin - end).total_seconds()) for end, begin in zip(ends, begins[1:], strict=False)] == [2, 4]


def test_a_handler_that_always_fails(kinds: Project) -> None:
    """Three attempts, then `failed` with the last error, and exit 1."""
    answer = kinds.run("run-once", "--trigger", "s-always", "--now", NOW, "-o", "json")
    (job,) = answer.json["jobs"]
    assert (answer.code, job["status"], job["attempt"], len(job["attempts"])) == (1, "failed", 3, 3)
    assert job["error"].startswith("ValueError: no such")


@pytest.mark.parametrize(("name", "said"), [("s-not-json", "not JSON"), ("s-big", "1,048,576 (1 MiB)")])
def test_a_result_that_cannot_be_kept_fails_for_good(kinds: Project, name: str, said: str) -> None:
    """What is not JSON or over 1 MiB fails at the first attempt, with the limit named."""
    answer = kinds.run("run-once", "--trigger", name, "--now", NOW, "-o", "json")
    (job,) = answer.json["jobs"]
    assert (answer.code, job["status"], job["attempt"], job["result"]) == (1, "failed", 1, None)
    assert said in job["error"]


def test_the_json_document(kinds: Project) -> None:
    """format_version, summary, jobs, slots; times ISO 8601 with offset; durations in seconds."""
    data = kinds.good("run-once", "--trigger", "s-ok", "-o", "json").json
    assert set(data) == {"format_version", "summary", "jobs", "slots"}
    assert data["format_version"] == 1
    assert set(data["summary"]) == SUMMARY
    (job,) = data["jobs"]
    assert set(job) == JOB
    assert "claim_token" not in job
    for name in ("run_at", "created_at", "started_at", "completed_at"):
        assert datetime.fromisoformat(job[name]).utcoffset() is not None
    assert isinstance(data["summary"]["seconds"], float)


def test_json_lines(kinds: Project) -> None:
    """-o jsonl: one object a line as it happens, the summary last; also for a dry run."""
    lines = kinds.run("run-once", "--trigger", "s-flaky", "--now", NOW, "-o", "jsonl").out.splitlines()
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    told = [event["event"] for event in events if event["event"] != "progress"]
    assert told == ["started", "settled", "started", "settled", "started", "settled", "summary"]
    assert set(events[-1]) == SUMMARY | {"event", "format_version"}
    dry = kinds.good("run-once", "--trigger", "s-ok", "--dry-run", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["event"] for line in dry] == ["dry_run"]


def test_wait_leaves_later_retries_pending(kinds: Project) -> None:
    """--wait 1s: a retry that is due later is left pending, and that is no failure."""
    answer = kinds.good("run-once", "--trigger", "s-always", "--wait", "1s", "-o", "json")
    (job,) = answer.json["jobs"]
    assert (job["status"], job["display_state"], job["attempt"]) == ("pending", "retrying", 1)


def test_fail_fast_claims_nothing_more(kinds: Project) -> None:
    """--fail-fast: after a failed job nothing more is claimed; what waits stays pending; exit 1."""
    kinds.good("apply")
    kinds.good("enqueue", "bad", "--priority", "1")
    kinds.good("enqueue", "ok")
    answer = kinds.run("run-once", "--fail-fast", "--concurrency", "1", "-o", "json")
    assert (answer.code, answer.json["summary"]["stopped_by"]) == (1, "fail_fast")
    assert kinds.rows("SELECT type, status FROM background_jobs ORDER BY id") == [("bad", "failed"), ("ok", "pending")]


def test_dry_run_says_what_would_run_and_runs_nothing(project: Project, snapshot: SnapshotAssertion) -> None:
    """--dry-run prints the jobs in the order of their claim and the slots that would be skipped, on a copy."""
    project.good("apply", "--now", NOW)
    project.good("enqueue", "strict", "--payload", '{"name": "ä"}', "--at", "2026-01-01", "--priority", "1")
    before, size = project.contents(), project.database.read_bytes()
    answer = project.good("run-once", "--dry-run", "--trigger", "daily", "--now", "2026-11-22T16:10Z")
    assert steady(answer.out) == snapshot
    assert answer.err == ""
    assert (project.contents(), project.database.read_bytes()) == (before, size)
    data = project.good("run-once", "--dry-run", "--now", "2026-11-22T16:10Z", "-o", "json").json
    assert [job["type"] for job in data["jobs"]] == ["strict", "ok"]
    assert (data["format_version"], data["dry_run"]) == (1, True)


def test_a_dry_run_has_the_shape_of_a_run(project: Project) -> None:
    """The same document; what only the copy has carries no number, no revision and no time of its making."""
    project.good("apply", "--now", NOW)
    project.good("enqueue", "ok", "--at", "2026-01-01")
    words = ("run-once", "--trigger", "daily", "--now", "2026-11-22T14:10Z", "-o", "json")
    dry = project.good(*words, "--dry-run").json
    real = project.good(*words).json
    assert set(dry) == set(real) | {"dry_run"}
    assert [set(dry[name][0]) for name in ("jobs", "slots")] == [set(real[name][0]) for name in ("jobs", "slots")]
    assert set(dry["summary"]) == set(real["summary"]) == SUMMARY
    assert {name: dry["summary"][name] for name in ("pending", "slots_fired", "slots_skipped", "refused")} == {
        "pending": 3, "slots_fired": 1, "slots_skipped": 1, "refused": [],
    }  # fmt: skip
    told = {(job["schedule_name"], job["id"], job["revision"], job["created_at"] is None) for job in dry["jobs"]}
    assert told == {(None, 1, 1, False), ("daily", None, 1, True), ("hourly", None, 1, True)}
    assert [(slot["outcome"], slot["job_id"], slot["decided_at"]) for slot in dry["slots"]] == [
        ("skipped_missed", None, None), ("enqueued", None, None),
    ]  # fmt: skip
    assert [slot["slot"] for slot in dry["slots"]] == [slot["slot"] for slot in real["slots"]]


def test_a_dry_run_gives_no_number_of_what_it_made_up(project: Project) -> None:
    """A new file has no revision yet; a job of the dry run that keeps a slot from firing has no number either."""
    data = project.good(
        "run-once", "--dry-run", "--trigger", "hourly", "--since", "24h", "--now", NOW, "-o", "json"
    ).json
    assert {(job["schedule_name"], job["id"], job["revision"]) for job in data["jobs"]} == {
        ("hourly", None, None), ("daily", None, None),
    }  # fmt: skip
    (refused,) = (slot for slot in data["slots"] if slot["outcome"] == "skipped_overlap")
    assert (refused["reason"], refused["blocker_id"]) == ("a job of this run is not finished", None)


def test_a_dry_run_tells_what_would_be_refused(project: Project) -> None:
    """A trigger that the overlap policy refuses is in the summary, as in a run, and on stderr in words."""
    project.good("apply")
    project.good("schedules", "trigger", "hourly")
    said = "schedule hourly was not triggered: job 1 is not finished (overlap: skip)"
    words = ("run-once", "--dry-run", "--trigger", "hourly")
    assert project.good(*words, "-o", "json").json["summary"]["refused"] == [said]
    assert project.good(*words).err == f"would not run: {said}\n"


def test_a_dry_run_forgets_what_was_decided_at_that_time_before(project: Project) -> None:
    """Slots that an earlier run decided at the same --now are not told again."""
    project.good("run-once", "--since", "24h", "--now", NOW)
    data = project.good("run-once", "--dry-run", "--since", "24h", "--now", NOW, "-o", "json").json
    assert (data["jobs"], data["slots"]) == ([], [])


def test_a_dry_run_has_nothing_for_junit(project: Project) -> None:
    """--dry-run --junit FILE is wrong usage, and writes no file."""
    answer = project.run("run-once", "--dry-run", "--trigger-all", "--junit", "reports/junit.xml")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: --junit reports what ran, and --dry-run runs nothing\nhelp: ")
    assert not (project.folder / "reports").exists()


def test_a_dry_run_needs_no_database(project: Project) -> None:
    """Where there is none, a dry run creates none."""
    out = project.good("run-once", "--dry-run").out
    assert out == "Dry run: 0 jobs would run; nothing was changed.\n"
    assert not project.database.exists()


def test_no_sync_uses_the_stored_revision(project: Project) -> None:
    """--no-sync neither reads nor applies the file; without a database it is 7 and creates none, unset it is 5."""
    missing = project.run("run-once", "--no-sync")
    assert (missing.code, project.database.exists()) == (7, False)
    project.good("migrate", "up")
    assert project.run("run-once", "--no-sync").code == 5
    project.good("apply")
    project.write("version: 1\nnonsense: true\n")
    answer = project.good("run-once", "--no-sync", "--trigger", "hourly", "-o", "json")
    assert types(answer) == ["ok"]
    assert project.rows("SELECT max(number) FROM config_revisions") == [(1,)]


def test_concurrency_has_a_flag_an_environment_and_a_file(kinds: Project) -> None:
    """--concurrency before JOBS_CONCURRENCY before MAX_CONCURRENT_JOBS before the file; the worker is registered so."""
    for arguments, env, wanted in (
        (("-c", "schedules.yaml"), {"JOBS_CONCURRENCY": "5", "MAX_CONCURRENT_JOBS": "6"}, 5),
        (("-c", "schedules.yaml"), {"MAX_CONCURRENT_JOBS": "6"}, 6),
    ):
        data = kinds.good(*arguments, "config", "-o", "json", **env).json
        assert {entry["name"]: entry["value"] for entry in data["settings"]}["concurrency"] == wanted


def test_jobs_disabled_says_so_and_is_0(project: Project) -> None:
    """JOBS_ENABLED=false: nothing is fired or run, the reports are there and empty, no database is made."""
    for output in ("text", "json", "jsonl"):
        answer = project.good("run-once", "--trigger-all", "-o", output, JOBS_ENABLED="false")
        assert answer.err == "JOBS_ENABLED is false: nothing is fired and nothing is run\n"
        if output == "json":
            assert set(answer.json) == {"format_version", "summary", "jobs", "slots"}
            assert set(answer.json["summary"]) == SUMMARY
    assert not project.database.exists()


def test_the_database_may_be_named_by_flag_or_environment(project: Project, tmp_path: Path) -> None:
    """--database-url before DATABASE_URL before runner.db beside the file; a bare path is a SQLite file."""
    project.good("--database-url", "flag.db", "run-once", DATABASE_URL="sqlite:///env.db")
    project.good("run-once", DATABASE_URL="env.db")
    project.good("-c", tmp_path / "schedules.yaml", "run-once")
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["env.db", "flag.db", "runner.db"]


def test_junit(kinds: Project) -> None:
    """--junit: one test case a job; failures with their error, reruns as flakyFailure and rerunFailure; valid XML."""
    names = ("s-ok", "s-flaky", "s-always")
    trigger = [word for name in names for word in ("--trigger", name)]
    answer = kinds.run("run-once", *trigger, "--now", NOW, "--junit", "reports/junit.xml")
    assert answer.code == 1
    suite = ET.fromstring((kinds.folder / "reports/junit.xml").read_text(encoding="utf-8"))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "0")
    found = {case.get("classname"): [child.tag for child in case] for case in suite}
    assert found == {"ok": [], "flaky": ["flakyFailure"] * 2, "always": ["failure", "rerunFailure", "rerunFailure"]}
    failure = suite.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "ValueError: no such\N{REPLACEMENT CHARACTER}[31m thing <&>"
    assert failure.get("type") == "ValueError"


def test_a_junit_file_that_cannot_be_written_is_known_before_anything_runs(project: Project) -> None:
    """A path that leads nowhere ends with 2 before the file is applied or a job is run."""
    (project.folder / "file").write_text("")
    for path in (project.folder, "file/junit.xml", "/proc/no/junit.xml"):
        answer = project.run("run-once", "--trigger-all", "--junit", path)
        assert (answer.code, answer.out) == (2, "")
        assert "cannot be written" in answer.err
    assert not project.database.exists()


def test_the_step_summary(kinds: Project, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """Where GITHUB_STEP_SUMMARY is set, a Markdown table is added to it, with what handlers said made harmless."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    kinds.run("run-once", "--trigger", "s-bad", "--trigger", "s-ok", GITHUB_STEP_SUMMARY=str(summary))
    assert steady(summary.read_text(encoding="utf-8")) == snapshot


def test_a_step_summary_that_cannot_be_written_is_a_warning(project: Project) -> None:
    """The summary is a courtesy: where it cannot be written the run is told as it went."""
    answer = project.good("run-once", "--trigger", "hourly", GITHUB_STEP_SUMMARY=str(project.folder))
    assert "1 completed" in answer.out
    assert answer.err.startswith("warning: GITHUB_STEP_SUMMARY: ")


def test_a_refused_trigger_makes_it_1(project: Project) -> None:
    """A trigger that the overlap policy refuses is told on stderr and makes the run bad."""
    project.good("apply")
    project.good("schedules", "trigger", "hourly")
    answer = project.run("run-once", "--trigger", "hourly", "-o", "json")
    assert answer.code == 1
    assert answer.json["summary"]["refused"] == [
        "schedule hourly was not triggered: job 1 is not finished (overlap: skip)"
    ]


def test_a_workflow_says_that_it_comes_later(project: Project) -> None:
    """A schedule that starts a workflow is accepted; --trigger-all passes over it and says so."""
    project.write(BASE + "  flow: {workflow: w, every: 1h}\nworkflows: {w: {steps: {one: {job: ok}}}}\n")
    answer = project.good("run-once", "--trigger-all", "-o", "json")
    assert "flow starts a workflow: workflows come with a later release" in answer.err
    assert len(answer.json["jobs"]) == 2


def test_an_imagined_clock_prunes_nothing(project: Project) -> None:
    """--now in the past or the future: what ran by that clock is still there to be looked at."""
    project.good("run-once", "--trigger", "hourly", "--now", "2020-01-01T00:00Z")
    project.good("run-once", "--now", "2020-01-02T00:00Z")
    assert project.good("jobs", "show", "1", "-o", "json").json["status"] == "completed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "24"), "--since: 24 is not a duration"),
        (("--wait", "soon"), "--wait: soon is not a duration"),
        (("--timeout", "-1s"), "--timeout: -1s is not a duration"),
        (("--since", "99999999d"), "hundred years"),
        (("--now", "tomorrow"), "'tomorrow' is not a time"),
        (("--now", "9999-12-31T23:59:59-14:00"), "out of range"),
        (("--now", "0001-01-01T00:00:00+14:00"), "out of range"),
    ],
)
def test_odd_times_and_durations_are_wrong_usage(project: Project, arguments: tuple[str, ...], said: str) -> None:
    """An option that cannot be read ends with 2, names the option or the value, and nothing is done."""
    answer = project.run("run-once", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert "\nhelp: " in answer.err
