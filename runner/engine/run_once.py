"""Everything that is due, once: rescue, fire, run, wait for what we started, and say how it went."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runner.domain.errors import DatabaseUnavailable, RunnerError
from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleSlot
from runner.engine.janitor import Janitor
from runner.engine.loop import Clock
from runner.engine.scheduler import Scheduler
from runner.engine.worker import Worker
from runner.storage.jobs import JobFilter, JobStore
from runner.telemetry import Event, FiringFailed, JobSettled, JobStarted, SlotsDecided, WorkerRescued

LOOK = 0.25  # seconds between two looks at jobs of ours that another process runs
RESCUE = 5.0  # seconds between two looks for dead workers
MANY = 2000  # more than the overlap policy lets wait for one schedule


@dataclass(frozen=True, slots=True)
class Options:
    """`wait` is how far into the future a retry of ours may lie for us to wait for it (None: any)."""

    trigger: tuple[str, ...] = ()
    wait: timedelta | None = None
    timeout: timedelta | None = None
    fail_fast: bool = False


@dataclass(slots=True)
class Report:
    """What happened: the jobs that were fired or run here, and the ledger rows that were written."""

    began: datetime
    ended: datetime
    jobs: list[Job] = field(default_factory=list)
    slots: list[ScheduleSlot] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    stopped_by: str | None = None  # "timeout", "fail_fast", or the name of a signal

    def count(self, *states: JobState) -> int:
        return sum(1 for job in self.jobs if job.status in states)

    @property
    def failed(self) -> list[Job]:
        return [job for job in self.jobs if job.status == JobState.FAILED]


@dataclass(slots=True)
class RunOnce:
    """One drain. `mine` are the jobs fired or run here: these are waited for, others' are not."""

    worker: Worker
    scheduler: Scheduler
    janitor: Janitor
    jobs: JobStore
    clock: Clock
    options: Options
    mine: set[int] = field(default_factory=set)
    slots: list[ScheduleSlot] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _stop: str | None = None
    _rescued_at: float = float("-inf")

    def note(self, event: Event) -> None:
        """Subscribe this to the events: what is ours is learned from them."""
        match event:
            case JobStarted(run) | JobSettled(run):
                self.mine.add(run.id)
            case SlotsDecided(slots=slots):
                self.slots += slots
                self.mine |= {slot.job_id for slot in slots if slot.job_id is not None}
            case WorkerRescued(runs=runs):
                self.mine |= {run.id for run in runs}
            case FiringFailed(name, message):
                self.refused.append(f"schedule {name} could not be fired: {message}")
            case _:
                pass

    def stop(self, why: str) -> None:
        """End soon: claim nothing more, ask running handlers to stop, give their attempts back.

        Safe to call from a signal handler: it takes no lock, and the next round does the rest.
        """
        if self._stop is None:
            self._stop = why
        self.clock.wake()

    def run(self) -> Report:
        began = self.clock.now()
        self.worker.fail_fast = self.options.fail_fast
        deadline = None if self.options.timeout is None else time.monotonic() + self.options.timeout.total_seconds()
        self._trigger_all(began)
        while True:
            if deadline is not None and time.monotonic() >= deadline:
                self.stop("timeout")
            pause = self._step(began)
            if pause is None:
                break
            self._rest(pause, deadline)
        return Report(began, self.clock.now(), self._mine(), self.slots, self.refused, self._stop)

    def _trigger_all(self, now: datetime) -> None:
        for name in self.options.trigger:
            try:
                self.mine.add(self.scheduler.trigger(name, now).id)
            except DatabaseUnavailable:
                raise
            except RunnerError as refusal:
                self.refused.append(refusal.message)

    def _step(self, began: datetime) -> float | None:
        """One round; seconds until the next, None at the end. Slots that come meanwhile are left to the next call."""
        now = self.clock.now()
        if self._stop is None:
            self._rescue(now)
            self.scheduler.tick(began)
        else:
            self._wind_down(self._stop)
        pause = self.worker.tick(now)
        if self.options.fail_fast and not self.worker.accepting:
            self.stop("fail_fast")
        if self.worker.has_work():
            return pause
        if self._stop is not None:
            return None
        return self._until_next(self.clock.now())

    def _wind_down(self, why: str) -> None:
        """Each round, for runs that began while the stop came in."""
        self.worker.accepting = False
        if why != "fail_fast":
            self.worker.executor.stop_all("shutdown", f"released: {why}")

    def _rescue(self, now: datetime) -> None:
        if time.monotonic() - self._rescued_at >= RESCUE:
            self._rescued_at = time.monotonic()
            self.janitor.rescue(now)

    def _until_next(self, now: datetime) -> float | None:
        """Nothing runs here: how long until something of ours is due, or somebody else may have ended a job of ours."""
        due = self.worker.next_due()
        is_due = due is not None and due <= now
        if is_due and not self._is_blocked():
            return 0.0
        pause = min(self._pauses(now), default=None)
        if (is_due or pause is not None) and self.worker.is_stuck:
            self.refused.append("handlers that ignore their timeout hold every place: what is left stays pending")
            return None
        return pause

    def _pauses(self, now: datetime) -> Iterator[float]:
        """A look at each job that is waited for. One that waits for an earlier job is waited for as that one is."""
        open_jobs = [job for job in self._mine() if not JobState(job.status).is_terminal]
        waiting = {job.schedule_name for job in open_jobs if job.waiting_for is not None and job.schedule_name}
        ahead = [self._first_of(name) for name in waiting]
        for job in (*(job for job in open_jobs if job.waiting_for is None), *(job for job in ahead if job)):
            pause = self._pause_for(job, now)
            if pause is not None:
                yield pause

        if self.janitor.suspected() is not None:  # what a killed call has left: the next may be as short as this one
            yield LOOK

    def _first_of(self, schedule: str) -> Job | None:
        jobs, _ = self.jobs.find(JobFilter(status=(JobState.PENDING, JobState.RUNNING), schedule=schedule), limit=MANY)
        return jobs[-1] if jobs else None

    def _is_blocked(self) -> bool:
        """Whether what is due cannot be claimed: the last claim, with free places, brought nothing."""
        self.worker.tick(self.clock.now())
        return not self.worker.has_work()

    def _pause_for(self, job: Job, now: datetime) -> float | None:
        """None where it is not waited for: nobody here would take it, or it is due too late."""
        if job.status == JobState.RUNNING:
            return LOOK
        if not self.worker.takes(job):
            return None
        if job.run_at <= now:
            return LOOK
        if self.options.wait is not None and job.run_at - now > self.options.wait:
            return None
        return (job.run_at - now).total_seconds()

    def _rest(self, pause: float, deadline: float | None) -> None:
        left = math.inf if deadline is None else max(deadline - time.monotonic(), 0.0)
        if self.worker.has_work() or pause <= LOOK:
            self.clock.wait(min(pause, left, LOOK) if self._stop else min(pause, left))
        else:
            self.clock.idle(pause, left)

    def _mine(self) -> list[Job]:
        return self.jobs.get_many(sorted(self.mine))
