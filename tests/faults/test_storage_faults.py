"""The database is locked, its disk is full, its folder is gone: nothing is lost, the log says so, and it goes on by
itself once it can."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.domain.errors import DatabaseUnavailable
from tests.faults.projects import FILE, Project
from tests.faults.served import FAILED, RECOVERED, Served, apply, check_whole, command, serve
from tests.faults.soak import HOLD_THE_LOCK
from tests.waiting import eventually

SCHEDULES = """
schedules:
  second: {job: quick, every: 1s, overlap: allow, catch_up: all}
"""


def begin(project: Project, **environ: str) -> Served:
    """Serve, with a schedule that fires each second and a job that runs until `open` appears."""
    (project.folder / "schedules.yaml").write_text(FILE + SCHEDULES)
    project.note("schedule", name="second", every=1)
    code, said = command(project, "--database-url", str(project.database), "apply")
    assert code == 0, said
    project.note("enqueued", job=project.enqueue("stuck"))
    served = serve(project, **environ)
    eventually(lambda: project.count("begin") >= 1, "the long job")
    return served


def go_on(project: Project, *served: Served) -> None:
    """After the fault: what was running is settled, what is new runs, every slot is in the ledger once."""
    (project.folder / "open").touch()
    project.note("enqueued", job=project.enqueue("quick"))
    slots = len(project.rows("SELECT * FROM schedule_slots"))
    eventually(lambda: len(project.rows("SELECT * FROM schedule_slots")) > slots, "the schedule to fire again")
    eventually(lambda: all(row["status"] == "completed" for row in project.rows(BY_HAND)), "all to be completed")
    eventually(lambda: project.rows("SELECT 1 FROM schedule_slots LIMIT 1"), "the first slot")
    assert [one.stop() for one in served] == [0] * len(served)
    assert {row["run_number"] for row in project.rows(BY_HAND)} == {1}, "nothing had to run again"
    for one in served:
        assert "Traceback" not in one.log.read_text()
    check_whole(project, "completed", "pending")


BY_HAND = "SELECT status, run_number FROM background_jobs WHERE schedule_name IS NULL"


def failures(served: Served) -> list[str]:
    return [line["error"] for line in served.told(FAILED)]


def test_locked_for_ten_seconds(project: Project) -> None:
    """A worker that is patient waits; one that is not says once for each duty that the database is locked, and when it
    goes on."""
    served = begin(project, RUNNER_BUSY_TIMEOUT="3s")
    patient = serve(project)
    script = [sys.executable, "-c", HOLD_THE_LOCK, str(project.database), "10"]
    locker = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
    assert locker.stdout is not None
    assert locker.stdout.readline() == "held\n"
    project.note("fault", fault="lock")
    with pytest.raises(DatabaseUnavailable, match="is locked by another process"):
        enqueue_impatiently(project)
    locker.communicate()

    assert any("is locked by another process" in error for error in failures(served)), "the lock did nothing"
    eventually(lambda: len(served.told(RECOVERED)) == len(failures(served)), "each duty to go on")
    assert len(failures(served)) == len({line["loop"] for line in served.told(FAILED)}), "told once for each duty"
    assert failures(patient) == []
    go_on(project, served, patient)


def enqueue_impatiently(project: Project) -> None:
    from datetime import timedelta

    from runner.storage.database import Database

    database = Database(str(project.database), busy_timeout=timedelta(milliseconds=100))
    try:
        with database.write():
            pass
    finally:
        database.close()


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes, where we may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk(project: Project, small_disk: Path) -> None:
    """Enqueuing is refused, what ends waits for its settle, and once there is space it goes on without a restart."""
    database = small_disk / "runner.db"
    project.at = database
    served = begin(project, DATABASE_URL=f"sqlite:///{database}")
    filler = fill(small_disk / "filler")
    project.note("fault", fault="disk full")
    (project.folder / "open").touch()
    eventually(lambda: project.count("end") >= 1, "the end of the handler")
    eventually(lambda: any("disk is full" in error for error in failures(served)), "the full disk to be told")
    code, said = command(project, "enqueue", "quick", DATABASE_URL=f"sqlite:///{database}")
    assert code == 7, said
    assert "disk is full" in said
    assert project.rows(BY_HAND) == [{"status": "running", "run_number": 1}], "no silent success"

    filler.unlink()
    go_on(project, served)


def fill(file: Path) -> Path:
    """Take all that is left, to the last byte."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (64 * 1024, 4096, 1):
            try:
                while True:
                    os.write(descriptor, b"\0" * size)
            except OSError:
                continue
    finally:
        os.close(descriptor)
    return file


def test_a_quota(project: Project) -> None:
    """The same by a limit on the size of files, which needs no rights: set on the process, and lifted again."""
    served = begin(project)
    limit_files(served.pid, 32 * 1024)
    project.note("fault", fault="quota")
    (project.folder / "open").touch()
    eventually(lambda: any("disk" in error for error in failures(served)), "the quota to be told")

    limit_files(served.pid, resource.RLIM_INFINITY)
    go_on(project, served)


def limit_files(pid: int, size: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


# ---- a folder that is gone


@pytest.mark.parametrize("how", ["moved away", "deleted"])
def test_the_folder_of_the_database_is_gone(project: Project, how: str) -> None:
    """No traceback, no silent success: every duty says that there is no database, and goes on when it is back."""
    folder = project.folder / "data"
    folder.mkdir()
    project.at = folder / "runner.db"
    url = f"sqlite:///{project.at}"
    served = begin(project, DATABASE_URL=url)
    copy = project.folder / "copy"
    if how == "moved away":
        folder.rename(copy)
    else:
        quiet(project, url)  # what is written after the copy is lost with the folder
        back_up(project.database, copy)
        shutil.rmtree(folder)
    project.note("fault", fault=how)
    eventually(lambda: any("there is no database at" in error for error in failures(served)), "the log to say so")
    code, said = command(project, "enqueue", "quick", DATABASE_URL=url)
    assert code == 7, said
    assert "there is no database" in said
    assert not folder.exists(), "nobody makes a new one by accident"

    copy.rename(folder)
    go_on(project, served)


def quiet(project: Project, url: str) -> None:
    """Nothing is fired and nothing ends any more; the long job goes on."""
    code, said = command(project, "schedules", "pause", "second", DATABASE_URL=url)
    assert code == 0, said
    open_ones = "SELECT 1 FROM background_jobs WHERE schedule_name = 'second' AND completed_at IS NULL"
    eventually(lambda: not project.rows(open_ones), "the jobs of the schedule to end")


def back_up(database: Path, folder: Path) -> None:
    folder.mkdir()
    source, target = sqlite3.connect(database), sqlite3.connect(folder / database.name)
    source.backup(target)
    source.close()
    target.close()


def test_another_database_in_its_place(project: Project) -> None:
    """What is written goes into the file that is there now, not into one that nobody can see any more."""
    served = begin(project)
    (project.folder / "open").touch()
    eventually(lambda: project.rows(BY_HAND)[0]["status"] == "completed", "the first job")
    for file in project.folder.glob("runner.db*"):
        file.unlink()
    (project.folder / "traces/history.jsonl").unlink()
    apply(project)
    project.note("enqueued", job=project.enqueue("quick"))
    eventually(lambda: project.rows(BY_HAND)[0]["status"] == "completed", "a job of the new database")

    assert served.stop() == 0
    assert "Traceback" not in served.log.read_text()
