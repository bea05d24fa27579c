"""`runner jobs` and `runner enqueue`: looking at jobs, making them, stopping them, putting them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.interfaces.cli_project import BASE, Project, steady
from tests.interfaces.conftest import answered
from tests.interfaces.test_cli_run_once import JOB

HUGE = "9" * 20
NOT_UTF8 = "a\udcffb"


@pytest.fixture(params=["database", "server"])
def applied(request: pytest.FixtureRequest, project: Project) -> Iterator[Project]:
    """All of it with the database, and with a server before it: the same words, the same codes."""
    project.write(BASE + "".join(f"  x{n}: {{job: ok, every: 10d}}\n" for n in range(2)))
    project.good("apply", "--now", "2090-01-01T12:00:00Z")  # no slot comes by itself, whenever this runs
    if request.param == "database":
        yield project
        return
    with answered(project):
        yield project


def bulk(project: Project, *lines: Any) -> Any:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    return project.run("enqueue", "--bulk", "-", "-o", "json", stdin=text.encode("utf-8", "surrogateescape"))


# ---- enqueue


def test_enqueue_makes_a_pending_job_and_says_its_number(applied: Project) -> None:
    """One line, or {"format_version", "id", "status", "duplicate"}; the policy is the type's."""
    assert applied.good("enqueue", "ok").out == "job 1 (ok)\n"
    data = applied.good("enqueue", "strict", "--payload", '{"name": "x"}', "-o", "json").json
    assert data == {"format_version": 1, "id": 2, "status": "pending", "duplicate": False}
    assert applied.rows("SELECT priority, queue FROM background_jobs WHERE id = 2") == [(8, "slow-lane")]


def test_a_payload_comes_from_the_line_a_file_or_standard_input(applied: Project) -> None:
    """--payload JSON, @FILE or -; the characters arrive as they are."""
    payload = '{"name": "ä\\u2028\U0001f600"}'
    applied.write(payload, "payload.json")
    applied.good("enqueue", "strict", "--payload", payload)
    applied.good("enqueue", "strict", "--payload", "@payload.json")
    assert applied.run("enqueue", "strict", "--payload", "-", stdin=payload.encode()).code == 0
    jobs = applied.good("jobs", "list", "-o", "json").json["jobs"]
    assert [job["payload"] for job in jobs] == [{"name": "ä\u2028\U0001f600"}] * 3


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("nope", "not JSON"),
        ("", "not JSON"),
        ("[]", "must be an object"),
        ("5", "must be an object"),
        ("null", "must be an object"),
        ("{}", "name"),
        ('{"name": 1}', "text"),
        ('{"name": "x", "more": 1}', "more"),
        ('{"name": NaN}', "NaN"),
        ('{"name": "x", "name": "a\\u0000b"}', "stored"),
        ('{"name": "\\ud800"}', "stored"),
        ("[" * 100_000, "nested too deeply"),
        ("@nope.json", "No such file"),
        ("@.", "Is a directory"),
        ("@", "cannot be read"),
        ("@broken.json", "not UTF-8"),
        ("@a\0b", "cannot be read"),
    ],
    ids=range(17),
)
def test_a_bad_payload_is_2_and_makes_no_job(applied: Project, payload: str, said: str) -> None:
    """What is no JSON object, breaks the schema or cannot be stored ends with 2 and one sentence."""
    (applied.folder / "broken.json").write_bytes(b'\xff\xfe{"name": 1}')
    answer = applied.run("enqueue", "strict", "--payload", payload)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert said in answer.err.partition("help:")[0]
    assert applied.rows("SELECT count(*) FROM background_jobs") == [(0,)]


def test_broken_bytes_on_standard_input_are_2(applied: Project) -> None:
    """Bytes that are no UTF-8 are named as such, from standard input too."""
    for arguments in (("strict", "--payload", "-"), ("--bulk", "-")):
        answer = applied.run("enqueue", *arguments, stdin=b"\xff\xfe{")
        assert (answer.code, answer.err) == (2, "error: standard input is not UTF-8 text\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "give a job type"),
        (("ok", "--bulk", "x"), 2, "give a job type"),
        (("--bulk", "x", "--priority", "1"), 2, "with --bulk"),
        (("okk",), 5, 'did you mean "ok"?'),
        ((NOT_UTF8,), 5, "no job type"),
        (("ok", "--priority", "11"), 2, "no such priority"),
        (("ok", "--priority", "urgent"), 2, "no such priority"),
        (("ok", "--in", "5"), 2, "delay: 5 is not a duration"),
        (("ok", "--in", "99999999999d"), 2, "hundred years"),
        (("ok", "--at", "yesterday"), 2, "is not a time"),
        (("ok", "--at", "2026-01-01", "--in", "5s"), 2, "not both"),
        (("ok", "--at", "9999-12-31T23:59:59-14:00"), 2, "out of range"),
        (("ok", "--project", NOT_UTF8), 2, "project_id"),
        (("--bulk", "nope.jsonl"), 2, "No such file"),
        (("--bulk", "."), 2, "Is a directory"),
    ],
)
def test_a_bad_call_makes_no_job(applied: Project, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Each wrong option has its exit code and one sentence that names it."""
    answer = applied.run("enqueue", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert applied.rows("SELECT count(*) FROM background_jobs") == [(0,)]


def test_bulk_takes_json_lines(applied: Project) -> None:
    """One job a line, with payload, priority, run_at, delay, project_id; blank lines are passed over."""
    answer = bulk(
        applied, {"type": "ok"}, "", {"type": "strict", "payload": {"name": "a\u2028b"}, "priority": "high"},
        {"type": "ok", "run_at": "2100-01-01T00:00Z", "project_id": "p"}, {"type": "ok", "delay": "1h", "priority": 3},
    )  # fmt: skip
    assert answer.code == 0
    assert answer.json["format_version"] == 1
    assert [job["id"] for job in answer.json["jobs"]] == [1, 2, 3, 4]
    assert applied.rows("SELECT priority, project_id FROM background_jobs ORDER BY id") == [
        (5, None), (2, None), (5, "p"), (3, None),
    ]  # fmt: skip
    assert applied.run("enqueue", "--bulk", "-", stdin=b"\n").out == "0 jobs enqueued\n"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("{", 2, "not JSON"),
        ("[]", 2, "not an object with a type"),
        ({"type": 5}, 2, "not an object with a type"),
        ({"type": "okk"}, 5, "no job type 'okk'"),
        ({"type": "ok", "priorty": 1}, 2, "unknown key 'priorty'"),
        ({"type": "ok", "payload": 5}, 2, "must be an object"),
        ({"type": "ok", "run_at": 5}, 2, "run_at must be text"),
        ({"type": "ok", "delay": 5}, 2, "delay must be text"),
        ({"type": "ok", "delay": "5"}, 2, "not a duration"),
        ({"type": "ok", "project_id": [5]}, 2, "project_id must be text"),
        ({"type": "ok", "project_id": "a\u0000b"}, 2, "project_id"),
        ({"type": "ok", "priority": {}}, 2, "no such priority"),
        ({"type": "ok", "priority": True}, 2, "no such priority"),
        ({"type": "ok", "priority": 99}, 2, "no such priority"),
    ],
)
def test_bulk_is_all_or_nothing(applied: Project, line: Any, code: int, said: str) -> None:
    """One bad line: its number and what is wrong on stderr, and no job at all."""
    answer = bulk(applied, {"type": "ok"}, line, {"type": "ok"})
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert "line 2" in answer.err
    assert "nothing was enqueued" in answer.err
    assert applied.rows("SELECT count(*) FROM background_jobs") == [(0,)]


def test_a_duplicate_says_so_and_is_0(project: Project) -> None:
    """A unique type: the job that is there already is returned, as one that is there already."""
    project.write(
        BASE.replace(
            "{handler: tests.interfaces.cli_handlers.ok}",
            "{handler: tests.interfaces.cli_handlers.ok, unique: finished}",
        )
    )
    project.good("apply")
    project.good("enqueue", "ok")
    assert "job 1 is there already" in project.good("enqueue", "ok").out
    assert project.good("enqueue", "ok", "-o", "json").json["duplicate"] is True


# ---- jobs


def test_jobs_list(applied: Project, snapshot: SnapshotAssertion) -> None:
    """Newest first, one line each, whole when not on a terminal."""
    applied.good("enqueue", "ok", "--at", "2100-01-01")
    applied.run("run-once", "--trigger", "x0")
    applied.good("enqueue", "bad")
    applied.run("run-once", "--type", "bad")
    answer = applied.good("jobs", "list")
    assert steady(answer.out) == snapshot
    assert answer.err == ""


def test_jobs_list_as_json_pages_by_cursor(applied: Project) -> None:
    """{"format_version", "jobs", "next"}: each job in full, `next` is the cursor of the next page or null."""
    bulk(applied, *[{"type": "ok"}] * 5)
    first = applied.good("jobs", "list", "--limit", 2, "-o", "json").json
    assert set(first) == {"format_version", "jobs", "next"}
    assert set(first["jobs"][0]) == JOB
    seen, page = [job["id"] for job in first["jobs"]], first
    while page["next"] is not None:
        page = applied.good("jobs", "list", "--limit", 2, "--after", page["next"], "-o", "json").json
        seen += [job["id"] for job in page["jobs"]]
    assert seen == [5, 4, 3, 2, 1]
    assert "more: runner jobs list --after 4" in applied.good("jobs", "list", "--limit", 2).err


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("--status", "pending"), [3, 2]),
        (("--status", "pending,cancelled"), [3, 2, 1]),
        (("--status", "failed"), []),
        (("--type", "strict"), [2]),
        (("--queue", "slow-lane"), [2]),
        (("--project", "p"), [3]),
        (("--since", "1h"), [3, 2, 1]),
        (("--until", "1h"), []),
        (("--since", "2100-01-01"), []),
        (("--q", "strict"), [2]),
        (("--q", "%"), []),
        (("--type", "nope"), []),
        (("--after", HUGE), [3, 2, 1]),
    ],
)
def test_jobs_list_filters(applied: Project, arguments: tuple[str, ...], ids: list[int]) -> None:
    """Each filter narrows the list; a filter that matches nothing is an empty list and 0."""
    bulk(applied, {"type": "ok"}, {"type": "strict", "payload": {"name": "x"}}, {"type": "ok", "project_id": "p"})
    applied.good("jobs", "cancel", "1")
    found = applied.good("jobs", "list", *arguments, "-o", "json").json["jobs"]
    assert [job["id"] for job in found] == ids


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--status", "done"), "no such status: done"),
        (("--since", "nope"), "is not a time"),
        (("--since", "24"), "--since: 24 is not a duration"),
        (("--until", "99999999d"), "hundred years"),
        (("--q", NOT_UTF8), "not UTF-8"),
    ],
)
def test_jobs_list_with_odd_values(applied: Project, arguments: tuple[str, ...], said: str) -> None:
    """What cannot be read is wrong usage."""
    answer = applied.run("jobs", "list", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


def test_jobs_show(applied: Project, snapshot: SnapshotAssertion) -> None:
    """One job: what there is to say, its attempts, its error whole at the end, with nothing that moves the cursor."""
    applied.run("run-once", "--trigger", "hourly")
    bulk(applied, {"type": "bad"})
    applied.run("run-once", "--type", "bad")
    assert steady(applied.good("jobs", "show", "1").out) == snapshot(name="completed")
    shown = steady(applied.good("jobs", "show", "2").out)
    assert "\x1b" not in shown
    assert shown.partition("Traceback")[0] == snapshot(name="failed")
    data = applied.good("jobs", "show", "1", "-o", "json").json
    assert set(data) == JOB | {"format_version", "outputs", "queue_position"}


def test_outputs_are_named(project: Project) -> None:
    """What a handler put out is listed with its type and size."""
    project.write(BASE.replace("cli_handlers.bad", "cli_handlers.output"))
    project.good("apply")
    project.good("enqueue", "bad")
    project.good("run-once")
    assert "report.txt (text/plain, 16 bytes)" in project.good("jobs", "show", "1").out
    data = project.good("jobs", "show", "1", "-o", "json").json
    assert data["outputs"] == [{"name": "report.txt", "media_type": "text/plain", "bytes": 16}]


def test_jobs_logs(applied: Project) -> None:
    """The lines with time and level; --after continues; no lines is no error."""
    applied.good("run-once", "--trigger", "hourly")
    assert steady(applied.good("jobs", "logs", "1").out) == "TIME info  hello\n"
    data = applied.good("jobs", "logs", "1", "-o", "json").json
    assert [line["message"] for line in data["lines"]] == ["hello"]
    assert applied.good("jobs", "logs", "1", "--after", HUGE).out == ""
    assert applied.good("jobs", "logs", "1", "--after", HUGE).err == "job 1 has no log lines\n"


def test_cancel_and_retry(applied: Project) -> None:
    """A pending job is cancelled at once and can be put back; what is too late is 6, what is not there 5."""
    applied.good("enqueue", "ok")
    assert applied.good("jobs", "cancel", "1", "--reason", "not now").out == "job 1: cancelled\n"
    assert applied.rows("SELECT status, error FROM background_jobs") == [("cancelled", "not now")]
    late = applied.run("jobs", "cancel", "1")
    assert (late.code, late.out, late.err) == (6, "", "error: job 1 is already cancelled\n")
    assert applied.good("jobs", "retry", "1").out == "job 1: pending\n"
    assert applied.run("jobs", "retry", "1").code == 6
    several = applied.run("jobs", "cancel", "7", "1", HUGE, "-o", "json")
    assert several.code == 5
    assert [(job["id"], job["result"]) for job in several.json["jobs"]] == [
        (7, None), (1, "cancelled"), (int(HUGE), None),
    ]  # fmt: skip


@pytest.mark.parametrize("number", ["0", "99", HUGE])
@pytest.mark.parametrize("command", ["show", "logs", "watch", "cancel", "retry"])
def test_a_job_that_is_not_there_is_5(applied: Project, command: str, number: str) -> None:
    """However large the number."""
    answer = applied.run("jobs", command, number)
    assert (answer.code, answer.out) == (5, "")
    assert answer.err.startswith(f"error: there is no job {number}\n")
