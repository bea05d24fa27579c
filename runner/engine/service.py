"""The long-lived process: each duty is a loop in a thread of its own, and they start and stop together.

A tick that raises is told once with its cause and tried again, later each time. A loop that dies takes the process
down: half alive is worse than dead, which somebody notices.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from runner.domain.errors import RunnerError
from runner.engine.executor import GRACE, Here
from runner.engine.loop import SIGNAL_LOOK, Clock
from runner.engine.worker import Worker
from runner.telemetry import Emit, LoopDied, ServiceStarted, ServiceStopped, StopRequested, TickFailed, TickRecovered

FIRST_PAUSE = 0.5  # seconds after a tick that raised; doubled each time, up to
LONGEST_PAUSE = 30.0
KEPT = 4  # the fourth part of the grace is not the handlers'
DRAINING_LOOK = 0.05
JOIN = 5.0  # seconds that a loop may take for the tick that it is in


@dataclass(slots=True)
class Loop:
    """A duty: `tick` does what is due and says in how many seconds it wants to be called again."""

    name: str
    tick: Callable[..., float]
    clock: Clock
    emit: Emit
    died: Callable[[], None] = lambda: None
    failure: BaseException | None = None
    _failing: str | None = None
    _failures: int = 0
    _repeats: int = 0
    _begun: float | None = None  # when the tick that it is in began
    _looks_at: float = 0.0  # when the thread of the loop wants to tick again
    _is_wanted: bool = False  # by who found another at a tick, and has left one more to it
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._serve, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the tick that it is in."""
        self._ended.set()
        self.clock.wake()

    def join(self, is_done: Callable[[], bool] = lambda: True) -> None:
        """Wait for its end; where something is left to do then, one tick more."""
        if self._thread is not None:
            self._thread.join(JOIN)
        if self._turn.acquire(timeout=JOIN):
            try:
                if self._thread is not None and not is_done():
                    self._once()
            finally:
                self._turn.release()

    def settle_down(self, patience: float) -> None:
        """Wait for the end of the tick that goes on, in whatever thread: the next one sees what has changed."""
        if self._turn.acquire(timeout=max(patience, 0.0)):
            self._turn.release()
            self.clock.wake()  # somebody may have found us here, and left a tick to us

    def _serve(self) -> None:
        try:
            while not self._ended.is_set():
                with self._turn:
                    self._is_wanted = False
                    pause = self._once()
                self._looks_at = time.monotonic() + pause
                if not self._is_wanted:
                    self.clock.wait(pause)
        except BaseException as error:  # no tick has caught it: not even the loop can go on
            self.failure = error
            self.died()

    def here(self) -> Here:
        """Tick in the thread that calls, rather than wake our own. Where one ticks already, that one does so again."""
        while True:
            self._is_wanted = True
            if not self._turn.acquire(blocking=False):
                return "left"
            try:
                if self._ended.is_set() or self._failing is not None:
                    return "wake"
                self._is_wanted = False
                pause = self._once()
                is_seen = self._failing is None and time.monotonic() + pause >= self._looks_at
            except BaseException as error:  # not even the loop can go on
                self.failure = error
                self.died()
                return "done"
            finally:
                self._turn.release()
            if not (is_seen and self._is_wanted):
                return "done" if is_seen else "wake"

    def _once(self) -> float:
        self._begun = time.monotonic()
        try:
            pause = self.tick(self.clock.now())
        except Exception as error:  # of a tick: told, and tried again
            return self._failed(error)
        finally:
            self._begun = None
        if self._failing is not None:
            self.emit(TickRecovered(self.name))
            self._failing, self._failures = None, 0
        return pause

    def is_lively(self, within: float) -> bool:
        """Neither dead nor in one tick for longer than that many seconds."""
        begun = self._begun
        return self.failure is None and (begun is None or time.monotonic() - begun < within)

    def _failed(self, error: Exception) -> float:
        said = error.message if isinstance(error, RunnerError) else f"{type(error).__name__}: {error}"
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 10), LONGEST_PAUSE)
        self._repeats = self._repeats + 1 if said == self._failing else 0
        self._failing, self._failures = said, self._failures + 1
        self.emit(TickFailed(self.name, said, None if isinstance(error, RunnerError) else error, self._repeats))
        return pause


def kept_back(grace: float) -> float:
    """Of the seconds of a grace, those in which what did not end is asked to stop and given back."""
    return min(GRACE, max(grace, 0.0) / KEPT)


@dataclass(slots=True)
class Service:
    """All loops of one process. `worker` is None where it runs nothing."""

    loops: Sequence[Loop]
    worker: Worker | None
    grace: timedelta
    emit: Emit
    reload: Callable[[], None] = lambda: None
    started: ServiceStarted | None = None  # told once it listens to signals and all loops run
    clock: Clock = field(default_factory=Clock)
    _asked: str | None = None

    def stop(self, why: str) -> None:
        """End in good order. Safe to call from a signal handler."""
        if self._asked is None:
            self._asked = why
        self.clock.wake()

    def is_lively(self, within: float) -> bool:
        return all(loop.is_lively(within) for loop in self.loops)

    def run(self) -> list[Loop]:
        """Serve until `stop`, or until a loop dies; returns the loops that died."""
        if self._asked is None:
            self._start()
        while self._asked is None and not self._dead():
            self.clock.idle(SIGNAL_LOOK)
        dead = self._dead()
        for loop in dead:
            self.emit(LoopDied(loop.name, loop.failure))
        self._shut_down(self._asked or f"the {dead[0].name} loop died")
        return dead

    def _start(self) -> None:
        for loop in self.loops:
            loop.died = self.clock.wake
            loop.start()
        if self.started is not None:
            self.emit(self.started)

    def _dead(self) -> list[Loop]:
        return [loop for loop in self.loops if loop.failure is not None]

    def _shut_down(self, why: str) -> None:
        """Fire and claim nothing more, let what runs end, give the rest back; the worker's own loop settles it all."""
        began = time.monotonic()
        deadline = began + self.grace.total_seconds()
        if self.worker is not None:
            self.worker.accepting = False
        at_work = self._census()
        self.emit(StopRequested(why))
        working = [loop for loop in self.loops if loop.name == "worker" and loop.failure is None]
        for loop in self.loops:
            if loop not in working:
                loop.stop()
        drained, released = self._drain(working[0], at_work, deadline, why) if working else (0, 0)
        for loop in self.loops:
            loop.stop()
        for loop in self.loops:
            loop.join(self._is_settled if loop in working else lambda: True)
        self.emit(ServiceStopped(why, drained, released, time.monotonic() - began))

    def _is_settled(self) -> bool:
        """Not where something ended after the last tick had begun."""
        return self.worker is None or not self.worker.has_work()

    def _census(self) -> tuple[int, int]:
        return self.worker.executor.census() if self.worker is not None else (0, 0)

    def _drain(self, loop: Loop, at_work: tuple[int, int], deadline: float, why: str) -> tuple[int, int]:
        """How many of those at work ended, and how many were given back. What a claim that went on has begun since
        counts too."""
        worker = self.worker
        if worker is None:
            return 0, 0
        loop.settle_down(deadline - time.monotonic())  # what it claims is running then
        grace = kept_back(deadline - time.monotonic())
        self._wait(loop, worker, deadline - grace - DRAINING_LOOK)
        left, begun = self._census()
        worker.executor.grace = max(grace - 10 * DRAINING_LOOK, 0.0)
        self._wait(loop, worker, deadline, lambda: worker.executor.stop_all("shutdown", f"released: {why}"))
        return at_work[0] + begun - at_work[1] - left, left

    def _wait(self, loop: Loop, worker: Worker, until: float, each: Callable[[], None] = lambda: None) -> None:
        """Until nothing runs and all is settled, or until then."""
        while worker.has_work() and time.monotonic() < until and loop.failure is None:
            each()
            loop.clock.wake()
            self.clock.wait(DRAINING_LOOK)
