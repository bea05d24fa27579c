"""Where plain functions run: threads of our own in this process."""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
import time
from collections.abc import Callable

from runner.domain.outcome import Outcome
from runner.engine import outcomes
from runner.engine.executor import Done, Execution

QUICK = 0.0002  # seconds: shorter handlers run one after the other, for that takes less than to wake a thread for each
LOOK = 0.002  # seconds in which something must have moved, where nobody was called
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
        self._pacer = _Pacer(self._look)
        self._ours = threading.local()

    def start(self, execution: Execution) -> None:
        with self._lock:
            self._waiting.append(execution)
            if getattr(self._ours, "is_serving", False):
                return  # in one of our threads, which looks for work as soon as it has settled
            try:
                self._call()
            except RuntimeError:  # no more threads
                if self._count == 0:
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
        while True:
            execution = self._next()
            if execution is not None:
                self._run(execution)
            elif not self._bell.get():
                return
            else:
                with self._lock:
                    self._is_coming = False

    def _run(self, execution: Execution) -> None:
        began = time.monotonic()
        outcome = call(execution)
        self._is_quick = time.monotonic() - began < QUICK
        if not self._waiting:
            self._is_untold = False
            self._done(execution, outcome, "settle")
        elif self._is_quick:
            self._is_untold = True
            self._done(execution, outcome, "leave")
        else:
            self._done(execution, outcome)

    def _next(self) -> Execution | None:
        with self._lock:
            if not self._waiting:
                self._idle += 1
                return None
            execution = self._waiting.popleft()
            self._pacer.moves += 1
            try:
                if not self._is_quick:
                    self._call()
                elif self._waiting:
                    self._pacer.start()
            except RuntimeError:  # no more threads: who ends next takes the next
                self._is_quick = False
            return execution

    def _look(self, has_moved: bool) -> bool:
        """Where nothing has moved, call who was not called. Whether there was anything to look at."""
        with self._lock:
            is_untold = self._is_untold
            if not self._waiting and not is_untold:
                return False
            if has_moved:
                return True
            self._is_quick = self._is_untold = False
            with contextlib.suppress(RuntimeError):
                self._call()
        if is_untold:
            self._ring()
        return True

    def close(self) -> None:
        self._pacer.close()
        with self._lock:
            for _ in range(self._count):
                self._bell.put(False)


class _Pacer:
    """Looks every few milliseconds while there is something to look at. `moves` counts what was begun."""

    def __init__(self, look: Callable[[bool], bool]) -> None:
        self._look = look
        self._bell: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_looking = False
        self.moves = 0

    def start(self) -> None:
        """Under the lock of the threads."""
        if self._is_looking:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="handler-pacer", daemon=True)
            self._thread.start()
        self._is_looking = True
        self._bell.put(True)

    def _serve(self) -> None:
        while self._bell.get():
            seen, lull = -1, 0
            while lull < LULL:
                time.sleep(LOOK)
                moves = self.moves
                lull = 0 if self._look(moves != seen) else lull + 1
                seen = moves
            self._is_looking = False

    def close(self) -> None:
        self._bell.put(False)


def call(execution: Execution) -> Outcome:
    """Run a plain handler to its end, whatever that is."""
    try:
        context, voice = execution.begin()
        with execution.around(), voice:
            value = execution.handler.function(context, execution.run.payload)
        return outcomes.returned(value)
    except BaseException as error:  # user code: even SystemExit ends its own job and nothing else
        return outcomes.raised(error, execution.stop)
