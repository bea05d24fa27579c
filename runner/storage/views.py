"""Jobs as people and programs are shown them: the columns, a state in words, the worker's beat, all attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, func, select

from runner.domain.job import JobState
from runner.domain.job_rows import Job, JobAttempt
from runner.domain.lifecycle import display_state
from runner.domain.revision import Limit
from runner.domain.schedule import Definitions
from runner.domain.worker import WorkerStatus
from runner.storage.database import Database
from runner.storage.jobs import JobStore
from runner.storage.logs import LogStore
from runner.storage.revisions import current

JOBS = Job.__table__  # type: ignore[attr-defined]
ATTEMPTS = JobAttempt.__table__  # type: ignore[attr-defined]
LIMITS = Limit.__table__  # type: ignore[attr-defined]
WORKERS = WorkerStatus.__table__  # type: ignore[attr-defined]

SHOWN = (
    "id", "type", "status", "queue", "priority", "payload", "result", "error", "progress", "current_step", "message",
    "project_id", "schedule_name", "scheduled_for", "run_at", "attempt", "max_attempts", "run_number", "worker_id",
    "created_at", "started_at", "completed_at", "parent_id", "revision", "stalls",
)  # fmt: skip


Columns = Mapping[str, Any]  # of a job's row


class JobViews:
    """Views of several jobs cost a handful of queries, whatever their number."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs, self._logs = JobStore(database), LogStore(database)

    def whole(self, job: Job, now: datetime) -> dict[str, Any]:
        """All that there is to say of one, as `runner jobs show -o json` says it: with its place, and what it shows."""
        with self._database.read():
            position = self._jobs.position(job, now) if job.status == JobState.PENDING else None
            outputs = [one._asdict() for one in self._logs.output_sizes(job.id or 0)]
            return self.view([job], now)[0] | {"queue_position": position, "outputs": outputs}

    def view(self, jobs: Sequence[Job], now: datetime) -> list[dict[str, Any]]:
        """Each job as `GET /api/jobs/{id}` gives it: plain values, times as aware datetimes."""
        rows = [vars(job) for job in jobs]  # an attribute of a row takes four times as long
        with self._database.read() as connection:
            revision = current(connection)
            definitions = revision.definitions if revision else Definitions()
            full = _full_limits(connection) if definitions.limits else set()
            beats = _beats(connection, [row["worker_id"] for row in rows if row["worker_id"]])
            attempts = _attempts(connection, [row["id"] for row in rows if _has_earlier(row)])
        return [
            {name: row[name] for name in SHOWN}
            | {
                "display_state": _state(row, definitions, full, now),
                "last_heartbeat": beats.get(row["worker_id"]),
                "attempts": [*attempts.get(row["id"], []), *_present_run(row)],
            }
            for row in rows
        ]


def _has_earlier(job: Columns) -> bool:
    """Whether there may be runs that its own row does not tell: most jobs run once."""
    return bool(job["run_number"] > (1 if job["claim_token"] is not None else 0))


def _state(job: Columns, definitions: Definitions, full: set[str], now: datetime) -> str:
    job_type = definitions.job_types.get(job["type"])
    return display_state(
        job["status"],
        attempt=job["attempt"],
        run_at=job["run_at"],
        now=now,
        waiting=job["waiting_for"] is not None,
        cancelling=job["cancel_requested_at"] is not None,
        parked=job_type is None,
        limited=job_type is not None and job_type.limit in full,
    )


def _full_limits(connection: Connection) -> set[str]:
    return set(connection.execute(_FULL).scalars())


def _beats(connection: Connection, worker_ids: Sequence[str]) -> dict[str, datetime]:
    if not worker_ids:
        return {}
    return {row.id: row.last_heartbeat for row in connection.execute(_BEATS, {"ids": sorted(set(worker_ids))})}


def _attempts(connection: Connection, job_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    if not job_ids:
        return found
    for row in connection.execute(_ATTEMPTS, {"ids": job_ids}):
        found.setdefault(row.job_id, []).append(
            {
                "run_number": row.run_number,
                "attempt": row.attempt,
                "worker_id": row.worker_id,
                "started_at": row.started_at,
                "finished_at": row.finished_at,
                "outcome": row.outcome,
                "error": row.error,
            }
        )
    return found


_RUNNING = select(func.count()).where(JOBS.c.status == JobState.RUNNING, JOBS.c.limit_name == LIMITS.c.name)
_FULL = select(LIMITS.c.name).where(_RUNNING.scalar_subquery() >= LIMITS.c.max)
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_BEATS = select(WORKERS.c.id, WORKERS.c.last_heartbeat).where(WORKERS.c.id.in_(_IDS))
_ATTEMPTS = select(ATTEMPTS).where(ATTEMPTS.c.job_id.in_(_IDS)).order_by(ATTEMPTS.c.job_id, ATTEMPTS.c.run_number)


def _present_run(job: Columns) -> list[dict[str, Any]]:
    """The run that the job's own row tells: the one that goes on, or the one that ended it."""
    if job["claim_token"] is None:
        return []
    ended = job["status"] != JobState.RUNNING
    return [
        {
            "run_number": job["run_number"],
            "attempt": job["attempt"],
            "worker_id": job["worker_id"],
            "started_at": job["started_at"],
            "finished_at": job["completed_at"],
            "outcome": job["status"] if ended else None,
            "error": job["error"] if ended else None,
        }
    ]
