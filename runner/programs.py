"""What a program calls: enqueue a job, in its own transaction if it wants, and an engine on our database."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.intake import Call, Intake, after
from runner.domain.errors import NotFound, RunnerError, UsageError
from runner.domain.job import Enqueued
from runner.storage import poke
from runner.storage.dialects import hot
from runner.storage.enqueue import insert_jobs
from runner.storage.revisions import current
from runner.telemetry.traceparent import ambient

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session

    from runner.storage.database import Database

KEPT = 4  # databases that stay open between two calls


def enqueue(
    type: str,  # noqa: A002 - the word of the format
    payload: Mapping[str, Any] | None = None,
    *,
    session: Session | None = None,
    database_url: str | None = None,
    priority: int | str | None = None,
    run_at: datetime | None = None,
    delay: timedelta | float | None = None,
    project_id: str | None = None,
) -> Enqueued:
    """Enqueue a job of a type that the revision in force knows.

    With `session` (a SQLModel or SQLAlchemy session on the queue's database), the job is a part of the session's own
    transaction: it exists exactly if the session's other rows do. Without, it is on disk when this returns, in the
    database that `database_url`, else `DATABASE_URL`, else `runner.db` in the working directory names.

    `delay` is seconds or a timedelta, `run_at` an aware datetime. Raises UnknownJobType, PayloadInvalid, UsageError,
    DatabaseUnavailable (all of them RunnerError, in `runner.domain.errors`).
    """

    def enqueued(connection: Connection, now: datetime) -> Enqueued:
        call = Call(priority, _run_at(run_at, delay, now), project_id, traceparent=ambient(os.environ))
        return _enqueue(connection, type, payload, call, now)

    if session is None:
        return _alone(database_url, enqueued)
    connection = session.connection()
    made = enqueued(connection, hot(connection).now(connection))
    poke.after_commit(session)
    return made


def create_engine(database_url: str | None = None) -> Engine:
    """An engine on the queue's database as `runner` itself uses it: WAL, a busy timeout, write transactions that begin
    with the write lock. For a program's own tables in the same file, and for sessions to enqueue in."""
    from runner.storage.database import BUSY_TIMEOUT
    from runner.storage.dialects import server

    return server(database_url or os.environ.get("DATABASE_URL") or "runner.db", BUSY_TIMEOUT).engine("durable")


def _alone(database_url: str | None, enqueued: Callable[[Connection, datetime], Enqueued]) -> Enqueued:
    """In a transaction of its own, done again where it was broken off from outside."""
    from runner.storage.database import persistent

    @persistent
    def once() -> Enqueued:
        database = _open(database_url)
        now = database.now()
        with database.write() as connection:
            return enqueued(connection, now)

    return once()


# Opening a database and looking at its schema takes ten times as long as an enqueue.
_kept: dict[tuple[int, str, int], Database] = {}
_keeping = threading.Lock()


def _open(database_url: str | None) -> Database:
    """The database, as the last call left it where it is still the same file in the same process."""
    from runner.storage.database import BUSY_TIMEOUT, Database
    from runner.storage.dialects import server
    from runner.storage.setup import require_current

    url = server(database_url or os.environ.get("DATABASE_URL") or "runner.db", BUSY_TIMEOUT).url
    with _keeping:
        key = _key(url)
        if key not in _kept:
            opened = Database(url)
            try:
                require_current(opened)
            except RunnerError:
                opened.close()
                raise
            _make_room(url)
            _kept[key] = opened
        return _kept[key]


def _key(url: str) -> tuple[int, str, int]:
    """Another process after a fork, and another file that was put in this one's place, get connections of their own."""
    with suppress(OSError):
        return os.getpid(), url, Path(url.removeprefix("sqlite:///")).stat().st_ino
    return os.getpid(), url, 0


def _make_room(url: str) -> None:
    """Close what this process does not need any more; what it has inherited must not be touched."""
    mine = [key for key in _kept if key[0] == os.getpid()]
    stale = [key for key in mine if key[1] == url]
    for key in {*stale, *mine[: max(len(mine) - KEPT + 1, 0)]}:
        _kept.pop(key).close()


def _enqueue(
    connection: Connection, type_name: str, payload: Mapping[str, Any] | None, call: Call, now: datetime
) -> Enqueued:
    revision = current(connection)
    if revision is None:
        raise NotFound("the database holds no revision yet, so it knows no job types", "runner apply")
    job = Intake(revision.definitions, revision.number, os.environ).job(
        type_name, {} if payload is None else payload, now, call
    )
    return insert_jobs(connection, [job], now)[0]


def _run_at(run_at: datetime | None, delay: timedelta | float | None, now: datetime) -> datetime | None:
    if run_at is not None and delay is not None:
        raise UsageError("give run_at or delay, not both")
    return run_at if delay is None else after(now, delay)
