"""Requests that may come twice: the jobs of a key are made once, in the transaction that remembers the key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from runner.domain.access_rows import AuditEntry, IdempotencyKey
from runner.domain.errors import Conflict
from runner.domain.job import Enqueued, JobState, NewJob
from runner.domain.job_rows import Job
from runner.storage.access import note
from runner.storage.database import Database, persistent
from runner.storage.dialects import insert
from runner.storage.enqueue import insert_jobs

JOBS = Job.__table__  # type: ignore[attr-defined]
KEYS = IdempotencyKey.__table__  # type: ignore[attr-defined]
KEPT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Once:
    """What makes two requests the same. `scope` is whose key it is: two callers may choose the same word."""

    scope: str
    key: str
    digest: str

    @classmethod
    def of(cls, scope: str, key: str, body: str) -> Once:
        return cls(scope, key, hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest())


class OnceStore:
    """Remembers keys for a day."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @persistent
    def enqueue(
        self, once: Once, jobs: Sequence[NewJob], now: datetime, audit: AuditEntry | None = None
    ) -> list[Enqueued]:
        """The jobs of the first request with this key; all are duplicates where that was another one.

        Only the first is audited, with the ids of what it made. Raises Conflict where it had another body.
        """
        with self._database.write() as connection:
            connection.execute(_FORGET, {"b_before": now - KEPT})
            values = {"scope": once.scope, "key": once.key, "digest": once.digest, "created_at": now, "job_ids": []}
            fresh = insert(connection, KEYS).on_conflict_do_nothing().returning(KEYS.c.key)
            if connection.execute(fresh, values).first() is None:
                return _made_before(connection, once)
            made = insert_jobs(connection, jobs, now)
            mine = (KEYS.c.scope == once.scope, KEYS.c.key == once.key)
            connection.execute(update(KEYS).where(*mine).values(job_ids=[one.id for one in made]))
            note(connection, audit, "as " + ", ".join(f"job {one.id}" for one in made))
            return made


_FORGET = delete(KEYS).where(KEYS.c.created_at < bindparam("b_before", type_=KEYS.c.created_at.type))


def _made_before(connection: Connection, once: Once) -> list[Enqueued]:
    statement = select(KEYS.c.digest, KEYS.c.job_ids).where(KEYS.c.scope == once.scope, KEYS.c.key == once.key)
    found = connection.execute(statement).one()
    if found.digest != once.digest:
        raise Conflict(
            f"the idempotency key {once.key!r} came before with another body", "a new key for each new request"
        )
    ids: list[Any] = found.job_ids
    rows = connection.execute(select(JOBS.c.id, JOBS.c.status).where(JOBS.c.id.in_(ids)))
    states = {row.id: row.status for row in rows}
    # One that was pruned since had ended.
    return [Enqueued(one, JobState(states.get(one, JobState.COMPLETED)), True, replayed=True) for one in ids]
