"""Statements that go to a server together: what comes back, and what is left of the connection."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection

from runner.storage.database import Database
from runner.storage.hot_postgres import is_lost
from runner.storage.journey import go
from tests.waiting import eventually

MAKE = "CREATE TABLE IF NOT EXISTS made (n int UNIQUE, word text)"
INSERT = "INSERT INTO made SELECT %(n)s::int, %(word)s RETURNING n, word"
COUNT = "SELECT count(*) FROM made"


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database._outside.connect() as made:
        driver_of(made).execute(MAKE)
        yield made


def driver_of(connection: Connection) -> psycopg.Connection[object]:
    found = connection.connection.dbapi_connection
    assert isinstance(found, psycopg.Connection)
    return found


def status_of(connection: Connection) -> TransactionStatus:
    return TransactionStatus(driver_of(connection).pgconn.transaction_status)


def test_each_step_gives_its_rows_on_postgresql(connection: Connection) -> None:
    """As the driver gives them, and in the same order; a place may be named twice."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    every = (
        "SELECT %(n)s::int, %(n)s::int + 1, %(half)s::float8, %(none)s::text, %(moment)s::timestamptz, %(word)s::text"
    )
    values = {"n": -7, "half": 0.5, "none": None, "moment": moment, "word": "mühsam, \\ '%s"}

    one, none, many = go(connection, [
        (every, values), ("SELECT 1 WHERE false", {}), ("SELECT generate_series(1, 3)", {}),
    ])  # fmt: skip

    assert one == [(-7, -6, 0.5, None, moment, "mühsam, \\ '%s")]
    assert (none, many) == ([], [(1,), (2,), (3,)])


def test_a_transaction_begins_and_ends_as_is_said_on_postgresql(connection: Connection) -> None:
    """Left open for what follows, or committed on the way, or never begun."""
    step = (INSERT, {"n": 1, "word": "a"})
    go(connection, [step])
    assert status_of(connection) == TransactionStatus.INTRANS
    driver_of(connection).rollback()

    assert go(connection, [step, (COUNT, {})], commits=True) == [[(1, "a")], [(1,)]]
    assert status_of(connection) == TransactionStatus.IDLE

    assert go(connection, [(INSERT, {"n": 2, "word": None})], is_alone=True) == [[(2, None)]]
    assert status_of(connection) == TransactionStatus.IDLE
    assert go(connection, [(COUNT, {})], is_alone=True) == [[(2,)]]


def test_the_first_error_is_told_on_postgresql(connection: Connection) -> None:
    """As the driver tells it; what follows it is not carried out, and the connection can be used again."""
    steps = [(INSERT, {"n": n, "word": ""}) for n in (1, 1, 2)]
    with pytest.raises(psycopg.errors.UniqueViolation, match="made_n_key"):
        go(connection, steps, commits=True)
    driver_of(connection).rollback()
    assert go(connection, [(COUNT, {})], is_alone=True) == [[(0,)]]

    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        go(connection, [(INSERT, {"n": "one", "word": ""})], is_alone=True)
    assert go(connection, [(INSERT, {"n": 1, "word": ""})], is_alone=True) == [[(1, "")]]


def test_a_statement_that_cannot_be_prepared_on_postgresql(connection: Connection) -> None:
    """It is told as such each time; libpq would end a text at a NUL."""
    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
            go(connection, [("SELECT 1 FROM nowhere", {})], is_alone=True)
    with pytest.raises(psycopg.DataError, match="NUL"):
        go(connection, [(INSERT, {"n": 1, "word": "a\0b"})], is_alone=True)
    assert go(connection, [(COUNT, {})], is_alone=True) == [[(0,)]]


def test_a_statement_is_prepared_once_on_postgresql(connection: Connection) -> None:
    """For each connection; not at all behind a pooler, who may give the next transaction another session."""
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'runner%'"
    for n in range(3):
        go(connection, [(INSERT, {"n": n, "word": ""})], is_alone=True)
    driver = driver_of(connection)
    assert driver.execute(prepared).fetchone() == (1,)
    driver.prepare_threshold = None
    go(connection, [(COUNT, {})], is_alone=True)
    assert driver.execute(prepared).fetchone() == (1,)


def test_a_session_that_has_forgotten_on_postgresql(connection: Connection) -> None:
    """Told once; then all is prepared anew."""
    step = (INSERT, {"n": 1, "word": ""})
    go(connection, [step, (COUNT, {})], commits=True)
    driver_of(connection).execute("DEALLOCATE ALL")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        go(connection, [(COUNT, {})], is_alone=True)
    assert go(connection, [(COUNT, {})], is_alone=True) == [[(1,)]]


@pytest.mark.parametrize("told", ["NOTIFY runner_trial", "SELECT 1 / 0"], ids=["heard", "fails"])
def test_what_is_told_behind_on_postgresql(connection: Connection, database: Database, told: str) -> None:
    """Once the rest is committed, in a transaction of its own; where it fails, the rest is there all the same."""
    with database._outside.connect() as other:
        driver_of(other).execute("LISTEN runner_trial")
        go(connection, [(INSERT, {"n": 1, "word": ""})], is_alone=True, behind=told)
        if told.startswith("NOTIFY"):
            assert len(list(driver_of(other).notifies(timeout=60, stop_after=1))) == 1
        assert go(other, [(COUNT, {})], is_alone=True) == [[(1,)]]
    assert status_of(connection) == TransactionStatus.IDLE


def test_much_goes_both_ways_on_postgresql(connection: Connection) -> None:
    """The server sends while we do: who did not read meanwhile would wait for ever."""
    word = "x" * 8_000_000
    echo = ("SELECT %(word)s::text", {"word": word})
    assert go(connection, [echo, echo, echo], is_alone=True) == [[(word,)]] * 3


def test_a_connection_that_is_lost_on_postgresql(connection: Connection, database: Database) -> None:
    """It cannot be known what was carried out: told as the driver tells it, and the connection is closed."""
    driver = driver_of(connection)
    with database._outside.connect() as other:
        end = f"SELECT pg_terminate_backend({driver.info.backend_pid}), pg_sleep(0)"
        driver_of(other).execute(end)
        eventually(lambda: not go(other, [
            ("SELECT 1 FROM pg_stat_activity WHERE pid = %(pid)s", {"pid": driver.info.backend_pid})
        ], is_alone=True)[0], "its end")  # fmt: skip
    with pytest.raises(psycopg.OperationalError) as told:
        go(connection, [(INSERT, {"n": 1, "word": ""})], is_alone=True)
    assert is_lost(told.value)
    assert driver.closed


def test_who_is_interrupted_breaks_it_off_on_postgresql(connection: Connection, database: Database) -> None:
    """Ctrl-C ends the wait at once, what goes on at the server, and the connection."""
    with interrupted_after(0.3), pytest.raises(KeyboardInterrupt):
        go(connection, [("SELECT pg_sleep(600)", {})], is_alone=True)
    assert driver_of(connection).closed
    sleeping = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%%' AND state = 'active'"
    with database._outside.connect() as other:
        eventually(lambda: driver_of(other).execute(sleeping.replace("%%", "%")).fetchone() is None, "its end")


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """SIGALRM, which raises KeyboardInterrupt in the main thread."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
