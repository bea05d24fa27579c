"""Jobs that failed, counted by what they said: one statement over the newest of them, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Result, Select, Subquery, func, literal_column, select, text

from runner.domain.failures import SAID, FailureGroup, Failures, essence, grouped
from runner.domain.job_rows import Job
from runner.storage.database import Database

JOBS = Job.__table__  # type: ignore[attr-defined]
NEWEST = 100_000  # failed jobs that are looked at
PAGE = 2000  # rows that are fetched at once


class FailureStore:
    """`projects` are those that the caller may see; None: all, and jobs of none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def groups(
        self, projects: Sequence[str] | None = None, since: datetime | None = None
    ) -> Sequence[FailureGroup]:  # fmt: skip
        """Of those that ended since then: the largest first."""
        newest = _newest(projects)
        ended = newest.c.completed_at
        columns = (
            newest.c.type, newest.c.said, func.count(), func.min(ended), func.max(ended), func.max(newest.c.id)
        )  # fmt: skip
        statement = _since(select(*columns), newest, since).group_by(newest.c.type, newest.c.said)
        with self._rows(statement) as rows:
            return grouped(Failures(*tuple(row)) for row in rows)

    def members(
        self, group: FailureGroup, projects: Sequence[str] | None = None, since: datetime | None = None, *, upto: int,
        limit: int,
    ) -> list[int]:  # fmt: skip
        """The ids of its jobs, the newest first, from that id down."""
        newest = _newest(projects)
        mine = (newest.c.type == group.type, newest.c.id <= upto)
        statement = _since(select(newest.c.id, newest.c.said), newest, since).where(*mine)
        with self._rows(statement.order_by(newest.c.id.desc())) as rows:
            return list(islice((row.id for row in rows if essence(row.said) == group.error), limit))

    @contextmanager
    def _rows(self, statement: Select[Any]) -> Iterator[Result[Any]]:
        """Fetched as they are read: there may be as many as there are jobs."""
        paged = {"yield_per": PAGE}
        with self._database.read() as connection, connection.execute(statement, execution_options=paged) as rows:
            yield rows


def _newest(projects: Sequence[str] | None) -> Subquery:
    # Letter by letter as in the index `jobs_failed`, which is read from its end.
    failed = (JOBS.c.status == literal_column("'failed'"), text("status IN ('failed', 'cancelled')"))
    said = func.substr(JOBS.c.error, 1, SAID)
    for digit in "123456789":  # what differs in a number is one row of the answer: see `essence`
        said = func.replace(said, digit, "0")
    statement = select(JOBS.c.id, JOBS.c.type, said.label("said"), JOBS.c.completed_at).where(*failed)
    if projects is not None:
        statement = statement.where(JOBS.c.project_id.in_(projects))
    return statement.order_by(JOBS.c.id.desc()).limit(NEWEST).subquery()


def _since(statement: Select[Any], newest: Subquery, since: datetime | None) -> Select[Any]:
    return statement if since is None else statement.where(newest.c.completed_at >= since)
