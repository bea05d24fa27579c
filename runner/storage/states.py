"""The jobs of a state by its own index: how many there are, and which, where they are few among many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import CompoundSelect, Connection, Select, func, literal_column, select, text, union_all

from runner.domain.job import JobState
from runner.domain.job_rows import Job

JOBS = Job.__table__  # type: ignore[attr-defined]
MANY = 1000  # jobs of one state: from so many on, some are soon met in the order of all jobs

# By the very words of the partial indexes: a planner proves no more than that.
READY = "status = 'pending' AND waiting_for IS NULL"
WAITING = "waiting_for IS NOT NULL AND status = 'pending'"
RUNNING = "status = 'running'"
ENDED = "completed_at IS NOT NULL"
FAILED = "status = 'failed' AND status IN ('failed', 'cancelled')"
CANCELLED = "status = 'cancelled' AND status IN ('failed', 'cancelled')"


def counts(connection: Connection) -> dict[str, int]:
    """How many are in each state, in one look at indexes alone."""
    found = connection.execute(_COUNTS).one()
    return {
        "pending": found.ready + found.waiting, "running": found.running,
        "completed": found.ended - found.failed - found.cancelled, "failed": found.failed,
        "cancelled": found.cancelled,
    }  # fmt: skip


def newest_first(connection: Connection, statement: Select[Any], states: Sequence[str]) -> Select[Any]:
    """By id. Where the jobs of that state are few, they are found by its index and then put in order.

    A planner would rather walk all jobs in their order: through a million that have ended, to see that none waits.
    """
    found = _FEW.get(tuple(states))
    if found is None or connection.execute(found.known).scalar_one() >= MANY:
        return statement.order_by(JOBS.c.id.desc())
    return statement.where(JOBS.c.id.in_(found.ids)).order_by((JOBS.c.id + 0).desc())


class _Few(NamedTuple):
    """`known` counts them no further than it matters."""

    ids: Select[Any] | CompoundSelect[Any]
    known: Select[Any]


def _by(*conditions: str) -> _Few:
    each = [select(JOBS.c.id).where(text(condition)) for condition in conditions]
    some = union_all(*(one.limit(literal_column(str(MANY))).subquery().select() for one in each)).subquery()
    return _Few(union_all(*each), select(func.count()).select_from(some))


def _counted(name: str, condition: str) -> Any:
    return select(func.count()).select_from(JOBS).where(text(condition)).scalar_subquery().label(name)


_FEW: dict[tuple[str, ...], _Few] = {(JobState.PENDING,): _by(READY, WAITING), (JobState.RUNNING,): _by(RUNNING)}
_COUNTS = select(
    _counted("ready", READY),
    _counted("waiting", WAITING),
    _counted("running", RUNNING),
    _counted("ended", ENDED),
    _counted("failed", FAILED),
    _counted("cancelled", CANCELLED),
)
