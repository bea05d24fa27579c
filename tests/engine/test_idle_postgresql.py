"""A process that has nothing to do costs a PostgreSQL server next to nothing: few statements, few connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from threading import Barrier, Thread

import psycopg
import pytest
from sqlalchemy import text

from runner.domain.errors import BrokenOff
from runner.engine.janitor import Janitor
from runner.engine.wake import hear
from runner.storage import database as doors
from runner.storage.database import Database
from runner.storage.postgres import KEPT, WRITERS, answers
from tests.contract.databases import broken_off
from tests.engine.bench import Bench, kind, make_bench, on
from tests.factories import NOW, make_schedule
from tests.waiting import eventually

NEVER = 10**9


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with on("postgresql"):
        made = make_bench(tmp_path)
        yield made
        made.app.close()


@pytest.fixture
def look(bench: Bench) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(bench.app.database.url, autocommit=True) as made:
        yield made


def end(look: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    """At the server, all connections of that name; it has said so to the other end when they are gone."""
    look.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", (name,))
    eventually(lambda: named(look, name) == 0, f"the end of {name}")


def named(look: psycopg.Connection[tuple[object, ...]], name: str) -> int:
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    (found,) = look.execute(count, (name,)).fetchone() or (0,)
    return int(str(found))


# ---- whether a connection lives


def test_a_connection_that_is_quiet_lives_and_is_not_asked(
    bench: Bench, look: psycopg.Connection[tuple[object, ...]]
) -> None:
    with psycopg.connect(bench.app.database.url, application_name="quiet", autocommit=True) as quiet:
        quiet.execute("SELECT 1 AS the_last_question")
        assert answers(quiet)
        last = look.execute("SELECT query FROM pg_stat_activity WHERE application_name = 'quiet'").fetchone()
        assert last == ("SELECT 1 AS the_last_question",)


def test_a_connection_to_which_something_was_said_is_asked_and_left_in_no_transaction(bench: Bench) -> None:
    """A notice is no end."""
    with psycopg.connect(bench.app.database.url) as told:
        told.execute("LISTEN somebody")
        told.commit()
        with psycopg.connect(bench.app.database.url, autocommit=True) as other:
            other.execute("NOTIFY somebody")
        assert answers(told)
        assert told.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_connection_that_the_server_has_ended_does_not(
    bench: Bench, look: psycopg.Connection[tuple[object, ...]]
) -> None:
    with psycopg.connect(bench.app.database.url, application_name="gone") as gone:
        end(look, "gone")
        eventually(lambda: not answers(gone))
        assert not answers(gone)


@pytest.mark.parametrize("name", ["runner reader", "runner durable", "runner relaxed"])
def test_a_door_whose_connections_were_ended_opens_again(
    bench: Bench, look: psycopg.Connection[tuple[object, ...]], name: str
) -> None:
    """The next caller notices nothing."""
    job_id = bench.enqueue("ok")
    bench.app.pruning.jobs(NOW)
    end(look, name)

    assert bench.job(job_id).status == "pending"
    assert bench.enqueue("ok") > job_id
    assert bench.app.pruning.jobs(NOW) == 0


def test_a_connection_that_is_lost_in_a_transaction_is_told_as_lost(
    bench: Bench, look: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Not as the failure of the rollback that follows; and its place in the pool is free again."""

    def lose_one() -> None:
        with bench.app.database.write() as connection:
            connection.execute(text("SELECT 1"))
            end(look, "runner durable")
            connection.connection.driver_connection.execute("SELECT 2")  # type: ignore[union-attr]

    for _ in range(2 * WRITERS + 1):
        with pytest.raises(BrokenOff):
            lose_one()
    assert bench.enqueue("ok")


# ---- how many are kept


def test_connections_of_a_busier_time_are_closed(
    bench: Bench, look: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six that read at once two are kept; of three that write, the one that is used."""
    database = bench.app.database
    readers, writing = Barrier(7), Barrier(3)

    def read() -> None:
        with database.read() as connection:
            connection.exec_driver_sql("SELECT 1")
            readers.wait(60)

    def write(database: Database) -> None:
        with database.write() as connection:
            connection.exec_driver_sql("SELECT 1")
            writing.wait(60)

    reading = [Thread(target=read) for _ in range(6)]
    for one in reading:
        one.start()
    eventually(lambda: named(look, "runner reader") == 6)
    readers.wait(60)
    for one in reading:
        one.join()
    eventually(lambda: named(look, "runner reader") == KEPT)

    writers = [Thread(target=write, args=(database,)) for _ in range(3)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert named(look, "runner durable") == 3
    monkeypatch.setattr(doors, "SPARE", 0.0)
    for _ in range(2):
        bench.enqueue("ok")
    eventually(lambda: named(look, "runner durable") == 1)


# ---- how many statements


def test_who_hears_asks_nothing_until_somebody_commits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker and scheduler, tick after tick; when it is time to look all the same, four journeys to the server."""
    bench.define(kind("ok"), schedules=[make_schedule(job="ok")])
    database, scheduler = bench.app.database, bench.scheduler()
    with bench.worker() as worker, closing(hear(database, "w1", lambda: None)):
        eventually(lambda: database.bell.hears)
        worker.changed, scheduler.changed = database.changes(), database.changes(asks=False)
        with broken_off(database, NEVER) as asked:
            for _ in range(20):
                worker.tick(NOW)
                scheduler.tick(NOW)
            eventually(lambda: not worker.changed())  # the notification of the file, should it be late
            worker.tick(NOW)
            scheduler.tick(NOW)
            asked.tens = 0
            for _ in range(50):
                worker.tick(NOW)
                scheduler.tick(NOW)
            assert asked.tens == 0
            monkeypatch.setattr(doors, "NET", 0.0)
            worker._looked_at = -9.0
            worker.tick(NOW)
            scheduler.tick(NOW)
            assert asked.tens == 5  # on four journeys: the claim goes with what it walks along, and with its commit


def test_where_nothing_is_heard_the_scheduler_just_looks(bench: Bench) -> None:
    """To ask whether somebody committed costs as much as what it wants to know."""
    changed = bench.app.database.changes(asks=False)
    with broken_off(bench.app.database, NEVER) as asked:
        assert [changed() for _ in range(3)] == [True] * 3
        assert asked.tens == 0


def test_a_look_for_dead_workers_is_one_statement(bench: Bench) -> None:
    app = bench.app
    janitor = Janitor("w1", app.workers, app.claims, app.pruning, print, Random(0))
    janitor.tick(NOW)  # prunes, the first time
    with broken_off(app.database, NEVER) as asked:
        janitor.tick(NOW)
        assert asked.tens == 1
