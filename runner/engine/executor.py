"""Runs handlers: starts them, stops them when asked or overdue, and gathers how they ended."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from runner.domain.job import Run
from runner.domain.outcome import Failed, Outcome
from runner.engine.capture import Voice
from runner.engine.context import Child, JobContext, Stop, StopKind
from runner.engine.handlers import Handler
from runner.engine.lease import Lease
from runner.engine.outcomes import stopped
from runner.engine.recorder import Recorder, RunSink

Then = Literal["wake", "settle", "leave"]
"""Of a run that has ended: wake the worker, settle it in the thread that calls, or leave it to who will do so soon."""
Here = Literal["done", "left", "wake"]
"""Of what had ended: settled by who asked, left to another thread that is at it, or the worker must be woken for it."""
GRACE = 5.0  # seconds between asking a handler to stop and settling its run without it


@dataclass(slots=True)
class Surroundings:
    """What all runs of one executor share. A handler's code runs inside of `around`."""

    now: Callable[[], datetime]
    is_held: Callable[[float], bool] = lambda began: True
    around: Callable[[Run], AbstractContextManager[None]] = lambda run: nullcontext()


@dataclass(slots=True, eq=False)
class Execution:
    """One run in progress. `deadline` and `give_up_at` are seconds of the monotonic clock.

    `interrupt` is given the seconds that the handler has to end; `patience` is how much longer we wait.
    """

    run: Run
    handler: Handler
    sink: RunSink
    deadline: float
    surroundings: Surroundings
    stop: Stop = field(default_factory=Stop)
    children: list[Child] = field(default_factory=list)
    voice: Voice | None = None
    is_given_up: bool = False
    patience: float = 0.0
    give_up_at: float | None = None
    interrupt: Callable[[float], None] = field(default=lambda grace: None)

    def begin(self) -> tuple[JobContext, Voice]:
        """What the handler is given, and what hears its prints: made where it runs, while the worker goes on."""
        shared = self.surroundings
        context = JobContext(self.run, self.sink, self.stop, shared.now, shared.is_held, self.children)
        voice = self.voice = Voice(self.sink, shared.now)
        if self.is_given_up:
            voice.close()
        return context, voice

    def around(self) -> AbstractContextManager[None]:
        return self.surroundings.around(self.run)

    def give_up(self) -> None:
        """From here on nobody listens to it."""
        self.is_given_up = self.stop.is_lost = True
        if self.voice is not None:
            self.voice.close()


class Finished(NamedTuple):
    """A run that has ended, to be settled with the rest of what it said."""

    run: Run
    outcome: Outcome
    sink: RunSink
    children: tuple[Child, ...] = ()


class Backend(Protocol):
    """A way to run handlers. It calls `done` once for each, from any thread, and sets `execution.interrupt`.

    What was claimed together is started together. Where `start` raises, none of them will run.
    """

    def start(self, executions: Sequence[Execution]) -> None: ...

    def close(self) -> None: ...


NO_MORE = (RuntimeError, OSError)  # threads, files


def not_started(error: Exception) -> Failed:
    """The end of a run that there was no room for: its attempt has failed."""
    return Failed(f"the handler could not be started: {error}")


class Done(Protocol):
    def __call__(self, execution: Execution, outcome: Outcome, then: Then = "wake") -> bool:
        """False where it was left to a thread that settles already."""


class Executor:
    """Knows what is running. Each run ends exactly once: by its handler, or because it was given up."""

    def __init__(
        self, recorder: Recorder, wake: Callable[[], None], now: Callable[[], datetime], lease: Lease | None = None
    ) -> None:
        self._recorder = recorder
        self._lease = lease or Lease()
        self.surroundings = Surroundings(now, self._lease.held_since)
        self.grace = GRACE
        self._wake = wake
        self.settle_here: Callable[[], Here] = lambda: "wake"
        self._lock = threading.Lock()
        self._running: dict[int, Execution] = {}
        self._begun = 0
        self._check_at = math.inf  # the next moment at which a run may be overdue
        self._finished: list[Finished] = []
        self._leaked: set[Execution] = set()
        self._backends: dict[str, Backend] = {}

    def add(self, kind: str, make: Callable[[Done], Backend]) -> None:
        """Register the backend for an isolation: `thread`, `async` or `process`."""
        self._backends[kind] = make(self._done)

    @property
    def occupied(self) -> int:
        """How many runs have not ended, those that ended and are not settled yet included."""
        with self._lock:
            return len(self._running) + len(self._finished)

    @property
    def leaked_threads(self) -> int:
        """How many handlers were given up and still go on."""
        with self._lock:
            return len(self._leaked)

    def free(self, concurrency: int) -> int:
        """How many more runs may start. As many given-up handlers are replaced; each one more keeps its place."""
        with self._lock:
            kept = max(len(self._leaked) - concurrency, 0)
            return max(concurrency - len(self._running) - len(self._finished) - kept, 0)

    def start(self, runs: Sequence[tuple[Run, Handler, str]]) -> None:
        """Each by its handler, in the backend of that name."""
        began = time.monotonic()
        made: dict[str, list[Execution]] = {}
        for run, handler, kind in runs:
            deadline = began + run.policy.timeout.total_seconds()
            made.setdefault(kind, []).append(
                Execution(run, handler, self._recorder.sink(run), deadline, self.surroundings)
            )
        for kind, executions in made.items():
            with self._lock:
                self._running |= {execution.run.id: execution for execution in executions}
                self._begun += len(executions)
                self._check_at = min(self._check_at, *[execution.deadline for execution in executions])
            try:
                self._backends[kind].start(executions)
            except NO_MORE as error:
                for execution in executions:
                    self._done(execution, not_started(error))

    def take(self) -> list[Finished]:
        with self._lock:
            finished, self._finished = self._finished, []
        return finished

    def request_stop(self, job_id: int, kind: StopKind, reason: str, token: str | None = None) -> bool:
        """Ask a run to stop; False where it is not running here under that token, or was asked before."""
        with self._lock:
            execution = self._running.get(job_id)
        if execution is None or (token is not None and token != execution.run.claim_token):
            return False
        if not execution.stop.request(kind, reason):
            return False
        execution.give_up_at = time.monotonic() + self.grace + execution.patience
        self._check_at = 0.0
        execution.interrupt(self.grace)
        return True

    def stop_all(self, kind: StopKind, reason: str) -> None:
        for run in self.running():
            self.request_stop(run.id, kind, reason, run.claim_token)

    def running(self) -> list[Run]:
        with self._lock:
            return [execution.run for execution in self._running.values()]

    def census(self) -> tuple[int, int]:
        """How many runs have not ended, and how many have ever begun."""
        with self._lock:
            return len(self._running), self._begun

    def check_times(self) -> float | None:
        """Ask overdue runs to stop and give up those that did not; seconds until the next such moment."""
        now = time.monotonic()
        with self._lock:
            if not self._running:
                return None
            if now < self._check_at:
                return self._check_at - now
            running = list(self._running.values())
            self._check_at = math.inf
        for execution in running:
            if execution.give_up_at is None and now >= execution.deadline:
                limit = execution.run.policy.timeout.total_seconds()
                self.request_stop(execution.run.id, "timeout", f"the job ran longer than its timeout of {limit:g} s")
            elif execution.give_up_at is not None and now >= execution.give_up_at:
                self._give_up(execution)
        with self._lock:
            moments = (execution.give_up_at or execution.deadline for execution in running)
            self._check_at = min(self._check_at, *moments)
            return max(self._check_at - time.monotonic(), 0.0)

    def _give_up(self, execution: Execution) -> None:
        execution.give_up()
        with self._lock:
            if self._end(execution, stopped(execution.stop)):
                self._leaked.add(execution)
        self._told(execution)

    def _done(self, execution: Execution, outcome: Outcome, then: Then = "wake") -> bool:
        """The first word counts; what a given-up handler says later is dropped (and its fence is void)."""
        with self._lock:
            self._leaked.discard(execution)
            self._end(execution, outcome)
        return self._told(execution, then) if then != "leave" or execution.stop.kind == "lost" else True

    def _end(self, execution: Execution, outcome: Outcome) -> bool:
        if self._running.get(execution.run.id) is not execution:
            return False
        del self._running[execution.run.id]
        if execution.stop.kind != "lost":
            self._finished.append(Finished(execution.run, outcome, execution.sink, tuple(execution.children)))
        return True

    def _told(self, execution: Execution, then: Then = "wake") -> bool:
        if execution.stop.kind == "lost":
            self._recorder.take(execution.sink)
        here: Here = self.settle_here() if then == "settle" else "done" if then == "leave" else "wake"
        if here == "wake":
            self._wake()
        return here != "left"

    def close(self) -> None:
        for backend in self._backends.values():
            backend.close()
