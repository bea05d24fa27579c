"""How PostgreSQL tells: a NOTIFY after the commit wakes the workers of other processes, and nothing depends on it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.orm import Session

import runner
from runner.domain.errors import DatabaseUnavailable
from runner.engine.wake import hear
from runner.storage import database as storage
from runner.storage import hot_postgres, notify
from runner.storage.database import Database
from runner.storage.jobs import JobStore
from runner.storage.notify import NotifyBell
from runner.storage.poke import CHANNEL
from tests.contract.test_in_doubt import unanswered
from tests.engine.bench import Bench, kind, make_bench, on
from tests.engine.test_service import now_due, service_of, serving
from tests.factories import NOW, make_new_job
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with on("postgresql"):
        made = make_bench(tmp_path)
        (tmp_path / "schedules.yaml").write_text("version: 1\n")
        yield made
        made.app.close()


class Heard:
    """How often somebody was woken."""

    def __init__(self) -> None:
        self.times = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.times += 1


@pytest.fixture
def heard(bench: Bench) -> Iterator[Heard]:
    """A worker that listens, and has heard its own trial."""
    heard = Heard()
    with closing(hear(bench.app.database, "w1", heard)):
        eventually(lambda: bench.app.database.bell.hears, "the trial")
        yield heard


def elsewhere(bench: Bench, statements: str) -> None:
    """In another process, as a program does it."""
    code = f"import runner, sys; url = sys.argv[1]\n{statements}"
    subprocess.run([sys.executable, "-c", code, bench.app.database.url], cwd=ROOT, check=True, timeout=60)


def test_what_another_process_enqueues_wakes(bench: Bench, heard: Heard) -> None:
    bench.define(kind("ok"))
    before = heard.times
    elsewhere(bench, "runner.enqueue('ok', database_url=url)")
    eventually(lambda: heard.times > before)


@pytest.fixture
def program(bench: Bench) -> Iterator[Database]:
    """The database as another process has it: nobody listens there."""
    with closing(Database(bench.app.database.url)) as made:
        yield made


def test_who_does_not_listen_tells_with_what_it_commits(bench: Bench, heard: Heard, program: Database) -> None:
    """No other connection is made for it."""
    before = heard.times
    JobStore(program).enqueue(make_new_job(), NOW)
    eventually(lambda: heard.times > before)
    assert isinstance(program.bell, NotifyBell)
    assert program.bell._connection is None


def test_what_was_left_to_one_that_fails_is_told(bench: Bench, heard: Heard, program: Database) -> None:
    """Who takes it upon himself to tell, and then commits nothing, tells all the same."""
    bell = program.bell
    assert isinstance(bell, NotifyBell)
    bell._wanted.set()
    before = heard.times
    with pytest.raises(DatabaseUnavailable), unanswered(is_written=False):
        JobStore(program).enqueue(make_new_job(), NOW)
    eventually(lambda: heard.times > before)


def test_many_that_do_not_listen_tell_few_times(
    bench: Bench, heard: Heard, program: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first at once with its commit, the rest together; the last is told too."""
    monkeypatch.setattr(notify, "GAP", 2.0)
    before = heard.times
    for _ in range(100):
        JobStore(program).enqueue(make_new_job(), NOW)
    eventually(lambda: heard.times > before)
    assert isinstance(program.bell, NotifyBell)
    assert program.bell._wanted.is_set()
    program.close()
    eventually(lambda: heard.times >= before + 2)
    assert heard.times < before + 60


def test_many_commits_are_few_notifications(bench: Bench, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NOTIFY locks the whole database at its commit: what comes together goes together, however slow it comes."""
    bench.define(kind("ok"))
    monkeypatch.setattr(notify, "GAP", 2.0)
    with psycopg.connect(bench.app.database.url, autocommit=True) as other:
        other.execute(f"LISTEN {CHANNEL}")
        for _ in range(100):
            bench.app.jobs.enqueue(make_new_job(), NOW)
        bench.app.database.bell.close()  # sends what is still to be told
        told = sum(1 for one in other.notifies(timeout=0.5) if one.payload == "")
    assert 1 <= told < 60


def test_own_commits_wake_by_a_call_and_not_again(bench: Bench, heard: Heard) -> None:
    before = heard.times
    bench.app.jobs.enqueue(make_new_job(), NOW)
    assert heard.times == before + 1
    elsewhere(bench, "import psycopg; psycopg.connect(url, autocommit=True).execute('NOTIFY runner_wake')")
    eventually(lambda: heard.times == before + 2)


def test_a_session_tells_with_its_commit_and_not_before(bench: Bench, heard: Heard) -> None:
    """By the server itself: what is rolled back was never told."""
    bench.define(kind("ok"))
    before = heard.times
    engine = runner.create_engine(bench.app.database.url)
    with Session(engine) as session:
        runner.enqueue("ok", session=session)
        session.rollback()
        runner.enqueue("ok", session=session)
        assert heard.times == before
        session.commit()
    eventually(lambda: heard.times == before + 1)
    engine.dispose()
    assert bench.app.jobs.counts()["pending"] == 1


def test_who_hears_asks_nothing_while_nothing_comes(bench: Bench, heard: Heard) -> None:
    """The question whether anybody committed costs no query; now and then it is asked all the same."""
    changed = bench.app.database.changes()
    assert changed()
    asked: list[str] = []
    real = bench.app.database.server.version
    bench.app.database.server.version = lambda connection: asked.append("") or real(connection)  # type: ignore[func-returns-value]
    assert [changed() for _ in range(100)] == [False] * 100
    assert asked == []
    bench.app.jobs.enqueue(make_new_job(), NOW)
    assert changed()


def test_a_lost_connection_is_made_again(bench: Bench, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at the server: whoever listens looks once, for what was told meanwhile, and hears again."""
    before = heard.times
    with psycopg.connect(bench.app.database.url, autocommit=True) as other:
        found = other.execute("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").fetchall()
        assert found
        for (pid,) in found:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        eventually(lambda: heard.times > before)
        eventually(lambda: bench.app.database.bell.hears)
        before = heard.times
        other.execute(f"NOTIFY {CHANNEL}")
        eventually(lambda: heard.times > before)


def test_where_nothing_is_heard_the_worker_looks_by_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler swallows notifications: work is found all the same."""
    monkeypatch.setattr(notify, "PROOF", 0.05)
    monkeypatch.setattr(psycopg.Connection, "notifies", lambda connection, **options: iter(()))
    bench.define(kind("ok"))
    now_due(bench)
    with service_of(bench) as service, serving(service):
        eventually(bench.app.workers.all)
        elsewhere(bench, "runner.enqueue('ok', database_url=url)")
        eventually(lambda: bench.app.jobs.counts()["completed"] == 1)
        assert not bench.app.database.bell.hears


def test_the_database_tells_the_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """All machines go by its clock, whatever their own says."""
    assert abs(bench.app.database.clock_offset()) < timedelta(seconds=10)
    database = Database(bench.app.database.url)
    real = hot_postgres.now
    monkeypatch.setattr(hot_postgres, "now", lambda connection: real(connection) + timedelta(hours=1))
    ahead = database.now() - datetime.now(UTC)
    assert timedelta(minutes=59, seconds=50) < ahead < timedelta(minutes=60, seconds=10)
    database.close()


def test_the_quickest_answer_tells_the_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that took long says when it was asked, or when it was heard: nobody knows. The first began a transaction."""
    answers = [(0, 7), (9, 40), (3, 20), (1, 5), (2, 30), (8, 50), (0, 9)]
    given = iter([(timedelta(milliseconds=took), timedelta(milliseconds=ahead)) for took, ahead in answers])
    monkeypatch.setattr(storage, "_asked", lambda connection: next(given))
    assert bench.app.database.clock_offset() == timedelta(milliseconds=5)
