"""What a program calls: enqueue a job, in its own transaction if it wants, and an engine on our database."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.intake import Call, Intake, after
from runner.domain.errors import RunnerError, UsageError
from runner.domain.job import Enqueued, NewJob
from runner.domain.revision import Revision
from runner.storage import poke
from runner.storage.dialects import hot
from runner.storage.enqueue import insert_jobs
from runner.storage.jobs import JobStore
from runner.storage.revisions import RevisionStore, in_force
from runner.telemetry.traceparent import ambient

if TYPE_CHECKING:
    from sqlalchemy import Engine
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

    def job(revision: Revision, now: datetime) -> NewJob:
        call = Call(priority, _run_at(run_at, delay, now), project_id, traceparent=ambient(os.environ))
        intake = Intake(revision.definitions, revision.number, os.environ)
        return intake.job(type, {} if payload is None else payload, now, call)

    if session is None:
        return _open(database_url).enqueue(job)
    connection = session.connection()
    now = hot(connection).now(connection)
    (made,) = insert_jobs(connection, [job(in_force(connection), now)], now)
    poke.after_commit(session)
    return made


def create_engine(database_url: str | None = None) -> Engine:
    """An engine on the queue's database as `runner` itself uses it: WAL, a busy timeout, write transactions that begin
    with the write lock. For a program's own tables in the same file, and for sessions to enqueue in."""
    from runner.storage.database import BUSY_TIMEOUT
    from runner.storage.dialects import server

    return server(database_url or os.environ.get("DATABASE_URL") or "runner.db", BUSY_TIMEOUT).engine("durable")


class _Place:
    """A database that stays open, and the revision that was in force there at the last call."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._jobs, self._revisions = JobStore(database), RevisionStore(database)
        self._known: Revision | None = None

    def enqueue(self, job: Callable[[Revision, datetime], NewJob]) -> Enqueued:
        """By the revision that is in force as the job is written; what is known of it spares the question."""
        while True:
            now, known = self.database.now(), self._known
            revision = known or self._revisions.in_force()
            try:
                wanted = job(revision, now)
            except RunnerError:  # the revision in force may allow what the one that is known refuses
                if known is None:
                    raise
                self._known = None
                continue
            made = self._jobs.enqueue_under(revision, wanted, now)
            self._known = None if made is None else revision
            if made is not None:
                return made


# Opening a database and looking at its schema takes ten times as long as an enqueue.
_kept: dict[tuple[int, str, int], _Place] = {}
_keeping = threading.Lock()


def _open(database_url: str | None) -> _Place:
    """The database, as the last call left it where it is still the same file in the same process."""
    from runner.storage.database import Database
    from runner.storage.setup import require_current

    given = database_url or os.environ.get("DATABASE_URL") or "runner.db"
    url = _whole(given, None if "://" in given and not given.startswith("sqlite") else Path.cwd())
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
            _kept[key] = _Place(opened)
        return _kept[key]


@lru_cache(maxsize=KEPT)
def _whole(url: str, folder: Path | None) -> str:
    """The URL as it is known. That of a file may depend on the working directory."""
    from runner.storage.database import BUSY_TIMEOUT
    from runner.storage.dialects import server

    return server(url, BUSY_TIMEOUT).url


def _key(url: str) -> tuple[int, str, int]:
    """Another process after a fork, and another file that was put in this one's place, get connections of their own."""
    file = url.removeprefix("sqlite:///")
    if file != url:
        with suppress(OSError):
            return os.getpid(), url, Path(file).stat().st_ino
    return os.getpid(), url, 0


def _make_room(url: str) -> None:
    """Close what this process does not need any more; what it has inherited must not be touched."""
    mine = [key for key in _kept if key[0] == os.getpid()]
    stale = [key for key in mine if key[1] == url]
    for key in {*stale, *mine[: max(len(mine) - KEPT + 1, 0)]}:
        _kept.pop(key).database.close()


@atexit.register
def _close() -> None:
    for key in [key for key in _kept if key[0] == os.getpid()]:
        _kept.pop(key).database.close()


def _run_at(run_at: datetime | None, delay: timedelta | float | None, now: datetime) -> datetime | None:
    if run_at is not None and delay is not None:
        raise UsageError("give run_at or delay, not both")
    return run_at if delay is None else after(now, delay)
