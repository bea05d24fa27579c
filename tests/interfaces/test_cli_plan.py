"""`runner plan` and `runner apply`: what an edit will do, and doing it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from unittest import mock

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.interfaces.cli_project import BASE, NOW, Project, steady

EDITED = BASE.replace('"0 * * * *"', '"*/30 * * * *"').replace("priority: low", "priority: high") + (
    "  late: {job: strict, every: 2h, payload: {name: x}}\n"
)
MANY = BASE.split("schedules:")[0] + "schedules:\n" + "".join(
    f'  s{n}: {{job: ok, cron: "{n} * * * *"}}\n' for n in range(6)
)  # fmt: skip


def test_plan_exits_1_after_an_edit_and_0_after_apply(project: Project) -> None:
    """With --exit-code: 1 where there are changes and they are shown, 0 where there are none; without it always 0."""
    first = project.run("plan", "--exit-code")
    assert first.code == 1
    assert "+ schedule hourly" in first.out
    assert project.good("plan").out.startswith("schedules.yaml against an empty database")
    project.good("apply")
    assert project.good("plan", "--exit-code").out.startswith("No changes. schedules.yaml matches revision 1.")
    project.write(EDITED)
    assert project.run("plan", "--exit-code").code == 1
    assert "Applied as revision 2." in project.good("apply").out
    assert project.good("plan", "--exit-code").err == ""


@pytest.mark.parametrize("output", ["text", "json", "markdown"])
def test_the_plan_of_an_edit(project: Project, output: str, snapshot: SnapshotAssertion) -> None:
    """One edit in each of the three forms: changes, next fire times before and after, effects, one summary."""
    project.good("apply", "--now", NOW)
    project.good("enqueue", "strict", "--payload", '{"name": "waits"}', "--at", "2100-01-01")
    project.write(EDITED)
    answer = project.good("plan", "--now", NOW, "-o", output)
    assert answer.err == ""
    assert steady(answer.out, project.folder) == snapshot


def test_the_plan_as_json(project: Project) -> None:
    """format_version, changes (action, kind, name, fields, next_before, next_after, effects), warnings, summary."""
    project.good("apply", "--now", NOW)
    project.write(EDITED)
    data = project.good("plan", "--now", NOW, "-o", "json").json
    assert data["format_version"] == 1
    assert {"changes", "warnings", "summary"} <= set(data)
    keys = {"action", "kind", "name", "fields", "next_before", "next_after", "effects"}
    assert all(keys <= set(change) for change in data["changes"])
    assert {(one["action"], one["kind"], one["name"]) for one in data["changes"]} == {
        ("change", "schedule", "hourly"), ("change", "job_type", "strict"), ("add", "schedule", "late"),
    }  # fmt: skip


def test_next_says_how_many_fire_times(project: Project) -> None:
    """--next N shows N fire times of each schedule."""
    for number in (0, 5):
        data = project.good("plan", "--next", number, "--now", NOW, "-o", "json").json
        hourly = next(change for change in data["changes"] if change["name"] == "hourly")
        assert len(hourly["next_after"]) == number


def test_looking_never_creates_a_database(project: Project) -> None:
    """plan, validate, the lists, doctor, config and the next fire times neither create nor migrate a database."""
    for looking in (
        "plan", "validate", "jobs list", "schedules list", "schedules next", "schedules history", "doctor", "config",
        "schema", "migrate status", "migrate sql", "run-once --dry-run --trigger-all", "plan --against schedules.yaml",
    ):  # fmt: skip
        assert project.run(*looking.split()).code == 0, looking
        assert sorted(path.name for path in project.folder.iterdir()) == ["schedules.yaml"], looking


def test_looking_changes_nothing(project: Project) -> None:
    """Where there is a database, the same commands leave every row and its schema as they are."""
    project.good("apply")
    project.good("enqueue", "ok")
    project.good("schedules", "trigger", "hourly")
    project.write(EDITED)
    before = project.contents()
    for looking in (
        "plan", "validate", "jobs list", "jobs show 1", "jobs logs 1", "schedules list", "schedules next",
        "schedules history", "doctor", "config", "migrate status", "migrate check", "run-once --dry-run --trigger-all",
        "run-once --dry-run --since 24h --now 2027-01-01T00:30Z",
    ):  # fmt: skip
        assert project.run(*looking.split()).code == 0, looking
        assert project.contents() == before, looking


def test_plan_against_a_file_needs_no_database(project: Project) -> None:
    """--against OLD.yaml compares two files: no database is looked for, not even a broken one."""
    project.write(BASE, "old.yaml")
    project.write(EDITED)
    (project.folder / "runner.db").write_bytes(b"this is no database" * 100)
    answer = project.run("plan", "--against", "old.yaml", "-o", "markdown", "--exit-code", "--now", NOW)
    assert answer.code == 1
    assert "hourly" in answer.out
    assert answer.err == ""
    same = project.run("plan", "--against", "schedules.yaml", "--exit-code")
    assert same.code == 0


def test_plan_against_a_file_writes_nothing(project: Project) -> None:
    """It works in a folder that may not be written, and without one for temporary files."""
    project.write(BASE, "old.yaml")
    project.write(EDITED)
    project.folder.chmod(0o555)
    try:
        with mock.patch("builtins.open", _read_only(open)):
            answer = project.good("plan", "--against", "old.yaml", "-o", "markdown", TMPDIR="/nonexistent")
    finally:
        project.folder.chmod(0o755)
    assert "late" in answer.out
    assert sorted(path.name for path in project.folder.iterdir()) == ["old.yaml", "schedules.yaml"]


def _read_only(real: object) -> object:
    """`open` that refuses to write: who runs the tests may be root, whom a folder's mode does not stop."""

    def opened(file: object, mode: str = "r", *rest: object, **options: object) -> object:
        assert not set(mode) & set("wax+") or str(file) == os.devnull, f"{file} was opened with {mode}"
        return real(file, mode, *rest, **options)  # type: ignore[operator]

    return opened


def test_a_bad_old_file_is_3(project: Project) -> None:
    """--against a file that is missing or invalid ends with 3 and says which file."""
    answer = project.run("plan", "--against", "nope.yaml")
    assert (answer.code, answer.out) == (3, "")
    assert "there is no file nope.yaml" in answer.err


def test_comments_and_order_make_no_revision(project: Project) -> None:
    """An edit of comments and key order alone changes nothing: no revision, no new next_run."""
    project.good("apply")
    before = project.contents()
    head, tail = BASE.split("schedules:\n")
    first, second = tail.splitlines()
    project.write(f"# said anew\n{head}# and here\nschedules:\n{second}\n{first}  # swapped\n")
    assert project.good("plan", "--exit-code").code == 0
    answer = project.good("apply", "-o", "json").json
    assert (answer["format_version"], answer["revision"], answer["is_new"]) == (1, 1, False)
    assert project.contents()["cron_schedules"] == before["cron_schedules"]
    assert project.rows("SELECT count(*) FROM config_revisions") == [(1,)]


def test_mass_removal_needs_to_be_allowed(project: Project) -> None:
    """An edit that retires most schedules ends with 4 and changes nothing, until --allow-removals says it is meant."""
    project.write(MANY)
    project.good("apply")
    project.write("\n".join(MANY.splitlines()[:-4]) + "\n")
    before = project.contents()
    for refused in (project.run("apply"), project.run("run-once")):
        assert (refused.code, refused.out) == (4, "")
        assert "would retire 4 schedules: s2, s3, s4, s5" in refused.err
        assert "--allow-removals" in refused.err
    assert project.contents() == before
    assert "Applied as revision 2." in project.good("apply", "--allow-removals").out
    assert project.rows("SELECT count(*) FROM cron_schedules WHERE retired_at IS NULL") == [(2,)]


def test_a_revision_that_came_in_between_is_a_conflict(project: Project) -> None:
    """Where another process applied a revision since this plan was made: 6, and theirs stays in force."""
    from runner.domain import plan as planning

    project.good("apply")
    theirs = project.write(BASE.replace("0 6 * * *", "0 7 * * *"), "theirs.yaml")
    project.write(EDITED)
    real = planning.plan
    calls: list[int] = []

    def overtaken(*arguments: object, **options: object) -> object:
        made = real(*arguments, **options)  # type: ignore[arg-type]
        if not calls:
            calls.append(1)
            assert project.process("--database-url", project.database, "apply", theirs).code == 0
        return made

    with mock.patch.object(planning, "plan", overtaken):
        answer = project.run("apply")
    assert (answer.code, answer.out) == (6, "")
    assert re.search("revision", answer.err)
    assert "\nhelp: " in answer.err
    assert project.rows("SELECT max(number) FROM config_revisions") == [(2,)]


def test_a_failed_apply_leaves_what_was_there(project: Project) -> None:
    """An invalid file ends with 3 before the database is touched."""
    project.good("apply")
    before = project.contents()
    project.write(EDITED.replace("job: strict", "job: strikt"))
    answer = project.run("apply")
    assert (answer.code, answer.out) == (3, "")
    assert 'did you mean "strict"' in answer.err
    assert project.contents() == before


def test_a_program_reads_next_fire_times_without_a_database(project: Project, tmp_path: Path) -> None:
    """`-c FILE schedules next NAME --count N --now TIME -o json` is the shape that other programs rely on."""
    data = project.good(
        "-c", tmp_path / "schedules.yaml", "schedules", "next", "daily", "--count", 2, "--now", "2026-10-24T00:00Z",
        "-o", "json",
    ).json  # fmt: skip
    (daily,) = data["schedules"]
    assert data["format_version"] == 1
    assert (daily["name"], daily["cron"], daily["timezone"]) == ("daily", "0 6 * * *", "Europe/Berlin")
    assert daily["next"] == [
        {"utc": "2026-10-24T04:00:00+00:00", "local": "2026-10-24T06:00:00+02:00"},
        {"utc": "2026-10-25T05:00:00+00:00", "local": "2026-10-25T06:00:00+01:00"},
    ]
