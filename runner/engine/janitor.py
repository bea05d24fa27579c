"""Makes good what dead workers left, and removes what is too old to keep."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from runner.domain.lifecycle import settle
from runner.domain.outcome import Stalled
from runner.domain.worker import WorkerStatus
from runner.engine.heartbeat import is_free
from runner.storage.claims import ClaimStore
from runner.storage.pruning import PruneStore
from runner.storage.settling import Settlement
from runner.storage.workers import WorkerStore
from runner.telemetry import ClockOff, Emit, JobSettled, WorkerRescued

LONGEST = 5.0  # seconds between two looks for the dead
HOURLY, DAILY = 3600.0, 86_400.0
SKEW = timedelta(seconds=1)  # beyond which a clock is told to be off


@dataclass(slots=True)
class Janitor:
    """A worker is dead when its lock is free, or when the same beat was seen twice, `stalled_after` apart by our own
    monotonic clock: a process that was stopped holds its lock, and a clock that jumps rescues nobody.

    While beats of our own cannot be written, those of others cannot either: `well_since` tells since when they can.
    """

    worker_id: str
    workers: WorkerStore
    claims: ClaimStore
    pruning: PruneStore
    emit: Emit
    rng: Random
    interval: float = LONGEST
    retention: timedelta = timedelta(days=30)
    refresh: Callable[[datetime], object] = lambda now: None  # recomputes what may have changed with the zone data
    well_since: Callable[[], float | None] = lambda: 0.0
    offset: Callable[[], timedelta] = lambda: timedelta(0)  # from this machine's clock to the database's
    _is_off: bool = False
    _next: dict[str, float] = field(default_factory=dict)
    _seen: dict[str, tuple[tuple[int, datetime], float]] = field(default_factory=dict)
    _suspects: dict[str, float] = field(default_factory=dict)  # silent since before we first looked: until when

    def tick(self, now: datetime) -> float:
        """Rescue each time, refresh daily and prune hourly."""
        self._look_at_clock()
        self.rescue(now)
        if self._has_come("refresh", DAILY):
            self.refresh(now)
        if self._has_come("prune", HOURLY):
            self.prune(now, self.retention)
        return self.interval

    def go_by(self, heartbeat: timedelta, retention: timedelta) -> None:
        """Look once a beat, and keep what is finished for so long."""
        self.interval, self.retention = min(heartbeat.total_seconds(), LONGEST), retention

    def _look_at_clock(self) -> None:
        """Told when it comes and when it goes."""
        offset = self.offset()
        was_off, self._is_off = self._is_off, abs(offset) > SKEW
        if self._is_off != was_off:
            self.emit(ClockOff(offset.total_seconds() if self._is_off else 0.0))

    def _has_come(self, duty: str, every: float) -> bool:
        moment = time.monotonic()
        if moment < self._next.get(duty, 0.0):
            return False
        self._next[duty] = moment + every
        return True

    def rescue(self, now: datetime) -> int:
        """Settle the runs of dead workers as stalled; returns how many."""
        known, orphaned = self.workers.census()
        dead = [worker for worker in known if worker.id != self.worker_id and self._is_dead(worker, now)]
        gone = [*(worker.id for worker in dead), *sorted(orphaned - {self.worker_id})]
        rescued = sum(self._rescue(worker_id, now) for worker_id in gone)
        for worker in dead:
            if worker.lock_file and is_free(Path(worker.lock_file)):  # who was stopped, and holds it, may go on
                with suppress(OSError):
                    Path(worker.lock_file).unlink()
        if dead:
            self.pruning.sockets()
        return rescued

    def prune(self, now: datetime, retention: timedelta) -> int:
        """Delete what is older than `retention`, in many short transactions; returns how many jobs that were."""
        before, pruned = now - retention, 0
        while True:
            _to_the_end(self.pruning.parts, before)
            batch = self.pruning.jobs(before)
            pruned += batch
            if not batch:
                break
        for prune in (self.pruning.slots, self.pruning.revisions, self.pruning.workers, self.pruning.audit):
            _to_the_end(prune, before)
        self.pruning.sockets()
        return pruned

    def suspected(self) -> float | None:
        """Seconds until it is known of a worker that holds jobs, and was silent for too long when we first saw it,
        whether it is dead; None where there is none of whom that may be."""
        if not self._suspects:
            return None
        holding = {run.worker_id for run in self.claims.running_of(sorted(self._suspects))}
        left = (until - time.monotonic() for name, until in self._suspects.items() if name in holding)
        return min(left, default=None)

    def _is_dead(self, worker: WorkerStatus, now: datetime) -> bool:
        if worker.lock_file and is_free(Path(worker.lock_file)):
            return True
        beat = worker.beats, worker.last_heartbeat  # who was taken for dead and is back begins to count anew
        seen, since = self._seen.get(worker.id, (None, 0.0))
        if seen != beat:
            self._seen[worker.id] = (beat, time.monotonic())
            self._suspects.pop(worker.id, None)
            if seen is None and (now - worker.last_heartbeat).total_seconds() >= worker.stalled_after:
                self._suspects[worker.id] = time.monotonic() + worker.stalled_after
            return False
        well_since = self.well_since()
        return well_since is not None and time.monotonic() - max(since, well_since) >= worker.stalled_after

    def _rescue(self, worker_id: str, now: datetime) -> int:
        runs = self.claims.running_of([worker_id])
        settlements = [Settlement(run, settle(run, Stalled(), now, self.rng)) for run in runs]
        settled = self.claims.rescue([worker_id], settlements, now)
        self._suspects.pop(worker_id, None)
        for one in settlements:
            if one.run.id in settled.written:
                self.emit(JobSettled(one.run, settled.written[one.run.id], now))
        if runs:
            self.emit(WorkerRescued(worker_id, tuple(runs)))
        return len(settled.written)


def _to_the_end(prune: Callable[[datetime], int], before: datetime) -> None:
    while prune(before):
        pass
