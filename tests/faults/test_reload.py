"""Hot reload with real tools on the real process, while a schedule fires each second and a job runs all the time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.projects import FILE, Project
from tests.faults.served import Served, apply, check_whole, command, serve
from tests.waiting import eventually

SCHEDULES = """
schedules:
  second: {job: quick, every: 1s, overlap: allow, catch_up: all, payload: {edit: 0}}
  edited: {job: quick, cron: "0 6 1 1 *"}
  paused: {job: quick, cron: "30 6 1 1 *"}
"""
TICKS = "SELECT slot FROM schedule_slots WHERE schedule_name = 'second'"
REJECTED = "configuration rejected: revision"


def start(project: Project) -> Served:
    """Serve, with a job that runs until the file `open` appears."""
    project.note("schedule", name="second", every=1)
    apply(project)
    project.note("enqueued", job=project.enqueue("stuck"))
    served = serve(project)
    eventually(lambda: project.count("begin") >= 1, "the long job")
    return served


def finish(project: Project, served: Served) -> None:
    """No job was stopped, no slot doubled or dropped."""
    (project.folder / "open").touch()
    eventually(lambda: project.rows("SELECT status FROM background_jobs WHERE type = 'stuck'")[0]["status"] ==
               "completed", "the long job to end")  # fmt: skip
    assert served.stop() == 0
    history = check_whole(project, "completed", "pending")
    assert not history.of("failed")
    assert {row["outcome"] for row in history.of("slot")} == {"enqueued"}
    assert {(row["run_number"], row["stalls"]) for row in history.of("job") if row["status"] == "completed"} == {(1, 0)}


def text(project: Project, hour: int, edit: int) -> str:
    """The file with another fire time for one schedule, and another payload for the one that fires each second."""
    return (FILE + SCHEDULES).replace('"0 6', f'"0 {hour}').replace("edit: 0", f"edit: {edit}")


def await_hour(project: Project, hour: int, what: str) -> None:
    """`next_run` in the database, and what `schedules list` says of it."""
    began = time.monotonic()

    def is_in_force() -> bool:
        (row,) = project.rows("SELECT next_run FROM cron_schedules WHERE name = 'edited'")
        return bool(row["next_run"][11:13] == f"{hour:02}")

    eventually(is_in_force, f"next_run after a save by {what}")
    seconds = time.monotonic() - began
    print(f"{what}: in force {seconds:.2f} s after the save")
    assert seconds < 10  # two seconds on a machine that is not busy
    assert listed(project)["edited"]["next_run"][11:13] == f"{hour:02}"


def listed(project: Project) -> dict[str, dict[str, Any]]:
    code, said = command(project, "schedules", "list", "-o", "json")
    assert code == 0, said
    return {row["name"]: row for row in json.loads(said)["schedules"]}


# ---- tools


def by_vim(file: Path, wanted: str, *, copy: str) -> None:
    """Vim writes a new file and renames it, or copies the old one away and writes in place."""
    commands = [f"set backupcopy={copy}", *substitutions(wanted), "wq"]
    subprocess.run(["vim", "-u", "NONE", "-es", *(f"+{one}" for one in commands), str(file)], check=True)
    assert file.read_text() == wanted


def by_sed(file: Path, wanted: str) -> None:
    script = [part for one in substitutions(wanted) for part in ("-e", one.removeprefix("%"))]
    subprocess.run(["sed", "-i", *script, str(file)], check=True)
    assert file.read_text() == wanted


def substitutions(wanted: str) -> list[str]:
    """As vim and sed both understand them: the hour of `edited`, the payload of `second`."""
    numbers = [r'"0 [0-9]*', "edit: [0-9]*"]
    return [f"%s/{one}/{re.findall(one, wanted)[0]}/" for one in numbers]


def by_mv(file: Path, wanted: str) -> None:
    draft = file.parent / "traces/draft"
    draft.write_text(wanted)
    subprocess.run(["mv", str(draft), str(file)], check=True)


def in_halves(file: Path, wanted: str) -> None:
    """A slow writer: what is there for a second ends in the middle of a line."""
    cut = wanted.index("paused: {job") + 10
    file.write_text(wanted[:cut])
    eventually_after(1.0)
    with open(file, "a", encoding="utf-8") as rest:
        rest.write(wanted[cut:])


def fifty_times(file: Path, wanted: str) -> None:
    """Fifty saves in a second, by turns in place and by rename; the last one counts."""
    draft = file.parent / "traces/draft"
    for number in range(50):
        last = wanted if number == 49 else re.sub(r'"0 [0-9]*', f'"{number} 5', wanted)
        if number % 2:
            file.write_text(last)
        else:
            draft.write_text(last)
            draft.rename(file)
        eventually_after(0.018)


def eventually_after(seconds: float) -> None:
    """The writer's own pace: it is a part of the fault."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= until, "a pause")


TOOLS: dict[str, Callable[[Path, str], None]] = {
    "vim, renaming": lambda file, wanted: by_vim(file, wanted, copy="no"),
    "vim, in place": lambda file, wanted: by_vim(file, wanted, copy="yes"),
    "sed -i": by_sed,
    "mv": by_mv,
    "halves, a second apart": in_halves,
    "fifty saves in a second": fifty_times,
}


def test_every_way_to_save(project: Project) -> None:
    """Each is in force two seconds later, also in the database; what was paused stays so, and nothing else notices."""
    (project.folder / "schedules.yaml").write_text(FILE + SCHEDULES)
    served = start(project)
    assert command(project, "schedules", "pause", "paused")[0] == 0
    for number, (what, save) in enumerate(TOOLS.items(), 7):
        if what.startswith("vim") and shutil.which("vim") is None:
            print(f"{what}: skipped, there is no vim here")
            continue
        save(project.folder / "schedules.yaml", text(project, hour=number, edit=number))
        await_hour(project, number, what)

    assert listed(project)["paused"]["paused_at"] is not None
    applied = served.told("configuration applied")
    assert len(applied) <= 2 * len(TOOLS), "fifty saves in a second are not fifty revisions"
    assert len(served.told()) < 2000
    last = f"SELECT 1 FROM background_jobs WHERE payload LIKE '%{number}%' AND type = 'quick'"
    eventually(lambda: project.rows(last), "a tick with the last payload")
    finish(project, served)


def test_a_swapped_symlink(project: Project) -> None:
    """As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is renamed onto another folder."""
    folder, file = project.folder, project.folder / "schedules.yaml"
    file.unlink()
    for number in (6, 7):
        (folder / f"..2026_{number}").mkdir()
        (folder / f"..2026_{number}/schedules.yaml").write_text(text(project, hour=number, edit=number))
    (folder / "..data").symlink_to("..2026_6")
    file.symlink_to("..data/schedules.yaml")
    served = start(project)
    (folder / "..data_tmp").symlink_to("..2026_7")
    subprocess.run(["mv", "-T", str(folder / "..data_tmp"), str(folder / "..data")], check=True)
    shutil.rmtree(folder / "..2026_6")

    await_hour(project, 7, "a swapped ..data")
    finish(project, served)


def test_a_broken_edit(project: Project) -> None:
    """The old schedules stay in force, log and status say why, and the next good edit counts."""
    file = project.folder / "schedules.yaml"
    file.write_text(FILE + SCHEDULES)
    served = start(project)
    good = text(project, hour=8, edit=8)
    before = "06"
    broken = {
        "torn": lambda: file.write_text(good[: good.index("paused: {job") + 10]),
        "empty": lambda: file.write_text(""),
        "gone": file.unlink,
        "wrong": lambda: file.write_text(good.replace("every: 1s", "every: banana")),
    }
    for number, (how, save) in enumerate(broken.items(), 1):
        save()
        eventually(lambda number=number: len(refused(served)) == number, f"{how}: the refusal")  # type: ignore[misc]
        ticks = len(project.rows(TICKS))
        eventually(lambda ticks=ticks: len(project.rows(TICKS)) > ticks, "the old ones to fire")  # type: ignore[misc]
        assert listed(project)["edited"]["next_run"][11:13] == before
        said = refused(served)[-1]
        print(f"{how}: {said['event']}: {said['details']}")
        code, status = command(project, "status")
        assert code == 0
        assert why(said["details"][0]) in " ".join(status.split()), status
        good = text(project, hour=7 + number, edit=number)
        file.write_text(good)
        await_hour(project, 7 + number, f"a good edit after one that is {how}")
        before = f"{7 + number:02}"
    assert len(refused(served)) == len(broken)
    assert "Traceback" not in served.log.read_text()
    finish(project, served)


def why(detail: str) -> str:
    """The message alone, of `FILE:1:2: error[code]: message (help: remedy)`."""
    return detail.split("]: ", 1)[1].split(" (help", 1)[0]


def refused(served: Served) -> list[dict[str, Any]]:
    return [line for line in served.told() if line["event"].startswith(REJECTED)]


def test_a_start_with_a_torn_file(project: Project) -> None:
    """Exit 3, with what is wrong; `--last-good` starts from the stored revision."""
    file = project.folder / "schedules.yaml"
    apply(project)
    whole = file.read_text()
    file.write_text(whole[: whole.index("stuck: {") + 12])
    code, said = command(project, "serve")
    assert code == 3, said
    assert "schedules.yaml:" in said
    assert "Traceback" not in said

    project.enqueue("quick")
    served = serve(project, "--last-good")
    served.await_told("job completed")
    assert served.stop() == 0
    check_whole(project)


def test_concurrency_under_running_jobs(project: Project) -> None:
    """Raised and lowered by edits: what runs goes on, and the log, the row and `status` say the new one."""
    file = project.folder / "schedules.yaml"
    apply(project)
    for _ in range(8):
        project.note("enqueued", job=project.enqueue("turn"))
    served = serve(project)

    def set_to(options: str) -> None:
        by_mv(file, FILE.replace("concurrency: 4", options))

    def running() -> int:
        return len(project.rows("SELECT id FROM background_jobs WHERE status = 'running'"))

    def in_the_row() -> list[int]:
        return [row["concurrency"] for row in project.rows("SELECT concurrency FROM workers")]

    eventually(lambda: running() == 4, "four jobs at once")
    set_to("concurrency: 7")
    eventually(lambda: running() == 7, "seven jobs at once")
    served.await_told("settings changed: concurrency 4 -> 7")
    assert "7 of 7 running" in command(project, "status")[1]

    set_to("concurrency: 3, heartbeat: 500ms, stalled_after: 2s")
    served.await_told("settings changed: concurrency 7 -> 3, heartbeat 10s -> 500ms, stalled_after 1m -> 2s")
    eventually(lambda: in_the_row() == [3], "the row")
    assert "7 of 3 running" in command(project, "status")[1]
    assert running() == 7, "none is stopped"
    began = project.count("begin")
    (project.folder / "open-1").touch()
    eventually(lambda: not project.rows("SELECT 1 FROM background_jobs WHERE status != 'completed'"), "all jobs")
    assert (began, project.count("begin")) == (7, 8)
    assert served.stop() == 0
    history = check_whole(project)
    assert {row["run_number"] for row in history.of("job")} == {1}
    assert "Traceback" not in served.log.read_text()


def test_a_flag_and_a_variable_win_over_an_edit(project: Project) -> None:
    """What they gave stays, and the log says who gave it; what would not go together with it is refused alone."""
    file = project.folder / "schedules.yaml"
    apply(project)
    served = serve(project, "--concurrency", "2", RUNNER_HEARTBEAT="15s")
    file.write_text(FILE.replace("concurrency: 4", "concurrency: 9, stalled_after: 40s, retention: 7d"))

    served.await_told("settings changed: retention 30d -> 7d")
    (kept,) = served.await_told("settings kept: concurrency 2 (flag --concurrency)")
    (refused,) = served.await_told(
        "settings kept: heartbeat 15s (environment RUNNER_HEARTBEAT), stalled_after 1m (default)"
    )
    assert (kept["level"], refused["level"]) == ("info", "warning")
    assert refused["reason"] == "stalled_after must be at least three times heartbeat"
    (row,) = project.rows("SELECT concurrency, stalled_after FROM workers")
    assert (row["concurrency"], row["stalled_after"]) == (2, 60.0)
    assert served.stop() == 0
