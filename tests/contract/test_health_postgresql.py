"""What `doctor` sees of a PostgreSQL server: each trouble is made on a real one, each limit tried on both sides."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runner.cli.doctor_postgres import judged
from runner.storage.database import Database
from runner.storage.health_postgres import Bloat, ServerHealth, server_health
from runner.storage.setup import prepare
from tests.contract.postgres import Server
from tests.waiting import eventually

DEADLINE = 30.0
MANY = 20_000
WELL = ServerHealth("15.1", 10, 0, 100, timedelta(minutes=5), 1, timedelta(seconds=5), 1_000_000_000, ())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server.start(Path(tempfile.mkdtemp(prefix="health-pg-")), "fsync=off", "max_prepared_transactions=2")
    yield made
    made.remove()


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    with closing(Database(server.url)) as made:
        prepare(made)
        yield made


def seen(database: Database, holds: Callable[[ServerHealth], bool]) -> ServerHealth:
    """What is found once that holds."""
    return eventually(lambda: found if holds(found := server_health(database)) else None)


def test_a_writer_between_two_statements_is_an_open_transaction(server: Server, database: Database) -> None:
    """It has no snapshot, only a number of its own; the rows that die later stay all the same."""
    assert server_health(database).oldest_transaction == timedelta(0)
    with closing(psycopg.connect(server.url)) as idle:
        idle.execute("CREATE TABLE theirs (x int)")
        assert server_health(database).oldest_transaction > timedelta(0)
        idle.rollback()
    assert server_health(database).oldest_transaction == timedelta(0)


def test_a_prepared_transaction_is_an_open_one(server: Server, database: Database) -> None:
    """Nobody is connected any more, and nothing but pg_prepared_xacts tells of it."""
    with closing(psycopg.connect(server.url)) as one:
        one.tpc_begin(one.xid(1, "g", "b"))
        one.execute("CREATE TABLE prepared (x int)")
        one.tpc_prepare()
    assert server_health(database).oldest_transaction > timedelta(0)
    with closing(psycopg.connect(server.url)) as one:
        (xid,) = one.tpc_recover()
        one.tpc_rollback(xid)
    assert server_health(database).oldest_transaction == timedelta(0)


def test_transactions_of_another_database_keep_no_row_of_ours(server: Server, database: Database) -> None:
    with closing(psycopg.connect(server.url.replace("/postgres?", "/template1?"))) as other:
        other.execute("CREATE TABLE theirs (x int)")
        assert server_health(database).oldest_transaction == timedelta(0)
        other.rollback()


def test_all_connections_count_whoever_asks(server: Server, database: Database) -> None:
    """A user without rights sees no kind of other users' connections; they are there, and that is told."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE plain LOGIN")
        admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain")
        with closing(Database(server.url.replace("postgres@", "plain@"))) as plain:
            found = server_health(plain)
            assert found.connections >= 2
            assert 1 <= found.hidden < found.connections
            assert "this user cannot see" in next(judged(found)).message
        admin.execute("GRANT pg_monitor TO plain")
        with closing(Database(server.url.replace("postgres@", "plain@"))) as monitor:
            assert server_health(monitor).hidden == 0


def test_who_waits_for_a_lock_is_counted_from_the_moment_that_it_waits(server: Server, database: Database) -> None:
    with closing(psycopg.connect(server.url)) as holder, closing(psycopg.connect(server.url)) as waiter:
        holder.execute("LOCK TABLE workers")
        waiting = threading.Thread(target=lambda: waiter.execute("SELECT count(*) FROM workers"))
        waiting.start()
        found = seen(database, lambda health: health.lock_waits == 1)
        assert found.longest_wait < timedelta(seconds=DEADLINE)
        seen(database, lambda health: health.longest_wait > found.longest_wait)
        holder.rollback()
        waiting.join()
    assert server_health(database).lock_waits == 0


def test_dead_rows_are_seen_until_they_are_cleaned_up(server: Server, database: Database) -> None:
    with psycopg.connect(server.url, autocommit=True) as other:
        other.execute("ALTER TABLE job_logs SET (autovacuum_enabled = off)")
        other.execute("INSERT INTO job_logs (job_id, run_number, at, level, message) "
                      "SELECT 1, 1, now(), 'info', 'said' FROM generate_series(1, %s)", (MANY,))  # fmt: skip
        other.execute("DELETE FROM job_logs")
    found = seen(database, lambda health: any(one.dead >= MANY for one in health.bloat))
    assert "job_logs has 20,000 dead rows beside 0 live ones" in [one.message for one in judged(found)]
    with psycopg.connect(server.url, autocommit=True) as other:
        other.execute("VACUUM job_logs")
    seen(database, lambda health: not any(one.dead for one in health.bloat if one.table == "job_logs"))


def test_rows_have_an_age(database: Database) -> None:
    assert server_health(database).frozen_age > 0


@pytest.mark.parametrize(
    ("change", "level", "said"),
    [
        ({"connections": 79}, "ok", "79 of 100 connections"),
        ({"connections": 80}, "warning", "80 of 100 connections"),
        ({"connections": 95}, "error", "95 of 100 connections"),
        ({"oldest_transaction": timedelta(minutes=6)}, "warning", "a transaction is open for"),
        ({"longest_wait": timedelta(seconds=6)}, "warning", "1 connection waits for a lock, the longest 6.0 s"),
        ({"frozen_age": 1_000_000_001}, "warning", "the oldest row is 1,000 million transactions old"),
        ({"frozen_age": 1_800_000_001}, "error", "the oldest row is 1,800 million transactions old"),
        ({"bloat": (Bloat("job_logs", 10_000, 10_001),)}, "warning", "job_logs has 10,001 dead rows"),
        ({"bloat": (Bloat("job_logs", 10_001, 10_001),)}, "ok", "connections"),
        ({"bloat": (Bloat("job_logs", 0, 10_000),)}, "ok", "connections"),
    ],
)
def test_each_limit_is_a_limit(change: dict[str, Any], level: str, said: str) -> None:
    """On it nothing is said; beyond it, one finding. What is well is one line."""
    assert [one.level for one in judged(WELL)] == ["ok"]
    worst = list(judged(replace(WELL, **change)))[-1]
    assert worst.level == level
    assert said in worst.message
