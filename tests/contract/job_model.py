"""The state machine of a job, once more and as plainly as possible: what the tables must hold after each step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from runner.domain.job import Run
from runner.domain.outcome import Cancelled, Completed, Failed, Outcome, Released, Snoozed, Stalled
from runner.storage.claims import ClaimRequest
from tests.contract import oracle

LIMITS = {"one": 1, "two": 2}
FINISHED = ("completed", "failed", "cancelled")
STOPPED = "Job processor stopped responding"


@dataclass
class ModelJob:
    """What the row of a job must say."""

    id: int
    type: str
    queue: str
    priority: int
    run_at: datetime
    max_attempts: int
    max_stalls: int
    on_stall: str
    schedule_name: str | None = None
    waiting_for: str | None = None
    unique_key: str | None = None
    unique_until: str | None = None
    unique_expires_at: datetime | None = None
    status: str = "pending"
    attempt: int = 0
    run_number: int = 0
    stalls: int = 0
    claim_token: str | None = None
    worker_id: str | None = None
    limit_name: str | None = None
    cancel_requested_at: datetime | None = None
    error: str | None = None
    result: Any = None
    progress: float = 0.0
    started_at: datetime | None = None
    completed_at: datetime | None = None

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


COMPARED = tuple(name for name in ModelJob.__dataclass_fields__ if name not in ("max_stalls", "on_stall"))


@dataclass
class Model:
    """All tables that a job touches, and the clock."""

    now: datetime
    jobs: dict[int, ModelJob] = field(default_factory=dict)
    attempts: dict[tuple[int, int], tuple[Any, ...]] = field(default_factory=dict)
    lines: list[tuple[int, int, str]] = field(default_factory=list)
    workers: set[str] = field(default_factory=set)

    # ---- in

    def holder(self, key: str | None) -> ModelJob | None:
        """The job that makes another of this key a duplicate now."""
        for job in self.jobs.values():
            if key is not None and job.unique_key == key:
                expired = job.unique_expires_at is not None and job.unique_expires_at <= self.now
                return None if expired else job
        return None

    def enqueue(self, job: ModelJob) -> None:
        for other in self.jobs.values():
            if job.unique_key is not None and other.unique_key == job.unique_key:
                other.unique_key = None
        self.jobs[job.id] = job

    def has_unfinished(self, schedule: str | None) -> bool:
        return schedule is not None and any(
            job.schedule_name == schedule and job.status not in FINISHED for job in self.jobs.values()
        )

    # ---- run

    def claimable(self, request: ClaimRequest) -> list[int]:
        return oracle.claim(self.jobs.values(), LIMITS, request, self.now)  # type: ignore[arg-type]

    def claim(self, request: ClaimRequest, runs: Sequence[Run]) -> None:
        limits = {(lane.queue, lane.type): lane.limit for lane in request.lanes}
        for run in runs:
            job = self.jobs[run.id]
            job.status, job.claim_token, job.worker_id = "running", run.claim_token, request.worker_id
            job.run_number += 1
            job.attempt += 1
            job.started_at, job.progress = self.now, 0.0
            job.limit_name = limits[job.queue, job.type]
            if job.unique_until == "started":
                job.unique_key = None

    def holds(self, run: Run) -> bool:
        job = self.jobs.get(run.id)
        return job is not None and job.status == "running" and job.claim_token == run.claim_token

    def say(self, run: Run, percent: float, text: str) -> None:
        job = self.jobs[run.id]
        job.progress = max(job.progress, percent)
        self.lines.append((run.id, run.run_number, text))

    # ---- end

    def settle(self, run: Run, outcome: Outcome) -> None:
        job = self.jobs[run.id]
        asked = job.cancel_requested_at is not None
        match outcome:
            case Completed(result):
                self._finish(job, "completed", None)
                job.result, job.progress = _json(result), 100.0
            case Cancelled(reason):
                self._finish(job, "cancelled", reason)
            case Failed(error, for_good=for_good):
                if for_good or job.attempt >= job.max_attempts:
                    self._finish(job, "failed", error)
                else:
                    self._again(job, "failed", error, self.now + _backoff(job.attempt), asked)
            case Stalled():
                job.stalls += 1
                spent = job.attempt >= job.max_attempts or job.stalls >= job.max_stalls or job.on_stall == "fail"
                if spent and not asked:
                    self._finish(job, "failed", STOPPED)
                else:
                    self._again(job, "stalled", STOPPED, self.now + _backoff(job.attempt), asked)
            case Snoozed(delay):
                self._again(job, "snoozed", None, self.now + delay, asked, given_back=True)
            case Released(reason):
                self._again(job, "released", reason, job.run_at, asked, given_back=True)

    def _again(
        self, job: ModelJob, word: str, error: str | None, run_at: datetime, asked: bool, *, given_back: bool = False
    ) -> None:
        if asked:
            self._finish(job, "cancelled", error if word == "failed" else "no need")
            return
        self._keep(job, word, error, self.now)
        job.status, job.run_at = "pending", run_at
        job.attempt -= given_back
        job.error = job.error if error is None else error
        job.claim_token = job.worker_id = job.limit_name = job.started_at = None

    def _finish(self, job: ModelJob, status: str, error: str | None) -> None:
        job.status, job.error, job.completed_at = status, error, self.now
        job.result = None
        job.limit_name = job.unique_key = job.waiting_for = None

    def _keep(self, job: ModelJob, word: str, error: str | None, finished: datetime | None) -> None:
        assert (job.id, job.run_number) not in self.attempts
        told = (job.attempt, job.claim_token, job.worker_id, job.started_at, finished, word, error)
        self.attempts[job.id, job.run_number] = told

    def promote(self) -> None:
        """Who waits for an earlier job of its schedule goes on when all of these have ended."""
        for job in self.jobs.values():
            if job.waiting_for is not None and not self._has_earlier(job):
                job.waiting_for, job.run_at = None, max(job.run_at, self.now)

    def _has_earlier(self, job: ModelJob) -> bool:
        return any(
            other.schedule_name == job.schedule_name and other.id < job.id and other.status not in FINISHED
            for other in self.jobs.values()
        )

    # ---- people

    def cancel(self, job: ModelJob) -> str:
        """The answer: what `cancel` must return, or the status that makes it a conflict."""
        if job.status == "pending":
            self._finish(job, "cancelled", "no need")
            return "cancelled"
        if job.status == "running":
            job.cancel_requested_at = job.cancel_requested_at or self.now
            return "running"
        return "conflict"

    def retry(self, job: ModelJob) -> None:
        if job.claim_token is not None:
            self._keep(job, job.status, job.error, job.completed_at)
        job.status, job.run_at, job.attempt, job.stalls = "pending", self.now, 0, 0
        job.claim_token = job.worker_id = job.started_at = job.completed_at = job.result = None
        job.cancel_requested_at = None

    def prune(self, before: datetime) -> int:
        gone = {job.id for job in self.jobs.values() if job.completed_at is not None and job.completed_at < before}
        self.jobs = {job_id: job for job_id, job in self.jobs.items() if job_id not in gone}
        self.attempts = {key: told for key, told in self.attempts.items() if key[0] not in gone}
        self.lines = [line for line in self.lines if line[0] not in gone]
        return len(gone)

    # ---- what a look at the database must show

    def rows(self) -> list[tuple[Any, ...]]:
        return [tuple(job[name] for name in COMPARED) for _, job in sorted(self.jobs.items())]


def _backoff(attempt: int) -> timedelta:
    return timedelta(seconds=2**attempt)


def _json(text: str | None) -> Any:
    return None if text is None else int(text)


def of_worker(jobs: Iterable[ModelJob], worker: str) -> set[int]:
    """The jobs that this worker is running."""
    return {job.id for job in jobs if job.status == "running" and job.worker_id == worker}
