"""The rows of live workers: beats, and who has stopped beating."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import case, delete, insert, literal, literal_column, select, union, update

from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.domain.worker import WorkerStatus
from runner.storage.database import Database, persistent

JOBS = Job.__table__  # type: ignore[attr-defined]
WORKERS = WorkerStatus.__table__  # type: ignore[attr-defined]


class WorkerStore:
    """A beat may be lost by a power cut; it has a connection of its own and does not queue behind other writers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @persistent
    def register(self, worker: WorkerStatus) -> None:
        with self._database.write() as connection:
            connection.execute(insert(WORKERS), worker.model_dump())

    @persistent
    def beat(
        self, worker_id: str, now: datetime, config_sha256: str | None = None, config_revision: int | None = None,
        config_problem: str | None = None, concurrency: int | None = None, stalled_after: float | None = None,
    ) -> bool:  # fmt: skip
        """Say that the worker lives; False where its row is gone, that is, where it was taken for dead.

        What is None stays as it is. A problem of its file keeps the time at which it was first told, and is gone when
        the beat tells none.
        """
        told = WORKERS.c.config_problem_at
        first_told = case((WORKERS.c.config_problem == config_problem, told), else_=literal(now, told.type))
        values: dict[str, object] = {
            "last_heartbeat": now,
            "beats": WORKERS.c.beats + 1,
            "config_revision": config_revision,
            "config_problem": config_problem,
            "config_problem_at": None if config_problem is None else first_told,
        }
        given = {"config_sha256": config_sha256, "concurrency": concurrency, "stalled_after": stalled_after}
        values |= {name: value for name, value in given.items() if value is not None}
        with self._database.write(durable=False, urgent=True) as connection:
            return connection.execute(update(WORKERS).where(WORKERS.c.id == worker_id).values(values)).rowcount == 1

    @persistent
    def forget(self, worker_id: str) -> None:
        """A worker that stops in good order, holding nothing."""
        with self._database.write() as connection:
            connection.execute(delete(WORKERS).where(WORKERS.c.id == worker_id))

    def all(self) -> list[WorkerStatus]:
        with self._database.read() as connection:
            rows = connection.execute(select(WORKERS).order_by(WORKERS.c.started_at, WORKERS.c.id)).mappings()
            return [WorkerStatus.loaded(row) for row in rows]

    def census(self) -> tuple[list[WorkerStatus], set[str]]:
        """All workers, and the ids that running jobs name though no such worker is known; as of one moment, in which
        no worker is unknown that is about to make itself known: it does before its first claim."""
        with self._database.read() as connection:
            rows = connection.execute(_CENSUS).mappings().all()
        known = [WorkerStatus.loaded({name: row[name] for name in _NAMES}) for row in rows if row["id"] is not None]
        return known, {row["named"] for row in rows if row["id"] is None}

    def heartbeats(self, worker_ids: Sequence[str]) -> dict[str, datetime]:
        statement = select(WORKERS.c.id, WORKERS.c.last_heartbeat).where(WORKERS.c.id.in_(worker_ids))
        with self._database.read() as connection:
            return {row.id: row.last_heartbeat for row in connection.execute(statement)}


_NAMES = [column.name for column in WORKERS.c]
# In the statement, not in a parameter: only then is the partial index usable, whatever the database.
_HOLDERS = select(JOBS.c.worker_id).where(
    JOBS.c.status == literal_column(f"'{JobState.RUNNING.value}'"), JOBS.c.worker_id.is_not(None)
)
_NAMED = union(select(WORKERS.c.id.label("named")), _HOLDERS).subquery()
_CENSUS = (
    select(_NAMED.c.named, WORKERS)
    .select_from(_NAMED.outerjoin(WORKERS, WORKERS.c.id == _NAMED.c.named))
    .order_by(WORKERS.c.started_at, _NAMED.c.named)
)
