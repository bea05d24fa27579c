"""A database that cannot be used: one clear error with its place and remedy, nothing lost, and it works again after."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from runner.domain.errors import DatabaseUnavailable, RunnerError, UsageError
from runner.domain.job import JobState
from runner.domain.outcome import Completed
from runner.domain.said import LogLine, Progress, Writes
from runner.storage import poke
from runner.storage.database import Database, DatabaseMissing
from runner.storage.dialects import hot
from runner.storage.jobs import JobFilter
from runner.storage.setup import prepare
from runner.storage.sqlite import network_file_system
from tests.contract.databases import engines, everything, steps
from tests.contract.processes import others
from tests.factories import NOW, Stores, end, make_job, make_new_job, make_running, make_worker

NOBODY = 65534


@contextmanager
def reopened(database: Database, *, busy: timedelta = timedelta(milliseconds=50)) -> Iterator[Stores]:
    """The same database for a process of its own that starts now."""
    database.close()
    other = Database(database.url, busy_timeout=busy)
    try:
        yield Stores(other)
    finally:
        other.close()


WRITES: list[Callable[[Stores], Any]] = [
    lambda stores: stores.jobs.enqueue(make_new_job(), NOW),
    lambda stores: stores.jobs.cancel(1, NOW),
    lambda stores: stores.workers.register(make_worker("w9")),
    lambda stores: stores.workers.beat("w1", NOW),
    lambda stores: stores.claims.promote(NOW),
    lambda stores: stores.pruning.jobs(NOW),
]
READS: list[Callable[[Stores], Any]] = [
    lambda stores: stores.jobs.get(1),
    lambda stores: stores.jobs.find(JobFilter()),
    lambda stores: stores.revisions.current(),
    lambda stores: stores.schedules.due(NOW),
]


def each_refused(stores: Stores, calls: list[Callable[[Stores], Any]], message: str) -> None:
    """Every call says what is wrong, where, and what to do."""
    for call in calls:
        with pytest.raises(DatabaseUnavailable, match=message) as caught:
            call(stores)
        assert str(stores.database.path) in caught.value.message
        assert caught.value.hint


def works(stores: Stores) -> None:
    """The whole road of a job."""
    run = make_running(stores, worker_id="again")
    assert stores.logs.write([Writes(run, Progress(5), (LogLine(NOW, "info", "on"),))]) == set()
    assert end(stores, run, Completed()).lost == frozenset()
    assert stores.jobs.get(run.id).status == "completed"


# ---- read-only


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Root ignores the modes of files, so root becomes nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach (pytest's own is private)."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("side_files", [False, True], ids=["clean", "with its WAL"])
def test_a_read_only_file_is_told_and_left_alone_on_sqlite(
    database: Database, open_folder: Path, side_files: bool
) -> None:
    """A file and folder that this user may not write."""
    make_job(Stores(database))
    before = everything(database)
    path = open_folder / "runner.db"
    if side_files:
        for suffix in ("", "-wal"):
            shutil.copy(f"{database.path}{suffix}", f"{path}{suffix}")
    else:
        database.close()
        shutil.copy(database.path, path)
    for file in open_folder.iterdir():
        file.chmod(0o444)
    open_folder.chmod(0o555)
    bytes_before = {file.name: file.read_bytes() for file in open_folder.iterdir()}

    there = Database(f"sqlite:///{path}", busy_timeout=timedelta(milliseconds=50))
    with as_somebody_else():
        each_refused(Stores(there), WRITES, "is read-only|cannot be opened")
        for read in READS:  # an older SQLite cannot even read in WAL mode where it may not write: told in the same way
            with suppress(DatabaseUnavailable):
                read(Stores(there))
    there.close()
    assert {file.name: file.read_bytes() for file in open_folder.iterdir()} == bytes_before

    open_folder.chmod(0o755)
    for file in open_folder.iterdir():
        file.chmod(0o644)
    try:
        assert everything(there) == before
        works(Stores(there))
    finally:
        there.close()


def test_a_new_database_in_a_read_only_folder_on_sqlite(open_folder: Path) -> None:
    """Where nothing may be created, nothing is."""
    open_folder.chmod(0o555)
    there = Database(f"sqlite:///{open_folder}/runner.db")

    with as_somebody_else(), pytest.raises(DatabaseUnavailable, match="cannot be opened") as caught:
        prepare(there)
    there.close()

    assert "folder" in (caught.value.hint or "")
    assert list(open_folder.iterdir()) == []


# ---- not ours


@pytest.mark.parametrize(
    "content", [b"version: 1\nschedules: []\n" * 100, bytes(range(256)) * 64], ids=["text", "bytes"]
)
def test_a_file_that_is_not_sqlite_is_told_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """Not a SQLite database: the file is not touched."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    there = Database(f"sqlite:///{path}")

    try:
        each_refused(Stores(there), WRITES + READS, "is not a SQLite database")
        with pytest.raises(DatabaseUnavailable, match="is not a SQLite database"):
            prepare(there)
    finally:
        there.close()

    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    """A path that names a folder."""
    there = Database(f"sqlite:///{tmp_path}")
    try:
        each_refused(Stores(there), WRITES[:1] + READS[:1], "cannot be opened")
        with pytest.raises(DatabaseUnavailable, match="cannot be opened"):
            prepare(there)
    finally:
        there.close()


def test_somebody_elses_database_lacks_our_tables_on_sqlite(tmp_path: Path) -> None:
    """A SQLite file of another program: told, and not filled with our tables by a mere look."""
    path = tmp_path / "theirs.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (name TEXT)")
    connection.close()
    before = path.read_bytes()
    there = Database(f"sqlite:///{path}")

    try:
        each_refused(Stores(there), READS, "is not one of ours, or was never set up")
    finally:
        there.close()

    assert path.read_bytes() == before


def test_a_damaged_file_is_told_on_sqlite(database: Database, stores: Stores) -> None:
    """Pages that were overwritten: the message says damaged, and how to recover."""
    for _ in range(50):
        make_job(stores)
    database.close()
    with database.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.path.stat().st_size - 4096))

    with reopened(database) as again, pytest.raises(DatabaseUnavailable, match="is damaged") as caught:
        again.jobs.find(JobFilter())
    assert ".recover" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("mysql://localhost/x", UsageError, "no such database: mysql"),
        ("postgresql://localhost/x?schema=Our-Jobs", UsageError, "no name for a schema: Our-Jobs"),
        ("sqlite://", UsageError, "in memory"),
        ("sqlite:///:memory:", UsageError, "in memory"),
        ("://", UsageError, "not a database URL"),
    ],
)
def test_a_url_that_names_no_database_of_ours(url: str, error: type[RunnerError], message: str) -> None:
    """Wrong usage is told before anything is opened."""
    with pytest.raises(error, match=message):
        Database(url)


# ---- locked


def test_a_lock_of_another_process_is_told_and_waited_for_on_sqlite(database: Database, stores: Stores) -> None:
    """Locked by another process: after the busy timeout one clear error; reading goes on; then it works."""
    make_job(stores)
    before = everything(database)

    with reopened(database) as again, others("lock", database.url) as (holder,):
        holder.ask()
        assert holder.answer() == "held"

        each_refused(again, WRITES, r"is locked by another process for longer than 0\.05 s")
        assert again.jobs.get(1).status == "pending"
        assert everything(again.database) == before

        holder.ask()
        assert holder.answer() == "released"
        assert everything(again.database) == before
        works(again)


# ---- a full disk


@contextmanager
def full(database: Database) -> Iterator[None]:
    """The file may not grow beyond its present size: what SQLite says on a full disk."""

    def no_more(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1").fetchall()

    def as_before(connection: Any, *_: Any) -> None:
        if connection is not None:
            connection.execute("PRAGMA max_page_count = 1073741823").fetchall()

    for engine in engines(database):
        event.listen(engine, "checkout", no_more)
        event.listen(engine, "checkin", as_before)
    database.close()  # connections are held; from here on they are fetched anew
    try:
        yield
    finally:
        database.close()
        for engine in engines(database):
            event.remove(engine, "checkout", no_more)
            event.remove(engine, "checkin", as_before)


def test_a_full_database_refuses_and_keeps_all_on_sqlite(database: Database, stores: Stores) -> None:
    """A full disk: nothing is changed, what is there can be read, and it works again when there is space."""
    run = make_running(stores)
    before = everything(database)
    many = [make_new_job(payload={"text": "x" * 3000})] * 500

    with full(database):
        with pytest.raises(DatabaseUnavailable, match="the disk is full") as caught:
            stores.jobs.enqueue_many(many, NOW)
        assert everything(database) == before
        assert stores.jobs.get(run.id).status == "running"

    assert "space" in (caught.value.hint or "")
    assert len(stores.jobs.enqueue_many(many, NOW)) == 500
    works(stores)


def test_a_write_that_is_broken_off_leaves_nothing_and_no_lock(stores: Stores, database: Database) -> None:
    """Also where the statements went by the driver alone, as those of ends do; nobody is woken for it later."""
    run = make_running(stores)
    rung: list[str] = []

    def break_off() -> None:
        with database.write() as connection:
            ended = ("completed", None, None, 0, None, run.id, run.claim_token)
            assert hot(connection).finish(connection, [ended], NOW) == [True]
            poke.mark(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    database.bell.listen(lambda: rung.append("rung"))
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE background_jobs SET message = 'free'")
    found = stores.jobs.get(run.id)
    assert (found.status, found.message, rung) == (JobState.RUNNING, "free", [])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here: the test above stands for this one")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(stores: Stores, made: list[int]) -> None:
    while len(made) < 2000:
        made += [stores.jobs.enqueue(make_new_job(payload={"text": "x" * 2000}), NOW).id]


def test_a_full_disk_loses_nothing_that_was_acknowledged_on_sqlite(small_disk: Path) -> None:
    """A real disk that fills up in the middle of the work: what was answered is there, and space makes it go on."""
    database = Database(f"sqlite:///{small_disk}/runner.db", busy_timeout=timedelta(seconds=1))
    stores = Stores(database)
    try:
        prepare(database)
        ballast, made = small_disk / "ballast", list[int]()
        ballast.write_bytes(b"x" * 200_000)
        with pytest.raises(DatabaseUnavailable, match=r"disk is full|disk error"):
            fill(stores, made)

        assert made
        found = [job.id for job in stores.jobs.find(JobFilter(), limit=5000)[0]]
        assert found == made[::-1]

        ballast.unlink()
        works(stores)
        assert stores.jobs.count(JobFilter()) == len(made) + 1
    finally:
        database.close()


# ---- gone


def test_a_file_that_is_gone_is_missed_and_not_made_anew_on_sqlite(database: Database, stores: Stores) -> None:
    """A deleted file: every door says so, none writes into the void or leaves an empty file; a set-up begins anew."""
    make_job(stores)
    _remove(database)

    for call in WRITES + READS:
        with pytest.raises(DatabaseMissing, match="there is no database at"):
            call(stores)
    assert not database.exists

    prepare(database)
    works(stores)


def test_a_folder_that_is_gone_is_told_on_sqlite(database: Database, tmp_path: Path) -> None:
    """A deleted folder: as the file, and a set-up names the folder."""
    folder = tmp_path / "deeper"
    folder.mkdir()
    there = Database(f"sqlite:///{folder}/runner.db")
    try:
        prepare(there)
        works(Stores(there))
        shutil.rmtree(folder)

        each_refused(Stores(there), WRITES + READS, "there is no database at")
        with pytest.raises(DatabaseUnavailable, match=f"folder of the database, {folder}, does not exist"):
            prepare(there)

        folder.mkdir()
        prepare(there)
        works(Stores(there))
    finally:
        there.close()


def _remove(database: Database) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{database.path}{suffix}").unlink()


def test_a_file_that_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    """A name that is too long, a folder that this user may not enter: SQLite's answer, not a fault of ours."""
    there = Database(f"sqlite:///{tmp_path}/{'x' * 300}.db")
    try:
        assert there.exists
        with pytest.raises(DatabaseUnavailable, match="cannot be opened"):
            Stores(there).jobs.get(1)
    finally:
        there.close()


def test_a_network_file_system_is_refused_on_sqlite(tmp_path: Path) -> None:
    """WAL is refused on a network file system."""
    mounts = tmp_path / "mounts"
    mounts.write_text("disk / ext4 rw 0 0\nserver:/x /net nfs4 rw 0 0\ndisk /net/local ext4 rw 0 0\n")

    found = {
        place: network_file_system(Path(place), mounts) for place in ("/a/b", "/net/a", "/net/local/a", "/network")
    }
    assert found == {"/a/b": None, "/net/a": "nfs4", "/net/local/a": None, "/network": None}


# ---- the same at every step


def test_an_interrupted_write_leaves_nothing_behind_on_sqlite(database: Database, stores: Stores) -> None:
    """Broken off at any step, an enqueue with everything in it leaves nothing; the next one is whole."""
    run = make_running(stores)
    before = everything(database)
    broken = 0
    for budget in range(0, 400, 2):
        try:
            with steps(database, budget):
                end(stores, run, Completed(), children=(make_new_job("letter"),) * 3)
        except DatabaseUnavailable:
            broken += 1
            assert everything(database) == before
        else:
            break

    assert broken > 5
    assert stores.jobs.get(run.id).status == "completed"
    assert stores.jobs.count(JobFilter(type=("letter",))) == 3
