"""How a run ends in the database: fenced, with its children, and what waited for it is let go."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from sqlalchemy import Connection, Text, bindparam, case, exists, func, insert, select, update

from runner.domain.job import JobState, NewJob, Run
from runner.domain.job_rows import Job, JobAttempt
from runner.domain.lifecycle import Transition, cancelled_instead, yields_to_cancel
from runner.domain.said import Writes
from runner.storage.dialects import End, hot
from runner.storage.enqueue import insert_jobs
from runner.storage.logs import write
from runner.storage.poke import mark

JOBS = Job.__table__  # type: ignore[attr-defined]
ATTEMPTS = JobAttempt.__table__  # type: ignore[attr-defined]


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


def settle(
    connection: Connection, settlements: Sequence[Settlement], now: datetime, in_doubt: Collection[tuple[int, str]] = ()
) -> Settled:  # fmt: skip
    for one in settlements:
        if one.writes is not None:
            write(connection, one.writes)
    settlements = sorted(settlements, key=BY_JOB)  # who locks several rows locks them in one order
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


BY_JOB = attrgetter("run.id")


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
    written = hot(connection).finish(connection, [end_of(one) for one in ending], now)
    return {one.run.id: one.transition for one, is_written in zip(ending, written, strict=True) if is_written}


def end_of(one: Settlement) -> End:
    end = one.transition
    progress = 100.0 if end.state is JobState.COMPLETED else None
    return end.state, end.result, end.error, end.stalls, progress, one.run.id, one.run.claim_token
