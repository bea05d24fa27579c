"""A connection that is lost as it commits: what was written is found again, by its token, and never written twice."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from runner.domain.errors import BrokenOff, CommitInDoubt, DatabaseUnavailable
from runner.domain.job import JobState
from runner.domain.outcome import Cancelled, Completed, Failed, Outcome, Released, Snoozed
from runner.domain.said import LogLine, Writes
from runner.storage import dialects, hot_postgres, rows_postgres
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from runner.storage.journey import Rows, Step
from tests.contract.databases import everything
from tests.contract.test_settle import settlement
from tests.factories import HOUR, MINUTE, NOW, Stores, end, make_job, make_new_job, make_running, start

REQUEST = ClaimRequest("w1", [Lane("default", "mail")], 2)
OUTCOMES: list[Outcome] = [
    Completed('{"a":1}'), Failed("ValueError: x"), Failed("y", for_good=True), Cancelled("no"), Snoozed(MINUTE),
    Released(),
]  # fmt: skip


@contextmanager
def unanswered(*, is_written: bool) -> Iterator[None]:
    """The next commits are carried out, or not; their answers are lost."""
    commit: Callable[[Any], None] = dialects.commit

    def lose(connection: Any) -> None:
        if is_written:
            commit(connection)
        raise OperationalError("COMMIT", None, ConnectionResetError("server closed the connection unexpectedly"))

    together = hot_postgres._together

    def lose_together(connection: Connection, steps: Sequence[Step], *, commits: bool = False) -> list[Rows]:
        """What goes to a server with its commit."""
        rows = together(connection, steps, commits=commits and is_written)
        if commits:
            dialects.went_with_commit(connection)
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return rows

    insert_alone = rows_postgres.insert_alone

    def lose_alone(connection: Connection, *given: Any) -> None:
        """What is a transaction by itself there."""
        if is_written:
            insert_alone(connection, *given)
        dialects.went_with_commit(connection)
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialects, "commit", lose)
        patch.setattr(rows_postgres, "insert_alone", lose_alone)
        patch.setattr(hot_postgres, "_together", lose_together)
        yield


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "lost"])
@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda one: type(one).__name__)
def test_an_end_in_doubt_is_written_once(
    stores: Stores, database: Database, outcome: Outcome, is_written: bool
) -> None:
    """Settled again, it is told as written; the row and the history are those of one end."""
    twin, run = make_running(stores), make_running(stores)
    end(stores, twin, outcome)
    batch = [settlement(run, outcome, NOW)._replace(writes=Writes(run, None, (LogLine(NOW, "info", "last words"),)))]

    with unanswered(is_written=is_written), pytest.raises(CommitInDoubt):
        stores.claims.settle(batch, NOW)
    settled = stores.claims.settle(batch, NOW)

    assert (set(settled.written), settled.lost) == ({run.id}, frozenset())
    rows = everything(database)
    mine, other = (
        {**row, "id": 0, "claim_token": ""} for row in rows["background_jobs"] if row["id"] in (run.id, twin.id)
    )
    assert mine == other
    assert len(rows["job_attempts"]) == 2 * (stores.jobs.get(run.id).status == "pending")
    assert [line.message for line in stores.logs.lines(run.id)] == ["last words"]
    assert stores.claims.settle(batch, NOW).lost == {run.id}, "the doubt is gone: it is somebody else's now"


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "lost"])
def test_a_claim_in_doubt_is_not_forgotten(stores: Stores, is_written: bool) -> None:
    """What was claimed without our knowing comes with the next claim: nobody else would ever take it from us."""
    made = [one.id for one in stores.jobs.enqueue_many([make_new_job()] * 3, NOW)]

    with unanswered(is_written=is_written), pytest.raises(CommitInDoubt):
        stores.claims.claim(REQUEST, NOW)
    runs = stores.claims.claim(REQUEST, NOW)

    assert [run.id for run in runs] == made[:2]
    assert [run.run_number for run in runs] == [1, 1]
    assert stores.jobs.counts()["running"] == 2
    assert end(stores, runs[0], Completed()).lost == frozenset()


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "lost"])
def test_an_enqueue_in_doubt_is_told_and_not_repeated(stores: Stores, is_written: bool) -> None:
    """Nobody can know whether the job is there: to insert it again could make it two."""
    with unanswered(is_written=is_written), pytest.raises(CommitInDoubt):
        stores.jobs.enqueue(make_new_job(), NOW)

    assert stores.jobs.counts()["pending"] == int(is_written)
    stores.jobs.enqueue(make_new_job(), NOW)
    assert stores.jobs.counts()["pending"] == 1 + int(is_written)


def test_ends_and_claims_of_one_commit(stores: Stores) -> None:
    """As a busy worker does it: both are there after the answer was lost twice."""
    run = make_running(stores)
    made = [one.id for one in stores.jobs.enqueue_many([make_new_job()] * 3, NOW)]
    for _ in range(2):
        with unanswered(is_written=True), pytest.raises(CommitInDoubt):
            stores.claims.settle([settlement(run, Completed("7"))], NOW, REQUEST)

    settled = stores.claims.settle([settlement(run, Completed("7"))], NOW, REQUEST)

    assert (set(settled.written), settled.lost) == ({run.id}, frozenset())
    assert [one.id for one in settled.claimed] == made[:2]
    assert stores.jobs.counts()["running"] == 2


def test_what_a_rescue_has_ended_meanwhile_is_lost(stores: Stores) -> None:
    """The token alone is no proof: another may have ended the run by it."""
    run = make_running(stores)
    with unanswered(is_written=False), pytest.raises(CommitInDoubt):
        stores.claims.settle([settlement(run, Completed("7"))], NOW)
    end(Stores(stores.database), run, Failed("Job processor stopped responding", for_good=True))

    assert stores.claims.settle([settlement(run, Completed("7"))], NOW).lost == {run.id}
    assert stores.jobs.get(run.id).status == JobState.FAILED


def test_what_was_rescued_from_a_claim_in_doubt_is_not_run(stores: Stores) -> None:
    """It was ours, and is another's now."""
    stores.jobs.enqueue(make_new_job(), NOW)
    with unanswered(is_written=True), pytest.raises(CommitInDoubt):
        stores.claims.claim(REQUEST, NOW)
    other = Stores(stores.database)
    (run,) = other.claims.running_of(["w1"])
    end(other, run, Released())
    start(other, run.id, now=NOW + HOUR)

    assert stores.claims.claim(REQUEST, NOW) == []


def test_an_end_in_doubt_is_known_after_a_claim(stores: Stores) -> None:
    """A worker that claims meanwhile does not take its own end for somebody else's."""
    run = make_running(stores)
    with unanswered(is_written=True), pytest.raises(CommitInDoubt):
        stores.claims.settle([settlement(run, Completed("7"))], NOW)
    stores.jobs.enqueue(make_new_job(), NOW)
    assert len(stores.claims.claim(REQUEST, NOW)) == 1

    settled = stores.claims.settle([settlement(run, Completed("7"))], NOW)

    assert (set(settled.written), settled.lost) == ({run.id}, frozenset())


# ---- a connection that is really lost


def cut(connection: Connection) -> None:
    """Its socket, under the driver."""
    with socket.socket(fileno=os.dup(connection.connection.driver_connection.fileno())) as mine:  # type: ignore[union-attr]
        mine.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_at_commit(*, is_written: bool) -> Iterator[None]:
    """The next commit is carried out, or not; then the connection is gone."""
    commit: Callable[[Any], None] = dialects.commit

    def lose(connection: Connection) -> None:
        if is_written:
            connection.connection.driver_connection.execute("COMMIT; BEGIN")  # type: ignore[union-attr]
        cut(connection)
        commit(connection)

    together = hot_postgres._together

    def cut_together(connection: Connection, steps: Sequence[Step], *, commits: bool = False) -> list[Rows]:
        """What goes to a server with its commit: the connection is gone before that, or before the answer."""
        if not commits:
            return together(connection, steps)
        rows = together(connection, steps, commits=is_written)
        cut(connection)
        together(connection, [], commits=True)
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialects, "commit", lose)
        patch.setattr(hot_postgres, "_together", cut_together)
        yield


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "lost"])
def test_a_connection_that_is_cut_as_it_commits_on_postgresql(stores: Stores, is_written: bool) -> None:
    """That it cannot even be rolled back hides nothing: ends and claims of that commit are looked for."""
    run = make_running(stores)
    made = [one.id for one in stores.jobs.enqueue_many([make_new_job()] * 3, NOW)]
    for _ in range(20):  # more often than there are connections in a pool
        with cut_at_commit(is_written=is_written), pytest.raises(CommitInDoubt):
            stores.claims.settle([settlement(run, Completed("7"))], NOW, REQUEST)

    settled = stores.claims.settle([settlement(run, Completed("7"))], NOW, REQUEST)

    assert (set(settled.written), settled.lost) == ({run.id}, frozenset())
    assert [one.id for one in settled.claimed] == made[:2]
    assert stores.jobs.counts()["running"] == 2


def test_who_looks_for_commits_gets_another_connection_on_postgresql(database: Database) -> None:
    """Cut off, it is told once; the next look is answered. Readers the same."""
    for _ in range(20):
        database.data_version()
        assert database._watcher is not None
        cut(database._watcher)
        with pytest.raises(DatabaseUnavailable):
            database.data_version()
        assert database.data_version()


def test_a_reader_that_is_cut_gives_its_place_back_on_postgresql(database: Database) -> None:
    """However often: the pool has places for all who come after."""

    def read() -> None:
        with database.read() as connection:
            cut(connection)
            connection.exec_driver_sql("SELECT 1")

    for _ in range(20):
        with pytest.raises(DatabaseUnavailable):
            read()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_a_connection_that_is_lost_before_its_commit_is_in_no_doubt_on_postgresql(
    stores: Stores, database: Database
) -> None:
    """The server ended it between two statements: nothing was written, and it may be done again."""
    job = make_job(stores)

    def write() -> None:
        with database.write() as connection:
            (pid,) = connection.exec_driver_sql("SELECT pg_backend_pid()").one()
            connection.exec_driver_sql("UPDATE background_jobs SET message = 'lost'")
            with psycopg.connect(database.server.url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
            connection.exec_driver_sql("UPDATE background_jobs SET message = 'lost'")

    with pytest.raises(BrokenOff):
        write()
    assert stores.jobs.get(job.id or 0).message is None
