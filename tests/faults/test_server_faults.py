"""Faults of a PostgreSQL server and of the network before it, under real workers: they are back by themselves."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runner.domain.errors import DatabaseUnavailable
from tests.contract.postgres import Server
from tests.faults.checker import SLACK, History, check
from tests.faults.interrupted import statements, told
from tests.faults.projects import FILE, HANDLERS, Project
from tests.faults.proxy import Proxy
from tests.faults.served import REJECTED, Served, apply, history_of, serve
from tests.faults.shim import make_clock
from tests.faults.zygote import Zygote
from tests.waiting import eventually

SCHEDULES = """
schedules:
  second: {job: quick, every: 1s, overlap: allow, catch_up: all}
"""
QUICK = {"RUNNER_HEARTBEAT": "500ms", "RUNNER_STALLED_AFTER": "3s", "RUNNER_BUSY_TIMEOUT": "2s"}
OURS = "FROM pg_stat_activity WHERE application_name LIKE 'runner%' AND datname = current_database()"
AT_WORK = "state = 'active' AND coalesce(wait_event_type, '') NOT IN ('Client', 'Lock')"
SLOTS = "SELECT slot, outcome FROM schedule_slots WHERE schedule_name = 'second' ORDER BY slot"


@contextmanager
def served_by(project: Project, *settings: str) -> Iterator[Server]:
    """A project on a server of its own, and a schedule that fires each second."""
    project.server = Server.start(Path(tempfile.mkdtemp(prefix="fault-pg-")), "fsync=off", *settings)
    (project.folder / "schedules.yaml").write_text(FILE + SCHEDULES)
    project.note("schedule", name="second", every=1)
    apply(project)
    yield project.server


def enqueue(project: Project, kind: str, count: int = 1, **payload: Any) -> None:
    for _ in range(count):
        project.note("enqueued", job=project.enqueue(kind, **payload))


def unfinished(project: Project) -> int:
    return sum(row["completed_at"] is None for row in project.jobs() if row["schedule_name"] is None)


def running(project: Project, kind: str) -> set[int]:
    return {row["id"] for row in project.jobs() if (row["type"], row["status"]) == (kind, "running")}


def ask(project: Project, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(project.url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def await_work(project: Project, what: str = "all jobs") -> None:
    """The workers are back: they end what there is, and the schedule goes on."""
    eventually(lambda: not unfinished(project), what)
    before = len(project.rows(SLOTS))
    eventually(lambda: len(project.rows(SLOTS)) >= before + 2, "two more slots")


def finish(project: Project, *served: Served) -> History:
    """All stop in good order, and no rule was broken: nothing lost, nothing settled twice, no slot doubled or left."""
    assert [one.stop() for one in served] == [0] * len(served)
    history = history_of(project)
    assert check(history, ("completed", "pending")) == []
    assert unfinished(project) == 0
    print(told(history))
    return history


def said(history: History, words: str) -> bool:
    return any(words in line["error"] for line in history.of("failed"))


# ---- the network


@pytest.fixture
def behind(project: Project) -> Iterator[Proxy]:
    """A server, and a network before it."""
    with served_by(project) as server:
        made = Proxy(server.folder / ".s.PGSQL.5432")
        yield made
        made.close()


def cut_between_transactions(project: Project, network: Proxy) -> None:
    """One that was cut in the middle holds its locks until the server gives it up, after a minute.

    In the middle is also who has had a part of a journey and waits for the rest, and who waits for such a one's lock.
    """
    while True:
        network.cut()
        eventually(lambda: not project.rows(f"SELECT 1 {OURS} AND {AT_WORK}"), "statements to end")
        if not project.rows(f"SELECT 1 {OURS} AND state <> 'idle'"):
            return
        network.mend()


def test_a_network_that_is_cut(project: Project, behind: Proxy) -> None:
    """No byte comes through, and nothing is closed: others take over what the worker has, it gives up its runs itself,
    and once the network is mended it is told that they are no longer its own, and works on."""
    cut_off = serve(project, **QUICK, DATABASE_URL=behind.url())
    enqueue(project, "plain", 2, steps=200)
    eventually(lambda: len(running(project, "plain")) == 2, "two long jobs")
    cut_between_transactions(project, behind)
    project.note("fault", fault="cut", pid=cut_off.pid, interrupted=statements(project), at=time.time())
    held = running(project, "plain")
    other = serve(project, **QUICK)
    enqueue(project, "quick", 10)
    other.await_told("a worker is gone: its jobs were rescued")
    assert behind.held > 0, "it had something to say meanwhile"
    behind.mend()

    eventually(lambda: held <= {line["job_id"] for line in cut_off.told(REJECTED)}, "what it had to be refused")
    await_work(project)
    assert other.stop() == 0
    enqueue(project, "quick", 5)
    await_work(project, "the jobs of the worker that was cut off")
    history = finish(project, cut_off)
    assert held <= {row["job"] for row in history.of("attempt") if row["outcome"] == "stalled"}


def test_connections_that_are_dropped(project: Project, behind: Proxy) -> None:
    """All of them are reset, again and again, in the middle of whatever they do."""
    served = [serve(project, **QUICK, DATABASE_URL=behind.url()) for _ in range(2)]
    dropped = 0
    for _ in range(8):
        before = len(project.jobs())
        enqueue(project, "quick", 10)
        enqueue(project, "plain", 2, steps=3)
        eventually(lambda before=before: project.jobs()[before]["status"] != "pending", "a claim")
        project.note("fault", fault="drop", interrupted=statements(project), at=time.time())
        dropped += behind.drop()
    await_work(project)

    history = finish(project, *served)
    assert dropped >= 16
    print(f"{dropped} connections dropped, {len(history.of('failed'))} failed duties")


# ---- the server


def test_a_server_out_of_connections(project: Project) -> None:
    """Somebody else takes all that it has, also those of the workers: they come back once there are some."""
    with served_by(project, "max_connections=24"):
        served = [serve(project, **QUICK) for _ in range(2)]
        enqueue(project, "quick", 20)
        with ExitStack() as taken:
            ender = taken.enter_context(psycopg.connect(project.url, autocommit=True))
            for one in served:
                await_refused(one, "has no connection left", lambda: take_all(project, ender, taken))
            project.note("fault", fault="connections", interrupted=statements(project), at=time.time())
        enqueue(project, "quick", 20)
        await_work(project)
        assert said(finish(project, *served), "has no connection left")


def await_refused(served: Served, words: str, again: Any) -> None:
    """Until that worker's log says so."""

    def is_told() -> bool:
        again()
        return words in served.log.read_text()

    eventually(is_told, f"{words!r} in {served.log}")


def take_all(project: Project, ender: psycopg.Connection[Any], taken: ExitStack) -> None:
    ender.execute(f"SELECT pg_terminate_backend(pid) {OURS}".encode())
    with suppress(psycopg.OperationalError):
        while True:
            taken.enter_context(psycopg.connect(project.url))


def test_a_primary_that_is_read_only_for_a_while(project: Project) -> None:
    """As after a failover to a standby that is promoted a moment later: nothing is written, then all goes on."""
    with served_by(project):
        served = [serve(project, **QUICK) for _ in range(2)]
        enqueue(project, "plain", 10, steps=20)
        eventually(lambda: project.count("begin") >= 2, "work")
        set_read_only(project, "on")
        project.note("fault", fault="read-only", interrupted=statements(project), at=time.time())
        for one in served:
            await_refused(one, "is read-only", lambda: None)
        with pytest.raises(DatabaseUnavailable, match="is read-only"):
            project.enqueue("quick")
        set_read_only(project, "off")

        enqueue(project, "quick", 10)
        await_work(project)
        finish(project, *served)


def set_read_only(project: Project, value: str) -> None:
    """For all transactions that begin from now on, on every connection that there is."""
    with psycopg.connect(project.url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}".encode())
        connection.execute("SELECT pg_reload_conf()")


TIMEOUTS = [f"{name}_timeout=1s" for name in ("idle_session", "idle_in_transaction_session", "statement")]
SLOW_BEATS = {"RUNNER_HEARTBEAT": "2s", "RUNNER_STALLED_AFTER": "6s"}  # longer apart than a connection may be idle


def test_a_server_that_ends_what_is_idle(project: Project) -> None:
    """As some that are managed do, after a second here: our connections, which are idle for long, stay."""
    with served_by(project, *TIMEOUTS) as server:
        served = [serve(project, **QUICK | SLOW_BEATS) for _ in range(2)]
        listening = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' ORDER BY pid"
        before = eventually(lambda: len(found := project.rows(listening)) == 2 and found, "two who listen")
        enqueue(project, "plain", 4, steps=150)
        await_work(project)
        enqueue(project, "quick", 4)
        await_work(project)
        assert project.rows(listening) == before
        assert finish(project, *served).of("failed") == []
        assert "idle-session timeout" not in (server.folder / "log").read_text()


# ---- a full disk

LOUD = """

def loud(ctx, payload):
    trace(ctx, "begin")
    for _ in range(50):
        ctx.log("x" * 4000)
    trace(ctx, "end")
    return {"attempt": ctx.attempt, "run": run_number(ctx)}
"""
LOUD_TYPE = "  loud: {handler: handlers.traces.loud, max_stalls: 50}\n"
DISK = 64  # megabytes; the tables of a fresh server are a third of them


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small file system of its own, for the folder of a server."""
    place = Path(tempfile.mkdtemp(prefix="disk-pg-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=755", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        place.rmdir()
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
    place.rmdir()


@pytest.fixture
def on_small_disk(project: Project, disk: Path) -> Iterator[Project]:
    """The tables alone lie there: they fill the disk, and the server goes on."""
    with served_by(project) as server:
        move(server, "base", disk)
        (project.folder / "handlers/traces.py").write_text(HANDLERS + LOUD)
        (project.folder / "schedules.yaml").write_text(FILE + LOUD_TYPE + SCHEDULES)
        apply(project)
        yield project
        project.kill_all()


def move(server: Server, part: str, disk: Path) -> None:
    """A folder of the server's data, to another disk."""
    server.down()
    place = server.folder / "data" / part
    subprocess.run(["cp", "-a", place, disk], check=True)
    shutil.rmtree(place)
    place.symlink_to(disk / part)
    server.up()


def fill(disk: Path) -> Path:
    """To the last byte; the file that does it."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file, suppress(OSError):
        while True:
            file.write(b"x" * 65_536)
            file.flush()
    return ballast


def test_a_full_disk_of_the_server(on_small_disk: Project, disk: Path) -> None:
    """What is refused is told; what was acknowledged is there; with some space all goes on by itself."""
    served = [serve(on_small_disk, **QUICK) for _ in range(2)]
    enqueue(on_small_disk, "quick", 10)
    ballast = fill(disk)
    on_small_disk.note("fault", fault="disk", interrupted=statements(on_small_disk), at=time.time())
    with pytest.raises(DatabaseUnavailable, match="disk of the server is full"):
        enqueue(on_small_disk, "loud", 10_000, text="x" * 20_000)
    for one in served:
        await_refused(one, "disk of the server is full", lambda: None)
    ballast.unlink()

    enqueue(on_small_disk, "quick", 10)
    await_work(on_small_disk)
    assert said(finish(on_small_disk, *served), "disk of the server is full")


MUCH = "CREATE TABLE much AS SELECT repeat(md5(i::text), 4) FROM generate_series(1, 500000) AS i"


def test_a_full_disk_of_the_write_ahead_log(project: Project, disk: Path) -> None:
    """The server goes down by itself, in the middle of its work. With some space, and started again, it has all that
    was acknowledged, and the workers are back by themselves."""
    with served_by(project, "restart_after_crash=off") as server:
        move(server, "pg_wal", disk)
        served = [serve(project, **QUICK) for _ in range(2)]
        enqueue(project, "quick", 20)
        enqueue(project, "plain", 8, steps=100)
        eventually(lambda: len(running(project, "plain")) == 8, "work")
        ballast = fill(disk)
        project.note("fault", fault="disk", interrupted=statements(project), at=time.time())
        with pytest.raises(psycopg.OperationalError):
            ask(project, MUCH)
        process = server.process
        assert process is not None
        eventually(lambda: process.poll() is not None, "the end of the server")
        assert "PANIC" in (server.folder / "log").read_text()
        with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
            project.enqueue("quick")
        for one in served:
            await_refused(one, "cannot be reached", lambda: None)
        ballast.unlink()
        server.up()

        enqueue(project, "quick", 10)
        await_work(project)
        assert finish(project, *served).of("failed")


# ---- clocks

HOUR = 3600


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[list[Zygote]]:
    """Machines whose clocks are an hour behind, and an hour ahead."""
    made = []
    for name, moved in (("behind", -HOUR), ("ahead", HOUR)):
        (tmp_path / name).mkdir()
        clock = make_clock(tmp_path / name)
        clock.set(moved)
        made.append(Zygote(clock.environ))
    yield made
    for one in made:
        one.close()


def test_clocks_that_are_an_hour_off(project: Project, apart: list[Zygote]) -> None:
    """All go by the database's: jobs are claimed when they are due, slots come when they come, nobody is taken for
    dead, and what is written down has its times."""
    with served_by(project):
        began = time.time()
        served = [serve(project, by=one, **QUICK) for one in apart]
        project.note("fault", fault="clock", at=time.time())
        for one, moved in zip(served, (-HOUR, HOUR), strict=True):
            told = datetime.fromisoformat(str(one.await_told("serving")[0]["time"])).timestamp()
            assert abs(told - began - moved) < HOUR / 2, "its own clock is off"
        enqueue(project, "plain", 10, steps=5)
        await_work(project)
        eventually(lambda: all(one.told("job completed") for one in served), "both at work")
        for one, way in zip(served, ("behind", "ahead"), strict=True):
            (line,) = one.await_told("this machine's clock is not the database's: let NTP set both")
            assert abs(line[way] - HOUR) < SLACK
        history = finish(project, *served)

    ended = time.time()
    times = [row[name] for row in history.of("job") for name in ("started", "ended") if row[name] is not None]
    times += [row["slot"] for row in history.of("slot")]
    assert min(times) > began - SLACK
    assert max(times) < ended + SLACK
    assert {row["outcome"] for row in history.of("slot")} == {"enqueued"}
    assert history.of("rescued") == history.of("rejected") == history.of("failed") == []
