"""Everything that is due, once: rescue, fire, run, wait for what we started, and say how it went."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runner.domain.errors import Conflict
from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleSlot
from runner.engine.janitor import Janitor
from runner.engine.loop import Clock
from runner.engine.scheduler import Scheduler
from runner.engine.worker import Worker
from runner.storage.jobs import JobStore
from runner.telemetry import Event, JobSettled, JobStarted, SlotsDecided, WorkerRescued

LOOK = 0.25  # seconds between two looks at jobs of ours that another process runs
RESCUE = 5.0  # seconds between two looks for dead workers
STOP_GRACE = 6.0  # seconds that running handlers are given after a stop; the executor gives them up before


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
    _stop_until: float = 0.0
    _rescued_at: float = float("-inf")

    def note(self, event: Event) -> None:
        """Subscribe this to the events: what is ours is learned from them."""
        match event:
            case JobStarted(run) | JobSettled(run):
                self.mine.add(run.id)
                if (
                    isinstance(event, JobSettled)
                    and self.options.fail_fast
                    and event.transition.state == JobState.FAILED
                ):
                    self.stop("fail_fast")
            case SlotsDecided(slots=slots):
                self.slots += slots
                self.mine |= {slot.job_id for slot in slots if slot.job_id is not None}
            case WorkerRescued(runs=runs):
                self.mine |= {run.id for run in runs}
            case _:
                pass

    def stop(self, why: str) -> None:
        """End soon: claim nothing more; running handlers are asked to stop, their attempts are given back."""
        if self._stop is not None:
            return
        self._stop = why
        self.worker.accepting = False
        self._stop_until = time.monotonic() + STOP_GRACE
        if why != "fail_fast":
            self.worker.executor.stop_all("shutdown", f"released: {why}")
        self.clock.wake()

    def run(self) -> Report:
        began = self.clock.now()
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
            except Conflict as refusal:
                self.refused.append(refusal.message)

    def _step(self, began: datetime) -> float | None:
        """One round; seconds until the next, None at the end. Slots that come meanwhile are left to the next call."""
        now = self.clock.now()
        if self._stop is None:
            self._rescue(now)
            self.scheduler.tick(began)
        self.worker.stop_cancelled()
        pause = self.worker.tick(now)
        if self.worker.has_work():
            return pause
        if self._stop is not None:
            return None
        return self._until_next(self.clock.now())

    def _rescue(self, now: datetime) -> None:
        if time.monotonic() - self._rescued_at >= RESCUE:
            self._rescued_at = time.monotonic()
            self.janitor.rescue(now)

    def _until_next(self, now: datetime) -> float | None:
        """Nothing runs here: how long until something of ours is due, or somebody else may have ended a job of ours."""
        due = self.worker.next_due()
        open_jobs = [job for job in self._mine() if not JobState(job.status).is_terminal]
        if due is not None and due <= now and not self._is_blocked():
            return 0.0
        pauses = [pause for job in open_jobs if (pause := self._pause_for(job, now)) is not None]
        return min(pauses, default=None)

    def _is_blocked(self) -> bool:
        """Whether what is due cannot be claimed: the last claim, with free places, brought nothing."""
        self.worker.tick(self.clock.now())
        return not self.worker.has_work()

    def _pause_for(self, job: Job, now: datetime) -> float | None:
        if job.status == JobState.RUNNING or job.waiting_for is not None or job.run_at <= now:
            return LOOK
        ahead = job.run_at - now
        if self.options.wait is not None and ahead > self.options.wait:
            return None
        return ahead.total_seconds()

    def _rest(self, pause: float, deadline: float | None) -> None:
        if deadline is not None:
            pause = min(pause, max(deadline - time.monotonic(), 0.0))
        if self.worker.has_work() or pause <= LOOK:
            self.clock.wait(min(pause, LOOK) if self._stop else pause)
        else:
            self.clock.idle(pause)

    def _mine(self) -> list[Job]:
        return self.jobs.get_many(sorted(self.mine))
