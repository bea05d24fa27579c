"""`runner.enqueue` and `runner.create_engine`: what a program calls, in its own transaction if it wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlmodel import Field, Session, SQLModel, create_engine, select

import runner
from runner import programs
from runner.domain.errors import (
    DatabaseUnavailable,
    NotFound,
    NotThereYet,
    PayloadInvalid,
    RunnerError,
    UnknownJobType,
    UsageError,
)
from runner.domain.schedule import Unique
from runner.domain.workflow import Workflow
from runner.engine.loop import Clock
from runner.storage import notify
from tests.engine.bench import Bench, kind
from tests.waiting import eventually

STRICT = {"properties": {"days": {"type": "integer", "default": 7}}}


class Order(SQLModel, table=True):
    """A row of the program's own."""

    __tablename__ = "orders_of_a_program"
    id: int | None = Field(default=None, primary_key=True)
    item: str


@pytest.fixture
def url(bench: Bench) -> str:
    """The queue's database, with a file in force."""
    bench.define(
        kind("ok"),
        kind("echo", payload_schema=STRICT),
        kind("once", "ok", unique=Unique()),
        kind("tagged", "ok", queue="slow"),
    )
    return bench.app.database.url


@pytest.fixture(params=["ours", "theirs"])
def engine(request: pytest.FixtureRequest, url: str) -> Iterator[Engine]:
    """The program's engine: ours, or SQLAlchemy's with nothing said."""
    made = runner.create_engine(url) if request.param == "ours" else create_engine(url)
    SQLModel.metadata.create_all(made, tables=[Order.__table__])  # type: ignore[attr-defined]
    yield made
    made.dispose()


def orders(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return [order.item for order in session.exec(select(Order))]


class Running:
    """A worker that takes whatever is due, in a thread, while the program does its work."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._clock, self._ended = bench, Clock(), threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self.ticks = 0

    def _serve(self) -> None:
        with self._bench.app.worker(self._bench.definitions, self._clock) as worker:
            while not self._ended.is_set() or worker.has_work():
                worker.tick(self._clock.now())
                self.ticks += 1
                self._clock.wait(0.01)

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def test_a_job_exists_exactly_if_the_rows_do(bench: Bench, engine: Engine) -> None:
    """In a session: roll back and there is none, commit and there is one, with a worker running meanwhile."""
    with Running(bench) as worker:
        with Session(engine) as session:
            session.add(Order(item="rolled back"))
            runner.enqueue("ok", {"n": 1}, session=session)
            session.rollback()
        with suppress(ZeroDivisionError), Session(engine) as session, session.begin():
            session.add(Order(item="raised"))
            runner.enqueue("ok", {"n": 2}, session=session)
            raise ZeroDivisionError
        with Session(engine) as session:
            session.add(Order(item="kept"))
            enqueued = runner.enqueue("ok", {"n": 3}, session=session)
            session.flush()
            session.commit()
        seen = worker.ticks
        eventually(lambda: bench.state(enqueued.id) == "completed")
        eventually(lambda: worker.ticks > seen + 3)

    assert orders(engine) == ["kept"]
    assert [job.payload for job in bench.all_jobs()] == [{"n": 3}]


def test_nothing_is_seen_before_the_commit(bench: Bench, engine: Engine) -> None:
    """A worker never starts a job whose transaction is still open."""
    with Session(engine) as session:
        session.add(Order(item="open"))
        enqueued = runner.enqueue("ok", session=session)
        with bench.app.database.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM background_jobs")).scalar_one() == 0
        session.commit()

    assert bench.state(enqueued.id) == "pending"
    assert not enqueued.duplicate


def test_several_jobs_in_one_session(bench: Bench, engine: Engine) -> None:
    """All of them or none, beside the program's own reads."""
    with Session(engine) as session:
        for number in range(20):
            runner.enqueue("ok", {"n": number}, session=session)
            session.add(Order(item=str(number)))
        assert len(session.exec(select(Order)).all()) == 20
        session.commit()

    assert [job.payload["n"] for job in bench.all_jobs()] == list(range(20))


def test_without_a_session_it_is_on_disk(bench: Bench, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is named in the call, else by DATABASE_URL, else it is runner.db in the working directory."""
    given = runner.enqueue("ok", {"n": 1}, database_url=url)
    monkeypatch.setenv("DATABASE_URL", url)
    environment = runner.enqueue("ok", {"n": 2})
    monkeypatch.delenv("DATABASE_URL")
    made = [given, environment]
    if bench.app.database.is_file:
        monkeypatch.chdir(bench.app.database.path.parent)
        made.append(runner.enqueue("ok", {"n": 3}))

    assert [bench.job(one.id).payload["n"] for one in made] == [1, 2, 3][: len(made)]


def test_options_reach_the_job(bench: Bench, url: str) -> None:
    """Priority, time, delay and project of the call; queue and defaults of the payload come from the revision."""
    later = datetime.now(UTC) + timedelta(hours=1)
    made = runner.enqueue("tagged", {"a": [1]}, database_url=url, priority="high", run_at=later, project_id="acme")
    job = bench.job(made.id)
    assert (job.priority, job.run_at, job.project_id, job.queue, job.payload) == (2, later, "acme", "slow", {"a": [1]})

    before = datetime.now(UTC)
    for delay in (60, 60.0, timedelta(minutes=1)):
        job = bench.job(runner.enqueue("echo", database_url=url, delay=delay).id)
        assert timedelta(seconds=59) < job.run_at - before < timedelta(seconds=120)
        assert job.payload == {"days": 7}
        assert job.revision == 1


def test_what_is_in_force_counts_from_one_call_to_the_next(bench: Bench, url: str) -> None:
    """A program that has known the file for months: types that come, go and change are so at its next call."""
    runner.enqueue("ok", database_url=url)
    with pytest.raises(UnknownJobType):
        runner.enqueue("fresh", database_url=url)

    bench.define(kind("fresh", "ok"), kind("echo", payload_schema={"properties": {"days": {"default": 30}}}))
    made = runner.enqueue("fresh", database_url=url)
    with pytest.raises(UnknownJobType, match="no job type 'ok'"):
        runner.enqueue("ok", database_url=url)
    filled = runner.enqueue("echo", database_url=url)

    assert (bench.job(made.id).revision, bench.job(filled.id).payload) == (2, {"days": 30})


def test_a_workflow_that_becomes_a_job_type(bench: Bench, url: str) -> None:
    """What the revision that is known refuses, for whatever reason, is asked of the one that is in force."""
    bench.define(kind("ok"), workflows={"weekly": Workflow("weekly", {})})
    runner.enqueue("ok", database_url=url)
    with pytest.raises(NotThereYet, match="weekly is a workflow"):
        runner.enqueue("weekly", database_url=url)
    bench.define(kind("ok"), workflows={"weekly": Workflow("weekly", {})})
    runner.enqueue("ok", database_url=url)

    bench.define(kind("weekly", "ok"))
    assert bench.job(runner.enqueue("weekly", database_url=url).id).type == "weekly"


def test_an_enqueue_is_one_journey_on_postgresql(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All goes to the server before anything comes back, the telling too, as libpq's own trace of the wire shows."""
    monkeypatch.setattr(notify, "GAP", 0.0)
    for _ in range(2):  # the second knows the revision, and its statement is prepared
        runner.enqueue("ok", {"n": 1}, database_url=url)
    database = programs._open(url).database
    with database.write() as connection:
        wire = connection.connection.driver_connection.pgconn  # type: ignore[union-attr]
    trace = tmp_path / "trace"
    with trace.open("w") as file:
        wire.trace(file.fileno())
        runner.enqueue("ok", {"n": 2}, database_url=url)
        wire.untrace()

    messages = [line.split() for line in trace.read_text().splitlines()]
    there = [message[4] for message in messages if message[2] == "F"]
    assert there == ["Bind", "Describe", "Execute", "Sync", "Parse", "Bind", "Describe", "Execute", "Sync"]
    assert [message[2] for message in messages] == ["F"] * len(there) + ["B"] * (len(messages) - len(there))


def test_a_duplicate_is_the_job_that_is_there(bench: Bench, engine: Engine, url: str) -> None:
    """A duplicate enqueue returns the existing job and says so, inside a session too."""
    first = runner.enqueue("once", {"a": 1}, database_url=url)
    again = runner.enqueue("once", {"a": 1}, database_url=url)
    other = runner.enqueue("once", {"a": 2}, database_url=url)
    with Session(engine) as session:
        third = runner.enqueue("once", {"a": 1}, session=session)
        session.commit()

    assert (again.id, again.duplicate, third.id, third.duplicate) == (first.id, True, first.id, True)
    assert (other.id != first.id, other.duplicate) == (True, False)
    assert len(bench.all_jobs()) == 2


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"type": "oky"}, UnknownJobType, "there is no job type 'oky'"),
        ({"type": ["ok"]}, UnknownJobType, "named by text, not by list"),
        ({"type": "echo", "payload": {"days": "many"}}, PayloadInvalid, "the payload does not fit echo"),
        ({"type": "ok", "payload": ["a", "list"]}, PayloadInvalid, "must be an object, not list"),
        ({"type": "ok", "payload": []}, PayloadInvalid, "must be an object, not list"),
        ({"type": "ok", "payload": {"a": {1, 2}}}, PayloadInvalid, "no JSON: set"),
        ({"type": "ok", "payload": {"a": float("nan")}}, PayloadInvalid, "which JSON cannot carry"),
        ({"type": "ok", "payload": {"a": "\x00"}}, PayloadInvalid, "cannot be stored"),
        ({"type": "ok", "payload": {"a": "\ud800"}}, PayloadInvalid, "cannot be stored"),
        ({"type": "ok", "payload": {1: 2}}, PayloadInvalid, "cannot be a key"),
        ({"type": "ok", "run_at": datetime(2026, 3, 2)}, UsageError, "run_at needs a time zone"),
        (
            {"type": "ok", "run_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
            UsageError,
            "is out of range",
        ),
        ({"type": "ok", "run_at": "2026-03-02"}, UsageError, "run_at is a datetime, not str"),
        ({"type": "ok", "run_at": datetime(2026, 3, 2, tzinfo=UTC), "delay": 5}, UsageError, "not both"),
        ({"type": "ok", "delay": float("nan")}, UsageError, "no such delay: nan"),
        ({"type": "ok", "delay": float("inf")}, UsageError, "no such delay: inf"),
        ({"type": "ok", "delay": 1e300}, UsageError, "no such delay"),
        ({"type": "ok", "delay": "5m"}, UsageError, "no such delay: '5m'"),
        ({"type": "ok", "priority": 0}, UsageError, "no such priority: 0"),
        ({"type": "ok", "priority": "urgent"}, UsageError, "no such priority: 'urgent'"),
        ({"type": "ok", "priority": True}, UsageError, "no such priority: True"),
        ({"type": "ok", "project_id": "a\x00"}, UsageError, "project_id holds a character"),
        ({"type": "ok", "project_id": 7}, UsageError, "project_id is text, not int"),
    ],
)
def test_what_is_refused(bench: Bench, url: str, call: dict[str, Any], error: type[RunnerError], words: str) -> None:
    """Each wrong call raises an error that names the thing, and leaves no job."""
    options = {name: value for name, value in call.items() if name != "type"}
    with pytest.raises(error) as caught:
        runner.enqueue(call["type"], database_url=url, **options)

    assert words in caught.value.message
    assert bench.all_jobs() == []


def test_a_refused_enqueue_does_not_spoil_the_session(bench: Bench, engine: Engine) -> None:
    """What was refused before anything was written leaves the program's transaction usable."""
    with Session(engine) as session:
        session.add(Order(item="kept"))
        with pytest.raises(UnknownJobType):
            runner.enqueue("oky", session=session)
        runner.enqueue("ok", session=session)
        session.commit()

    assert orders(engine) == ["kept"]
    assert len(bench.all_jobs()) == 1


def test_a_database_without_a_file(bench: Bench, tmp_path: Path) -> None:
    """A queue that knows no job types yet, a database that is not there, one that is none of ours."""
    with pytest.raises(NotFound, match="no revision yet"):
        runner.enqueue("ok", database_url=bench.app.database.url)
    with pytest.raises(DatabaseUnavailable):
        runner.enqueue("ok", database_url=str(tmp_path / "nothing.db"))
    assert not (tmp_path / "nothing.db").exists()
    (tmp_path / "text.db").write_text("not a database, but long enough to be read as the header of one " * 10)
    with pytest.raises(DatabaseUnavailable, match="is not a SQLite database"):
        runner.enqueue("ok", database_url=str(tmp_path / "text.db"))


def test_our_engine_writes_as_runner_does_on_sqlite(url: str) -> None:
    """WAL, a busy timeout, durable commits, and a transaction that begins with the write lock."""
    engine = runner.create_engine(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() >= 5000
    engine.dispose()


def test_many_programs_enqueue_at_once(bench: Bench, url: str) -> None:
    """Threads with sessions of their own lose no job and get no id twice."""
    engine = runner.create_engine(url)
    made: list[int] = []

    def work(number: int) -> None:
        for count in range(10):
            with Session(engine) as session:
                made.append(runner.enqueue("ok", {"n": number * 100 + count}, session=session).id)
                session.commit()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()

    assert sorted(made) == [job.id for job in bench.all_jobs()]
    assert len({job.payload["n"] for job in bench.all_jobs()}) == 40
