"""Where plain functions run: threads of our own in this process."""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence

from runner.domain.outcome import Outcome
from runner.engine import outcomes
from runner.engine.executor import Done, Execution

QUICK = 0.0002  # seconds: shorter handlers run one after the other, for that takes less than to wake a thread for each
LOOK = 0.002  # seconds in which something must have moved, where nobody was called
NONE = -1  # no turn
LULL = 50  # looks at nothing, after which nobody looks any more


class Threads:
    """Daemon threads of our own: an executor's would be joined at exit, and one stuck handler would hold it for ever.

    Whenever something waits, one thread is on its way to it; who takes work and leaves some calls the next thread
    before it begins. So a stuck handler keeps no other job waiting.

    After a quick handler nobody is called, neither another thread nor the worker: the same thread takes the next, and
    the pacer looks whether that goes on. A thread that finds nothing more to do settles what it has done, and begins
    what it claimed by that.
    """

    def __init__(self, done: Done, ring: Callable[[], None]) -> None:
        self._done = done
        self._ring = ring
        self._lock = threading.Lock()
        self._waiting: collections.deque[Execution] = collections.deque()
        self._bell: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._idle = 0
        self._count = 0
        self._is_coming = False
        self._is_quick = False
        self._is_untold = False  # something has ended that the worker was not told of
        self._begun = 0
        self._turn = 0  # of settling, by whatever thread: with quick handlers, who settled last runs what was claimed
        self._pacer: queue.SimpleQueue[bool] | None = None  # what calls the thread that looks
        self._is_paced = False  # it looks
        self._ours = threading.local()

    def start(self, executions: Sequence[Execution]) -> None:
        with self._lock:
            self._waiting.extend(executions)
            if getattr(self._ours, "is_serving", False):
                return  # in one of our threads, which looks for work as soon as it has settled
            try:
                self._call()
            except RuntimeError:  # no more threads
                if self._count == 0:
                    for execution in executions:
                        self._waiting.remove(execution)
                    raise

    def _call(self) -> None:
        """Under the lock."""
        if self._is_coming or not self._waiting:
            return
        if self._idle > 0:
            self._idle -= 1
            self._bell.put(True)
        else:
            threading.Thread(target=self._serve, name=f"handler-{self._count + 1}", daemon=True).start()
            self._count += 1
        self._is_coming = True

    def _serve(self) -> None:
        self._ours.is_serving = True
        with self._lock:
            self._is_coming = False
        turn = self._turn
        while True:
            execution = self._next(turn)
            if execution is not None:
                turn = self._run(execution, turn)
            elif not self._bell.get():
                return
            else:
                with self._lock:
                    self._is_coming = False
                turn = self._turn

    def _run(self, execution: Execution, turn: int) -> int:
        """The turn that the thread is at then; `NONE` where another settles this with its own."""
        began = time.monotonic()
        outcome = call(execution)
        self._is_quick = time.monotonic() - began < QUICK
        if self._waiting and self._is_quick:
            self._done(execution, outcome, "leave")
            self._is_untold = True  # from here on: who is told of it before would find nothing
            return turn
        self._is_untold = False
        turn = self._turn = self._turn + 1
        return turn if self._done(execution, outcome, "wake" if self._waiting else "settle") else NONE

    def _next(self, turn: int) -> Execution | None:
        if self._is_quick and self._is_paced and self._waiting and turn == self._turn:
            try:
                self._begun += 1
                return self._waiting.popleft()
            except IndexError:  # another thread was quicker
                pass
        with self._lock:
            is_needed = not self._is_quick or turn == self._turn
            execution = self._waiting.popleft() if self._waiting and is_needed else None
            try:
                if self._is_untold or (self._is_quick and self._waiting):
                    self._look_on()
                if not self._is_quick:
                    self._call()
            except RuntimeError:  # no more threads: who ends next takes the next
                self._is_quick = False
                if execution is None and self._waiting:
                    execution = self._waiting.popleft()
            if execution is None:
                self._idle += 1
            else:
                self._begun += 1
            return execution

    def _look_on(self) -> None:
        """Under the lock: from here on somebody looks."""
        if self._is_paced:
            return
        if self._pacer is None:
            bell: queue.SimpleQueue[bool] = queue.SimpleQueue()
            threading.Thread(target=self._pace, args=(bell,), name="handler-pacer", daemon=True).start()
            self._pacer = bell
        self._is_paced = True
        self._pacer.put(True)

    def _pace(self, bell: queue.SimpleQueue[bool]) -> None:
        """Every few milliseconds; ends after a while in which there was nothing to look at."""
        while bell.get():
            seen, lull = -1, 0
            while self._is_paced:
                time.sleep(LOOK)
                with self._lock:
                    is_empty = not self._waiting and not self._is_untold
                    lull = lull + 1 if is_empty else 0
                    self._is_paced = lull < LULL
                    stands_still, seen = self._begun == seen and not is_empty, self._begun
                if stands_still:
                    self._go_on()

    def _go_on(self) -> None:
        """Call who was not called: a handler is not quick, and others wait behind it."""
        with self._lock:
            is_untold = self._is_untold
            self._is_quick = self._is_untold = False
            with contextlib.suppress(RuntimeError):
                self._call()
        if is_untold:
            self._ring()

    def close(self) -> None:
        with self._lock:
            if self._pacer is not None:
                self._pacer.put(False)
            for _ in range(self._count):
                self._bell.put(False)


def call(execution: Execution) -> Outcome:
    """Run a plain handler to its end, whatever that is."""
    try:
        context, voice = execution.begin()
        with execution.surroundings.around(execution.run), voice:
            value = execution.handler.function(context, execution.run.payload)
        return outcomes.returned(value)
    except BaseException as error:  # user code: even SystemExit ends its own job and nothing else
        return outcomes.raised(error, execution.stop)
