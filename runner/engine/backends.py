"""Where handlers run in this process: plain functions in threads, coroutines on one event loop."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import queue
import threading

from runner.domain.outcome import Outcome
from runner.engine import outcomes
from runner.engine.executor import Done, Execution
from runner.engine.pace import Pace


class Threads:
    """Daemon threads of our own: an executor's would be joined at exit, and one stuck handler would hold it for ever.

    Whenever something waits, one thread is on its way to it; who takes work and leaves some calls the next thread
    before it begins. So a stuck handler keeps no other job waiting, and short ones do not wake a thread each.

    A thread that finds nothing more to do settles what it has done, and begins what it claimed by that: where jobs
    are short, waking another thread for it takes longer than they do.
    """

    def __init__(self, done: Done) -> None:
        self._done = done
        self._lock = threading.Lock()
        self._waiting: collections.deque[Execution] = collections.deque()
        self._bell: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._idle = 0
        self._count = 0
        self._is_coming = False
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
                self._done(execution, call(execution), not self._waiting)
            elif not self._bell.get():
                return
            else:
                with self._lock:
                    self._is_coming = False

    def _next(self) -> Execution | None:
        with self._lock:
            if not self._waiting:
                self._idle += 1
                return None
            execution = self._waiting.popleft()
            with contextlib.suppress(RuntimeError):  # no more threads: who ends next takes the next
                self._call()
            return execution

    def close(self) -> None:
        with self._lock:
            for _ in range(self._count):
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


class EventLoop:
    """All coroutines on one loop in one thread: a thousand that wait cost next to nothing.

    While a handler holds the loop for longer than the grace, what is new starts on another one.
    """

    def __init__(self, done: Done) -> None:
        self._done = done
        self._lock = threading.Lock()
        self._loops: list[LoopThread] = []

    def start(self, execution: Execution) -> None:
        with self._lock:
            loop = next((one for one in self._loops if not one.pace.is_stuck), None)
            if loop is None:
                loop = LoopThread(self._done)
                self._loops.append(loop)
        loop.start(execution)

    def close(self) -> None:
        with self._lock:
            for loop in self._loops:
                loop.close()


class LoopThread:
    """A loop, and the tasks of handlers on it."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.pace = Pace()
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(self.pace.task)
        threading.Thread(target=self._serve, name="handler-loop", daemon=True).start()

    def start(self, execution: Execution) -> None:
        self._loop.call_soon_threadsafe(self._begin, execution)

    def _serve(self) -> None:
        while not self._closed:
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # out of a task of a handler's own: others go on
                self._loop.run_forever()
        self._loop.close()

    def _begin(self, execution: Execution) -> None:
        task = self._loop.create_task(self._run(execution), name=f"job-{execution.run.id}")
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, execution))
        execution.interrupt = lambda grace: self._cancel_soon(task, execution)
        if execution.stop.kind is not None:
            _cancel(task, execution)

    async def _run(self, execution: Execution) -> None:
        try:
            context, voice = execution.begin()
            with execution.around(), voice:
                try:
                    value = await execution.handler.function(context, execution.run.payload)
                finally:
                    self.pace.check()  # of the step that we are in: after it nothing is heard
            outcome = outcomes.returned(value)
        except BaseException as error:  # user code, see call()
            outcome = outcomes.raised(error, execution.stop)
        self._done(execution, outcome)

    def _ended(self, task: asyncio.Task[None], execution: Execution) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # before its first step: the coroutine never ran
            self._done(execution, outcomes.stopped(execution.stop))

    def _cancel_soon(self, task: asyncio.Task[None], execution: Execution) -> None:
        self._loop.call_soon_threadsafe(_cancel, task, execution)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        """A coroutine that was given up keeps the loop: ended with it, one that catches everything would spin."""
        if all(task.done() for task in self._tasks):
            self._closed = True
            self._loop.stop()


def _cancel(task: asyncio.Task[None], execution: Execution) -> None:
    """At its next await, unless the context was quicker: a handler that cleans up is not interrupted again."""
    if execution.stop.deliver():
        task.cancel()
