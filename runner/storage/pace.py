"""What the last hour was like, read so that it costs little however much has ended in it.

A slice is one seek in the index of what has ended, and goes no further than so many entries. Those that are over are
remembered: who looks again asks for the newest two.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, literal, literal_column, select

from runner.domain.job_rows import Job
from runner.domain.pace import MOST, SAMPLE, SLICE, Pace, Slice, edges
from runner.storage.database import Database

JOBS = Job.__table__  # type: ignore[attr-defined]
SETTLED = timedelta(minutes=1)  # after the end of a slice: a commit may come later than the time that it writes


class Paces:
    """Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._over: dict[datetime, Slice] = {}

    def look(self, now: datetime) -> Pace:
        """What has ended by slices of two minutes; of each, how long some jobs waited from when they were due."""
        known = self._over
        with self._database.read() as connection:
            found = [known.get(start) or _slice(connection, start) for start in edges(now)]
        self._over = {one.start: one for one in found if one.start + SLICE + SETTLED <= now}
        return Pace(found)


def _slice(connection: Connection, start: datetime) -> Slice:
    rows = connection.execute(_SLICE, {"start": start, "end": start + SLICE}).all()
    waits = sorted(max((row.started_at - row.run_at).total_seconds(), 0.0) for row in rows if row.started_at)
    return Slice(start, rows[0].ended if rows else 0, tuple(waits))


_HERE = (
    JOBS.c.completed_at.is_not(None),
    JOBS.c.completed_at >= bindparam("start", type_=JOBS.c.completed_at.type),
    JOBS.c.completed_at < bindparam("end", type_=JOBS.c.completed_at.type),
)
# Limits that stand in the statement, and no order: else a planner may choose to read the whole slice first.
_SOME = select(literal(1)).select_from(JOBS).where(*_HERE).limit(literal_column(str(MOST))).subquery()
_SLICE = (
    select(
        JOBS.c.run_at, JOBS.c.started_at,
        select(func.count()).select_from(_SOME).scalar_subquery().label("ended"),
    )
    .where(*_HERE)
    .limit(literal_column(str(SAMPLE)))
)  # fmt: skip
