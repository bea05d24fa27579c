"""What a run says while it runs: progress, log lines and outputs, each under the fence of its claim."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Integer, Select, bindparam, case, delete, func, insert, select, update

from runner.domain.job import JobState, Run
from runner.domain.job_rows import Job, JobLog, JobOutput
from runner.domain.said import LogLine, OutputPiece, Progress, Writes
from runner.storage.database import Database, persistent

JOBS = Job.__table__  # type: ignore[attr-defined]
LOGS = JobLog.__table__  # type: ignore[attr-defined]
OUTPUTS = JobOutput.__table__  # type: ignore[attr-defined]


class LogStore:
    """Written in batches, may be lost by a power cut; read by anyone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @persistent
    def write(self, batch: Sequence[Writes]) -> set[int]:
        """Write the batch; returns the ids of jobs whose claim is no longer the run's: nothing of these was written."""
        with self._database.write(durable=False) as connection:
            in_order = sorted(batch, key=attrgetter("run.id"))  # who locks several rows locks them in one order
            return {writes.run.id for writes in in_order if not write(connection, writes)}

    def lines(self, job_id: int, *, after: int = 0, limit: int = 10_000, run: int | None = None) -> list[JobLog]:
        """Lines of a job in order, those with an id above `after`; with `run`, of that one."""
        statement = _of_run(select(LOGS).where(LOGS.c.job_id == job_id, LOGS.c.id > after), run)
        with self._database.read() as connection:
            rows = connection.execute(statement.order_by(LOGS.c.id).limit(limit)).mappings()
            return [JobLog.loaded(row) for row in rows]

    def newest(self, job_id: int, upto: int, limit: int, run: int | None = None) -> list[JobLog]:
        """The last lines with an id of at most `upto`, in order; with `run`, of that one."""
        with self._database.read() as connection:
            given = {"b_job": job_id, "b_upto": upto, "b_limit": limit}
            rows = connection.execute(_of_run(_LAST, run), given).mappings().all()
        return [JobLog.loaded(row) for row in reversed(rows)]

    def outputs(self, job_id: int) -> dict[str, tuple[str, bytes]]:
        """Name -> (media type, whole content) of what a job has shown."""
        statement = select(OUTPUTS).where(OUTPUTS.c.job_id == job_id).order_by(OUTPUTS.c.id)
        found: dict[str, tuple[str, bytes]] = {}
        with self._database.read() as connection:
            for row in connection.execute(statement):
                found[row.name] = (row.media_type, found.get(row.name, ("", b""))[1] + row.data)
        return found

    def output(self, job_id: int, name: str) -> tuple[str, bytes] | None:
        """Media type and whole content of one output."""
        statement = select(OUTPUTS).where(OUTPUTS.c.job_id == job_id, OUTPUTS.c.name == name).order_by(OUTPUTS.c.id)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return (rows[-1].media_type, b"".join(row.data for row in rows)) if rows else None

    def beginning(self, job_id: int, name: str, most: int) -> bytes:
        """So many bytes of an output: it may be large, and grow by many pieces."""
        values = {"b_job": job_id, "b_name": name, "b_most": most}
        with self._database.read() as connection:
            return b"".join(connection.execute(_BEGINNING, values).scalars())[:most]

    def output_sizes(self, job_id: int) -> list[OutputSize]:
        """What a job has shown, without reading it, in the order in which it began."""
        with self._database.read() as connection:
            return [
                OutputSize(row.name, row.media_type, row.bytes) for row in connection.execute(_SIZES, {"b": job_id})
            ]


def _of_run(statement: Select[Any], run: int | None) -> Select[Any]:
    return statement if run is None else statement.where(LOGS.c.run_number == run)


class OutputSize(NamedTuple):
    name: str
    media_type: str
    bytes: int


_LAST = (
    select(LOGS)
    .where(LOGS.c.job_id == bindparam("b_job"), LOGS.c.id <= bindparam("b_upto"))
    .order_by(LOGS.c.id.desc())
    .limit(bindparam("b_limit"))
)
_SIZES = (
    select(
        OUTPUTS.c.name, func.max(OUTPUTS.c.media_type).label("media_type"),
        func.coalesce(func.sum(func.length(OUTPUTS.c.data)), 0).label("bytes"),
    )
    .where(OUTPUTS.c.job_id == bindparam("b"))
    .group_by(OUTPUTS.c.name)
    .order_by(func.min(OUTPUTS.c.id))
)  # fmt: skip
_SIZE = func.length(OUTPUTS.c.data)
_PLACES = (
    select(OUTPUTS.c.id, (func.sum(_SIZE).over(order_by=OUTPUTS.c.id) - _SIZE).label("begins"))
    .where(OUTPUTS.c.job_id == bindparam("b_job"), OUTPUTS.c.name == bindparam("b_name"))
    .subquery()
)
_BEGINNING = (
    select(func.substr(OUTPUTS.c.data, 1, bindparam("b_most", type_=Integer)))
    .join(_PLACES, _PLACES.c.id == OUTPUTS.c.id)
    .where(_PLACES.c.begins < bindparam("b_most", type_=Integer))
    .order_by(OUTPUTS.c.id)
)
_FENCE = (JOBS.c.id == bindparam("b_id"), JOBS.c.claim_token == bindparam("b_token"), JOBS.c.status == JobState.RUNNING)
_PROGRESS = (
    update(JOBS)
    .where(*_FENCE)
    .values(
        # Never back within a run: a late or a smaller number leaves what is there.
        progress=case(
            (JOBS.c.progress > bindparam("b_percent", type_=JOBS.c.progress.type), JOBS.c.progress),
            else_=func.coalesce(bindparam("b_percent", type_=JOBS.c.progress.type), JOBS.c.progress),
        ),
        current_step=func.coalesce(bindparam("b_step", type_=JOBS.c.current_step.type), JOBS.c.current_step),
        message=func.coalesce(bindparam("b_message", type_=JOBS.c.message.type), JOBS.c.message),
    )
)
_HELD = select(JOBS.c.id).where(*_FENCE).with_for_update(key_share=True)


def write(connection: Connection, writes: Writes) -> bool:
    """Write what a run said, in the caller's transaction; False where the claim is lost, and then nothing."""
    fence = {"b_id": writes.run.id, "b_token": writes.run.claim_token}
    if not _touch(connection, fence, writes.progress):
        return False
    if writes.lines:
        connection.execute(insert(LOGS), [_line(writes.run, line) for line in writes.lines])
    for piece in writes.outputs:
        _output(connection, writes.run, piece)
    return True


def _touch(connection: Connection, fence: dict[str, Any], progress: Progress | None) -> bool:
    if progress is None:
        return connection.execute(_HELD, fence).first() is not None
    said = {"b_percent": progress.percent, "b_step": progress.step, "b_message": progress.message}
    return connection.execute(_PROGRESS, fence | said).rowcount == 1


def _line(run: Run, line: LogLine) -> dict[str, Any]:
    return {"job_id": run.id, "run_number": run.run_number, "at": line.at, "level": line.level, "message": line.message}


def _output(connection: Connection, run: Run, piece: OutputPiece) -> None:
    mine = (OUTPUTS.c.job_id == run.id, OUTPUTS.c.name == piece.name)
    # A new run of the job shows its own output: pieces of an earlier run are not continued.
    stale = mine if not piece.append else (*mine, OUTPUTS.c.run_number != run.run_number)
    connection.execute(delete(OUTPUTS).where(*stale))
    values = {"name": piece.name, "media_type": piece.media_type, "at": piece.at, "data": piece.data}
    connection.execute(insert(OUTPUTS), {"job_id": run.id, "run_number": run.run_number} | values)
