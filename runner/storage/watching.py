"""Many jobs that somebody watches, looked at in one statement: what moved, and whether there is more to read."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, func, select

from runner.domain.job_rows import Job, JobLog, JobOutput
from runner.storage.database import Database

JOBS = Job.__table__  # type: ignore[attr-defined]
LOGS = JobLog.__table__  # type: ignore[attr-defined]
OUTPUTS = JobOutput.__table__  # type: ignore[attr-defined]
BATCH = 500


class Pulse(NamedTuple):
    """Of one job, what changes while it is watched. `log` and `output` are the newest ids of its lines and pieces."""

    id: int
    status: str
    run_number: int
    attempt: int
    run_at: datetime
    worker_id: str | None
    started_at: datetime | None
    completed_at: datetime | None
    cancel_requested_at: datetime | None
    waiting_for: str | None
    progress: float
    current_step: str | None
    message: str | None
    log: int
    output: int

    @property
    def state(self) -> tuple[object, ...]:
        """Without what is told of its progress, its log and its outputs."""
        return self[:10]

    @property
    def said(self) -> tuple[object, ...]:
        return self.progress, self.current_step, self.message


class WatchStore:
    """Short reads, whatever the number of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pulses(self, job_ids: Collection[int]) -> dict[int, Pulse]:
        """Those that exist."""
        ids = sorted(job_ids)
        found: dict[int, Pulse] = {}
        with self._database.read() as connection:
            for start in range(0, len(ids), BATCH):
                for row in connection.execute(_PULSES, {"ids": ids[start : start + BATCH]}):
                    found[row.id] = Pulse._make(row)
        return found

    def version(self) -> int:
        """Another number when somebody has committed."""
        return self._database.data_version()


_LOG = select(func.max(LOGS.c.id)).where(LOGS.c.job_id == JOBS.c.id).scalar_subquery()
_OUTPUT = select(func.max(OUTPUTS.c.id)).where(OUTPUTS.c.job_id == JOBS.c.id).scalar_subquery()
_PULSES = select(
    *(JOBS.c[name] for name in Pulse._fields[:-2]),
    func.coalesce(_LOG, 0).label("log"),
    func.coalesce(_OUTPUT, 0).label("output"),
).where(JOBS.c.id.in_(bindparam("ids", expanding=True)))
