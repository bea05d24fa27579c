"""What a look inside shows: who runs jobs, how much waits, what fires next, what has ended. Values of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from runner.domain.ledger import ScheduleSlot
from runner.domain.worker import WorkerStatus


class Life(StrEnum):
    """`gone`: its lock is free. `stale`: it has not beaten for longer than it said it might."""

    ALIVE = "alive"
    STALE = "stale"
    GONE = "gone"


def life(worker: WorkerStatus, now: datetime, lock_is_free: bool | None) -> Life:
    """`lock_is_free` None: the lock cannot be asked, only the beat tells."""
    if lock_is_free:
        return Life.GONE
    silent = now - worker.last_heartbeat
    return Life.STALE if silent > timedelta(seconds=worker.stalled_after) else Life.ALIVE


@dataclass(frozen=True, slots=True)
class RevisionMark:
    """The revision in force, without what it says."""

    number: int
    sha256: str
    applied_at: datetime
    applied_by: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A process with its row; `concurrency` 0 runs no jobs. `is_current`: its file is the revision in force."""

    status: WorkerStatus
    life: Life
    running: int
    is_current: bool | None

    def takes(self, queue: str) -> bool:
        """Whether jobs of this queue are run by it, now."""
        if self.life is not Life.ALIVE or not self.status.concurrency:
            return False
        told = self.status.queues or {}
        return queue in told["only"] if "only" in told else queue not in told.get("except", ())


@dataclass(frozen=True, slots=True)
class QueueView:
    """`scheduled` holds what waits for its time, a retry or an earlier job; `oldest_due` is when the oldest was due."""

    name: str
    due: int = 0
    scheduled: int = 0
    running: int = 0
    oldest_due: datetime | None = None
    is_taken: bool = True


@dataclass(frozen=True, slots=True)
class ScheduleSums:
    """How many schedules there are of each kind; a paused one that is disabled too counts as disabled."""

    active: int = 0
    paused: int = 0
    disabled: int = 0
    retired: int = 0


@dataclass(frozen=True, slots=True)
class NextFire:
    schedule: str
    starts: str
    at: datetime


@dataclass(frozen=True, slots=True)
class FiredJob:
    """A job of a schedule, as much of it as says how it went."""

    id: int
    status: str
    project_id: str | None
    started_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class SlotView:
    """A slot and its job, if it had one that is still kept."""

    row: ScheduleSlot
    job: FiredJob | None

    @property
    def result(self) -> str:
        """In a word: how its job went; else what became of the slot itself."""
        return self.row.outcome if self.job is None else self.job.status


@dataclass(frozen=True, slots=True)
class LimitView:
    """A named limit, over all machines."""

    name: str
    most: int
    running: int

    @property
    def is_full(self) -> bool:
        return self.running >= self.most


@dataclass(frozen=True, slots=True)
class DatabaseMark:
    """What the jobs are kept in. On PostgreSQL there is no log beside it."""

    kind: str
    schema: str
    bytes: int
    wal_bytes: int | None


@dataclass(frozen=True, slots=True)
class Skips:
    """Slots of one schedule that did not run, all for one kind of reason; `reason` is that of the last."""

    schedule: str
    outcome: str
    slots: int
    last: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Why edits of the file are not in force, since when, and how many live processes say so."""

    message: str
    since: datetime | None
    processes: int


@dataclass(frozen=True, slots=True)
class RunningJob:
    id: int
    type: str
    worker_id: str | None
    attempt: int
    max_attempts: int
    progress: float
    step: str | None
    message: str | None
    started_at: datetime
    is_cancelling: bool


@dataclass(frozen=True, slots=True)
class EndedJob:
    id: int
    type: str
    status: str
    error: str | None
    started_at: datetime | None
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """One consistent snapshot."""

    at: datetime
    revision: RevisionMark | None
    workers: Sequence[WorkerView]
    queues: Sequence[QueueView]
    schedules: ScheduleSums
    fires: Sequence[NextFire]

    @property
    def untaken(self) -> list[QueueView]:
        """Queues with jobs that are due and that no live worker takes."""
        return [queue for queue in self.queues if queue.due and not queue.is_taken]

    @property
    def problems(self) -> list[FileProblem]:
        """What live processes say of their files, the oldest first. A dead one says nothing any more."""
        saying: dict[str, list[WorkerStatus]] = {}
        for worker in self.workers:
            if worker.life is not Life.GONE and worker.status.config_problem:
                saying.setdefault(worker.status.config_problem, []).append(worker.status)
        found = [
            FileProblem(message, min((row.config_problem_at for row in rows if row.config_problem_at), default=None),
                        len(rows))
            for message, rows in saying.items()
        ]  # fmt: skip
        return sorted(found, key=lambda problem: (problem.since is not None, problem.since))
