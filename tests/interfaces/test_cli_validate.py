"""`runner validate`, `config` and `schema`: the file, checked and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.interfaces.cli_project import BASE, ROOT, Project, steady

MISTAKES = """\
version: 1
timezone: Europe/Berln
runner: {handler_packages: [tests]}
job_types:
  ok: {handler: tests.interfaces.cli_handlers.ok, priorty: high}
  gone: {handler: tests.interfaces.cli_handlers.okk}
  late: {handler: tests.interfaces.cli_handlers.ok, timeout: 10}
schedules:
  a: {job: okay, cron: "0 * * * *"}
  b: {job: ok, cron: "61 * * * *"}
  c: {job: ok, cron: "0 0 30 2 *"}
  d: {job: ok}
"""
PLACES = [  # line and column of each mistake above
    (2, 11, "timezone"),
    (5, 51, "job_types.ok.priorty"),
    (6, 19, "job_types.gone.handler"),
    (7, 62, "job_types.late.timeout"),
    (9, 12, "schedules.a.job"),
    (10, 22, "schedules.b.cron"),
    (11, 22, "schedules.c.cron"),
    (12, 3, "schedules.d"),
]


def test_eight_mistakes_are_eight_problems_at_their_places(project: Project) -> None:
    """All problems at once, in file order, each at the line and column of its scalar or key; exit 1."""
    project.write(MISTAKES)
    answer = project.run("validate", "-o", "json")
    assert answer.code == 1
    assert answer.json["format_version"] == 1
    problems = answer.json["problems"]
    assert [(one["line"], one["column"], one["path"]) for one in problems] == PLACES
    keys = {"code", "severity", "line", "column", "path", "message", "hint"}
    assert all(set(one) == keys and one["severity"] == "error" for one in problems)


def test_problems_are_shown_with_caret_and_remedy(project: Project, snapshot: SnapshotAssertion) -> None:
    """FILE:LINE:COL: error[CODE]: message, the line with a caret, and help; at the end how many."""
    project.write(MISTAKES)
    answer = project.run("validate")
    assert answer.code == 1
    assert answer.err == ""
    assert answer.out == snapshot


def test_github_annotations(project: Project) -> None:
    """-o github: one command a line with file, line and column, and nothing else."""
    project.write(MISTAKES)
    lines = project.run("validate", "-o", "github").out.splitlines()
    assert len(lines) == 8
    for line, (row, column, _) in zip(lines, PLACES, strict=True):
        assert line.startswith(f"::error file=schedules.yaml,line={row},col={column},title=runner%3A ")


def test_a_valid_file_says_what_it_holds(project: Project) -> None:
    """A valid file: 0, one line with what is in it; no problems in JSON; nothing at all for GitHub."""
    assert project.good("validate").out == "schedules.yaml: valid, 2 schedules, 4 job types\n"
    assert project.good("validate", "-o", "json").json == {"format_version": 1, "problems": []}
    assert project.good("validate", "-o", "github").out == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"# nothing but a comment\n", "empty"),
        (b"\xff\xfe\x00v", "UTF-8"),
        (b"version: 1\x00", ""),
        (b"version: 1\njob_types: {ok: {handler: tests.x", ""),
        (b"- a\n- b\n", "mapping"),
        (b"x" * (2 << 20), "larger than 1 MiB (1,048,576 bytes)"),
        (b"[" * 100 + b"]" * 100, "64"),
        (
            b"a: &a [x, x]\nb: &b [*a, *a]\n"
            + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(98, 121)),
            "",
        ),
        (b"version: !!python/object:os.system 1\n", "tag"),
    ],
    ids=["empty", "comment", "binary", "nul", "half-written", "list", "huge", "deep", "bomb", "tag"],
)
def test_a_bad_file_is_a_problem_with_a_place(project: Project, content: bytes, said: str) -> None:
    """Whatever the file holds: problems with a place, exit 1; for a command that needs the file exit 3, no database."""
    (project.folder / "schedules.yaml").write_bytes(content)
    answer = project.run("validate", "-o", "json")
    assert answer.code == 1
    assert answer.json["problems"][0]["line"] >= 1
    assert said in answer.json["problems"][0]["message"]
    for needing in ("apply", "plan", "run-once"):
        refused = project.run(needing)
        assert (refused.code, refused.out) == (3, "")
        assert refused.err.startswith("schedules.yaml:1:") or "schedules.yaml:" in refused.err
        assert "help: runner validate schedules.yaml" in refused.err
    assert not project.database.exists()


def test_a_missing_file_a_folder_and_an_unreadable_name(project: Project, tmp_path: Path) -> None:
    """A name that leads to no file is a problem with a remedy, for `validate` and for what needs the file."""
    for name, said in (("nope.yaml", "there is no file"), (str(tmp_path), "is a folder"), ("a" * 300, "")):
        answer = project.run("validate", name)
        assert answer.code == 1
        assert said in answer.out
        assert project.run("-c", name, "schedules", "next").code == 3


def test_c_names_the_file_and_so_does_the_argument(project: Project) -> None:
    """-c before the command and FILE after it name the file; the message names it as it was given."""
    project.write(BASE, "other/jobs.yaml")
    (project.folder / "schedules.yaml").unlink()
    assert project.good("-c", "other/jobs.yaml", "validate").out.startswith("other/jobs.yaml: valid")
    assert project.good("validate", "other/jobs.yaml").out.startswith("other/jobs.yaml: valid")
    assert project.good("validate", RUNNER_CONFIG="other/jobs.yaml").out.startswith("other/jobs.yaml: valid")


def test_a_handler_that_cannot_be_used_is_told_at_its_place(project: Project) -> None:
    """A handler that is not there or takes other arguments: `validate` 1, `run-once` 3, with its place in the file."""
    for name, said in (("okk", "did you mean 'ok'"), ("wrong_signature", "ctx, payload")):
        project.write(BASE.replace("cli_handlers.bad", f"cli_handlers.{name}"))
        checked, run = project.run("validate"), project.run("run-once", "--trigger-all")
        assert (checked.code, run.code) == (1, 3)
        assert "schedules.yaml:5:18: error[handler]" in checked.out
        assert "schedules.yaml:5:18: error[handler]" in run.err
        assert said in checked.out
        assert project.good("validate", "--no-import").out.startswith("schedules.yaml: valid")
    assert not project.database.exists()


def test_a_package_that_stands_in_the_way_is_named(project: Project) -> None:
    """A folder `handlers` without __init__.py loses against an installed package of that name, and the help says so."""
    project.write("def one(ctx, payload): ...\n", "handlers/mine.py")
    project.write("version: 1\njob_types: {one: {handler: handlers.mine.one}}\n")
    answer = project.process("validate")  # its PYTHONPATH holds the `handlers` of this repository
    assert answer.code == 1
    assert (
        f"help: handlers was found in {ROOT}/handlers; put an empty __init__.py into {project.folder}/handlers"
        in answer.out
    )
    project.write("", "handlers/__init__.py")
    assert project.process("validate").code == 0


def test_config_shows_each_value_with_its_origin(project: Project, snapshot: SnapshotAssertion) -> None:
    """`config`: settings with flag, environment, file or default as origin, then the resolved file."""
    project.write(BASE.replace("{handler_packages: [tests]}", "{handler_packages: [tests], concurrency: 3}"))
    text = project.good("config", RUNNER_HEARTBEAT="5s").out
    settings, _, file = steady(text, project.folder).partition("\n\n")
    said_by_the_file = [line for line in file.splitlines() if "built-in" not in line]
    assert "\n".join([settings, "", *said_by_the_file]) == snapshot
    data = project.good("config", "-o", "json", RUNNER_HEARTBEAT="5s").json
    values = {entry["name"]: (entry["value"], entry["origin"]) for entry in data["settings"]}
    assert values["heartbeat"] == (5.0, "environment RUNNER_HEARTBEAT")
    assert values["concurrency"] == (3, "file")
    assert values["jobs_enabled"] == (True, "default")
    assert {entry["name"]: entry["origin"] for entry in data["file"]}["schedules.hourly.job"] == "file:13"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOBS_ENABLED", "maybe"), ("JOBS_CONCURRENCY", "0"), ("JOBS_CONCURRENCY", "many"),
        ("JOBS_CONCURRENCY", "9" * 5000),
        ("MAX_CONCURRENT_JOBS", "-1"), ("RUNNER_HEARTBEAT", "10"), ("RUNNER_HEARTBEAT", "50s"),
        ("RUNNER_BUSY_TIMEOUT", "99999999999d"), ("DATABASE_URL", "mysql://host/x"), ("DATABASE_URL", "://"),
    ],
)  # fmt: skip
def test_an_environment_that_cannot_be_read_is_wrong_usage(project: Project, name: str, value: str) -> None:
    """A variable with a bad value ends with 2 and says what it wants; it is never passed over."""
    answer = project.run("run-once", **{name: value})
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert "\nhelp: " in answer.err
    assert not project.database.exists()


def test_schema_prints_the_schema_of_the_file(project: Project) -> None:
    """`schema` prints the JSON Schema that the project ships, whole."""
    shipped = Path(__file__).parents[2] / "schemas" / "schedules.schema.json"
    assert json.loads(project.good("schema").out) == json.loads(shipped.read_text(encoding="utf-8"))


UNSET = """\
version: 1
runner: {handler_packages: [tests]}
job_types:
  ok: {handler: tests.interfaces.cli_handlers.ok}
schedules:
  hourly: {job: ok, cron: "0 * * * *", payload: {name: "${WHO}"}}
"""
BACKFILL = ("schedules", "backfill", "hourly", "--from", "2026-01-01T00:00Z", "--to", "2026-01-01T02:00Z")


@pytest.mark.parametrize(
    "command",
    [("plan",), ("apply",), ("run-once",), ("schedules", "next"), ("schedules", "trigger", "hourly"), BACKFILL],
)
def test_an_unset_variable_is_told_alike_from_the_file_and_from_the_database(
    project: Project, command: tuple[str, ...]
) -> None:
    """Whoever finds it, in the file or in the stored revision: schedule, place, remedy, and exit 3."""
    project.write(UNSET)
    project.good("apply", WHO="me")
    answer = project.run(*command)
    assert (answer.code, answer.out) == (3, "")
    assert "the environment has no WHO, which schedules.hourly.payload.name refers to\n" in answer.err
    assert "help: set it, or write ${WHO:-default}\n" in answer.err
    problem = project.run("validate", "-o", "json").json["problems"][0]
    assert f"{problem['message']}\n" in answer.err
