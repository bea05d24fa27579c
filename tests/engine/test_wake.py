"""Wake-up: what is committed is told to the live workers at once, after the commit and never before."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlmodel import Session

import runner
from runner.config.intake import Call
from runner.domain.access_rows import AuditEntry
from runner.domain.errors import DatabaseUnavailable
from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.domain.lifecycle import settle
from runner.domain.outcome import Completed, Failed, Outcome, Released
from runner.domain.said import LogLine, Writes
from runner.engine import worker as worker_module
from runner.engine.janitor import Janitor
from runner.engine.loop import Clock
from runner.engine.wake import Ear
from runner.programs import KEPT
from runner.storage import poke
from runner.storage.access import AccessStore
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from runner.storage.settling import Settlement
from tests.contract.databases import engines
from tests.engine.bench import Bench, kind, make_bench
from tests.factories import (
    DAY,
    NOW,
    Stores,
    end,
    make_definitions,
    make_edit,
    make_job,
    make_new_job,
    make_running,
    make_schedule,
    make_worker,
    start,
)
from tests.waiting import eventually

LINE_UP = 200


@pytest.fixture
def dialect() -> str:
    """Sockets belong to a file; how PostgreSQL tells is in test_notify_postgresql.py."""
    return "sqlite"


class Listener:
    """A socket as a worker of another process has it, named in a row."""

    def __init__(self, stores: Stores, worker_id: str = "other") -> None:
        self.file = poke.socket_file(stores.database.path, worker_id)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        poke.reach(self._socket.bind, self.file)
        stores.workers.register(make_worker(worker_id, wake_socket=self.file.name))

    def heard(self) -> int:
        """How many pokes came since the last call."""
        count = 0
        with suppress(BlockingIOError):
            while self._socket.recv(1):
                count += 1
        return count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def stores(bench: Bench) -> Stores:
    bench.define(kind("ok"), kind("mail", "ok"), schedules=[make_schedule("a", job="ok", overlap="queue")])
    return Stores(bench.app.database)


@pytest.fixture
def listener(stores: Stores) -> Iterator[Listener]:
    made = Listener(stores)
    yield made
    made.close()


@pytest.fixture
def slow_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that look only when they are told, so that nothing but the telling can have been the cause."""
    monkeypatch.setattr(worker_module, "POLL", 1000.0)


# ---- which commits


Act = Callable[[], object]


def retried(bench: Bench, stores: Stores) -> Act:
    job = make_job(stores, JobState.FAILED).id or 0
    return lambda: stores.jobs.retry(job, NOW)


def cancelled(bench: Bench, stores: Stores) -> Act:
    run = make_running(stores)
    return lambda: stores.jobs.cancel(run.id, NOW)


def with_child(bench: Bench, stores: Stores) -> Act:
    run = make_running(stores)
    return lambda: end(stores, run, Completed(), children=(make_new_job("ok"),))


def ended(outcome: Outcome) -> Callable[[Bench, Stores], Act]:
    def prepared(bench: Bench, stores: Stores) -> Act:
        run = make_running(stores)
        return lambda: end(stores, run, outcome)

    return prepared


def first_of_two(bench: Bench, stores: Stores) -> Act:
    """The second waits until the first has ended."""
    first = bench.scheduler().trigger("a", NOW)
    bench.scheduler().trigger("a", NOW)
    run = start(stores, first.id)
    return lambda: end(stores, run, Completed())


def replaced(bench: Bench, stores: Stores) -> Act:
    """A cancel of a pending job lets the next one start."""
    first = bench.scheduler().trigger("a", NOW)
    bench.scheduler().trigger("a", NOW)
    return lambda: stores.jobs.cancel(first.id, NOW)


def rescued(bench: Bench, stores: Stores) -> Act:
    run = make_running(stores)
    return lambda: stores.claims.rescue(["w1"], [Settlement(run, settle(run, Released(), NOW, Random(0)))], NOW)


def resumed(bench: Bench, stores: Stores) -> Act:
    stores.schedules.pause("a", NOW, by="me", reason=None)
    return lambda: stores.schedules.resume("a", NOW)


def at_once(act: Callable[[Bench, Stores], object]) -> Callable[[Bench, Stores], Act]:
    return lambda bench, stores: lambda: act(bench, stores)


MAKES_WORK: dict[str, Callable[[Bench, Stores], Act]] = {
    "enqueue": at_once(lambda bench, stores: stores.jobs.enqueue(make_new_job("ok"), NOW)),
    "bulk": at_once(lambda bench, stores: stores.jobs.enqueue_many([make_new_job("ok")] * 3, NOW)),
    "app": at_once(lambda bench, stores: bench.app.enqueue("ok", {}, Call())),
    "program": at_once(lambda bench, stores: runner.enqueue("ok", database_url=bench.app.database.url)),
    "trigger": at_once(lambda bench, stores: bench.scheduler().trigger("a", NOW)),
    "fired slot": at_once(lambda bench, stores: bench.scheduler().tick(NOW + DAY)),
    "backfill": at_once(lambda bench, stores: bench.scheduler().backfill("a", NOW - DAY, NOW - DAY / 2, NOW)),
    "operator's retry": retried,
    "cancel of a running job": cancelled,
    "child job": with_child,
    "the end of what another waits for": first_of_two,
    "the cancel of what another waits for": replaced,
    "release": ended(Released()),
    "rescue": rescued,
    "resume": resumed,
    "apply": at_once(lambda bench, stores: bench.define(kind("ok"), limits={"n": 1})),
}
"""Each of these changes what a live worker may do now."""

MAKES_NONE: dict[str, Callable[[Bench, Stores], Act]] = {
    "claim": lambda bench, stores: partial(claimed, stores, make_job(stores)),
    "beat": at_once(lambda bench, stores: stores.workers.beat("other", NOW)),
    "register": at_once(lambda bench, stores: stores.workers.register(make_worker("new"))),
    "the end of a run": ended(Completed()),
    "a retry that is due later": ended(Failed("x")),
    "prune": lambda bench, stores: partial(pruned, stores, make_job(stores, JobState.COMPLETED)),
    "pause": at_once(lambda bench, stores: stores.schedules.pause("a", NOW, by="me", reason=None)),
    "apply of what is in force": at_once(
        lambda bench, stores: stores.revisions.apply(make_edit(bench.definitions, 1), NOW)
    ),
}
"""None of these does."""


def claimed(stores: Stores, job: Job) -> None:
    assert stores.claims.claim(ClaimRequest("w1", [Lane("default", "mail")], 1), NOW)


def pruned(stores: Stores, job: Job) -> None:
    assert stores.pruning.jobs(NOW + DAY) == 1


@pytest.mark.parametrize("what", MAKES_WORK)
def test_what_makes_work_pokes_the_workers(bench: Bench, stores: Stores, listener: Listener, what: str) -> None:
    """Each of these commits reaches the socket that a worker of another process names."""
    act = MAKES_WORK[what](bench, stores)
    listener.heard()
    act()
    assert listener.heard() >= 1


@pytest.mark.parametrize("what", MAKES_NONE)
def test_what_makes_no_work_pokes_nobody(bench: Bench, stores: Stores, listener: Listener, what: str) -> None:
    """An idle worker is not woken by beats, claims and ends."""
    act = MAKES_NONE[what](bench, stores)
    listener.heard()
    act()
    assert listener.heard() == 0


def enqueue_and_break(database: Database) -> None:
    with database.write() as connection:
        poke.mark(connection)
        connection.execute(text("DELETE FROM limits"))
        raise ZeroDivisionError


def test_what_was_rolled_back_pokes_nobody(bench: Bench, stores: Stores, listener: Listener) -> None:
    """Neither at once nor with the next commit on the same connection."""
    with pytest.raises(ZeroDivisionError):
        enqueue_and_break(bench.app.database)
    stores.workers.register(make_worker("new"))
    stores.workers.forget("new")
    assert listener.heard() == 0


def test_who_is_poked_sees_the_job(bench: Bench, stores: Stores) -> None:
    """The poke comes after the commit: a look in the very moment finds the job."""
    seen: list[int] = []
    other = Database(bench.app.database.url)

    def look() -> None:
        with other.read() as connection:
            seen.append(connection.execute(text("SELECT count(*) FROM background_jobs")).scalar_one())

    bench.app.database.bell.listen(look)
    stores.jobs.enqueue(make_new_job("ok"), NOW)
    bench.app.database.bell.forget(look)
    stores.jobs.enqueue(make_new_job("ok"), NOW)
    other.close()
    assert seen == [1]


# ---- a program's own transaction


def test_a_session_pokes_after_its_commit_and_not_before(bench: Bench, stores: Stores, listener: Listener) -> None:
    """Not at the enqueue, not at a savepoint, and not where it was rolled back."""
    engine = runner.create_engine(bench.app.database.url)
    with Session(engine) as session:
        with session.begin_nested():
            runner.enqueue("ok", session=session)
        session.flush()
        assert listener.heard() == 0
        session.commit()
        assert listener.heard() == 1
        session.exec(text("SELECT 1"))  # type: ignore[call-overload]
        session.commit()
        assert listener.heard() == 0, "once for each transaction"
        runner.enqueue("ok", session=session)
        session.rollback()
        session.exec(text("SELECT 1"))  # type: ignore[call-overload]
        session.commit()
        assert listener.heard() == 0
    engine.dispose()


def test_a_session_inside_a_transaction_of_somebody_else(bench: Bench, stores: Stores, listener: Listener) -> None:
    """Its commit is none: who began the transaction may still roll it back."""
    engine = runner.create_engine(bench.app.database.url)
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            runner.enqueue("ok", session=session)
            session.commit()
        assert listener.heard() == 0
        outer.rollback()
    engine.dispose()
    assert bench.all_jobs() == []


def test_a_scoped_session_pokes_for_itself_alone(bench: Bench, stores: Stores, listener: Listener) -> None:
    """The registry stands for the session behind it; sessions of other threads are not touched."""
    engine = runner.create_engine(bench.app.database.url)
    registry = scoped_session(sessionmaker(engine))
    runner.enqueue("ok", session=registry)  # type: ignore[arg-type]
    registry.commit()
    assert listener.heard() == 1
    with registry.session_factory() as other:
        assert list(other.dispatch.after_commit) == []
    registry.remove()
    engine.dispose()


def test_a_session_on_a_schema_without_sockets(bench: Bench, stores: Stores) -> None:
    """A program that was upgraded before its database goes on: workers of that schema look for themselves."""
    with bench.app.database.write() as connection:
        connection.execute(text("ALTER TABLE workers DROP COLUMN wake_socket"))
    engine = runner.create_engine(bench.app.database.url)
    with Session(engine) as session:
        runner.enqueue("ok", session=session)
        session.commit()
    engine.dispose()
    assert len(bench.all_jobs()) == 1


# ---- the sender is never held up


def test_a_full_socket_holds_nobody_up(stores: Stores, listener: Listener) -> None:
    """A worker that does not read, stopped for example, costs those who enqueue nothing, and loses nothing."""
    for _ in range(LINE_UP):
        stores.jobs.enqueue(make_new_job("ok"), NOW)
    assert 0 < listener.heard() < LINE_UP
    stores.jobs.enqueue(make_new_job("ok"), NOW)
    assert listener.heard() == 1


@pytest.mark.parametrize("name", ["gone.sock", "../elsewhere.sock", "runner.db", "x" * 300, "nul\0byte"])
def test_a_socket_that_cannot_be_reached_fails_nobody(bench: Bench, stores: Stores, name: str) -> None:
    """No such file, outside the folder, no socket, no name for a file: the enqueue stands."""
    outside = bench.app.database.path.parent.parent / "elsewhere.sock"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as trap:
        poke.reach(trap.bind, outside)
        stores.workers.register(make_worker("odd", wake_socket=name))
        stores.jobs.enqueue(make_new_job("ok"), NOW)
        with pytest.raises(BlockingIOError):
            trap.recv(1)
    outside.unlink()
    assert len(bench.all_jobs()) == 1


# ---- the socket


def test_a_socket_lies_beside_the_database_and_goes_with_its_worker(bench: Bench) -> None:
    """Its name is in the row; after the end there is no file, no thread and no listener."""
    folder = bench.app.database.path.parent
    bench.define(kind("ok"))
    with bench.worker():
        (row,) = bench.app.workers.all()
        assert row.wake_socket == f"runner.db.{row.id}.sock"
        assert stat.S_ISSOCK((folder / row.wake_socket).stat().st_mode)
        assert bench.app.database.bell.sockets == {row.wake_socket}
        assert "wake" in {thread.name for thread in threading.enumerate()}
    assert list(folder.glob("*.sock")) == []
    assert "wake" not in {thread.name for thread in threading.enumerate()}
    assert (bench.app.database.bell._listeners, bench.app.database.bell.sockets) == ([], set())


@pytest.mark.parametrize("depth", [0, 12])
def test_an_ear_hears_other_databases_objects(tmp_path: Path, depth: int) -> None:
    """Also where the path is longer than the 107 bytes of a socket's address, and through a link to the file."""
    folder = tmp_path.joinpath(*["a-long-name-of-a-folder"] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    bench = make_bench(folder)
    link = tmp_path / "link.db"
    link.symlink_to(bench.app.database.path)
    heard = threading.Event()
    ear = Ear(bench.app.database, "w", heard.set)
    bench.app.workers.register(make_worker("w", wake_socket=ear.name))
    for path in (bench.app.database.path, link):
        other = Database(str(path))
        heard.clear()
        Stores(other).jobs.enqueue(make_new_job("ok"), NOW)
        eventually(heard.is_set, "the poke")
        other.close()
    ear.close()
    bench.app.close()
    assert list(folder.glob("*.sock")) == []


def test_who_may_write_the_database_may_poke(bench: Bench) -> None:
    """Whatever the umask of the worker is: a group that shares the database shares the wake-up."""
    bench.app.database.path.chmod(0o660)
    before = os.umask(0o077)
    try:
        ear = Ear(bench.app.database, "w", lambda: None)
    finally:
        os.umask(before)
    mode = poke.socket_file(bench.app.database.path, "w").stat().st_mode
    ear.close()
    assert stat.S_IMODE(mode) == 0o660


def test_without_a_socket_the_own_process_is_still_told(bench: Bench, stores: Stores) -> None:
    """Where the file system has none, the row names none, and a commit of this process wakes by a call."""
    place = poke.socket_file(bench.app.database.path, "w")
    place.write_text("taken")
    heard: list[str] = []
    ear = Ear(bench.app.database, "w", lambda: heard.append("woken"))
    stores.jobs.enqueue(make_new_job("ok"), NOW)
    ear.close()
    assert (ear.name, heard) == (None, ["woken"])
    assert place.read_text() == "taken"


def test_own_commits_wake_once(bench: Bench, stores: Stores, listener: Listener) -> None:
    """By the call, not by the own socket once more."""
    heard: list[str] = []
    bench.app.database.bell.sockets.add(listener.file.name)
    bench.app.database.bell.listen(lambda: heard.append("woken"))
    stores.jobs.enqueue(make_new_job("ok"), NOW)
    assert (heard, listener.heard()) == (["woken"], 0)


KILLED = """
import sys
from runner.engine.wake import Ear
from runner.storage.database import Database
Ear(Database(sys.argv[1]), "killed", lambda: None)
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_janitor_removes_the_socket_of_a_killed_worker_and_no_other(bench: Bench, stores: Stores) -> None:
    """Nobody listens there any more; a live worker's stays, and a poke to the dead one fails nobody."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, bench.app.database.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    dead = poke.socket_file(bench.app.database.path, "killed")
    assert dead.exists()
    stores.workers.register(make_worker("killed", wake_socket=dead.name, lock_file=str(free_lock(bench))))
    live = Ear(bench.app.database, "live", lambda: None)
    alive = poke.socket_file(bench.app.database.path, "live")
    stores.jobs.enqueue(make_new_job("ok"), NOW)
    app = bench.app
    janitor = Janitor("me", app.workers, app.claims, app.pruning, app.events.emit, Random(0))

    janitor.rescue(NOW)
    assert (dead.exists(), alive.exists()) == (False, True)
    live.close()


def free_lock(bench: Bench) -> Path:
    path = bench.app.database.path.with_name("runner.db.killed.lock")
    path.touch()
    return path


def test_prune_takes_all_kinds(bench: Bench, stores: Stores) -> None:
    """Jobs with all they said, slots, revisions, workers and sockets: the janitor's one call ends when none is left."""
    old = NOW - 40 * DAY
    stores.revisions.apply(make_edit(make_definitions(make_schedule("a", job="ok"), limits={"n": 1}), base=1), old)
    stores.revisions.apply(make_edit(make_definitions(make_schedule("a", job="ok"), limits={"n": 2}), base=2), old)
    bench.scheduler().backfill("a", old - DAY / 4, old, old)
    for job in bench.all_jobs():
        stores.jobs.cancel(job.id or 0, old)
    stores.workers.register(make_worker("gone", last_heartbeat=old))
    acts = [AuditEntry(at=at, who="me", address="local", action="cancel", target="job 1") for at in (old, NOW)]
    access = AccessStore(bench.app.database)
    access.audit(acts)
    stale = poke.socket_file(bench.app.database.path, "stale")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as made:
        poke.reach(made.bind, stale)
    app = bench.app
    janitor = Janitor("me", app.workers, app.claims, app.pruning, app.events.emit, Random(0))

    assert janitor.prune(NOW, 30 * DAY) > 10
    assert bench.all_jobs() == []
    assert len(bench.slots()) == 1
    assert [bool(one.source) for one in stores.revisions.history()] == [True, False, False]
    assert (stores.workers.all(), stale.exists()) == ([], False)
    assert [one.at for one in access.audited()] == [NOW]


def test_pruning_never_holds_the_lock_for_long(bench: Bench, stores: Stores) -> None:
    """A job of many lines, too: no transaction of the janitor takes more than 500 rows."""
    old = NOW - 40 * DAY
    run = make_running(stores, now=old)
    stores.logs.write([Writes(run, lines=(LogLine(old, "info", "said"),) * 1200)])
    end(stores, run, Completed(), now=old)
    relaxed, totals = engines(bench.app.database)[1], [0]

    def note(connection: Connection) -> None:
        totals.append(connection.connection.driver_connection.total_changes)  # type: ignore[union-attr]

    event.listen(relaxed, "begin", note)
    event.listen(relaxed, "commit", note)
    app = bench.app
    Janitor("me", app.workers, app.claims, app.pruning, app.events.emit, Random(0)).prune(NOW, 30 * DAY)
    event.remove(relaxed, "begin", note)
    event.remove(relaxed, "commit", note)

    assert bench.all_jobs() == []
    assert max(after - before for before, after in zip(totals[1::2], totals[2::2], strict=True)) == 500


# ---- a worker


ENQUEUE = """
import sys, runner
print(runner.enqueue("ok", {"n": 1}, database_url=sys.argv[1]).id)
"""


class Serving:
    """A worker in a thread of its own, as a service has it: it waits until it is woken."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self.clock, self._ended = bench, Clock(), threading.Event()
        self.ticks, self.ready = 0, threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        with self._bench.app.worker(self._bench.definitions, self.clock) as worker:
            worker.changed = self._bench.app.database.changes()
            while not self._ended.is_set() or worker.has_work():
                pause = worker.tick(self.clock.now())
                self.ticks += 1
                if pause > 100:
                    self.ready.set()
                self.clock.wait(pause)

    def __enter__(self) -> Serving:
        self._thread.start()
        eventually(self.ready.is_set, "an idle worker")
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.clock.wake()
        self._thread.join()


@pytest.mark.usefixtures("slow_polls")
def test_an_idle_worker_starts_what_another_process_enqueues(bench: Bench) -> None:
    """With no poll that could have found it: the poke alone."""
    bench.define(kind("ok"))
    with Serving(bench):
        made = subprocess.run(
            [sys.executable, "-c", ENQUEUE, bench.app.database.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        eventually(lambda: bench.state(int(made.stdout)) == "completed", "the end of the job")


@pytest.mark.usefixtures("slow_polls")
def test_an_idle_worker_starts_what_its_own_process_enqueues(bench: Bench) -> None:
    """By the event."""
    bench.define(kind("ok"))
    with Serving(bench):
        made = bench.app.enqueue("ok", {}, Call())
        eventually(lambda: bench.state(made.id) == "completed", "the end of the job")


# ---- the net


def test_data_version_tells_that_somebody_committed(bench: Bench, stores: Stores) -> None:
    """Another program on the same file, without our help; and it stays where nothing was committed."""
    database = bench.app.database
    first = database.data_version()
    assert database.data_version() == first
    made = subprocess.run(
        [sys.executable, "-c", SHELL, str(database.path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert made.stderr == ""
    second = database.data_version()
    assert second != first
    assert database.data_version() == second


SHELL = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as connection:
    connection.execute("UPDATE cron_schedules SET timezone = 'Europe/Berlin'")
"""


def test_changes_are_asked_for_again_and_again(bench: Bench, stores: Stores) -> None:
    """The first answer is yes, then once for each change, also after the database was closed and opened again."""
    changed = bench.app.database.changes()
    assert [changed(), changed()] == [True, False]
    stores.jobs.enqueue(make_new_job("ok"), NOW)
    assert [changed(), changed()] == [True, False]
    for _ in range(2):  # a new connection counts from the same number
        bench.app.database.close()
        assert [changed(), changed()] == [True, False]


def test_a_database_that_is_gone_is_told(bench: Bench) -> None:
    """As every other use of it."""
    bench.app.database.data_version()
    bench.app.database.path.unlink()
    with pytest.raises(DatabaseUnavailable, match="there is no database"):
        bench.app.database.data_version()


# ---- what stays open between two calls of `enqueue`


def test_a_database_that_was_put_in_place_of_another(bench: Bench, stores: Stores, tmp_path: Path) -> None:
    """The next enqueue goes into the file that is there, not into the one that was deleted."""
    url, path = bench.app.database.url, bench.app.database.path
    runner.enqueue("ok", database_url=url)
    bench.app.close()
    kept = tmp_path / "kept.db"
    path.rename(kept)
    for side in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + side).rename(kept.with_name(kept.name + side))
    with pytest.raises(DatabaseUnavailable):
        runner.enqueue("ok", database_url=url)
    fresh = make_bench(path.parent)
    fresh.define(kind("ok"))

    assert runner.enqueue("ok", database_url=url).id == 1
    assert len(fresh.all_jobs()) == 1
    fresh.app.close()


def test_a_child_after_a_fork_opens_its_own(bench: Bench, stores: Stores) -> None:
    """And leaves the parent's connections alone: both go on."""
    url = bench.app.database.url
    runner.enqueue("ok", database_url=url)
    made = subprocess.run([sys.executable, "-c", FORKING, url], capture_output=True, text=True, timeout=60, check=True)
    assert (made.stdout.split(), made.stderr) == (["child", "parent"], "")
    assert len(bench.all_jobs()) == 4


FORKING = """
import os, sys, runner
runner.enqueue("ok", database_url=sys.argv[1])
child = os.fork()
runner.enqueue("ok", database_url=sys.argv[1]) if child == 0 else os.waitpid(child, 0)
if child:
    runner.enqueue("ok", database_url=sys.argv[1])
print("parent" if child else "child", flush=True)
"""


def test_no_more_than_a_few_databases_stay_open(tmp_path: Path) -> None:
    """A program that visits many does not run out of files."""
    for number in range(KEPT + 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = make_bench(folder)
        bench.define(kind("ok"))
        runner.enqueue("ok", database_url=bench.app.database.url)
        bench.app.close()

    assert len({place for place in open_files() if place.startswith(str(tmp_path)) and place.endswith(".db")}) == KEPT


def open_files() -> Iterator[str]:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            yield str(entry.readlink())
