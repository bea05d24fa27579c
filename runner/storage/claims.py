"""From claim to settle: who runs a job, how a run ends, and who makes good what a dead worker left."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Text, bindparam, case, delete, exists, func, insert, select, update

from runner.domain.job import JobState, NewJob, Run
from runner.domain.job_rows import Job, JobAttempt
from runner.domain.lifecycle import Transition, cancelled_instead, yields_to_cancel
from runner.domain.said import Writes
from runner.domain.worker import WorkerStatus
from runner.storage.database import CommitInDoubt, Database
from runner.storage.dialects import Claim, End, Lanes, hot
from runner.storage.enqueue import insert_jobs
from runner.storage.logs import write
from runner.storage.poke import mark
from runner.storage.serial import policy_from

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


@dataclass(frozen=True, slots=True)
class Lane:
    """A (queue, type) that a worker may run now, with the limit that the file gives to the type."""

    queue: str
    type: str
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Up to `free` jobs for that worker, from these lanes; with `schedules`, only jobs that these fired."""

    worker_id: str
    lanes: Sequence[Lane]
    free: int
    schedules: frozenset[str] | None = None


class Settlement(NamedTuple):
    """The end of one run as it is to be written. Children are enqueued where the run completed, or not at all."""

    run: Run
    transition: Transition
    children: tuple[NewJob, ...] = ()
    writes: Writes | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What the store made of it: the transitions written, by job id, and the ids whose claim was lost."""

    written: dict[int, Transition] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()
    claimed: list[Run] = field(default_factory=list)


class ClaimStore:
    """Claim, settle, release and rescue: every statement carries the fence."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ends_in_doubt: set[tuple[int, str]] = set()  # (job id, token) of ends whose commit was not answered
        self._claims_in_doubt: list[Run] = []

    def claim(self, request: ClaimRequest, now: datetime) -> list[Run]:
        """The most urgent jobs that are due, now running under a fresh token. May be lost by a power cut."""
        if (request.free < 1 or not request.lanes) and not self._claims_in_doubt:
            return []
        claimed: list[Run] = []
        with self._in_doubt((), claimed), self._database.write(durable=False) as connection:
            self._claim_more(connection, request, claimed, now)
        return claimed

    def settle(self, settlements: Sequence[Settlement], now: datetime, claim: ClaimRequest | None = None) -> Settled:
        """Write the ends of runs, and claim the next jobs in the same transaction: both are on disk, or neither."""
        claimed: list[Run] = []
        with self._in_doubt(settlements, claimed), self._database.write() as connection:
            if claim is not None and claim.lanes and claim.free > 0 and self._are_plain(settlements):
                return _exchange(connection, settlements, claim, claimed, now)
            settled = _settle(connection, settlements, now, self._ends_in_doubt)
            if claim is not None:
                self._claim_more(connection, claim, claimed, now)
        return Settled(settled.written, settled.lost, claimed)

    def _are_plain(self, settlements: Sequence[Settlement]) -> bool:
        """Nothing but an end to write, as of most runs: nothing depends on another answer of the database."""
        return not self._ends_in_doubt and not self._claims_in_doubt and all(map(_is_plain, settlements))

    @contextmanager
    def _in_doubt(self, settlements: Sequence[Settlement], claimed: list[Run]) -> Iterator[None]:
        """Where the commit is not answered, what it was to write is looked for with the next one."""
        try:
            yield
        except CommitInDoubt:
            self._ends_in_doubt |= {(one.run.id, one.run.claim_token) for one in settlements}
            self._claims_in_doubt = list(claimed)
            raise
        self._ends_in_doubt -= {(one.run.id, one.run.claim_token) for one in settlements}
        self._claims_in_doubt.clear()

    def _claim_more(self, connection: Connection, request: ClaimRequest, claimed: list[Run], now: datetime) -> None:
        """After what an earlier commit has claimed, without our knowing."""
        if self._claims_in_doubt:
            tokens = {run.claim_token for run in self._claims_in_doubt}
            held = select(JOBS.c.id).where(JOBS.c.claim_token.in_(tokens), JOBS.c.status == JobState.RUNNING)
            ours = set(connection.execute(held).scalars())
            claimed += [run for run in self._claims_in_doubt if run.id in ours]
        free = request.free - len(claimed)
        if free > 0 and request.lanes:
            claimed += hot(connection).claim(connection, _wanted(request, free), now)

    def rescue(self, worker_ids: Sequence[str], settlements: Sequence[Settlement], now: datetime) -> Settled:
        """Make good what dead workers left, and forget them: one transaction."""
        with self._database.write() as connection:
            settled = _settle(connection, settlements, now)
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
        statement = select(*RUN_COLUMNS).where(JOBS.c.status == JobState.RUNNING, JOBS.c.worker_id.in_(worker_ids))
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


def _exchange(
    connection: Connection, settlements: Sequence[Settlement], request: ClaimRequest, claimed: list[Run], now: datetime
) -> Settled:
    """Plain ends for new runs."""
    settlements = sorted(settlements, key=_BY_JOB)
    ends, wanted = [_end(one) for one in settlements], _wanted(request, request.free)
    is_written, runs = hot(connection).finish_and_claim(connection, ends, wanted, now)
    claimed += runs
    written = {one.run.id: one.transition for one, is_ours in zip(settlements, is_written, strict=True) if is_ours}
    return Settled(written, frozenset(one.run.id for one in settlements if one.run.id not in written), claimed)


def _wanted(request: ClaimRequest, free: int) -> Claim:
    return Claim(_lanes(request.lanes), free, request.schedules, os.urandom(16).hex(), request.worker_id)


def _lanes(lanes: Iterable[Lane]) -> Lanes:
    return {(lane.queue, lane.type): lane.limit for lane in lanes}


def _as_run(row: Row[Any]) -> Run:
    values = row._asdict()
    values["policy"] = policy_from(values["policy"])
    return Run(**values)


# ---- settle

_FENCE = (JOBS.c.id == bindparam("b_id"), JOBS.c.claim_token == bindparam("b_token"), JOBS.c.status == JobState.RUNNING)
# Ours until the commit: two rescues of one worker, or a rescue and its own settle, come one after the other.
_HELD = select(JOBS.c.id).where(*_FENCE).with_for_update(key_share=True)
_REQUEUE = (
    update(JOBS)
    .where(*_FENCE)
    .values(
        status=JobState.PENDING,
        run_at=bindparam("b_run_at"),
        attempt=bindparam("b_attempt"),
        stalls=bindparam("b_stalls"),
        error=func.coalesce(bindparam("b_error", type_=Text), JOBS.c.error),
        claim_token=None,
        worker_id=None,
        limit_name=None,
        started_at=None,
    )
)
_SUPERSEDE = insert(ATTEMPTS).from_select(
    ["job_id", "run_number", "attempt", "claim_token", "worker_id", "started_at", "finished_at", "outcome", "error"],
    select(
        JOBS.c.id, JOBS.c.run_number, JOBS.c.attempt, JOBS.c.claim_token, JOBS.c.worker_id, JOBS.c.started_at,
        bindparam("b_now", type_=JOBS.c.created_at.type), bindparam("b_ended", type_=ATTEMPTS.c.outcome.type),
        bindparam("b_error", type_=ATTEMPTS.c.error.type),
    ).where(*_FENCE),
)  # fmt: skip
_AS_IT_ENDED = select(JOBS.c.status, JOBS.c.error).where(
    JOBS.c.id == bindparam("b_id"), JOBS.c.claim_token == bindparam("b_token"), JOBS.c.completed_at.is_not(None)
)
_AS_IT_WAS_SUPERSEDED = select(ATTEMPTS.c.outcome).where(
    ATTEMPTS.c.job_id == bindparam("b_id"), ATTEMPTS.c.claim_token == bindparam("b_token")
)
_WANTED_CANCELLED = select(JOBS.c.id, JOBS.c.cancel_reason).where(
    JOBS.c.id.in_(bindparam("ids", expanding=True)), JOBS.c.cancel_requested_at.is_not(None)
)
_EARLIER = JOBS.alias("earlier")
_NOW = bindparam("b_now", type_=JOBS.c.run_at.type)
_PROMOTE = (
    update(JOBS)
    .where(
        JOBS.c.waiting_for.is_not(None),
        ~exists().where(
            _EARLIER.c.schedule_name == JOBS.c.schedule_name,
            _EARLIER.c.id < JOBS.c.id,
            _EARLIER.c.completed_at.is_(None),
        ),
    )
    .values(waiting_for=None, run_at=case((JOBS.c.run_at > _NOW, JOBS.c.run_at), else_=_NOW))
)


def promote(connection: Connection, now: datetime) -> int:
    """Let the waiting jobs start whose earlier ones have ended, in the caller's transaction."""
    promoted = connection.execute(_PROMOTE, {"b_now": now}).rowcount
    if promoted:
        mark(connection)
    return promoted


def _settle(
    connection: Connection, settlements: Sequence[Settlement], now: datetime, in_doubt: Collection[tuple[int, str]] = ()
) -> Settled:  # fmt: skip
    for one in settlements:
        if one.writes is not None:
            write(connection, one.writes)
    settlements = sorted(settlements, key=_BY_JOB)  # who locks several rows locks them in one order
    fired = {one.run.schedule_name for one in settlements if one.run.schedule_name}
    if fired:
        hot(connection).hold(connection, sorted(fired))
    honoured = _honour_cancels(connection, settlements)
    ending = [one for one in honoured if one.transition.is_terminal]
    written = _finish(connection, ending, now)
    for one in honoured:
        if not one.transition.is_terminal and _requeue(connection, one, now):
            written[one.run.id] = one.transition
    parents = [one for one in ending if one.children and one.run.id in written]
    children = [child for one in parents if one.transition.state is JobState.COMPLETED for child in one.children]
    if children:
        insert_jobs(connection, children, now)
    if fired and any(one.run.schedule_name for one in ending):
        promote(connection, now)
    if any(one.run_at is not None and one.run_at <= now for one in written.values()):
        mark(connection)  # given back: another worker may take it
    if in_doubt:
        written |= _written_before(connection, [one for one in honoured if one.run.id not in written], in_doubt)
    return Settled(written, frozenset(one.run.id for one in settlements) - frozenset(written))


_BY_JOB = attrgetter("run.id")


def _written_before(
    connection: Connection, missing: Sequence[Settlement], in_doubt: Collection[tuple[int, str]]
) -> dict[int, Transition]:
    """What the commit in doubt has written after all: by its token, on the job's row or in the history."""
    found: dict[int, Transition] = {}
    for one in missing:
        if (one.run.id, one.run.claim_token) not in in_doubt:
            continue
        end, values = one.transition, {"b_id": one.run.id, "b_token": one.run.claim_token}
        if end.is_terminal:
            row = connection.execute(_AS_IT_ENDED, values).one_or_none()
            is_ours = row is not None and (row.status, row.error) == (end.state, end.error)
        else:
            is_ours = connection.execute(_AS_IT_WAS_SUPERSEDED, values).scalar() == end.ended
        if is_ours:
            found[one.run.id] = end
    return found


def _honour_cancels(connection: Connection, settlements: Sequence[Settlement]) -> list[Settlement]:
    open_to_it = [one.run.id for one in settlements if yields_to_cancel(one.transition)]
    if not open_to_it:
        return list(settlements)
    wanted = {
        row.id: row.cancel_reason or "cancelled" for row in connection.execute(_WANTED_CANCELLED, {"ids": open_to_it})
    }
    return [
        one._replace(transition=cancelled_instead(one.transition, wanted[one.run.id])) if one.run.id in wanted else one
        for one in settlements
    ]


def _requeue(connection: Connection, one: Settlement, now: datetime) -> bool:
    end = one.transition
    fence = {"b_id": one.run.id, "b_token": one.run.claim_token, "b_error": end.error}
    if connection.execute(_HELD, fence).first() is None:
        return False
    connection.execute(_SUPERSEDE, fence | {"b_now": now, "b_ended": end.ended})
    values = fence | {"b_run_at": end.run_at, "b_attempt": end.attempt, "b_stalls": end.stalls}
    return connection.execute(_REQUEUE, values).rowcount == 1


def _finish(connection: Connection, ending: Sequence[Settlement], now: datetime) -> dict[int, Transition]:
    if not ending:
        return {}
    written = hot(connection).finish(connection, [_end(one) for one in ending], now)
    return {one.run.id: one.transition for one, is_written in zip(ending, written, strict=True) if is_written}


def _end(one: Settlement) -> End:
    end = one.transition
    progress = 100.0 if end.state is JobState.COMPLETED else None
    return end.state, end.result, end.error, end.stalls, progress, one.run.id, one.run.claim_token
