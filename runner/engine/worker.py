"""Claims jobs, hands them to the executor, settles how they ended. One transaction does the last and the first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from runner.domain.errors import DatabaseUnavailable, HandlerNotFound, RunnerError
from runner.domain.job import JobState, NewJob, Run
from runner.domain.job_rows import Job
from runner.domain.lifecycle import settle
from runner.domain.outcome import Completed, Failed, Outcome
from runner.domain.schedule import DEFAULT_QUEUE, Definitions
from runner.engine.executor import Executor, Finished
from runner.engine.handlers import Handler, handler_of
from runner.engine.recorder import Recorder
from runner.storage.claims import ClaimRequest, ClaimStore, Lane
from runner.storage.settling import Settlement
from runner.telemetry import ClaimLost, Emit, JobSettled, JobStarted

POLL = 1.0  # seconds between two looks where nothing rings
CANCEL_LOOK = 0.2  # seconds between two looks for cancel requests under load
LANES_KEPT = 1.0  # seconds for which the list of queues with pending jobs is trusted

_Known = tuple[dict[str, tuple[Handler, str]], Definitions]
MakeChild = Callable[[Run, "Finished"], list[NewJob]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs a worker takes. Empty or None: all."""

    queues: frozenset[str] | None = None
    exclude_queues: frozenset[str] = frozenset()
    types: frozenset[str] | None = None
    schedules: frozenset[str] | None = None

    def takes_queue(self, queue: str) -> bool:
        return queue not in self.exclude_queues and (self.queues is None or queue in self.queues)

    def takes_type(self, name: str) -> bool:
        return self.types is None or name in self.types


EVERYTHING = Selection()


@dataclass(slots=True)
class Worker:
    """Up to `concurrency` jobs at once: threads, coroutines and processes counted together."""

    worker_id: str
    concurrency: int
    claims: ClaimStore
    executor: Executor
    recorder: Recorder
    emit: Emit
    rng: Random
    make_children: MakeChild
    selection: Selection = EVERYTHING
    accepting: bool = True
    fail_fast: bool = False
    changed: Callable[[], bool] = lambda: True  # whether another connection has committed since the last call
    _next: _Known | None = None
    _is_idle: bool = False  # the last claim brought less than there was room for, and since then nothing changed
    _due: datetime | None = None  # while idle: when the next job is due
    _cancels_wanted: bool = False
    _cancels_at: float = 0.0
    _ask_at: float = 0.0
    _lanes: list[Lane] = field(default_factory=list)
    _handlers: Mapping[str, tuple[Handler, str]] = field(default_factory=dict)
    _definitions: Definitions = field(default_factory=Definitions)
    _queues_seen: list[tuple[str, str]] = field(default_factory=list)
    _looked_at: float = -math.inf
    _began: float = 0.0  # when this tick did
    _finished: list[Finished] = field(default_factory=list)
    _unsettled: list[Settlement] = field(default_factory=list)

    def know(self, definitions: Definitions) -> None:
        """Take over a file: its job types are what this worker can run."""
        packages = definitions.runner.handler_packages
        known: dict[str, tuple[Handler, str]] = {}
        for job_type in definitions.job_types.values():
            try:
                handler = handler_of(job_type, packages)
            except HandlerNotFound:
                continue  # the file was checked where it was applied; here its jobs wait for a worker that has the code
            known[job_type.name] = (handler, job_type.isolation or ("async" if handler.is_async else "thread"))
        self._next = known, definitions

    def _take_over(self) -> None:
        """Between two claims: what was claimed for a job type is started by it."""
        if self._next is not None:
            (self._handlers, self._definitions), self._next = self._next, None
            self._looked_at, self._is_idle = -math.inf, False

    def tick(self, now: datetime) -> float:
        """Settle what has ended, claim what is due, start it. Returns seconds until the next look."""
        self._began = time.monotonic()
        self._take_over()
        self._take_finished(now)
        changed = self._has_changed(now=time.monotonic(), is_busy=bool(self._unsettled))
        pauses = [POLL, self._stop_cancelled(changed), self.executor.check_times()]
        free = self.executor.free(self.concurrency) if self.accepting else 0
        if self._is_idle and not changed and not self._unsettled and (self._due is None or now < self._due):
            free = 0
        claimed = self._settle_and_claim(free, now)
        if claimed:
            self._start(claimed, now)
        if free > 0:
            pauses.append(self._after_claim(len(claimed) < free, now))
        return min(pause for pause in pauses if pause is not None)

    def _take_finished(self, now: datetime) -> None:
        """Before anything is asked of the database: what has ended is kept until it is settled, whatever fails."""
        self._finished += self.executor.take()
        while self._finished:
            self._unsettled.append(self._settlement(self._finished[0], now))
            del self._finished[0]

    def _has_changed(self, now: float, is_busy: bool) -> bool:
        """Asked at each look; where we claim anyway, only as often as cancel requests want it."""
        if is_busy and now < self._ask_at:
            return False
        self._ask_at = now + CANCEL_LOOK
        return self.changed()

    def _after_claim(self, was_short: bool, now: datetime) -> float | None:
        """When to claim again: at once where all that was asked for came; else when the next job is due."""
        was_idle, self._is_idle = self._is_idle, was_short
        if not was_short:
            return 0.0 if self.executor.free(self.concurrency) > 0 else None
        known = self._lanes
        self._due = self._next_due()
        if self._due is None:
            return None
        if self._due <= now:  # of a queue that is new, or behind a full limit: another look, then the usual pace
            return POLL if was_idle and self._lanes == known else 0.0
        return (self._due - now).total_seconds()

    def _stop_cancelled(self, changed: bool) -> float | None:
        """Ask the runs to stop that somebody wants cancelled: a few times a second at most, where something changed."""
        self._cancels_wanted |= changed
        if not self._cancels_wanted or not self.executor.occupied:
            return None
        now = time.monotonic()
        if now < self._cancels_at:
            return self._cancels_at - now
        self._cancels_wanted, self._cancels_at = False, now + CANCEL_LOOK
        for job_id, (token, reason) in self.claims.cancel_requests(self.worker_id).items():
            self.executor.request_stop(job_id, "cancel", reason, token)
        return None

    def lanes(self) -> list[Lane]:
        """What may be claimed now: every known type in its own queue, and where else jobs of it wait. While idle we
        look for such places after a claim: who enqueues waits for that claim."""
        self._take_over()
        if time.monotonic() - self._looked_at >= (math.inf if self._is_idle else LANES_KEPT):
            self._queues_seen = self.claims.lanes()
            self._looked_at = time.monotonic()
            self._lanes = self._open_lanes()
        return self._lanes

    def _open_lanes(self) -> list[Lane]:
        types = self._definitions.job_types
        own = {(types[name].queue if name in types else DEFAULT_QUEUE, name) for name in self._handlers}
        pairs = own | {(queue, name) for queue, name in self._queues_seen if name in self._handlers}
        return [
            Lane(queue, name, types[name].limit)
            for queue, name in sorted(pairs)
            if self.selection.takes_queue(queue) and self.selection.takes_type(name)
        ]

    def has_work(self) -> bool:
        return self.executor.occupied > 0 or bool(self._finished) or bool(self._unsettled)

    @property
    def is_stuck(self) -> bool:
        """Whether handlers that were given up and do not end hold every place."""
        return not self.has_work() and self.executor.free(self.concurrency) == 0

    def takes(self, job: Job) -> bool:
        """Whether this worker would claim such a job, were it due."""
        self._take_over()
        chosen = self.selection
        fired = chosen.schedules is None or job.schedule_name in chosen.schedules
        return job.type in self._handlers and fired and chosen.takes_type(job.type) and chosen.takes_queue(job.queue)

    def next_due(self) -> datetime | None:
        """When the next job that this worker would take is due."""
        self._looked_at = -math.inf
        return self._next_due()

    def _next_due(self) -> datetime | None:
        """In the queues that were seen in this tick: who brings a new one after that wakes us."""
        if self._looked_at < self._began:
            self._looked_at = -math.inf
        lanes = self.lanes()
        return self.claims.next_due(lanes, self.selection.schedules) if lanes else None

    def _settle_and_claim(self, free: int, now: datetime) -> list[Run]:
        settlements = self._unsettled
        if self.fail_fast and any(one.transition.state is JobState.FAILED for one in settlements):
            self.accepting, free = False, 0
        request = ClaimRequest(self.worker_id, self.lanes() if free > 0 else [], free, self.selection.schedules)
        if not settlements:
            return self.claims.claim(request, now)
        settled = self.claims.settle(settlements, now, request)  # where it cannot be written now, the next tick tries
        self._unsettled = []
        for one in settlements:
            if one.run.id in settled.lost:
                self.emit(ClaimLost(one.run, now))
            else:
                self.emit(JobSettled(one.run, settled.written[one.run.id], now))
        return settled.claimed

    def _settlement(self, one: Finished, now: datetime) -> Settlement:
        outcome, children = self._with_children(one) if one.children else (one.outcome, [])
        writes = self.recorder.take(one.sink)
        return Settlement(one.run, settle(one.run, outcome, now, self.rng), tuple(children), writes)

    def _with_children(self, one: Finished) -> tuple[Outcome, list[NewJob]]:
        if not isinstance(one.outcome, Completed):
            return one.outcome, []
        try:
            return one.outcome, self.make_children(one.run, one)
        except RunnerError as error:
            again = isinstance(error, DatabaseUnavailable)
            return Failed(f"ctx.enqueue: {error.message}", for_good=not again), []

    def _start(self, runs: Sequence[Run], now: datetime) -> None:
        for run in runs:
            self.emit(JobStarted(run, now))
        self.executor.start([(run, *self._handlers[run.type]) for run in runs])
