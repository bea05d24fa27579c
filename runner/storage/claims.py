"""From claim to settle: who runs a job, how a run ends, and who makes good what a dead worker left."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, select

from runner.domain.errors import CommitInDoubt
from runner.domain.job import JobState, Run
from runner.domain.job_rows import Job, JobAttempt
from runner.domain.worker import WorkerStatus
from runner.storage.database import Database
from runner.storage.dialects import Claim, Lanes, hot
from runner.storage.serial import policy_from
from runner.storage.settling import BY_JOB, Settled, Settlement, end_of, promote, settle

JOBS = Job.__table__  # type: ignore[attr-defined]
ATTEMPTS = JobAttempt.__table__  # type: ignore[attr-defined]
WORKERS = WorkerStatus.__table__  # type: ignore[attr-defined]
RUN_COLUMNS = tuple(
    JOBS.c[name]
    for name in (
        "id", "type", "queue", "payload", "priority", "attempt", "max_attempts", "run_number", "stalls", "claim_token",
        "worker_id", "policy", "run_at", "started_at", "created_at", "project_id", "schedule_name", "scheduled_for",
    )
)  # fmt: skip
_RUNNING = select(*RUN_COLUMNS).where(JOBS.c.status == JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Lane:
    """A (queue, type) that a worker may run now, with the limit that the file gives to the type."""

    queue: str
    type: str
    limit: str | None = None


class ClaimRequest(NamedTuple):
    """Up to `free` jobs for that worker, from these lanes; with `schedules`, only jobs that these fired."""

    worker_id: str
    lanes: Sequence[Lane]
    free: int
    schedules: frozenset[str] | None = None


class ClaimStore:
    """Claim, settle, release and rescue: every statement carries the fence."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ends_in_doubt: set[tuple[int, str]] = set()  # (job id, token) of ends whose commit was not answered
        self._claims_in_doubt: set[str] = set()  # their tokens

    def claim(self, request: ClaimRequest, now: datetime) -> list[Run]:
        """The most urgent jobs that are due, now running under a fresh token. May be lost by a power cut."""
        if (request.free < 1 or not request.lanes) and not self._claims_in_doubt:
            return []
        wanted = _wanted(request)
        try:
            with self._database.write(durable=False) as connection:
                claimed = self._claim(connection, wanted, now)
        except CommitInDoubt:
            self._doubt((), wanted)
            raise
        self._know((), wanted)
        return claimed

    def settle(self, settlements: Sequence[Settlement], now: datetime, claim: ClaimRequest | None = None) -> Settled:
        """Write the ends of runs, and claim the next jobs in the same transaction: both are on disk, or neither."""
        wanted = None if claim is None else _wanted(claim)
        try:
            with self._database.write() as connection:
                settled = self._settle(connection, settlements, wanted, now)
        except CommitInDoubt:
            self._doubt(settlements, wanted)
            raise
        self._know(settlements, wanted)
        return settled

    def _settle(
        self, connection: Connection, settlements: Sequence[Settlement], wanted: Claim | None, now: datetime
    ) -> Settled:  # fmt: skip
        if wanted is not None and wanted.lanes and wanted.free > 0 and self._are_plain(settlements):
            return _exchange(connection, settlements, wanted, now)
        settled = settle(connection, settlements, now, self._ends_in_doubt)
        claimed = [] if wanted is None else self._claim(connection, wanted, now)
        return Settled(settled.written, settled.lost, claimed)

    def _are_plain(self, settlements: Sequence[Settlement]) -> bool:
        """Nothing but an end to write, as of most runs: nothing depends on another answer of the database."""
        return not self._ends_in_doubt and not self._claims_in_doubt and all(map(_is_plain, settlements))

    def _doubt(self, settlements: Sequence[Settlement], wanted: Claim | None) -> None:
        """The commit was not answered: what it was to write is looked for with the next one."""
        self._ends_in_doubt |= {(one.run.id, one.run.claim_token) for one in settlements}
        if wanted is not None:
            self._claims_in_doubt.add(wanted.token)

    def _know(self, settlements: Sequence[Settlement], wanted: Claim | None) -> None:
        """It was answered."""
        if self._ends_in_doubt:
            self._ends_in_doubt -= {(one.run.id, one.run.claim_token) for one in settlements}
        if wanted is not None and self._claims_in_doubt:
            self._claims_in_doubt.clear()

    def _claim(self, connection: Connection, wanted: Claim, now: datetime) -> list[Run]:
        """After what an earlier commit has claimed, without our knowing."""
        claimed = self._claimed_unknown(connection, wanted.worker_id) if self._claims_in_doubt else []
        free = wanted.free - len(claimed)
        if free > 0 and wanted.lanes:
            claimed += hot(connection).claim(connection, wanted._replace(free=free), now)
        return claimed

    def _claimed_unknown(self, connection: Connection, worker_id: str) -> list[Run]:
        statement = _RUNNING.where(JOBS.c.worker_id == worker_id, JOBS.c.claim_token.in_(self._claims_in_doubt))
        rows = connection.execute(statement.order_by(JOBS.c.priority, JOBS.c.run_at, JOBS.c.id))
        return [_as_run(row) for row in rows]

    def rescue(self, worker_ids: Sequence[str], settlements: Sequence[Settlement], now: datetime) -> Settled:
        """Make good what dead workers left, and forget them: one transaction."""
        with self._database.write() as connection:
            settled = settle(connection, settlements, now)
            connection.execute(delete(WORKERS).where(WORKERS.c.id.in_(worker_ids)))
            return settled

    def promote(self, now: datetime) -> int:
        """Let the waiting jobs start whose earlier ones have ended; returns how many."""
        with self._database.write(durable=False) as connection:
            return promote(connection, now)

    def lanes(self) -> list[tuple[str, str]]:
        """The (queue, type) pairs that have pending jobs, whoever may run them."""
        with self._database.read() as connection:
            return hot(connection).lanes(connection)

    def next_due(self, lanes: Iterable[Lane], schedules: frozenset[str] | None = None) -> datetime | None:
        """When the next pending job of these lanes is due; in the past where one waits already."""
        with self._database.read() as connection:
            return hot(connection).next_due(connection, _lanes(lanes), schedules)

    def running_of(self, worker_ids: Sequence[str]) -> list[Run]:
        """The runs that these workers hold, to be rescued or released."""
        statement = _RUNNING.where(JOBS.c.worker_id.in_(worker_ids))
        with self._database.read() as connection:
            return [_as_run(row) for row in connection.execute(statement)]

    def cancel_requests(self, worker_id: str) -> dict[int, tuple[str, str]]:
        """Job id -> (claim token, reason) of the runs of this worker that somebody wants cancelled."""
        statement = select(JOBS.c.id, JOBS.c.claim_token, JOBS.c.cancel_reason).where(
            JOBS.c.status == JobState.RUNNING, JOBS.c.worker_id == worker_id, JOBS.c.cancel_requested_at.is_not(None)
        )
        with self._database.read() as connection:
            return {
                row.id: (row.claim_token, row.cancel_reason or "cancelled") for row in connection.execute(statement)
            }

    def held(self, worker_id: str) -> set[str]:
        """The claim tokens that this worker holds, as the database sees it."""
        statement = select(JOBS.c.claim_token).where(JOBS.c.status == JobState.RUNNING, JOBS.c.worker_id == worker_id)
        with self._database.read() as connection:
            return {row.claim_token for row in connection.execute(statement)}


def _is_plain(one: Settlement) -> bool:
    return (
        one.transition.state is JobState.COMPLETED
        and one.writes is None
        and not one.children
        and one.run.schedule_name is None
    )


def _exchange(connection: Connection, settlements: Sequence[Settlement], wanted: Claim, now: datetime) -> Settled:
    """Plain ends for new runs."""
    settlements = sorted(settlements, key=BY_JOB)
    is_written, claimed = hot(connection).finish_and_claim(
        connection, [end_of(one) for one in settlements], wanted, now
    )
    written = {one.run.id: one.transition for one, is_ours in zip(settlements, is_written, strict=True) if is_ours}
    return Settled(written, frozenset(one.run.id for one in settlements if one.run.id not in written), claimed)


def _wanted(request: ClaimRequest) -> Claim:
    return Claim(_lanes(request.lanes), request.free, request.schedules, os.urandom(16).hex(), request.worker_id)


def _lanes(lanes: Iterable[Lane]) -> Lanes:
    return {(lane.queue, lane.type): lane.limit for lane in lanes}


def _as_run(row: Row[Any]) -> Run:
    values = row._asdict()
    values["policy"] = policy_from(values["policy"])
    return Run(**values)
